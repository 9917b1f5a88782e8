"""Writing a SavedModel: one signature, which needs neither Keras nor Python code to be served."""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.recurrent import Lowering
from edgelstm.converters.lowering.signature import Signature, output_names
from edgelstm.converters.lowering.trace import layer_paths, save_module, stand_ins, stateless, tracing
from edgelstm.errors import LoweringError

SIGNATURE = "serving_default"

Shape = tuple[int | None, ...]


def _no_layer(*_: Any) -> Any:
    raise AssertionError("TensorFlow runs all layers as Keras does")


_AS_IN_KERAS = Lowering(why_loop=lambda _: "TensorFlow runs it as Keras does", lower_layer=_no_layer)


@dataclass(frozen=True)
class ServedTensor:
    """An input or output of the signature: its name, its shape with None for free axes, its dtype."""

    name: str
    shape: Shape
    dtype: str


@dataclass
class Served:
    """A written SavedModel.

    Attributes:
        inputs: Inputs of the signature, in the order of the model's.
        outputs: Its outputs, in the order of the model's.
        notes: Sentences for the user.
        size_bytes: Size of all files.
    """

    inputs: list[ServedTensor]
    outputs: list[ServedTensor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size_bytes: int = 0


def export_saved_model(model: Any, signature: Signature, folder: Path) -> Served:
    """Writes a model as a SavedModel with the signature `serving_default`.

    Batch and length are free where the model leaves them free. Dropout is off, masks work as in Keras, and stateful
    layers start every call from zeros.

    Args:
        model: A built Keras model on the TensorFlow backend.
        signature: Its inputs.
        folder: The folder to write, which does not exist yet.

    Returns:
        What the signature takes and gives.

    Raises:
        LoweringError: If the model cannot be traced, or holds something that a SavedModel cannot.
        OutputError: If the folder cannot be written.
    """
    served = _served_inputs(model, signature)
    module, concrete = _trace(model, signature, served)
    save_module(module, concrete, folder, model.name)
    served.size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return served


def _served_inputs(model: Any, signature: Signature) -> Served:
    """The inputs of the signature. A word of Python's, which TensorFlow refuses as a name, gets "_input"."""
    shapes = _declared_shapes(model, signature)
    served = Served([])
    if any(None in shape[1:] for shape in shapes) and _has_time_distributed(model):
        # Keras 3.15 runs it over as many steps as the batch has rows where both are free.
        shapes = [(*shape[:1], *spec.shape[1:]) for shape, spec in zip(shapes, signature.inputs, strict=True)]
        served.notes.append(
            "The number of time steps is fixed in the SavedModel, because Keras' TimeDistributed answers wrongly in "
            "graphs that leave it free. Give another one with --length."
        )
    given = [spec.name for spec in signature.inputs]
    names = [f"{name}_input" if keyword.iskeyword(name) or name == "self" else name for name in given]
    while len(set(names)) < len(names):
        names = [f"{name}_input" if name != old else name for name, old in zip(names, given, strict=True)]
    for old, name, spec, shape in zip(given, names, signature.inputs, shapes, strict=True):
        served.inputs.append(ServedTensor(name, shape, spec.dtype))
        if name != old:
            served.notes.append(
                f"Input {old!r} is called {name!r} in the SavedModel, because TensorFlow takes no words of Python's."
            )
    return served


def _has_time_distributed(model: Any) -> bool:
    import keras

    return any(isinstance(layer, keras.layers.TimeDistributed) for layer in layers_inside(model))


def _declared_shapes(model: Any, signature: Signature) -> list[Shape]:
    """Shapes with None where the model itself leaves an axis free; a subclassed model knows its batch only."""
    import keras

    fixed: list[Shape] = [spec.shape for spec in signature.inputs]
    if getattr(model, "inputs", None):
        structure = getattr(model, "_inputs_struct", None)
        tensors = keras.tree.flatten(model.inputs if structure is None else structure)
        shapes: list[Shape] = [tuple(tensor.shape) for tensor in tensors]
    else:
        shapes = [(None, *shape[1:]) if signature.free_batch else shape for shape in fixed]
        built = (model.get_build_config() or {}).get("input_shape")
        if len(shapes) == 1 and isinstance(built, (list, tuple)) and len(built) == len(fixed[0]):
            shapes = [(shapes[0][0], *built[1:])]
    return [
        tuple(None if free is None else size for free, size in zip(shape, known, strict=True))
        for shape, known in zip(shapes, fixed, strict=True)
    ]


def _trace(model: Any, signature: Signature, served: Served) -> tuple[Any, Any]:
    """The traced signature, and an object that holds its variables."""
    import keras
    import tensorflow as tf

    def serve(**inputs: Any) -> dict[str, Any]:
        outputs = model(signature.pack([inputs[entry.name] for entry in served.inputs]), training=False)
        tensors = dict(zip(output_names(model, outputs), keras.tree.flatten(outputs), strict=True))
        served.outputs[:] = [
            ServedTensor(name, tuple(tensor.shape), tensor.dtype.name) for name, tensor in tensors.items()
        ]
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}

    result = Trace(paths=layer_paths(model))
    specs = {entry.name: tf.TensorSpec(entry.shape, entry.dtype, name=entry.name) for entry in served.inputs}
    function = tf.function(serve, autograph=False)
    with tracing, stateless(model, result, False), stand_ins(result, "auto", _AS_IN_KERAS, False), _portable(model):
        try:
            concrete = function.get_concrete_function(**specs)
        except Exception as error:  # whatever a model's own code raises
            reason = " ".join(str(error).split())[:300]
            raise LoweringError(
                f"Model {model.name!r} cannot be traced on inputs of shape "
                f"{', '.join(str(entry.shape) for entry in served.inputs)}: {type(error).__name__}: {reason}"
            ) from error
    served.notes += result.notes
    module = tf.Module()
    module.captured = list(concrete.variables)
    return module, concrete


@contextlib.contextmanager
def _portable(model: Any) -> Iterator[None]:
    """Keeps recurrent layers from being traced as kernels that only an NVIDIA GPU has."""
    changed = [(layer, layer.use_cudnn) for layer in layers_inside(model) if getattr(layer, "use_cudnn", False)]
    try:
        for layer, _ in changed:
            layer.use_cudnn = False
        yield
    finally:
        for layer, kept in changed:
            layer.use_cudnn = kept
