"""The field's LSTM models on every runtime: same weights, answers checked first, all taking turns in one run.

    python benchmarks/latency.py [--models text rows] [--threads 1 2] [--rounds 3] [-o benchmarks/results/latency.json]
    python benchmarks/latency.py --table     # the tables of benchmarks/README.md and the picture, of committed results

Runtimes that are not here are left out and named. Those that live in another Python are found by EDGELSTM_RUNTIMES;
`make bench` installs them all and runs this.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conversion import machine
from peers.models import MODELS, PeerModel, build_keras
from peers.plot import draw
from peers.table import format_tables

import edgelstm
from edgelstm.native import library_path
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.interpreters import find_runtime, is_available, python_for
from edgelstm.targets.cpu import CpuTarget
from edgelstm.targets.harness import measure_all
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Settings, Subject

RESULTS = Path(__file__).parent / "results" / "latency.json"
NUM_CHECKED, NUM_CALIBRATION = 16, 100
TOLERANCES = {"float32": 1e-4, "dynamic": 0.1, "int8": 0.1}
"""Largest difference to Keras, as a part of the range of its answers. Each peer quantizes in its own way, PyTorch and
ONNX Runtime with one scale for a whole matrix, which costs up to a twelfth of the range of these random models."""


@dataclass(frozen=True)
class Way:
    """A way to run a model.

    Attributes:
        runtime: Name of the runtime.
        form: "float32", or an integer form: "dynamic" (int8 weights) or "int8" (integers throughout).
        ending: Ending of its file.
        mode: How Keras runs it.
        delegate: Whether the delegate of edgelstm runs its LSTMs.
    """

    runtime: str
    form: str
    ending: str
    mode: str | None = None
    delegate: bool = False

    @property
    def title(self) -> str:
        """Name in tables."""
        if self.delegate:
            return f"edgelstm {self.form}"
        return f"{self.runtime} {self.form}" if not self.mode else f"{self.runtime} {self.mode}"


TFLITE_FORMS = ("float32", "dynamic", "int8")
WAYS = (
    *(Way("ai-edge-litert", form, ".tflite") for form in TFLITE_FORMS),
    *(Way("ai-edge-litert", form, ".tflite", delegate=True) for form in TFLITE_FORMS),
    *(Way("tflite-runtime", form, ".tflite") for form in TFLITE_FORMS),
    *(Way("onnxruntime", form, ".onnx") for form in ("float32", "dynamic")),
    Way("openvino", "float32", ".onnx"),
    *(Way("pytorch", form, ".pt") for form in ("float32", "dynamic")),
    Way("keras-tensorflow", "float32", ".keras", "graph"),
)
"""Each runtime in float32 and in the integer forms that it has. OpenVINO has none for LSTMs without NNCF."""


def make_files(model: PeerModel, folder: Path, runtimes: Sequence[str]) -> dict[tuple[str, str], Path]:
    """Writes a model in every form and returns the files by (ending, form)."""
    keras_model = build_keras(model)
    files = {(".keras", "float32"): folder / "model.keras"}
    keras_model.save(files[".keras", "float32"])
    for form in TFLITE_FORMS:
        files[".tflite", form] = folder / f"{form}.tflite"
        calibration = {"x": model.inputs(NUM_CALIBRATION, seed=1)} if form == "int8" else None
        edgelstm.convert(keras_model, files[".tflite", form], quantize=form, calibration=calibration)
    files[".onnx", "float32"] = folder / "float32.onnx"
    edgelstm.convert(keras_model, files[".onnx", "float32"])
    files[".onnx", "dynamic"] = folder / "dynamic.onnx"
    quantize_onnx(files[".onnx", "float32"], files[".onnx", "dynamic"])
    if "pytorch" in runtimes:
        files |= {(".pt", form): folder / f"{form}.pt" for form in ("float32", "dynamic")}
        make_torch_files(model, keras_model, files[".pt", "float32"], files[".pt", "dynamic"], folder / "weights.npz")
    answers = np.asarray(keras_model.predict(model.inputs(NUM_CHECKED), batch_size=1, verbose=0))
    np.save(folder / "answers.npy", answers)
    return files


def quantize_onnx(source: Path, output: Path) -> None:
    """Gives ONNX Runtime int8 weights, by its own tool."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)
    quantize_dynamic(source, output, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)


def make_torch_files(model: PeerModel, keras_model: Any, float32: Path, int8: Path, weights: Path) -> None:
    """Builds the same model in the Python that has PyTorch."""
    np.savez(weights, *[np.asarray(weight, np.float32) for weight in keras_model.get_weights()])
    job = {
        "shape": model.shape,
        "dtype": "int32" if model.is_text else "float32",
        "layers": model.layers,
        "weights": str(weights),
        "float32": str(float32),
        "int8": str(int8),
    }
    script = Path(__file__).parent / "peers" / "torch_files.py"
    subprocess.run([python_for("pytorch"), str(script)], input=json.dumps(job), text=True, check=True)


def check_answers(model: PeerModel, way: Way, file: Path, folder: Path) -> float:
    """Returns the largest difference to Keras over several inputs, as a part of the range of Keras' answers."""
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    np.savez(inputs, x=model.inputs(NUM_CHECKED)[:, None])
    plan: dict[str, Any] = {
        "op": "run",
        "model": str(file),
        "runtime": way.runtime,
        "inputs": str(inputs),
        "outputs": str(outputs),
    }
    plan |= {"mode": way.mode} if way.mode else {}
    plan |= {"delegate": {"library": str(library_path()), "options": {}}} if way.delegate else {}
    *_, result = run_worker(plan, timeout_s=300)
    with np.load(outputs) as answered:
        (answers,) = (answered[name] for name in answered.files)
    (tensor,) = result["outputs"]
    if tensor["scale"]:
        answers = (answers.astype(np.float64) - tensor["zero_point"]) * tensor["scale"]
    expected = np.load(folder / "answers.npy")
    return float(np.abs(answers.reshape(expected.shape) - expected).max() / np.ptp(expected))


def measure(
    model: PeerModel, ways: Sequence[Way], threads: Sequence[int], plan: BenchPlan
) -> tuple[list[dict[str, Any]], list[str]]:
    """Times a model in every way whose answers are right, all taking turns.

    Returns:
        The results, and why what is missing is missing.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(model, folder, [way.runtime for way in ways])
        errors = {way: check_answers(model, way, files[way.ending, way.form], folder) for way in ways}
        right = [way for way in ways if errors[way] <= TOLERANCES[way.form]]
        wrong = [
            f"{model.name}: answers of {way.title} differ by {errors[way]:.2g}" for way in ways if way not in right
        ]
        # The slow portable int8 kernels are timed with one thread only, to keep the run short.
        runs = [(way, count) for count in threads for way in right if count == 1 or way.form != "int8" or way.delegate]
        subjects = [Subject.read(files[way.ending, way.form], _settings(way, count)) for way, count in runs]
        result = measure_all([CpuTarget()], subjects, plan, report=_say if sys.stderr.isatty() else None)
    if result.failures:
        return [], [*wrong, *(f"{model.name}: {failure.message}" for failure in result.failures)]
    return [
        {
            "model": model.name,
            "runtime": "edgelstm" if way.delegate else way.runtime,
            "title": way.title,
            "form": way.form,
            "threads": count,
            "size_bytes": measured.size_bytes,
            "difference_to_keras": errors[way],
            "statistics": asdict(measured.statistics) if measured.statistics else None,
            "process_medians_us": [float(np.median(group)) / 1e3 for group in measured.groups_ns()],
            "peak_rss_bytes": max(process.peak_rss_bytes or 0 for process in measured.processes),
            "ratio": _ratio(result, index, runs),
        }
        for index, ((way, count), measured) in enumerate(zip(runs, result.measurements, strict=True))
    ], wrong


def _settings(way: Way, threads: int) -> Settings:
    delegate = str(library_path()) if way.delegate else None
    return Settings(way.runtime, threads=threads, mode=way.mode, delegate=delegate)


def _ratio(result: Any, index: int, runs: Sequence[tuple[Way, int]]) -> dict[str, Any] | None:
    """Compares with the first way, LiteRT in float32, on as many threads."""
    from edgelstm.targets.comparison import compare

    base = next(number for number, (_, count) in enumerate(runs) if count == runs[index][1])
    return None if base == index else compare(result.measurements[base], result.measurements[index]).to_json()


def _say(text: str) -> None:
    print(f"\r\x1b[K{text[:79]}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [model.name for model in MODELS]
    parser.add_argument("--models", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each way, in turn")
    parser.add_argument("--seconds", type=float, default=0.8, help="of counted calls in each process")
    parser.add_argument("-o", "--output", type=Path, help="default: the committed results, if all models are measured")
    parser.add_argument("--table", action="store_true", help="print the committed results and measure nothing")
    arguments = parser.parse_args()
    if arguments.table:
        document = json.loads((arguments.output or RESULTS).read_text(encoding="utf-8"))
        draw(document, (arguments.output or RESULTS).with_suffix(".png"))
        print(format_tables(document))
        return
    output = arguments.output or (RESULTS if arguments.models == names else Path("latency.json"))
    ways = [way for way in WAYS if is_available(way.runtime)]
    missing = sorted({way.runtime for way in WAYS} - {way.runtime for way in ways})
    if missing:
        print(f"Not installed, so left out: {', '.join(missing)}.", file=sys.stderr)
    plan = BenchPlan(warmup_s=0.3, max_s=arguments.seconds, min_runs=20, num_processes=arguments.rounds)
    document: dict[str, Any] = {
        "command": " ".join(["python benchmarks/latency.py", *sys.argv[1:]]),
        "plan": asdict(plan),
        "versions": {way.runtime: find_runtime(way.runtime).version for way in ways},
        "left_out": [f"{name} is not installed" for name in missing],
        "machine": machine(),
        "results": [],
    }
    for model in MODELS:
        if model.name in arguments.models:
            results, left_out = measure(model, ways, arguments.threads, plan)
            document["results"] += results
            document["left_out"] += left_out
            output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(document, output.with_suffix(".png"))
    print(format_tables(document))
    print("".join(f"\nLeft out: {reason}." for reason in document["left_out"]))


if __name__ == "__main__":
    main()
