"""Runs files on MediaPipe Tasks, which take a model of their kind and nothing else: here the text classifier.

It takes the package mediapipe, in this Python or in one that the environment variable names:

    pip install mediapipe==0.10.31
    EDGELSTM_RUNTIMES=mediapipe=/path/to/python

That version is the last small one (numpy 1 or 2, no OpenCV, no JAX), and it opens no connection; 0.10.35 and 1.2 do, to
report their use, so the worker leaves the network first. 0.10.21 and 1.2.2 run here, too.

A classifier takes text, so rows of tokens become sentences: the token 17 is the word "w17", whose number in a made
vocabulary is 17. That vocabulary has no <START>, which MediaPipe would put in front, and a row fills the whole
input, so MediaPipe pads nothing: every row can be said, one with padding in front as well.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.feeds import describe, fit_calls, read_ports
from edgelstm.runtime.interpreters import START_TIMEOUT_S, VARIABLE, python_elsewhere
from edgelstm.runtime.tensors import Array, TensorInfo

NAME = "mediapipe"
REQUIREMENT = f"pip install mediapipe==0.10.31; or in another Python, and set {VARIABLE}={NAME}=/path/to/python"


def is_here() -> bool:
    """Says whether this Python has the package or the environment variable names one that does, without starting it.

    Raises:
        ModelRunError: If the variable cannot be understood.
    """
    return python_elsewhere(NAME) is not None or importlib.util.find_spec(NAME) is not None


def find_python() -> str:
    """Finds the Python that has the package; the environment variable goes before this one.

    Raises:
        ModelRunError: If the variable cannot be understood.
        MissingExtraError: If there is none.
    """
    if not is_here():
        raise MissingExtraError(f"MediaPipe is not installed in {sys.executable}. Install it: {REQUIREMENT}.")
    return python_elsewhere(NAME) or sys.executable


def version() -> str:
    """Returns the version of MediaPipe.

    Raises:
        ModelRunError: If the variable cannot be understood, or names a Python without the package.
        MissingExtraError: If there is none.
    """
    python = find_python()
    code = f"import importlib.metadata; print(importlib.metadata.version({NAME!r}))"
    try:
        done = subprocess.run(
            [python, "-I", "-B", "-c", code], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ModelRunError(
            f"Environment variable {VARIABLE}: {python} has no {NAME}. Install it: {python} -m pip install "
            "mediapipe==0.10.31."
        ) from error
    return done.stdout.strip()


def run(file: Path, calls: Mapping[str, Any], *, timeout_s: float) -> tuple[dict[str, Array], dict[str, Any]]:
    """Runs calls of a file in one text classifier, one after the other.

    Args:
        file: The .tflite file, without MediaPipe's metadata.
        calls: The tokens by the name of the one input, shape (calls, 1, length).
        timeout_s: Seconds after which the process is stopped.

    Returns:
        The scores by the name of the one output, shape (calls, *output shape), and the result: "runtime",
        "runtime_version", "inputs", "outputs", "load_us", and "samples_ns", the duration of every call in order.

    Raises:
        ModelRunError: If the file is no text classifier, or MediaPipe refuses it, fails, crashes or runs too long.
        MissingExtraError: If MediaPipe is not installed.
    """
    python = find_python()
    tokens_info, scores_info = check_file(file)
    try:
        feeds, count = fit_calls(calls, [tokens_info])
    except ValueError as error:
        raise ModelRunError(f"{file}: {NAME} cannot be fed: {error}.") from error
    tokens = feeds[tokens_info.name].reshape(count, -1)
    num_classes = int(np.prod(scores_info.shape))
    plan = {
        "model": file,
        "runtime": NAME,
        "vocabulary": _vocabulary(file, tokens),
        "num_classes": num_classes,
        "sentences": [" ".join(f"w{token}" for token in row) for row in tokens],
    }
    worker = Path(__file__).with_name("worker.py")
    ready, result = run_worker(plan, python=python, timeout_s=timeout_s, script=str(worker))
    scores = np.array(result["scores"], np.float32).reshape(count, *scores_info.shape)
    described = {"inputs": describe([tokens_info]), "outputs": describe([scores_info]), "calls": count}
    return {scores_info.name: scores}, {**_without_event(ready), **described, "samples_ns": result["samples_ns"]}


def _without_event(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != "event"}


def check_file(file: Path) -> tuple[TensorInfo, TensorInfo]:
    """Returns the one input and the one output of a text classifier, a free batch fixed to 1; without MediaPipe.

    Raises:
        ModelRunError: If the file is none.
    """
    inputs, outputs = read_ports(file)
    ports = [_of_one_row(info) for info in (*inputs, *outputs)]
    if (len(inputs), len(outputs)) != (1, 1) or not (_fits(ports[0], "int32") and _fits(ports[1], "float32")):
        has = [f"input {_spell(info)}" for info in inputs] + [f"output {_spell(info)}" for info in outputs]
        raise ModelRunError(
            f"{file}: MediaPipe Tasks run text classifiers only: one int32 input of shape (1, length) and one float32 "
            f"output of shape (1, classes), sizes fixed. The file has {', '.join(has)}."
        )
    return ports[0], ports[1]


def _of_one_row(info: TensorInfo) -> TensorInfo:
    return replace(info, shape=(1, *info.shape[1:])) if info.shape[:1] == (-1,) else info


def _fits(info: TensorInfo, dtype: str) -> bool:
    return info.dtype == dtype and len(info.shape) == 2 and info.shape[0] == 1 and info.shape[1] > 0


def _spell(info: TensorInfo) -> str:
    return f"{info.name!r} {info.dtype} {info.shape}"


def _vocabulary(file: Path, tokens: Array) -> dict[str, int]:
    """Returns the numbers of the words that stand for tokens, and of the two words that MediaPipe insists on.

    Raises:
        ModelRunError: If a token is negative, which a vocabulary cannot hold.
    """
    used = np.unique(tokens).tolist()
    if used and used[0] < 0:
        raise ModelRunError(f"{file}: MediaPipe numbers its words from 0, but the tokens hold {used[0]}.")
    return {"<PAD>": 0, "<UNKNOWN>": 0, **{f"w{token}": token for token in used}}
