"""Files of one LSTM written out in operators, put together without a converter and run in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering import stepwise, weights
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.cells import Cell, FloatCell, IntegerCell
from edgelstm.converters.lowering.integer import cell_exponent
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.states import add_dequantize
from tests.lstm_reference import LstmResult, LstmWeights, lstm_reference

Array = NDArray[Any]
FORMS = {"loop": stepwise.loop, "unrolled": stepwise.unroll}
FLOAT_PRECISIONS = ("float32", "float16", "dynamic")
PRECISIONS = (*FLOAT_PRECISIONS, "int8")


class Answer(NamedTuple):
    """What a file of one LSTM answers: h of all steps, None if not asked for; last h; last c."""

    outputs: Array | None
    h: Array
    c: Array


@dataclass(frozen=True)
class Case:
    """An LSTM and what it is fed.

    Attributes:
        x: Shape (batch, time, features).
        h: Initial hidden state, shape (batch, units).
        c: Initial cell state, shape (batch, units).
        weights: As Keras keeps them.
    """

    x: Array
    h: Array
    c: Array
    weights: LstmWeights

    def expected(self, **activations: Any) -> LstmResult:
        return lstm_reference(self.x, self.weights, h=self.h, c=self.c, **activations)


def random_case(batch: int = 2, time: int = 5, features: int = 3, units: int = 4, seed: int = 0) -> Case:
    """Returns random data, and weights whose scale and offset differ from gate to gate."""
    rng = np.random.default_rng([seed, batch, time, features, units])
    return Case(
        rng.normal(size=(batch, time, features)).astype(np.float32),
        np.tanh(rng.normal(size=(batch, units))).astype(np.float32),
        rng.normal(size=(batch, units)).astype(np.float32),
        LstmWeights(
            np.concatenate([_block(rng, features, units, scale) for scale in (1.5, 0.8, 1.2, 0.9)], axis=1),
            np.concatenate([_block(rng, units, units, scale) for scale in (0.9, 1.3, 0.7, 1.1)], axis=1),
            np.concatenate([rng.normal(offset, 0.3, units) for offset in (0.3, 1.0, -0.2, -0.5)]).astype(np.float32),
        ),
    )


def _block(rng: np.random.Generator, rows: int, units: int, scale: float) -> Array:
    return rng.normal(0, scale / np.sqrt(rows), (rows, units)).astype(np.float32)


def call_of(case: Case, activation: str = "tanh", gate: str = "sigmoid") -> LstmCall:
    return LstmCall(0, "m/lstm", case.weights.units, activation, recurrent_activation=gate)


def by_gate(given: LstmWeights, half: bool = False) -> weights.LstmWeights:
    """Returns weights as the lowering keeps them."""

    def blocks(matrix: Array) -> list[Array]:
        return [np.ascontiguousarray(block.T) for block in np.split(matrix, 4, axis=1)]

    return weights.LstmWeights(blocks(given.kernel), blocks(given.recurrent_kernel), np.split(given.bias, 4), half)


def float_cell(case: Case, precision: str = "float32", activation: str = "tanh", gate: str = "sigmoid") -> Cell:
    return FloatCell(call_of(case, activation, gate), by_gate(case.weights), precision)


def integer_cell(case: Case, exponent: int | None = None, hidden_peak: float = 1.0) -> Cell:
    """Returns an integer cell for values as they come up in the case, the cell state's if no exponent is given."""
    if exponent is None:
        ends = [
            lstm_reference(case.x[:, :end], case.weights, h=case.h, c=case.c).c for end in range(1, len(case.x[0]) + 1)
        ]
        exponent = cell_exponent(float(np.abs([case.c, *ends]).max()))
    return IntegerCell(call_of(case), by_gate(case.weights), float(np.abs(case.x).max()), exponent, hidden_peak)


def cell_of(case: Case, precision: str) -> Cell:
    return integer_cell(case) if precision == "int8" else float_cell(case, precision)


def empty_graph() -> Graph:
    """Returns a graph without tensors."""
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes, model.signatureDefs = 3, [schema.BufferT()], [], []
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
    model.subgraphs = [subgraph]
    return Graph(model)


def add_input(graph: Graph, name: str, shape: Sequence[int], dtype: Any = np.float32) -> int:
    tensor = graph.add_tensor(name, shape, dtype)
    graph.subgraph.inputs.append(tensor)
    return tensor


def add_lstm(graph: Graph, cell: Cell, case: Case, form: str, *, outputs: bool = True, prefix: str = "") -> None:
    """Writes an LSTM into a graph: inputs x, h and c, outputs "outputs", "last_h" and "last_c", all float32."""
    operators = Operators(graph)
    x, h, c = (add_input(graph, prefix + name, getattr(case, name).shape) for name in "xhc")
    if isinstance(cell, IntegerCell):
        scales = (cell.x_scale, cell.hidden_scale, cell.cell_scale)
        x, h, c = (operators.quantize(each, np.int16, scale) for each, scale in zip((x, h, c), scales, strict=True))
    result = FORMS[form](operators, cell, x, h, c, outputs=outputs)
    for name, tensor in (("outputs", result.outputs), ("last_h", result.hidden), ("last_c", result.cell)):
        if tensor is not None:
            graph.subgraph.outputs.append(_named_float(graph, tensor, prefix + name))


def _named_float(graph: Graph, tensor: int, name: str) -> int:
    if Operators(graph).dtype(tensor) == np.float32:
        output = Operators(graph).reshape(tensor, graph.shape(tensor))
    else:
        output = graph.add_tensor("", graph.shape(tensor), np.float32)
        add_dequantize(graph, tensor, output)
    graph.tensor(output).name = name.encode()
    return output


def sign(graph: Graph) -> None:
    """Gives the graph a signature after the names of its tensors."""
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs = [_entry(graph, tensor) for tensor in graph.subgraph.inputs]
    signature.outputs = [_entry(graph, tensor) for tensor in graph.subgraph.outputs]
    graph.model.signatureDefs = [signature]


def finished(graph: Graph) -> bytes:
    """Returns the graph as a file with one signature: its own, or one after the names of its tensors."""
    if not graph.model.signatureDefs:
        sign(graph)
    graph.prune_operators()
    graph.prune_tensors()
    return graph.to_bytes()


def _entry(graph: Graph, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = graph.tensor(tensor).name, tensor
    return entry


def one_cell(cell: Cell, case: Case, form: str, *, outputs: bool = True) -> bytes:
    """Returns a file of one LSTM."""
    graph = empty_graph()
    add_lstm(graph, cell, case, form, outputs=outputs)
    return finished(graph)


def start(content: bytes, *, delegates: bool = True) -> Callable[..., dict[str, Array]]:
    """Returns an interpreter as a function from inputs to outputs by name, with XNNPACK or without it."""
    resolver = OpResolverType.AUTO if delegates else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
    runner = interpreter.get_signature_runner()
    return lambda **inputs: {name: value.copy() for name, value in runner(**inputs).items()}


def answer(content: bytes, case: Case, *, delegates: bool = True) -> Answer:
    """Runs a file of one LSTM on two calls, of which the second must not remember the first."""
    run = start(content, delegates=delegates)
    first, second = (run(x=case.x, h=case.h, c=case.c) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
    return Answer(first.get("outputs"), first["last_h"], first["last_c"])


def largest_difference(got: Answer, wanted: LstmResult) -> float:
    """Returns the largest difference of any element of all steps, last h and last c; NaN counts as infinite."""
    pairs = [(got.h, wanted.h), (got.c, wanted.c)]
    pairs += [] if got.outputs is None else [(got.outputs, wanted.outputs)]
    for one, other in pairs:
        assert one.shape == other.shape
    return max(float(np.nan_to_num(np.abs(one - other), nan=np.inf).max()) for one, other in pairs)
