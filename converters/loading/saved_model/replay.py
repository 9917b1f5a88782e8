"""Running the operations of a program: eagerly, or laid out flat in the graph that is being traced.

Functions are inlined, and everything that follows from constants and static shapes is computed at once. So a graph
traced with static shapes has them everywhere, whatever the SavedModel was saved with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.converters.loading.saved_model import operations
from edgelstm.converters.loading.saved_model.kernels import (
    OF_VARIABLES,
    apply,
    attribute,
    constant_of,
    is_eager,
    shape_answer,
)
from edgelstm.converters.loading.saved_model.lists import LIST_OPERATIONS, growing
from edgelstm.converters.loading.saved_model.program import Body, Node, Program
from edgelstm.converters.loading.saved_model.values import Kind, Loop, Path, StandIns, Value

_MAX_TRIALS = 4


@dataclass(frozen=True)
class _Outputs:
    """What a node gives: all tensors in order, and by the operation's names for them where it has several."""

    values: list[Value]
    named: Mapping[str, list[Value]]


class Replay:
    """One run of a program."""

    def __init__(
        self,
        program: Program,
        *,
        read_variable: Callable[[str], Any],
        variable_kind: Kind = Kind.WEIGHT,
        stand_ins: StandIns | None = None,
        max_iterations: int | None = None,
    ) -> None:
        """Prepares a run.

        Args:
            program: A checked program.
            read_variable: Gives the tensor of a variable.
            variable_kind: STATIC lets everything that follows from variables be computed at once.
            stand_ins: What may stand in for parts of the program.
            max_iterations: Steps after which loops are left; None lets them run to their end.
        """
        self._program = program
        self._read_variable = read_variable
        self._variable_kind = variable_kind
        self._stand_ins = stand_ins
        self._max_iterations = max_iterations
        self.other_types: set[str] = set()
        """Types in which it computed on inputs, other than float32 and integers."""

    def run(self, inputs: Mapping[str, Any]) -> list[Any]:
        """Runs the main body.

        Args:
            inputs: Tensors by the names of their placeholders.

        Returns:
            The results as tensors.

        Raises:
            ValueError: If the program is damaged. TensorFlow's own errors come as they are.
        """
        given = {name: Value(tensor, Kind.DYNAMIC) for name, tensor in inputs.items()}
        return [self.graph_tensor(value) for value in self._body(self._program.main, given, (), in_loop=False)]

    def function(self, body: Body, arguments: Sequence[Value]) -> list[Value]:
        """Runs one function as it is."""
        return self._body(body, dict(zip(body.arguments, arguments, strict=True)), (), in_loop=True)

    def graph_tensor(self, value: Value) -> Any:
        """The tensor of a value; in a graph, what was computed at once becomes a constant."""
        import tensorflow as tf

        if value.tensor is None and value.items is not None:
            return value.items.reserved()
        if value.tensor is None:
            raise ValueError(f"the handle of the variable {value.variable!r} is used as a tensor")
        if not tf.executing_eagerly() and is_eager(value.tensor):
            return tf.constant(value.tensor.numpy())
        return value.tensor

    def variable(self, name: str | None) -> Value:
        """The value of a variable."""
        if name is None:
            raise ValueError("something else than a variable is read as one")
        return Value(self._read_variable(name), self._variable_kind, name)

    def _body(self, body: Body, given: Mapping[str, Value], path: Path, *, in_loop: bool) -> list[Value]:
        done: dict[str, _Outputs] = {}

        def look_up(reference: str) -> Value:
            name, output, index = body.source(reference)
            if name in given:
                return given[name]
            outputs = done[name]
            values = outputs.named.get(output, []) if output is not None and outputs.named else outputs.values
            if not 0 <= index < len(values):
                raise ValueError(f"{reference!r} in {body.name!r} does not exist")
            return values[index]

        for node in body.order:
            if node.name in given:
                continue
            inputs = [look_up(reference) for reference in node.inputs]
            done[node.name] = self._node(node, inputs, (*path, node.name), in_loop=in_loop)
        return [look_up(reference) for reference in body.results]

    def _node(self, node: Node, inputs: list[Value], path: Path, *, in_loop: bool) -> _Outputs:
        values = self._control_flow(node, inputs, path, in_loop=in_loop)
        if values is None and node.operation in LIST_OPERATIONS:
            values = LIST_OPERATIONS[node.operation](self.graph_tensor, node, inputs)
        if values is None and node.operation in _SPECIAL:
            values = _SPECIAL[node.operation](self, node, inputs)
        if values is None and not in_loop and node.operation in _GATHERS:
            values = self._gathered(node, inputs)
        return self._operation(node, inputs) if values is None else _Outputs(values, {})

    def _control_flow(self, node: Node, inputs: list[Value], path: Path, *, in_loop: bool) -> list[Value] | None:
        """What calls, loops and branches give; None for everything else."""
        if node.operation in operations.LOOPS:
            return self._loop_or_stand_in(node, inputs, path, in_loop=in_loop)
        if node.operation in operations.BRANCHES:
            return self._branch(node, inputs, path)
        if node.operation in operations.CALLS:
            return self._call(self._called(node, "f"), inputs, path, in_loop=in_loop)
        function = self._program.function(node.operation)
        return None if function is None else self._call(function, inputs, path, in_loop=in_loop)

    def _called(self, node: Node, name: str) -> Body:
        function = self._program.function(attribute(node, name).name)
        if function is None:
            raise ValueError(f"{node.name!r} calls a function that is missing")
        return function

    def _call(self, body: Body, inputs: list[Value], path: Path, *, in_loop: bool) -> list[Value]:
        if len(inputs) != len(body.arguments):
            raise ValueError(f"{body.name!r} takes {len(body.arguments)} arguments and is called with {len(inputs)}")
        if self._stand_ins is not None and not in_loop:
            results = self._stand_ins.call(path, body, inputs)
            if results is not None:
                return results
        return self._body(body, dict(zip(body.arguments, inputs, strict=True)), path, in_loop=in_loop)

    def _loop_or_stand_in(self, node: Node, inputs: list[Value], path: Path, *, in_loop: bool) -> list[Value]:
        body, condition = self._called(node, "body"), self._called(node, "cond")
        if not len(inputs) == len(body.arguments) == len(body.results) == len(condition.arguments):
            raise ValueError(f"the loop {node.name!r} does not fit its functions")
        ends = zip(body.arguments, body.results, strict=True)
        changing = tuple(position for position, (start, end) in enumerate(ends) if not _passes(body, start, end))
        loop = Loop(condition, body, changing)
        if self._stand_ins is not None and not in_loop:
            results = self._stand_ins.loop(path, loop, inputs)
            if results is not None:
                return results
        return self.loop(loop, inputs, path)

    def loop(self, loop: Loop, inputs: list[Value], path: Path = ()) -> list[Value]:
        """Runs a loop over those variables that its body changes; of the others stays known what is known."""
        import tensorflow as tf

        changing = loop.changing

        def run(function: Body, tensors: Sequence[Any]) -> list[Value]:
            values = list(inputs)
            for position, tensor in zip(changing, tensors, strict=True):
                values[position] = Value(tensor, Kind.DYNAMIC, items=growing(inputs[position].items))
            return self._body(function, dict(zip(function.arguments, values, strict=True)), path, in_loop=True)

        def go_on(*tensors: Any) -> Any:
            return self.graph_tensor(run(loop.condition, tensors)[0])

        def step(*tensors: Any) -> list[Any]:
            results = run(loop.body, tensors)
            return [self.graph_tensor(results[position]) for position in changing]

        if not changing:
            return inputs
        shapes = None
        if not tf.executing_eagerly():
            shapes = _settled_shapes(step, [_dtype_and_shape(inputs[position]) for position in changing])
        start = [self.graph_tensor(inputs[position]) for position in changing]
        results = list(inputs)
        limit = self._max_iterations
        final = tf.while_loop(go_on, step, start, shape_invariants=shapes, maximum_iterations=limit)
        for position, tensor in zip(changing, final, strict=True):
            results[position] = Value(tensor, Kind.DYNAMIC, items=growing(inputs[position].items))
        return results

    def _branch(self, node: Node, inputs: list[Value], path: Path) -> list[Value]:
        import tensorflow as tf

        condition, *others = inputs

        def take(name: str) -> list[Value]:
            branch = self._called(node, name)
            if len(others) != len(branch.arguments):
                raise ValueError(f"a branch of {node.name!r} does not take the inputs that it is given")
            return self._body(branch, dict(zip(branch.arguments, others, strict=True)), path, in_loop=True)

        if is_eager(condition.tensor) and condition.kind is not Kind.DYNAMIC:
            return take("then_branch" if bool(condition.tensor.numpy()) else "else_branch")
        tensors = tf.cond(
            tf.cast(self.graph_tensor(condition), tf.bool),
            lambda: [self.graph_tensor(value) for value in take("then_branch")],
            lambda: [self.graph_tensor(value) for value in take("else_branch")],
        )
        return [Value(tensor, Kind.DYNAMIC) for tensor in tensors]

    def _gathered(self, node: Node, inputs: list[Value]) -> list[Value] | None:
        """Rows of a variable by a stand-in; None if there is none or something else is gathered."""
        batch_dims = attribute(node, "batch_dims") if "batch_dims" in node.attributes else 0
        table, indices, *axis = inputs
        if self._stand_ins is None or table.variable is None or indices.kind is not Kind.DYNAMIC or batch_dims:
            return None
        if axis and not (is_eager(axis[0].tensor) and int(axis[0].tensor) == 0):
            return None
        rows = self._stand_ins.gather(table.variable, indices)
        return None if rows is None else [Value(rows, Kind.DYNAMIC)]

    def _operation(self, node: Node, inputs: list[Value]) -> _Outputs:
        """One operation of TensorFlow: at once, and outside the graph, if all that it reads is known."""
        import tensorflow as tf

        kind = max((value.kind for value in inputs), default=Kind.STATIC)
        if node.operation in operations.SHAPE_QUESTIONS:
            shapes = [self.graph_tensor(value).shape for value in inputs]
            if all(shape.is_fully_defined() for shape in shapes):
                return _Outputs([Value(tensor, Kind.STATIC) for tensor in shape_answer(node, shapes)], {})
        if node.operation in OF_VARIABLES:
            inputs = [self.variable(inputs[0].variable), *inputs[1:]]
        if node.operation in operations.LISTS:  # lists live in the graph
            kind = Kind.DYNAMIC
        if kind is Kind.STATIC:
            with tf.init_scope():
                outputs = apply(node, [value.tensor for value in inputs], limited=True)
        else:
            outputs = apply(node, [self.graph_tensor(value) for value in inputs])
        if kind is Kind.DYNAMIC:
            dtypes = {tensor.dtype for tensors in outputs.values() for tensor in tensors}
            self.other_types.update(dtype.name for dtype in dtypes if dtype.is_floating and dtype != tf.float32)
        zeros = _makes_zeros(node, inputs)
        named = {name: [Value(tensor, kind, zeros=zeros) for tensor in tensors] for name, tensors in outputs.items()}
        return _Outputs([value for values in named.values() for value in values], named)


def _makes_zeros(node: Node, inputs: list[Value]) -> bool:
    """Whether an operation gives nothing but zeros."""
    if node.operation == "Fill":
        return is_eager(inputs[1].tensor) and not inputs[1].tensor.numpy()
    return node.operation == "ZerosLike"


def _settled_shapes(step: Callable[..., list[Any]], start: Sequence[tuple[Any, Any]]) -> list[Any]:
    """The shapes that the variables of a loop keep from step to step, found by tracing steps that are thrown away."""
    import tensorflow as tf

    shapes = [shape for _, shape in start]
    for _ in range(_MAX_TRIALS):
        with tf.__internal__.FuncGraph("trial").as_default():
            tensors = [tf.compat.v1.placeholder(dtype, shape) for (dtype, _), shape in zip(start, shapes, strict=True)]
            ends = [tensor.shape for tensor in step(*tensors)]
        merged = [here.most_specific_compatible_shape(there) for here, there in zip(shapes, ends, strict=True)]
        if [str(shape) for shape in merged] == [str(shape) for shape in shapes]:
            break
        shapes = merged
    return shapes


def _dtype_and_shape(value: Value) -> tuple[Any, Any]:
    import tensorflow as tf

    if value.tensor is None:  # a list that is not reserved yet
        return tf.variant, tf.TensorShape([])
    return value.tensor.dtype, value.tensor.shape


def _passes(body: Body, start: str, end: str) -> bool:
    """Whether a result of a loop's body is one of its arguments, unchanged."""
    name, _, _ = body.source(end)
    while name in body.nodes and body.nodes[name].operation == "Identity":
        name, _, _ = body.source(body.nodes[name].inputs[0])
    return name == start


def _constant(_: Replay, node: Node, __: list[Value]) -> list[Value]:
    return [Value(constant_of(node), Kind.STATIC)]


def _placeholder(_: Replay, node: Node, inputs: list[Value]) -> list[Value]:
    if not inputs:
        raise ValueError(f"the input {node.name!r} is none of the signature's")
    return inputs


def _handle(_: Replay, node: Node, __: list[Value]) -> list[Value]:
    return [Value(None, Kind.STATIC, node.name)]


def _read(replay: Replay, _: Node, inputs: list[Value]) -> list[Value]:
    return [replay.variable(inputs[0].variable)]


def _first(_: Replay, __: Node, inputs: list[Value]) -> list[Value]:
    return inputs[:1]


def _all(_: Replay, __: Node, inputs: list[Value]) -> list[Value]:
    return inputs


def _variable_shape(replay: Replay, node: Node, inputs: list[Value]) -> list[Value]:
    shape = replay.variable(inputs[0].variable).tensor.shape
    return [Value(tensor, Kind.STATIC) for tensor in shape_answer(node, [shape])]


_GATHERS = ("GatherV2", "ResourceGather")
_SPECIAL: dict[str, Callable[[Replay, Node, list[Value]], list[Value]]] = {
    **dict.fromkeys(operations.PASSING, _first),
    "Const": _constant,
    "IdentityN": _all,
    "NoOp": _all,
    "Placeholder": _placeholder,
    "PlaceholderWithDefault": _placeholder,
    "ReadVariableOp": _read,
    "VarHandleOp": _handle,
    "VariableShape": _variable_shape,
}
