"""How small models become before they lose anything, against models of the same size that learn from labels alone.

    python benchmarks/compression.py [--tasks text rows forecast] [--seeds 0 1 2] [--missing]
    python benchmarks/compression.py --speed

For every task and seed a teacher is trained as `edgelstm train` does it. Then stages follow one another; after each,
the model is exported in int8 and scored on the test split. The same architecture, with fresh weights, learns from the
labels for as many epochs as teacher and stages had together, and is exported and scored in the same way. Which stages
are run was decided on validation examples of seed 0. `--speed` times an LSTM before and after `prune-units`,
interleaved, on stock ai-edge-litert. `benchmarks/compression_table.py` makes tables of the results.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from conversion import machine
from forms import interleaved

import edgelstm
from edgelstm.compression.learning import Learning
from edgelstm.compression.measures import Measures
from edgelstm.compression.recipe import Export
from edgelstm.compression.session import Session
from edgelstm.compression.workshop import TrainingWorkshop
from edgelstm.converters.stages import make_stage
from edgelstm.converters.stages.prune_units import PruneUnits
from edgelstm.converters.stages.students.made import fresh_copy
from edgelstm.training.runs import Run

RESULTS = Path(__file__).parent / "results" / "compression.json"
EXPORT = Export("int8", strip_names=True)
UNITS, STEPS, FEATURES = 128, 100, 32


def cut(share: float, epochs: int) -> dict[str, Any]:
    """Takes a share of the units of all layers, and heals with the labels."""
    return {"kind": "prune-units", "fraction": share, "layers": "all", "epochs": epochs}


def taught(share: float, epochs: int) -> dict[str, Any]:
    """Takes a share of the units of all layers, and heals with labels and the answers of the larger model."""
    return {"kind": "distill", "fraction": share, "layers": "all", "epochs": epochs, "alpha": 0.5}


TEACHERS: dict[str, dict[str, Any]] = {
    "text": {},
    "rows": {"units": 128},
    "forecast": {"units": 128},
}
"""Settings that differ from the task's own."""

CHAINS: dict[str, list[dict[str, Any]]] = {
    "text": [
        {"kind": "shrink-embedding", "min_count": 1, "rank": 16, "epochs": 5},
        *(cut(0.5, 8), cut(0.5, 8), taught(0.5, 10)),
    ],
    "rows": [cut(0.5, 40), cut(0.3125, 40), taught(0.5, 80), taught(0.5, 120)],
    "forecast": [cut(0.5, 15), cut(0.5, 15), taught(0.5, 30), taught(0.5, 45)],
}
"""Stages of each task; after every one of them the model is measured."""


def measure(task: str, seed: int, folder: Path) -> dict[str, Any]:
    """Trains a teacher, compresses it step by step, and trains a model from scratch for every step."""
    run = edgelstm.train(task, output=folder / "teacher", settings=TEACHERS[task], seed=seed)
    model = keras.saving.load_model(run.model_path)
    learning = learning_of(run)
    session = Session(model, learning, folder / "work", seed=seed)
    start = session.tried[0].measures
    assert start is not None
    epochs = int(learning.setup.settings["epochs"])
    steps = []
    for entry in CHAINS[task]:
        began = time.monotonic()
        session.attempt(make_stage(entry["kind"], {k: v for k, v in entry.items() if k != "kind"}), EXPORT)
        seconds = time.monotonic() - began
        epochs += int(entry["epochs"])
        measures = session.tried[-1].measures
        assert measures is not None
        steps.append(
            {
                "stage": entry,
                "measures": measures.to_json(),
                "epochs": epochs,
                "seconds": round(seconds),
                "scratch": from_scratch(session, epochs, seed).to_json(),
            }
        )
        print_step(task, seed, start, steps[-1])
    objective = learning.task.objective
    return {
        "settings": TEACHERS[task],
        "score": objective.main,
        "higher_is_better": objective.higher_is_better,
        "examples": {name: len(part) for name, part in learning.data.splits.items()},
        "start": start.to_json(),
        "steps": steps,
    }


def learning_of(run: Run) -> Learning:
    """What a run learnt from."""
    return Learning(run.task.name, run.task, run.task.data(run.setup), run.setup)


def from_scratch(session: Session, epochs: int, seed: int) -> Measures:
    """Trains the architecture that a session has come to, with fresh weights, on labels alone."""
    fresh = fresh_copy(session.model, 1000 + seed)
    TrainingWorkshop(session.learning, None, lambda _: None).finetune(fresh, epochs=epochs)
    return session.measure(EXPORT, fresh, session.learning, {})


def print_step(task: str, seed: int, start: Measures, step: Mapping[str, Any]) -> None:
    now, scratch = step["measures"], step["scratch"]
    print(
        f"{task} {seed} {step['stage']['kind']}: {start.size_bytes / now['size_bytes']:.1f}x smaller, "
        f"{start.macs / now['macs']:.1f}x fewer MACs, {start.score:.4f} -> {now['score']:.4f}, "
        f"from scratch {scratch['score']:.4f}, {step['seconds']} s",
        flush=True,
    )


class Nothing:
    """A workshop for a stage without training."""

    def report(self, line: str) -> None:
        """Keeps nothing."""

    def finetune(self, model: Any, **_: Any) -> None:
        """Trains nothing."""


def speed() -> list[dict[str, Any]]:
    """Times an LSTM before and after half its units are gone, interleaved, one thread, stock ai-edge-litert."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.LSTM(UNITS), keras.layers.Dense(4, activation="softmax")]
    model = keras.Sequential([keras.Input((STEPS, FEATURES), name="x"), *layers])
    x = np.random.default_rng(0).normal(size=(64, STEPS, FEATURES)).astype(np.float32)
    half = PruneUnits(fraction=0.5, epochs=0).apply(model, Nothing()).model  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as name:
        files = {}
        for precision in ("float32", "float16", "dynamic", "int8"):
            for size, each in (("whole", model), ("half", half)):
                files[precision, size] = Path(name) / f"{precision}-{size}.tflite"
                edgelstm.convert(each, files[precision, size], quantize=precision, calibration={"x": x}, verify=False)
        medians = interleaved(files, x)
        return [
            {
                "precision": precision,
                "whole_us": medians[precision, "whole"],
                "half_us": medians[precision, "half"],
                "ratio": medians[precision, "whole"] / medians[precision, "half"],
                "size_bytes": [files[precision, size].stat().st_size for size in ("whole", "half")],
            }
            for precision in ("float32", "float16", "dynamic", "int8")
        ]


def cases(arguments: argparse.Namespace, results: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Tasks and seeds that are to be measured; seeds outside, so that an early end leaves all tasks with something."""
    for seed in arguments.seeds:
        for task in arguments.tasks:
            if not (arguments.missing and str(seed) in results.get(task, {})):
                yield task, seed


def main() -> None:
    """Measures and writes after every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TEACHERS), default=list(TEACHERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--missing", action="store_true", help="leave out what the results have already")
    parser.add_argument("--speed", action="store_true", help="time prune-units instead")
    arguments = parser.parse_args()
    document = written()
    if arguments.speed:
        document["speed"] = speed()
        print(json.dumps(document["speed"], indent=1))
        write(document)
        return
    for task, seed in cases(arguments, document["results"]):
        with tempfile.TemporaryDirectory() as folder:
            result = measure(task, seed, Path(folder))
        document = written()  # another run may have written in the meantime
        document["results"].setdefault(task, {})[str(seed)] = result
        write(document)


def written() -> dict[str, Any]:
    """Returns the results as they are, with this machine's name."""
    document: dict[str, Any] = {"results": {}}
    if RESULTS.exists():
        document = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {**document, "command": "python benchmarks/compression.py", "machine": machine()}


def write(document: Mapping[str, Any]) -> None:
    """Writes the results, complete or not at all."""
    temporary = RESULTS.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, RESULTS)  # noqa: PTH105 (same folder)


if __name__ == "__main__":
    main()
