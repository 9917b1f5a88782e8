"""The signature of a SavedModel that is converted: its inputs, its outputs and the program between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.saved_model import operations
from edgelstm.converters.loading.saved_model.checkpoint import Checkpoint
from edgelstm.converters.loading.saved_model.checks import check_program
from edgelstm.converters.loading.saved_model.folder import SavedModelFolder, damaged
from edgelstm.converters.loading.saved_model.program import Program, graph_body
from edgelstm.errors import LoadError

SERVING = "serving_default"
_INITIALISER = "__saved_model_init_op"
_MAX_RANK = 8


@dataclass(frozen=True)
class Input:
    """One input of a signature.

    Attributes:
        name: Its name in the signature.
        placeholder: Name of its node.
        shape: Its sizes, None for free ones.
        dtype: Its type.
    """

    name: str
    placeholder: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class ServingSignature:
    """A signature and what it computes.

    Attributes:
        name: Its name.
        inputs: Its inputs, by name.
        outputs: Names of its outputs, in the order of the program's results.
        program: The checked program.
        variables: Value of each variable that the program may read, by the name of its handle.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    program: Program
    variables: dict[str, Array]


def open_signature(folder: SavedModelFolder, checkpoint: Checkpoint) -> ServingSignature:
    """Finds the signature to convert and checks what it would run.

    Raises:
        LoadError: If there is none or there are several, it takes or gives other things than numbers, or uses
            operations that are not taken.
    """
    name, definition = _choose(folder)
    inputs = tuple(_input(folder, key, definition.inputs[key]) for key in sorted(definition.inputs))
    outputs = tuple(sorted(definition.outputs))
    for key in outputs:
        _check_dtype(folder, f"output {key!r}", definition.outputs[key].dtype)
    results = [definition.outputs[key].name for key in outputs]
    graph = folder.graph.graph_def
    program = Program(graph_body(graph, results), graph.library.function)
    check_program(program, folder.path)
    placeholders = {entry.placeholder for entry in inputs}
    for node in program.main.order:
        if node.operation == "Placeholder" and node.name not in placeholders:
            raise damaged(folder.path, "signature", f"its input {node.name!r} is not declared")
    return ServingSignature(name, inputs, outputs, program, _variables(folder, checkpoint, program))


def _choose(folder: SavedModelFolder) -> tuple[str, Any]:
    signatures = {name: value for name, value in folder.graph.signature_def.items() if name != _INITIALISER}
    usable = {name: value for name, value in signatures.items() if value.inputs and value.outputs}
    if SERVING in usable:
        return SERVING, usable[SERVING]
    if len(usable) == 1:
        return next(iter(usable.items()))
    if usable:
        raise LoadError(
            f"Cannot load {folder.path}: it has the signatures {', '.join(map(repr, sorted(usable)))} and none of them "
            f"is {SERVING!r}. Save it again with one signature, or name the one to convert {SERVING!r}."
        )
    raise LoadError(
        f"Cannot load {folder.path}: the SavedModel has no signature with inputs and outputs, so nothing in it can be "
        "called. Save it again with model.export(), or with tf.saved_model.save(..., signatures=function)."
    )


def _input(folder: SavedModelFolder, name: str, entry: Any) -> Input:
    dtype = _check_dtype(folder, f"input {name!r}", entry.dtype)
    placeholder, _, index = entry.name.partition(":")
    if index != "0":
        raise LoadError(
            f"Cannot load {folder.path}: the input {name!r} of its signature is no dense tensor. Export a signature "
            "with dense inputs."
        )
    if entry.tensor_shape.unknown_rank or len(entry.tensor_shape.dim) > _MAX_RANK:
        raise LoadError(
            f"Cannot load {folder.path}: the input {name!r} of its signature may have any number of axes. Save the "
            "signature again with a tf.TensorSpec that gives its shape."
        )
    sizes = tuple(None if dimension.size < 0 else int(dimension.size) for dimension in entry.tensor_shape.dim)
    return Input(name, placeholder, sizes, dtype)


def _check_dtype(folder: SavedModelFolder, what: str, number: int) -> str:
    import tensorflow as tf

    try:
        dtype = tf.as_dtype(number)
    except TypeError as error:
        raise damaged(folder.path, "signature", f"the {what} has no known type") from error
    if dtype == tf.string:
        raise LoadError(
            f"Cannot load {folder.path}: the {what} of its signature is text, and TensorFlow Lite takes numbers. "
            "Export a signature that starts behind the text processing, at the token numbers."
        )
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool) or dtype.is_quantized:
        raise LoadError(
            f"Cannot load {folder.path}: the {what} of its signature has the type {dtype.name}. Export a signature "
            "with float, integer or boolean tensors."
        )
    return str(dtype.name)


def _variables(folder: SavedModelFolder, checkpoint: Checkpoint, program: Program) -> dict[str, Array]:
    """Values of the variables by the names of their handles in the graph.

    Which variable a handle is, tell the calls: a call passes handles on, and the graph of saved objects lists the
    variables that its function is bound to. Files of TensorFlow 1 name handles and variables alike.
    """
    functions = folder.graph.object_graph_def.concrete_functions
    bound: dict[str, int] = {}
    for node in program.main.order:
        for name in node.called():
            if name in functions and node.operation in operations.CALLS:
                objects = list(functions[name].bound_inputs)
                handles = node.inputs[len(node.inputs) - len(objects) :]
                bound |= dict(zip((handle.partition(":")[0] for handle in handles), objects, strict=False))
    values = {}
    for node in program.main.order:
        if node.operation != "VarHandleOp":
            continue
        key = node.attributes["shared_name"].s.decode("utf-8", "replace") if "shared_name" in node.attributes else ""
        value = checkpoint.value(bound[node.name]) if node.name in bound else checkpoint.values.get(key or node.name)
        if value is None:
            raise damaged(folder.path, "checkpoint", f"it has no value for the variable {key or node.name!r}")
        values[node.name] = value
    return values
