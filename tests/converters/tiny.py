"""What tests of single converted files share: models with random weights, and runs of several calls."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.typing import NDArray

from edgelstm.runtime.arrays import save_arrays
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.interpreters import available
from tests.converters.forms import set_random_weights

Array = NDArray[Any]
RUNTIMES = ("ai-edge-litert", "tflite-runtime")
TIME, FEATURES, UNITS = 6, 3, 4


class Constant(layers.Layer):
    """Answers one value, whatever it reads."""

    def __init__(self, value: Array, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = np.asarray(value, np.float32)

    def call(self, x: Any) -> Any:
        del x
        return ops.convert_to_tensor(self.value)


def functional(inputs: Any, outputs: Any, seed: int = 0) -> keras.Model:
    """Returns a functional model with random weights that differ from gate to gate."""
    return with_random_weights(keras.Model(inputs, outputs), seed)


def sequential(*stack: Any, seed: int = 0) -> keras.Model:
    """Returns a sequential model with random weights that differ from gate to gate."""
    return with_random_weights(keras.Sequential(list(stack)), seed)


def with_random_weights(model: keras.Model, seed: int = 0) -> keras.Model:
    set_random_weights(model, np.random.default_rng(seed), 0.5)
    return model


def classifier(classes: int = 3, units: int = UNITS, seed: int = 8) -> keras.Model:
    """Returns LSTM and softmax over sequences of floats; with this seed it does not always decide the same."""
    return sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(units),
        layers.Dense(classes, activation="softmax", name="answer"),
        seed=seed,
    )


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run_calls(path: Path, inputs: dict[str, Array], runtime: str = RUNTIMES[0]) -> dict[str, Array]:
    """Runs calls one after the other in one interpreter of a process of its own, without any reset.

    Args:
        path: The model file.
        inputs: By input name, the calls along the first axis.
        runtime: Name of the runtime; the test is skipped where it is not installed.

    Returns:
        By output name, the calls along the first axis; quantized outputs dequantized.
    """
    python = next((each.python for each in available() if each.name == runtime), None)
    if python is None:
        pytest.skip(f"{runtime} is not installed, and EDGELSTM_RUNTIMES names no Python that has it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_arrays(folder / "inputs.npz", inputs)
        plan = {
            "op": "run",
            "model": str(path),
            "runtime": runtime,
            "inputs": str(folder / "inputs.npz"),
            "outputs": str(folder / "outputs.npz"),
        }
        tensors = {each["name"]: each for each in run_worker(plan, python=python, timeout_s=60)[-1]["outputs"]}
        with np.load(folder / "outputs.npz") as archive:
            return {key: _real(archive[key], tensors[key]) for key in archive.files}


def _real(stored: Array, tensor: dict[str, Any]) -> Array:
    if not tensor["scale"]:
        return stored
    return (stored.astype(np.float32) - tensor["zero_point"]) * np.float32(tensor["scale"])
