"""Runs an ONNX file in a process of its own: a crash here costs the run, not the caller.

A standalone program: `python worker.py PLAN.json`. The plan:

    {"model": FILE, "runtime": "onnxruntime" | "onnx.reference", "runs": [{"inputs": FILE, "outputs": FILE}, …]}

Inputs and outputs are .npz files, arrays arr_0, arr_1, … in the model's order, calls along the first axis. All calls
of all runs go through one session, one after the other. Answers {"runtime": …, "version": …} on stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Call = Callable[[Sequence[Any]], Sequence[Any]]

NUMPY_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
}


def open_onnxruntime(path: str) -> tuple[Call, str]:
    """A session of ONNX Runtime on one CPU thread, and its version."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = [(entry.name, entry.type) for entry in session.get_inputs()]
    types = [NUMPY_TYPES.get(kind, kind.removeprefix("tensor(").removesuffix(")")) for _, kind in inputs]

    def call(arrays: Sequence[Any]) -> Sequence[Any]:
        named = {
            name: np.asarray(array).astype(dtype) for (name, _), dtype, array in zip(inputs, types, arrays, strict=True)
        }
        return list(session.run(None, named))

    return call, str(onnxruntime.__version__)


def open_reference(path: str) -> tuple[Call, str]:
    """The evaluator that comes with onnx, and its version."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    evaluator = ReferenceEvaluator(model)
    inputs = [
        (entry.name, onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
        for entry in model.graph.input
    ]

    def call(arrays: Sequence[Any]) -> Sequence[Any]:
        named = {name: np.asarray(array).astype(dtype) for (name, dtype), array in zip(inputs, arrays, strict=True)}
        return list(evaluator.run(None, named))

    return call, str(onnx.__version__)


RUNTIMES: dict[str, Callable[[str], tuple[Call, str]]] = {
    "onnxruntime": open_onnxruntime,
    "onnx.reference": open_reference,
}


def main(path: str) -> int:
    """Runs a plan; the reason of a failure goes to stderr."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        plan = json.load(file)
    call, version = RUNTIMES[plan["runtime"]](plan["model"])
    for run in plan["runs"]:
        with np.load(run["inputs"]) as archive:
            inputs = [archive[f"arr_{position}"] for position in range(len(archive.files))]
        answers = [call([array[number] for array in inputs]) for number in range(len(inputs[0]))]
        np.savez(run["outputs"], *(np.stack(values) for values in zip(*answers, strict=True)))
    print(json.dumps({"runtime": plan["runtime"], "version": version}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
