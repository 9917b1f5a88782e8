"""Keras models, on each of the backends of Keras."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .keras_backends import Backend, JaxBackend, TensorFlowBackend, TorchBackend
from .plan import PlanError, either, first_line, read_choice
from .session import Arrays, Session, by_name, plain_tensor

FLOAT16_MAX = 65504.0
AUTOMATIC = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?$")


class KerasSession(Session):
    """A Keras model, called as a whole with `training=False`."""

    backend: type[Backend]

    @classmethod
    def prepare(cls, plan: dict[str, Any]) -> None:
        """Chooses the backend and the device, which Keras and the backend read when they are imported."""
        cls.backend.prepare(plan)

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        self._keras, self._mode = module, read_choice(plan, "mode")
        self._backend = self.backend(plan)
        self._backend.check_mode(self._mode)
        with lower_ending(plan["model"]) as path:
            started = time.perf_counter_ns()
            try:
                self._model = module.saving.load_model(path, compile=False, safe_mode=True)
            except Exception as error:  # a file of another kind or version raises what it likes
                raise PlanError(f"keras cannot load the file: {first_line(error)}") from error
        if read_choice(plan, "dtype") == "float16":
            self._model = in_float16(self._model, module)
        self.inputs, self._structure = inputs_of(self._model, module)
        self.outputs = outputs_of(self._model, module)
        self._invoke = self._backend.compile(self._model, self._call, self._mode)
        self.load_us = (time.perf_counter_ns() - started) / 1e3
        self._fed: Arrays = {}
        self._tensors: list[Any] = []
        self._answers: list[Any] = []

    def _call(self, tensors: list[Any], call: Any) -> Any:
        """Calls the model as its inputs are structured and returns the structure of its outputs."""
        return call(self._keras.tree.pack_sequence_as(self._structure, tensors))

    def resize(self, feeds: Arrays) -> None:
        """Notes the sizes: they come with every call, and the first call of each compiles anew."""
        for name, array in feeds.items():
            self.inputs[name]["shape"] = list(array.shape[1:])

    def feed(self, arrays: Arrays) -> None:
        """Puts the inputs on the device."""
        for name, array in arrays.items():
            self._fed[name] = self._backend.tensor(array)
        self._tensors = [self._fed.get(name) for name in self.inputs]

    def invoke(self) -> None:
        """Calls the model and waits for the device."""
        try:
            self._answers = self._invoke(self._tensors)
        except Exception as error:
            raise PlanError(self._refusal(error)) from error

    def masks(self) -> bool:
        """Says whether a layer makes a mask: an Embedding with mask_zero, or Masking."""
        kind = self._keras.layers.Masking
        layers = self._model._flatten_layers()
        return any(isinstance(layer, kind) or getattr(layer, "mask_zero", False) for layer in layers)

    def _refusal(self, error: Exception) -> str:
        name, reason = f"keras-{self._backend.name}", first_line(error)
        if self._mode == "eager":
            return f"{name} cannot run this model: {reason}"
        kinds = sorted({type(layer).__name__ for layer in recurrent_layers(self._model, self._keras)})
        what = f"this model with its recurrent layers ({', '.join(kinds)})" if kinds else "this model"
        others = [repr(mode) for mode in self._backend.modes if mode != self._mode]
        return f"{name} cannot compile {what} in mode {self._mode!r}: {reason}: use mode {either(others)}"

    def reset(self) -> None:
        """Puts the states of stateful layers back."""
        self._backend.reset(self._model)

    def read_outputs(self) -> Arrays:
        """Copies the answers from the device."""
        return by_name(self.outputs, map(self._backend.array, self._answers))

    def describe(self) -> dict[str, Any]:
        """Describes outputs as the last call gave them."""
        for name, answer in self.read_outputs().items():
            self.outputs[name].update(shape=list(answer.shape), dtype=answer.dtype.name)
        return super().describe()


class TensorflowSession(KerasSession):
    """A Keras model on TensorFlow."""

    backend = TensorFlowBackend


class JaxSession(KerasSession):
    """A Keras model on JAX."""

    backend = JaxBackend


class TorchSession(KerasSession):
    """A Keras model on PyTorch."""

    backend = TorchBackend


@contextmanager
def lower_ending(model: str) -> Iterator[str]:
    """Yields the path of a file, of a copy if its ending is not in lower case: Keras knows it only so."""
    ending = Path(model).suffix
    if ending == ending.lower():
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        copy = Path(folder) / f"model{ending.lower()}"
        shutil.copyfile(model, copy)
        yield str(copy)


def recurrent_layers(model: Any, keras: Any) -> list[Any]:
    """Returns the layers of a model, nested ones included, that step through time."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)]


def in_float16(model: Any, keras: Any) -> Any:
    """Returns a copy of a model that computes in float16: rebuilt from its config with the dtype policy "float16".

    Its inputs keep their dtype and are cast by the first layer. Weights are those of the model, rounded.

    Raises:
        PlanError: If a weight does not fit into float16.
    """
    weights = model.get_weights()
    largest = max((float(np.abs(weight).max()) for weight in weights if weight.size), default=0.0)
    if largest > FLOAT16_MAX:
        raise PlanError(f"a weight of {largest:g} does not fit into float16, which ends at {FLOAT16_MAX:g}")
    config = with_policy(keras.saving.serialize_keras_object(model), "float16")
    copy = keras.saving.deserialize_keras_object(config, safe_mode=True)
    copy.set_weights(weights)
    return copy


def with_policy(config: Any, policy: str) -> Any:
    """Returns a serialized object in which every dtype policy has that name, and initializers give zeros.

    Orthogonal ones, which LSTMs have, cannot be computed in float16 by every backend, and the weights are set anyway.
    """
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": policy}}
        if config.get("module") == "keras.initializers":
            return {**config, "class_name": "Zeros", "config": {}}
        return {key: with_policy(value, policy) for key, value in config.items()}
    return [with_policy(value, policy) for value in config] if isinstance(config, list) else config


def inputs_of(model: Any, keras: Any) -> tuple[Arrays, Any]:
    """Returns tensor details of the inputs by name, and the structure in which the model takes them.

    Names are keys of a dict, or what the inputs were called; those that Keras made up become input, input_2, …, as in
    converted files.

    Raises:
        PlanError: If the model does not know its inputs.
    """
    tensors = getattr(model, "inputs", None)
    if not tensors:
        raise PlanError("the model does not know its inputs: save it as a functional or sequential model")
    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        structure = tensors[0] if len(tensors) == 1 else list(tensors)
    flat = keras.tree.flatten(structure)
    names = []
    for position, key in enumerate(keys_of(structure)):
        made_up = AUTOMATIC.match(flat[position].name)
        names.append(key or (numbered("input", position) if made_up else flat[position].name))
    return by_name(names, map(detail_of(keras), range(len(flat)), flat)), keras.tree.pack_sequence_as(
        structure, list(range(len(flat)))
    )


def outputs_of(model: Any, keras: Any) -> Arrays:
    """Returns tensor details of the outputs by name.

    Names are keys of a dict, or those of the layers that make them, if someone named these; else output, output_2, …
    """
    functional = getattr(model, "_functional", None) or model
    structure = getattr(functional, "_outputs_struct", None)
    flat = keras.tree.flatten(model.outputs if structure is None else structure)
    layers = list(getattr(functional, "output_names", None) or [])
    layers = layers if len(layers) == len(flat) else [""] * len(flat)
    kinds = {layer.name: type(layer).__name__ for layer in getattr(model, "layers", [])}
    names = []
    for position, key in enumerate(keys_of(structure) if structure is not None else [""] * len(flat)):
        layer = layers[position]
        made_up = re.sub(r"(_\d+)?$", "", layer).replace("_", "") == kinds.get(layer, layer).lower()
        names.append(key or ("" if made_up else layer) or numbered("output", position))
    return by_name(names, map(detail_of(keras), range(len(flat)), flat))


def detail_of(keras: Any) -> Callable[[int, Any], dict[str, Any]]:
    """Returns what makes tensor details of the number of a symbolic tensor and the tensor."""
    return lambda index, tensor: plain_tensor(index, tensor.shape, keras.backend.standardize_dtype(tensor.dtype))


def numbered(word: str, position: int) -> str:
    """Returns the word, with its number from the second position on."""
    return word if position == 0 else f"{word}_{position + 1}"


def keys_of(structure: Any, prefix: str = "") -> list[str]:
    """Returns the dict keys that lead to each leaf of a structure, joined by underscores; empty outside of dicts."""
    if isinstance(structure, dict):
        keys = []
        for key in sorted(structure):
            keys += keys_of(structure[key], f"{prefix}_{key}" if prefix else str(key))
        return keys
    if isinstance(structure, (list, tuple)):
        return [key for item in structure for key in keys_of(item, prefix)]
    return [prefix]
