"""Scores of trained models in every precision, several seeds, without any reset by the caller.

    python benchmarks/accuracy.py [--tasks text rows] [--variants lstm] [--seeds 0 1 2] [--jobs 2] [--missing]

For each task, variant and seed: trained on offline data with the defaults, as `edgelstm train TASK --variant V
--seed S` does; the task's main score on the test split, of the Keras model and of each exported file, which answers
the whole split through one interpreter whose states nobody resets; and the same score of simple ways to answer. Each
result is written as it comes, so that nothing is lost when the benchmark is interrupted; with --missing it goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from conversion import machine

import edgelstm
from edgelstm.errors import EdgeLSTMError
from edgelstm.tasks import TASKS, load_task

PRECISIONS = ("float32", "float16", "dynamic", "int8")
LENGTHS = {("rows", "frames"): 9}  # time steps of files whose model leaves them free

Case = tuple[str, str, int]


def measure(case: Case) -> dict[str, Any]:
    """Trains, converts and scores one model."""
    task, variant, seed = case
    with tempfile.TemporaryDirectory() as folder:
        run = edgelstm.train(task, Path(folder) / "run", variant=variant, seed=seed)
        main = run.metrics["main"]
        result = {
            "score": main,
            "epochs": run.metrics["training"]["epochs"],
            "parameters": run.metrics["num_parameters"],
            "seconds": round(run.metrics["training"]["seconds"]),
            "baselines": {name: figures[main] for name, figures in run.metrics["baselines"].items()},
            "keras": run.metrics["test"][main],
        }
        for precision in PRECISIONS:
            result[precision] = _score(run, case, precision, Path(folder) / f"{precision}.tflite")
    return result


def _score(run: Any, case: Case, precision: str, path: Path) -> float | str:
    """The main score of a file in one precision, or why there is none."""
    try:
        edgelstm.convert(
            run.model_path,
            path,
            quantize=precision,
            calibration=run.calibration_path,
            length=LENGTHS.get(case[:2]),
        )
    except EdgeLSTMError as error:
        return f"refused: {error}"
    score: float = edgelstm.evaluate(run, path)[run.metrics["main"]]
    return score


def choose_cases(tasks: list[str], variants: list[str], seeds: list[int]) -> list[Case]:
    """The cases to measure: of each task the named variants, "all" of them, or by default its first one."""
    chosen = []
    for task in tasks:
        own = list(load_task(task).variants)
        kept = own[:1] if not variants else own if variants == ["all"] else [name for name in variants if name in own]
        chosen += [(task, variant, seed) for variant in kept for seed in seeds]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--variants", nargs="+", default=[], help='the default one if not given; or "all"')
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--missing", action="store_true", help="leave out what the output already has")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "accuracy.json")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"command": "python benchmarks/accuracy.py", "machine": machine(), "results": {}}
    if arguments.output.exists():
        report["results"] = json.loads(arguments.output.read_text(encoding="utf-8"))["results"]
    cases = choose_cases(arguments.tasks, arguments.variants, arguments.seeds)
    if arguments.missing:
        cases = [case for case in cases if not _found(report["results"], case)]
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(max(1, (os.cpu_count() or 1) // arguments.jobs))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(measure, case): case for case in cases}
        for future in as_completed(futures):
            task, variant, seed = futures[future]
            result = future.result()
            report["results"].setdefault(task, {}).setdefault(variant, {})[str(seed)] = result
            arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            print(task, variant, seed, result, file=sys.stderr, flush=True)


def _found(results: dict[str, Any], case: Case) -> bool:
    task, variant, seed = case
    return str(seed) in results.get(task, {}).get(variant, {})


if __name__ == "__main__":
    main()
