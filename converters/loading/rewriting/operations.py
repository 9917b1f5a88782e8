"""TensorFlow operations between layers, as tf.keras wrote them from 2.4 on, told as operations of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.converters.loading.rewriting.base import Context

CLASSES = ("TFOpLambda", "SlicingOpLambda")
Arguments = Mapping[str, Any]
_NUMPY, _NN, _CORE, _MATH = (f"keras.src.ops.{part}" for part in ("numpy", "nn", "core", "math"))


@dataclass(frozen=True)
class Operation:
    """An operation of Keras 3.

    Attributes:
        module: Where Keras keeps its class.
        class_name: The class.
        tensors: Names of TensorFlow's arguments that are tensors, in the order in which Keras takes them.
        settings: TensorFlow's names of the other arguments, by Keras' names.
        ignored: Arguments that may have these values only, which change nothing.
        adapt: Last changes to the settings.
    """

    module: str
    class_name: str
    tensors: tuple[str, ...] = ("x",)
    settings: Mapping[str, str] | None = None
    ignored: Mapping[str, tuple[Any, ...]] | None = None
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict


def _binary(class_name: str) -> Operation:
    return Operation(_NUMPY, class_name, ("x", "y"))


def _reduction(class_name: str) -> Operation:
    return Operation(_NUMPY, class_name, ("input_tensor",), {"axis": "axis", "keepdims": "keepdims"})


def _with_axis(class_name: str, first: str, module: str = _NUMPY) -> Operation:
    return Operation(module, class_name, (first,), {"axis": "axis"})


def _axis_or_last(settings: dict[str, Any]) -> dict[str, Any]:
    return {"axis": -1 if settings.get("axis") is None else settings["axis"]}


def _axis_or_first(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"axis": settings.get("axis") or 0}


_MATMUL_SWITCHES = (
    *("transpose_a", "transpose_b", "adjoint_a", "adjoint_b"),
    *("a_is_sparse", "b_is_sparse", "output_type", "grad_a", "grad_b"),
)

OPERATIONS: dict[str, Operation] = {
    "__operators__.add": _binary("Add"),
    "math.add": _binary("Add"),
    "math.subtract": _binary("Subtract"),
    "math.multiply": _binary("Multiply"),
    "math.divide": _binary("TrueDivide"),
    "math.truediv": _binary("TrueDivide"),
    "math.pow": _binary("Power"),
    "math.maximum": _binary("Maximum"),
    "math.minimum": _binary("Minimum"),
    "math.greater": _binary("Greater"),
    "math.greater_equal": _binary("GreaterEqual"),
    "math.less": _binary("Less"),
    "math.less_equal": _binary("LessEqual"),
    "math.negative": Operation(_NUMPY, "Negative"),
    "math.abs": Operation(_NUMPY, "Absolute"),
    "math.square": Operation(_NUMPY, "Square"),
    "math.sqrt": Operation(_NUMPY, "Sqrt"),
    "math.rsqrt": Operation(_MATH, "Rsqrt"),
    "math.exp": Operation(_NUMPY, "Exp"),
    "math.log": Operation(_NUMPY, "Log"),
    "math.tanh": Operation(_NUMPY, "Tanh"),
    "math.sin": Operation(_NUMPY, "Sin"),
    "math.cos": Operation(_NUMPY, "Cos"),
    "math.sign": Operation(_NUMPY, "Sign"),
    "math.floor": Operation(_NUMPY, "Floor"),
    "math.sigmoid": Operation(_NN, "Sigmoid"),
    "math.softplus": Operation(_NN, "Softplus", ("features",)),
    "nn.relu": Operation(_NN, "Relu", ("features",)),
    "nn.relu6": Operation(_NN, "Relu6", ("features",)),
    "nn.elu": Operation(_NN, "Elu", ("features",)),
    "nn.selu": Operation(_NN, "Selu", ("features",)),
    "nn.silu": Operation(_NN, "Silu", ("features",), None, {"beta": (1.0,)}),
    "nn.leaky_relu": Operation(_NN, "LeakyRelu", ("features",), {"negative_slope": "alpha"}),
    "nn.softmax": Operation(_NN, "Softmax", ("logits",), {"axis": "axis"}, adapt=_axis_or_last),
    "nn.log_softmax": Operation(_NN, "LogSoftmax", ("logits",), {"axis": "axis"}, adapt=_axis_or_last),
    "math.reduce_mean": _reduction("Mean"),
    "math.reduce_sum": _reduction("Sum"),
    "math.reduce_max": _reduction("Max"),
    "math.reduce_min": _reduction("Min"),
    "math.reduce_prod": _reduction("Prod"),
    "math.cumsum": Operation(
        _NUMPY, "Cumsum", ("x",), {"axis": "axis"}, {"exclusive": (False,), "reverse": (False,)}, _axis_or_first
    ),
    "squeeze": _with_axis("Squeeze", "input"),
    "expand_dims": _with_axis("ExpandDims", "input"),
    "concat": _with_axis("Concatenate", "values"),
    "stack": Operation(_NUMPY, "Stack", ("values",), {"axis": "axis"}, adapt=_axis_or_first),
    "reverse": _with_axis("Flip", "tensor"),
    "reshape": Operation(_NUMPY, "Reshape", ("tensor",), {"newshape": "shape"}),
    "transpose": Operation(_NUMPY, "Transpose", ("a",), {"axes": "perm"}, {"conjugate": (False,)}),
    "tile": Operation(_NUMPY, "Tile", ("input",), {"repeats": "multiples"}),
    "clip_by_value": Operation(_NUMPY, "Clip", ("t",), {"x_min": "clip_value_min", "x_max": "clip_value_max"}),
    "cast": Operation(_CORE, "Cast", ("x",), {"dtype": "dtype"}),
    "split": Operation(
        _NUMPY,
        "Split",
        ("value",),
        {"indices_or_sections": "num_or_size_splits", "axis": "axis"},
        {"num": (None,)},
        _axis_or_first,
    ),
    "zeros_like": Operation(_NUMPY, "ZerosLike", ("input",), None, {"dtype": (None,), "layout": (None,)}),
    "ones_like": Operation(_NUMPY, "OnesLike", ("input",), None, {"dtype": (None,), "layout": (None,)}),
    "linalg.matmul": Operation(
        _NUMPY,
        "Matmul",
        ("a", "b"),
        None,
        dict.fromkeys(_MATMUL_SWITCHES, (False, None)),
    ),
    "__operators__.getitem": Operation(_NUMPY, "GetItem", ("tensor", "slice_spec")),
}
"""What Keras 3 computes for a TensorFlow function, by its public name."""


def is_operation(entry: Mapping[str, Any]) -> bool:
    """Tells whether an entry is a TensorFlow function and no layer."""
    return entry["class_name"] in CLASSES


def rewrite_operation(
    name: str, entry: Mapping[str, Any], nodes: list[tuple[Any, dict[str, Any]]], context: Context
) -> tuple[dict[str, Any], list[tuple[list[Any], dict[str, Any]]]]:
    """Returns the Keras 3 operation for a TensorFlow function, and the arguments of its calls.

    Args:
        name: Name of the layer.
        entry: The layer as the file has it.
        nodes: For each call the first argument, and the others by TensorFlow's names.
        context: What holds for the file.

    Raises:
        LoadError: If the function is not in the table, or has arguments that Keras 3 does not take.
    """
    function = str((entry.get("config") or {}).get("function"))
    operation = OPERATIONS.get(function.removeprefix("compat.v1."))
    if operation is None:
        raise context.refusal(
            name,
            f"is the TensorFlow function tf.{function:.60}, which has no operation of Keras 3 here. Replace it with "
            "layers of Keras, or with plain arithmetic, and save the model again",
        )
    calls = [_call(name, function, operation, first, others, context) for first, others in nodes]
    settings = calls[0][1] if calls else {}
    if any(other != settings for _, other in calls):
        raise context.refusal(name, f"calls tf.{function:.60} with different settings. Save the model again")
    layer = {
        "module": operation.module,
        "class_name": operation.class_name,
        "config": settings | {"name": name},
        "registered_name": operation.class_name,
    }
    return layer, [(args, {}) for args, _ in calls]


def _call(
    name: str, function: str, operation: Operation, first: Any, others: dict[str, Any], context: Context
) -> tuple[list[Any], dict[str, Any]]:
    """Returns the tensors of a call, and its settings by Keras' names."""
    arguments = {operation.tensors[0]: first} | others
    arguments.pop("name", None)
    args = [_tensor(arguments.pop(tensor, None)) for tensor in operation.tensors]
    names = operation.settings or {}
    settings = {new: arguments.pop(old) for new, old in names.items() if old in arguments}
    for key, value in arguments.items():
        if not isinstance(value, (bool, int, float, str, type(None))) or value not in (operation.ignored or {}).get(
            key, ()
        ):
            raise context.refusal(
                name, f"calls tf.{function:.60} with {key}={value!r:.40}, which has no counterpart in Keras 3"
            )
    if any(isinstance(value, (tuple, dict)) for value in settings.values()):
        raise context.refusal(name, f"calls tf.{function:.60} with a tensor where Keras 3 takes a number")
    return args, operation.adapt(settings)


def _tensor(value: Any) -> Any:
    """Writes a tensor, a list of them, a constant, or the parts of a slice, as Keras 3 reads them."""
    if isinstance(value, tuple):  # a reference to another layer's output
        return value
    if isinstance(value, dict) and value.keys() == {"start", "stop", "step"}:
        return {"class_name": "__slice__", "config": value}
    if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(value, list):
        numbers = _numbers(value)
        return [_tensor(inner) for inner in value] if numbers is None else numbers
    return value


def _numbers(value: list[Any]) -> dict[str, Any] | None:
    """A constant array; None if the list holds anything but floating-point numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind != "f":
        return None
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": "float32"}}
