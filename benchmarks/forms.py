"""Times the forms of an LSTM against each other: fused, loop, unrolled, in every precision, interleaved in one run.

python benchmarks/forms.py -o benchmarks/results/forms.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from conversion import build_model, machine
from keras import layers

import edgelstm
from edgelstm.converters.lowering import stepwise

FAMILIES = {"fused": "interpreter", "loop": "compiled", "unrolled": "mediapipe"}
PRECISIONS = ("float32", "float16", "dynamic", "int8")
ROUNDS, CALLS = 31, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/forms.json"))
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 10_000, (64, 200)).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        found = [
            entry
            for name, model in (("M", build_model()), ("M, all steps", all_steps()))
            for entry in time_forms(name, model, tokens, Path(folder))
        ]
        blocks = time_blocks(build_model(), tokens, Path(folder))
    document = {"command": "python benchmarks/forms.py", "machine": machine(), "forms": found, "blocks": blocks}
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    for entry in found:
        print(
            "{model:14}{precision:9}{form:10}{size_bytes:>10,}{latency_us:9.0f} us  {ratio_to_fused:.2f}".format(
                **entry
            )
        )
    for entry in blocks:
        print("{precision:9}block {block:<3}{latency_us:9.0f} us".format(**entry))


def all_steps() -> keras.Model:
    """Model M with all hidden states used, so that the loop has to collect them."""
    return keras.Sequential(
        [
            keras.Input((200,), dtype="int32"),
            layers.Embedding(10_000, 128),
            layers.LSTM(64, return_sequences=True),
            layers.GlobalMaxPooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def time_forms(name: str, model: keras.Model, tokens: Any, folder: Path) -> list[dict[str, Any]]:
    files = {}
    for precision in PRECISIONS:
        for form, family in FAMILIES.items():
            path = folder / f"{precision}-{form}.tflite"
            artifact = edgelstm.convert(model, path, quantize=precision, runtime=family, calibration=tokens)
            files[precision, form] = (path, artifact.card)
    medians = interleaved({key: path for key, (path, _) in files.items()}, tokens)
    return [
        {
            "model": name,
            "precision": precision,
            "form": form,
            "size_bytes": card["size_bytes"],
            "max_abs_difference": max(entry["max_abs_difference"] for entry in card["parity"]),
            "latency_us": medians[precision, form],
            "ratio_to_fused": medians[precision, form] / medians[precision, "fused"],
        }
        for (precision, form), (_, card) in files.items()
    ]


def time_blocks(model: keras.Model, tokens: Any, folder: Path) -> list[dict[str, Any]]:
    """Steps in one turn of the loop; the library takes `stepwise.LARGEST_BLOCK`."""
    files, kept = {}, stepwise.LARGEST_BLOCK
    for precision in ("float32", "dynamic"):
        for block in (1, 2, 4, 8, 20):
            stepwise.LARGEST_BLOCK = block
            path = folder / f"{precision}-{block}.tflite"
            edgelstm.convert(model, path, quantize=precision, runtime="compiled", verify=False)
            files[precision, block] = path
    stepwise.LARGEST_BLOCK = kept
    medians = interleaved(files, tokens)
    return [{"precision": key[0], "block": key[1], "latency_us": value} for key, value in medians.items()]


def interleaved(files: dict[Any, Path], tokens: Any) -> dict[Any, float]:
    """Median latency of one call in microseconds by file; all files take turns."""
    interpreters = {}
    for key, path in files.items():
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
        interpreters[key] = interpreter, interpreter.get_input_details()[0]["index"]
    samples: dict[Any, list[int]] = {key: [] for key in files}
    for turn in range(ROUNDS):
        for key, (interpreter, index) in interpreters.items():
            for call in range(CALLS):
                interpreter.set_tensor(index, tokens[(turn + call) % len(tokens)][np.newaxis])
                started = time.perf_counter_ns()
                interpreter.invoke()
                if turn:
                    samples[key].append(time.perf_counter_ns() - started)
    return {key: float(np.median(values)) / 1e3 for key, values in samples.items()}


if __name__ == "__main__":
    main()
