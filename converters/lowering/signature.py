"""The inputs and outputs of a Keras model, with the shapes and names the exported file will have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from edgelstm.errors import LoweringError

AUTOMATIC_INPUT = re.compile(r"(input_layer|keras_tensor|input)(_\d+)?$")


@dataclass(frozen=True)
class TensorSpec:
    """Name, static shape (batch first) and dtype of one model input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """Inputs of a model in the order in which the model lists them.

    Attributes:
        inputs: One spec for each input.
        structure: What the model's call takes: nested like the call's argument, holding indices into
            `inputs`.
        free_batch: Whether the model itself takes any batch size.
    """

    inputs: tuple[TensorSpec, ...]
    structure: Any
    free_batch: bool = False

    def pack(self, values: Sequence[Any]) -> Any:
        """Arranges values, in the order of `inputs`, as the model's call takes them."""
        import keras

        return keras.tree.map_structure(lambda index: values[index], self.structure)


def model_signature(
    model: Any,
    *,
    batch: int = 1,
    length: int | None = None,
    data: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Signature:
    """Finds the inputs of a model and fixes their free axes.

    Args:
        model: A built Keras model: functional, sequential or subclassed.
        batch: Size given to a free batch axis; a batch size fixed in the model stays.
        length: Number of time steps given to a free axis 1.
        data: Arrays by input name, used for the shapes of a model that does not know its own.
        shapes: Shapes by input name, of an existing file; an input that they fit takes its shape from there.

    Raises:
        LoweringError: If the model has no known inputs, or an axis stays free.
    """
    declared, structure = _declared_inputs(model, data)
    names = _input_names(declared)
    fixed = []
    for name, (_, shape, dtype) in zip(names, declared, strict=True):
        known = tuple((shapes or {}).get(name, ()))
        size = known if _fits(known, shape) else _fix_shape(model, name, shape, batch, length)
        fixed.append(TensorSpec(name, size, dtype))
    free_batch = all(len(shape) > 0 and shape[0] is None for _, shape, _ in declared)
    return Signature(tuple(fixed), structure, free_batch)


def _fits(known: Sequence[int], shape: Sequence[int | None]) -> bool:
    """Whether a shape fills the free axes of another one."""
    return len(known) == len(shape) and all(free in (None, size) for size, free in zip(known, shape, strict=True))


def _declared_inputs(model: Any, data: Mapping[str, Any] | None) -> tuple[list[tuple[str, Any, str]], Any]:
    """(name, shape with None for free axes, dtype) of each input, and the structure of the call's argument."""
    import keras

    tensors = getattr(model, "inputs", None)
    if tensors:
        structure = getattr(model, "_inputs_struct", None)
        if structure is None:
            structure = tensors[0] if len(tensors) == 1 else list(tensors)
        flat = keras.tree.flatten(structure)
        keys = _paths(structure)
        shapes = [
            (key or tensor.name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))
            for key, tensor in zip(keys, flat, strict=True)
        ]
        return shapes, keras.tree.pack_sequence_as(structure, list(range(len(flat))))
    return _remembered_inputs(model, data)


def _remembered_inputs(model: Any, data: Mapping[str, Any] | None) -> tuple[list[tuple[str, Any, str]], Any]:
    """Inputs of a subclassed model: from data if given, else from the shapes it was built with."""
    import keras

    if data:
        names = list(data)
        shapes = [(name, (None, *np.shape(data[name])[1:]), str(np.asarray(data[name]).dtype)) for name in names]
        structure: Any = {name: index for index, name in enumerate(names)} if len(names) > 1 else 0
        return shapes, structure
    config = model.get_build_config() or {}
    built = config.get("input_shape") or config.get("shapes_dict")
    if isinstance(built, dict) and len(built) == 1:
        built = next(iter(built.values()))
    if not _is_shape(built):
        raise LoweringError(
            f"Model {model.name!r} does not know the shape of its inputs: it is a subclassed model that was not "
            "built on one input. Call it once on real data before saving, or give data with --calibration F.npz."
        )
    dtype = "int32" if _starts_with_embedding(model) else keras.config.floatx()
    return [("input", tuple(built), dtype)], 0


def _is_shape(value: Any) -> TypeGuard[Sequence[int | None]]:
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


def _starts_with_embedding(model: Any) -> bool:
    layers = getattr(model, "layers", [])
    return bool(layers) and type(layers[0]).__name__ == "Embedding"


def _paths(structure: Any, prefix: str = "") -> list[str]:
    """The dict keys that lead to each leaf, joined by underscores; empty for leaves outside any dict."""
    if isinstance(structure, dict):
        paths = []
        for key in sorted(structure):
            paths += _paths(structure[key], f"{prefix}_{key}" if prefix else str(key))
        return paths
    if isinstance(structure, (list, tuple)):
        return [path for item in structure for path in _paths(item, prefix)]
    return [prefix]


def _input_names(shapes: list[tuple[str, Any, str]]) -> list[str]:
    """Chosen names stay; automatic ones, numbered by a counter of the process, become input, input_2, …"""
    names = []
    for position, (name, _, _) in enumerate(shapes):
        chosen = "" if AUTOMATIC_INPUT.match(name) else identifier(name)
        names.append(chosen or ("input" if position == 0 else f"input_{position + 1}"))
    return unique(names)


def output_names(model: Any, outputs: Any) -> list[str]:
    """Names of a model's outputs: dict keys, or names of the layers that were given one, else output, output_2, …"""
    import keras

    keys = _paths(outputs)
    count = len(keys)
    functional = getattr(model, "_functional", None) or model  # a Sequential keeps its names there
    layers = list(getattr(functional, "output_names", None) or [])
    names = []
    for position, key in enumerate(keys):
        layer = layers[position] if len(layers) == count else ""
        if layer and _is_automatic(model, layer, keras.src.utils.naming.to_snake_case):
            layer = ""
        names.append(identifier(key or layer) or ("output" if position == 0 else f"output_{position + 1}"))
    return unique(names)


def _is_automatic(model: Any, name: str, to_snake_case: Any) -> bool:
    """Whether a layer's name was made by Keras from its class; a nested model's default name counts too."""
    for layer in getattr(model, "layers", []):
        if layer.name == name:
            return re.fullmatch(re.escape(to_snake_case(type(layer).__name__)) + r"(_\d+)?", name) is not None
    return True


def identifier(name: str) -> str:
    """The name with everything but ASCII letters, digits and underscores replaced by underscores."""
    cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")
    return f"x_{cleaned}" if cleaned[:1].isdigit() else cleaned


def unique(names: Sequence[str]) -> list[str]:
    """The names with _2, _3, … appended to repeated ones."""
    seen: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 2
        while candidate in seen:
            candidate, number = f"{name}_{number}", number + 1
        seen.add(candidate)
        result.append(candidate)
    return result


def _fix_shape(model: Any, name: str, shape: Any, batch: int, length: int | None) -> tuple[int, ...]:
    sizes = list(shape)
    if sizes and sizes[0] is None:
        sizes[0] = batch
    elif batch not in (1, sizes[0]):
        raise LoweringError(
            f"Input {name!r} has its batch fixed to {sizes[0]} in the model, so --batch {batch} cannot be used: "
            f"leave --batch out or rebuild the model with a free batch axis."
        )
    if len(sizes) > 1 and sizes[1] is None:
        if length is None:
            raise LoweringError(
                f"Input {name!r} has a free sequence length (shape {tuple(shape)}): devices need it fixed. "
                f"Pass --length N, for example --length {proposed_length(model)}."
            )
        sizes[1] = length
    if any(size is None for size in sizes):
        raise LoweringError(
            f"Input {name!r} has free axes beyond batch and time (shape {tuple(shape)}): "
            "rebuild the model with fixed sizes there."
        )
    return tuple(int(size) for size in sizes)


def proposed_length(model: Any) -> int:
    """Number of time steps that a model was built with if it remembers one, else 100."""
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    if _is_shape(shape) and len(shape) > 1 and shape[1]:
        return int(shape[1])
    return 100
