"""Runs files with and without the delegate, side by side, and says how far the answers are apart.

    python compare.py LIBRARY [MODULE] < jobs.json > results.json

under a Python with a TFLite runtime: that of the module, or the first that is there.

A job: {"file": …, "ours": another file for the delegate, "seed": …, "calls": …, "streaming": whether states are kept
between calls, "near": …}. Its result: {"delegated":
…, "largest": …, "many": …, "count": …, "moved": …} or {"error": …}: the largest difference of any value of outputs and
states, how many of the values differ by more than "near", how many there are, how far apart answers of different calls
are.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

MODULES = ("ai_edge_litert", "tflite_runtime")


def runtime():
    """The runtime's module."""
    found = sys.argv[2:] or [name for name in MODULES if importlib.util.find_spec(name)]
    return importlib.import_module(f"{found[0]}.interpreter")


def inputs_of(details, rng):
    """Random values for an input."""
    if details["dtype"] == np.float32:
        return rng.normal(0, 1, details["shape"]).astype(np.float32)
    low, high = (-128, 127) if details["dtype"] == np.int8 else (0, 20)
    return rng.integers(low, high + 1, details["shape"]).astype(details["dtype"])


def start(file, delegates):
    """An interpreter and the indices of its states."""
    content = Path(file).read_bytes()
    interpreter = runtime().Interpreter(model_content=content, num_threads=1, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    states = [t["index"] for t in interpreter.get_tensor_details() if t["name"] in ("hidden", "cell")]
    return interpreter, states


def real(interpreter, index):
    """The numbers that a tensor stands for."""
    (details,) = (details for details in interpreter.get_tensor_details() if details["index"] == index)
    scale, zero_point = details["quantization"]
    value = interpreter.get_tensor(index).astype(np.float64).ravel()
    return (value - zero_point) * scale if scale else value


def run(interpreter, states, values, reset):
    """All outputs and states after a call."""
    for details, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(details["index"], value)
    if reset:
        interpreter.reset_all_variables()
    interpreter.invoke()
    indices = [details["index"] for details in interpreter.get_output_details()] + states
    return np.concatenate([real(interpreter, index) for index in indices])


def count_delegated(interpreter):
    """How many operators of delegates stand in the plan."""
    return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())


def compare(library, job):
    """The result of a job."""
    rng = np.random.default_rng(job["seed"])
    (stock, states), (ours, our_states) = (
        start(job["file"], None),
        start(job.get("ours", job["file"]), [runtime().load_delegate(library)]),
    )
    answers = []
    for call in range(job["calls"]):
        values = [inputs_of(details, rng) for details in stock.get_input_details()]
        reset = not job["streaming"] or call == job["calls"] - 1
        answers.append((run(stock, states, values, reset), run(ours, our_states, values, reset)))
    stock_all, ours_all = (np.stack(part) for part in zip(*answers, strict=True))
    difference = np.abs(stock_all - ours_all)
    return {
        "delegated": count_delegated(ours) - count_delegated(stock),
        "largest": float(difference.max()) if difference.size else 0.0,
        "many": int((~(difference <= job["near"])).sum()),
        "count": difference.size,
        "moved": float(np.ptp(stock_all, 0).max()) if stock_all.size else 0.0,
    }


def main():
    """Answers the jobs on stdin."""
    results = []
    for job in json.load(sys.stdin):
        try:
            results.append(compare(sys.argv[1], job))
        except (RuntimeError, ValueError) as error:
            results.append({"error": str(error)})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
