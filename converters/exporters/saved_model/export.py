"""Writing a SavedModel: one signature, which needs neither Keras nor Python code to be served."""

from __future__ import annotations

import contextlib
import keyword
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.recurrent import Lowering
from edgelstm.converters.lowering.signature import Signature, output_names
from edgelstm.converters.lowering.trace import _clean_variables, _layer_paths, _stand_ins, _stateless, _tracing
from edgelstm.errors import LoweringError, OutputError

SIGNATURE = "serving_default"
GRAPH = "saved_model.pb"

Shape = tuple[int | None, ...]


def _no_layer(*_: Any) -> Any:
    raise AssertionError("TensorFlow runs all layers as Keras does")


_AS_IN_KERAS = Lowering(why_loop=lambda _: "TensorFlow runs it as Keras does", lower_layer=_no_layer)


@dataclass(frozen=True)
class ServedInput:
    """One input of the signature: its name, its shape with None for free axes, its dtype."""

    name: str
    shape: Shape
    dtype: str


@dataclass
class Served:
    """A written SavedModel.

    Attributes:
        inputs: Inputs of the signature, in the order of the model's.
        outputs: Names of its outputs, in the order of the model's.
        notes: Sentences for the user.
        size_bytes: Size of all files.
    """

    inputs: list[ServedInput]
    outputs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size_bytes: int = 0


def check_folder(folder: Path) -> None:
    """Finds out, before long work, whether a SavedModel can be written.

    Raises:
        OutputError: If the folder around it is missing or may not be written to, or there is something else than a
            SavedModel at that path.
    """
    target = Path(os.path.realpath(folder))
    if not target.parent.is_dir():
        raise OutputError(f"Cannot write {folder}: the folder {target.parent} does not exist. Create it first.")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"Cannot write {folder}: the folder {target.parent} is write-protected.")
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"Cannot write {folder}: a SavedModel is a folder, and this is a file. Name another folder.")
    if any(target.iterdir()) and not (target / GRAPH).is_file():
        raise OutputError(
            f"Cannot write {folder}: that folder exists and holds something else than a SavedModel. Name another one."
        )


def export_saved_model(model: Any, signature: Signature, folder: Path) -> Served:
    """Writes a model as a SavedModel with the signature `serving_default`.

    Batch and length are free where the model leaves them free. Dropout is off, masks work as in Keras, and stateful
    layers start every call from zeros.

    Args:
        model: A built Keras model on the TensorFlow backend.
        signature: Its inputs.
        folder: The folder to write. It is complete before it gets its name; a SavedModel that was there is replaced.

    Raises:
        LoweringError: If the model cannot be traced.
        OutputError: As `check_folder`, and if writing fails. What was there before is still there then.
    """
    import tensorflow as tf

    check_folder(folder)
    target = Path(os.path.realpath(folder))
    temporary = _temporary_name(target.parent)
    served = _served_inputs(model, signature)
    try:
        module, concrete = _trace(model, signature, served)
        with _clean_variables(module.captured):
            tf.saved_model.save(module, str(temporary), signatures={SIGNATURE: concrete})
        served.size_bytes = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
        _rename(temporary, target)
    except (OSError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(f"Cannot write {folder}: {reason}. Free space there, or name another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return served


def place_folder(source: Path, folder: Path) -> None:
    """Copies a finished SavedModel to where it belongs; it is complete there before it gets its name.

    Raises:
        OutputError: As `check_folder`, and if writing fails. What was there before is still there then.
    """
    check_folder(folder)
    target = Path(os.path.realpath(folder))
    temporary = _temporary_name(target.parent)
    try:
        shutil.copytree(source, temporary)
        _rename(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot write {folder}: {reason}. Free space there, or name another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _served_inputs(model: Any, signature: Signature) -> Served:
    """The inputs of the signature. A name that is a word of Python's, which TensorFlow refuses, gets "_input"."""
    shapes = _declared_shapes(model, signature)
    served = Served([])
    if any(None in shape[1:] for shape in shapes) and _has_time_distributed(model):
        # Keras 3.15 runs it over as many steps as the batch has rows where both are free.
        shapes = [(*shape[:1], *spec.shape[1:]) for shape, spec in zip(shapes, signature.inputs, strict=True)]
        served.notes.append(
            "The number of time steps is fixed in the SavedModel, because Keras' TimeDistributed answers wrongly in "
            "graphs that leave it free. Give another one with --length."
        )
    for spec, shape in zip(signature.inputs, shapes, strict=True):
        name = f"{spec.name}_input" if keyword.iskeyword(spec.name) else spec.name
        served.inputs.append(ServedInput(name, shape, spec.dtype))
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
            shapes = [tuple(built)]
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
        served.outputs[:] = output_names(model, outputs)
        flat = keras.tree.flatten(outputs)
        return {name: tf.identity(tensor) for name, tensor in zip(served.outputs, flat, strict=True)}

    result = Trace(paths=_layer_paths(model))
    specs = {entry.name: tf.TensorSpec(entry.shape, entry.dtype, name=entry.name) for entry in served.inputs}
    function = tf.function(serve, autograph=False)
    with _tracing, _stateless(model, result, False), _stand_ins(result, "auto", _AS_IN_KERAS, False), _portable(model):
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


def _temporary_name(folder: Path) -> Path:
    return folder / f".edgelstm-{secrets.token_hex(6)}.tmp"


def _rename(temporary: Path, target: Path) -> None:
    """Gives a complete folder its name; the one that had it is moved aside first, and back if that fails."""
    if not target.exists():
        temporary.rename(target)
        return
    old = _temporary_name(target.parent)
    target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
