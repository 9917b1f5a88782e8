"""How long conversion takes, and how much larger the file is than its weights.

Model M: Embedding(10000, 128) -> LSTM(64) -> Dense(1, sigmoid), 200 tokens, random weights.

    python benchmarks/conversion.py [--runs 5] [-o benchmarks/results/conversion.json]

Measured are `edgelstm.convert` of the live model in a process that has imported Keras, verification included
(the first call and the median of the others apart), and the command `edgelstm convert` from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import edgelstm

VOCABULARY, EMBEDDING, UNITS, LENGTH = 10_000, 128, 64, 200
NUM_CALIBRATION = 100
WEIGHT_BYTES = {"float32": 4, "float16": 2, "dynamic": 1, "int8": 1}


def build_model() -> Any:
    from edgelstm.converters.loading.keras_import import import_keras

    keras = import_keras()
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(VOCABULARY, EMBEDDING)(tokens)
    x = keras.layers.LSTM(UNITS)(x)
    model = keras.Model(tokens, keras.layers.Dense(1, activation="sigmoid")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(scale=0.2, size=weight.shape) for weight in model.get_weights()])
    return model


def in_process(precision: str, runs: int) -> dict[str, Any]:
    """Seconds of each call in this process, which must be a fresh one."""
    model = build_model()
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (NUM_CALIBRATION, LENGTH))
    calibration = {"tokens": tokens} if precision == "int8" else None
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            start = time.perf_counter()
            artifact = edgelstm.convert(model, Path(folder) / "m.tflite", quantize=precision, calibration=calibration)
            seconds.append(time.perf_counter() - start)
        return {
            "first_s": seconds[0],
            "later_s": seconds[1:],
            "size_bytes": artifact.card["size_bytes"],
            "parameters": artifact.card["parameters"],
            "parity": artifact.card["parity"],
        }


def command(precision: str, model: Path, data: Path, runs: int) -> list[float]:
    """Seconds of whole `edgelstm convert` commands."""
    output = model.with_name("out.tflite")
    line = [sys.executable, "-m", "edgelstm", "convert", str(model), "-o", str(output), "--quantize", precision]
    if precision == "int8":
        line += ["--calibration", str(data)]
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(line, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return seconds


def machine() -> dict[str, Any]:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "num_cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("edgelstm", "tensorflow", "keras", "numpy", "ai-edge-litert")},
    }


def measure(runs: int) -> dict[str, Any]:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder) / "m.keras", Path(folder) / "data.npz"
        build_model().save(model)
        np.savez(data, tokens=np.random.default_rng(1).integers(0, VOCABULARY, (NUM_CALIBRATION, LENGTH)))
        for precision, weight_bytes in WEIGHT_BYTES.items():
            fresh = subprocess.run(
                [sys.executable, __file__, "--in-process", precision, "--runs", str(runs)],
                check=True,
                capture_output=True,
                text=True,
            )
            result = json.loads(fresh.stdout)
            result["command_s"] = command(precision, model, data, runs)
            weights = result["parameters"] * weight_bytes
            result["overhead_percent"] = 100 * (result["size_bytes"] / weights - 1)
            results[precision] = result
            print(format_row(precision, result), file=sys.stderr)
    return {"command": "python benchmarks/conversion.py", "machine": machine(), "results": results}


def format_row(precision: str, result: dict[str, Any]) -> str:
    return (
        f"{precision:<8} first {result['first_s']:.2f} s, later {statistics.median(result['later_s']):.2f} s, command "
        f"{statistics.median(result['command_s']):.2f} s, {result['size_bytes']:,} bytes, "
        f"{result['overhead_percent']:.2f} % over its weights"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "conversion.json")
    parser.add_argument("--in-process", metavar="PRECISION", choices=WEIGHT_BYTES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps(in_process(arguments.in_process, arguments.runs)))
        return
    arguments.output.write_text(json.dumps(measure(arguments.runs), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
