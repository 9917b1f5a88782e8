"""Operators that set and read the state tensors of a fused LSTM inside the graph, at every invoke.

The fused operator keeps its hidden and cell state in variable tensors that survive an invoke. Each is
written by a GATHER that stands before the operator. Its indices must not be constant, because runtimes
compute operators on constants once, when they prepare the model: they are the ARG_MAX over a single
element of the sequence, which is 0 whatever that element is, NaN included.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import DTYPES, Graph
from edgelstm.converters.lowering.operators import Operators

# From these versions on the operators take the narrower types (TensorFlow Lite's op_version.cc).
_GATHER_VERSION = {np.dtype(np.float32): 1, np.dtype(np.int8): 2, np.dtype(np.int16): 4}
_SLICE_VERSION = {np.dtype(np.float32): 1, np.dtype(np.int8): 2}
_ARG_MAX_VERSION = {np.dtype(np.float32): 1, np.dtype(np.int8): 2}
_COMPARE_INT8_VERSION = 2
_DEQUANTIZE_INT16_VERSION = 3


class StateWriter:
    """Adds state operators to one graph, sharing index tensors between its LSTMs.

    Args:
        graph: The graph.
        gathers_int16: Whether the runtime has GATHER for int16; where it has not, the initial cell state of an
            integer LSTM is gathered in float32 and quantized into its tensor, and the final one is selected.
    """

    def __init__(self, graph: Graph, *, gathers_int16: bool = True) -> None:
        """Starts without any index tensor."""
        self._graph = graph
        self._gathers_int16 = gathers_int16
        self._zeros: dict[int, int] = {}

    def write(self, state: int, value: int, anchor: int) -> None:
        """Writes a value into a state tensor before its LSTM runs, at every invoke.

        Args:
            state: Variable tensor, shape (batch, units).
            value: Tensor to write, shape (batch, units), of the state's dtype; computed or constant.
            anchor: A computed tensor of shape (batch, time, features), float32 or int8, that the LSTM reads.
        """
        constant = self._graph.constant(value)
        if not self._gathers_int16 and self._graph.tensor(state).type == schema.TensorType.INT16:
            self._write_int16(state, value, anchor)
            return
        if constant is None:
            indices = self._range(self._graph.shape(state)[0])
        elif (constant == constant[:1]).all():
            name = self._graph.tensor(value).name.decode() + "/row"
            value = self._graph.add_constant(name, constant[:1], quantization=self._graph.tensor(value).quantization)
            indices = self._zero_indices(anchor)
        else:
            indices = self.row_indices(self._zero_indices(anchor))
        self._gather(value, indices, state)

    def _write_int16(self, state: int, value: int, anchor: int) -> None:
        """`write` without an int16 GATHER."""
        graph = self._graph
        constant = graph.constant(value)
        if constant is None:
            source = graph.producer(value)
            assert source is not None, "a computed initial state comes from QUANTIZE"
            add_quantize(graph, source.inputs[0], state)
            return
        scale = np.float32(graph.tensor(value).quantization.scale[0])
        real = graph.add_constant(graph.tensor(value).name.decode() + "/float32", constant.astype(np.float32) * scale)
        gathered = graph.add_tensor("", constant.shape, np.float32)
        self.write(gathered, real, anchor)
        add_quantize(graph, gathered, state)

    def read(self, state: int, output: int, after: int) -> None:
        """Copies a state tensor to another one once its LSTM has run.

        Args:
            state: Variable tensor, shape (batch, units).
            output: Tensor to write, same shape and dtype.
            after: The LSTM's output sequence. The indices are computed from it, because delegates keep
                to the order of tensors, not to that of operators.
        """
        if not self._gathers_int16 and self._graph.tensor(state).type == schema.TensorType.INT16:
            self._select_int16(state, output, after)
            return
        indices = self.row_indices(self._always_zero(after))
        self._gather(state, indices, output)

    def _select_int16(self, state: int, output: int, after: int) -> None:
        """`read` without an int16 GATHER: the state where the output is at least the least int8, which it always is."""
        graph, operators = self._graph, Operators(self._graph)
        batch, time, units = graph.shape(after)
        last = operators.reshape(operators.slice(after, [0, time - 1, 0], [batch, 1, units]), [batch, units])
        least = np.full((batch, units), np.iinfo(np.int8).min, np.int8)
        always = graph.add_tensor("edgelstm/always", [batch, units], np.bool_)
        graph.add_operator(
            schema.BuiltinOperator.GREATER_EQUAL,
            [last, graph.add_constant("edgelstm/least", least, quantization=graph.tensor(after).quantization)],
            [always],
            version=_COMPARE_INT8_VERSION,
            options=schema.GreaterEqualOptionsT(),
            options_type=schema.BuiltinOptions.GreaterEqualOptions,
        )
        never = np.zeros((batch, units), np.int16)
        graph.add_operator(
            schema.BuiltinOperator.SELECT_V2,
            [always, state, graph.add_constant("edgelstm/never", never, quantization=graph.tensor(state).quantization)],
            [output],
            options=schema.SelectV2OptionsT(),
            options_type=schema.BuiltinOptions.SelectV2Options,
        )

    def _zero_indices(self, anchor: int) -> int:
        batch = self._graph.shape(anchor)[0]
        if batch not in self._zeros:
            self._zeros[batch] = self._always_zero(anchor)
        return self._zeros[batch]

    def _range(self, batch: int) -> int:
        return self._graph.add_constant("edgelstm/rows", np.arange(batch, dtype=np.int32))

    def row_indices(self, zeros: int) -> int:
        """0, 1, …, batch - 1, computed from a tensor that is always zero."""
        batch = self._graph.shape(zeros)[0]
        if batch == 1:
            return zeros
        rows = self._graph.add_tensor("edgelstm/row_indices", [batch], np.int32)
        options = schema.AddOptionsT()
        self._graph.add_operator(
            schema.BuiltinOperator.ADD,
            [zeros, self._range(batch)],
            [rows],
            options=options,
            options_type=schema.BuiltinOptions.AddOptions,
        )
        return rows

    def _always_zero(self, sequence: int) -> int:
        """int32 zeros, shape (batch,), that depend on a sequence of shape (batch, time, features)."""
        graph = self._graph
        batch = graph.shape(sequence)[0]
        entry = graph.tensor(sequence)
        dtype = np.dtype(DTYPES[entry.type])
        element = graph.add_tensor("edgelstm/element", [batch, 1, 1], dtype, quantization=entry.quantization)
        begin = graph.add_constant("edgelstm/begin", np.zeros(3, np.int32))
        size = graph.add_constant("edgelstm/size", np.array([batch, 1, 1], np.int32))
        graph.add_operator(
            schema.BuiltinOperator.SLICE,
            [sequence, begin, size],
            [element],
            version=_SLICE_VERSION[dtype],
            options=schema.SliceOptionsT(),
            options_type=schema.BuiltinOptions.SliceOptions,
        )
        column = graph.add_tensor("edgelstm/column", [batch, 1], dtype, quantization=entry.quantization)
        reshape = schema.ReshapeOptionsT()
        reshape.newShape = np.array([batch, 1], np.int32)
        graph.add_operator(
            schema.BuiltinOperator.RESHAPE,
            [element, graph.add_constant("edgelstm/column_shape", reshape.newShape)],
            [column],
            options=reshape,
            options_type=schema.BuiltinOptions.ReshapeOptions,
        )
        zeros = graph.add_tensor("edgelstm/zero_indices", [batch], np.int32)
        arg_max = schema.ArgMaxOptionsT()
        arg_max.outputType = schema.TensorType.INT32
        graph.add_operator(
            schema.BuiltinOperator.ARG_MAX,
            [column, graph.add_constant("edgelstm/axis", np.array([1], np.int32))],
            [zeros],
            version=_ARG_MAX_VERSION[dtype],
            options=arg_max,
            options_type=schema.BuiltinOptions.ArgMaxOptions,
        )
        return zeros

    def _gather(self, source: int, indices: int, output: int) -> None:
        dtype = np.dtype(DTYPES[self._graph.tensor(source).type])
        self._graph.add_operator(
            schema.BuiltinOperator.GATHER,
            [source, indices],
            [output],
            version=_GATHER_VERSION[dtype],
            options=schema.GatherOptionsT(),
            options_type=schema.BuiltinOptions.GatherOptions,
        )


def add_quantize(graph: Graph, source: int, output: int) -> None:
    """Adds QUANTIZE from a float32 or int8 tensor into an int8 or int16 one."""
    graph.add_operator(
        schema.BuiltinOperator.QUANTIZE,
        [source],
        [output],
        version=_quantize_version(graph, source, output),
        options=schema.QuantizeOptionsT(),
        options_type=schema.BuiltinOptions.QuantizeOptions,
    )


def _quantize_version(graph: Graph, source: int, output: int) -> int:
    if graph.tensor(output).type == schema.TensorType.INT16:
        return 2
    return 1


def add_dequantize(graph: Graph, source: int, output: int) -> None:
    """Adds DEQUANTIZE from an int8, int16 or float16 tensor into a float32 one."""
    versions = {schema.TensorType.INT16: _DEQUANTIZE_INT16_VERSION, schema.TensorType.FLOAT16: 3}
    graph.add_operator(
        schema.BuiltinOperator.DEQUANTIZE,
        [source],
        [output],
        version=versions.get(graph.tensor(source).type, 2),
        options=schema.DequantizeOptionsT(),
        options_type=schema.BuiltinOptions.DequantizeOptions,
    )
