"""Parts of an integer graph that compute in float: cut out before TensorFlow's quantizer runs, put back behind it.

Which operators these are is decided in the float graph: the LSTMs and the operators with weights of layers that are to
stay float, what belongs to such a layer besides (its activation), and what only stands between two of them. So nothing
is rounded to 8 bits on its way from one float layer to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import ABSENT, DTYPES, Graph, quantization
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.fused import X, find_carriers
from edgelstm.converters.lowering.integer.cutting import tap
from edgelstm.converters.lowering.integer.ranges import Ranges, asymmetric
from edgelstm.converters.lowering.integer.restoring import unquantized
from edgelstm.converters.lowering.mixed import layer_of
from edgelstm.converters.lowering.states import add_dequantize, add_quantize
from edgelstm.converters.lowering.stored import WeightStore, weighted_operators, weights_of

_Op = schema.BuiltinOperator
_CONTROL = (_Op.WHILE, _Op.IF, _Op.CUSTOM)


@dataclass
class Islands:
    """Float operators taken out of a graph; positions are those in the cut graph's inputs and outputs.

    Attributes:
        source: The float graph, from which constants are copied.
        operators: The operators, with tensor indices of the source.
        codes: Their entries in the table of operator codes, by the identity of the operator.
        precisions: "dynamic", "float16" or "float32" of those with weights, by the identity of the operator.
        own_inputs: The model's own inputs.
        own_outputs: Number of the model's own outputs.
        taken: Outputs that the operators read, by tensor.
        given: Inputs that stand for what they compute or, for the model's own inputs, read, by tensor.
        ranges: Observed limits of those among these tensors that are the model's own inputs and outputs.
    """

    source: Graph
    operators: list[Any]
    codes: dict[int, Any]
    precisions: dict[int, str]
    own_inputs: set[int]
    own_outputs: int
    taken: dict[int, int] = field(default_factory=dict)
    given: dict[int, int] = field(default_factory=dict)
    ranges: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def carriers(self) -> set[str]:
        """Names of the custom operators among them."""
        return {code.customCode.decode() for code in self.codes.values() if code.customCode}

    @property
    def written(self) -> set[int]:
        """Tensors that the operators compute."""
        return {tensor for operator in self.operators for tensor in operator.outputs}


def cut_islands(
    graph: Graph,
    calls: Sequence[LstmCall],
    ranges: Ranges,
    *,
    known: Sequence[str],
    layers: Mapping[str, str],
) -> Islands:
    """Takes everything that is to stay float out of a float graph.

    Args:
        graph: The converter's float32 result; changed in place, except that signatures stay: operators become inputs
            and outputs behind the model's own ones.
        calls: The LSTM calls that stay float.
        ranges: Observed.
        known: Paths of all layers that can have a precision of their own.
        layers: Precisions by path, without those of LSTMs.

    Raises:
        LoweringError: If the weights of a layer are not found in the graph.
    """
    weighted = weighted_operators(graph, known, layers)
    carriers = find_carriers(graph, calls)
    seeds = [*(operator for operator, _ in weighted), *(carrier for _, carrier in carriers)]
    chosen = _grown(graph, seeds, [*_belonging(graph, seeds, known, layers), *_freezing(graph, carriers)])
    precisions = {id(operator): precision for operator, precision in weighted}
    own_inputs, own_outputs = set(graph.subgraph.inputs), list(graph.subgraph.outputs)
    codes = {id(operator): graph.model.operatorCodes[operator.opcodeIndex] for operator in chosen}
    islands = Islands(graph, chosen, codes, precisions, own_inputs, len(own_outputs))
    _cut(graph, islands)
    for tensor in islands.given.keys() & {*own_inputs, *own_outputs}:
        islands.ranges[tensor] = ranges.of(tensor)
    return islands


def _cut(graph: Graph, islands: Islands) -> None:
    inputs = graph.subgraph.inputs
    graph.remove(islands.operators)
    for tensor in sorted({tensor for operator in islands.operators for tensor in operator.inputs} - islands.written):
        if tensor in islands.own_inputs:
            islands.given[tensor] = inputs.index(tensor)
        elif tensor != ABSENT and graph.constant(tensor) is None:
            islands.taken[tensor] = tap(graph, tensor, islands.own_outputs)
    for tensor in sorted(islands.written):
        if graph.is_used(tensor):
            islands.given[tensor] = len(inputs)
            inputs.append(tensor)


def _freezing(graph: Graph, carriers: Sequence[tuple[LstmCall, Any]]) -> list[Any]:
    """Operators that give x the feature that freezes masked steps: too large to share 8 bits with the others."""
    joining = [graph.producer(carrier.inputs[X]) for call, carrier in carriers if call.freeze_weight is not None]
    return [operator for operator in joining if operator is not None and _is_plain(graph, operator)]


def _belonging(graph: Graph, seeds: Sequence[Any], known: Sequence[str], layers: Mapping[str, str]) -> list[Any]:
    """Operators without weights that compute a chosen layer's result from that of its weights: activations."""
    found: list[Any] = []
    written = {tensor for operator in seeds for tensor in operator.outputs}
    for operator in graph.operators:  # in execution order
        floats = _floats(graph, operator.inputs)
        reads_layer = floats and floats <= written and _is_plain(graph, operator)
        if reads_layer and layer_of(graph, operator, ABSENT, known) in layers:
            found.append(operator)
            written |= set(operator.outputs)
    return found


def _grown(graph: Graph, seeds: Sequence[Any], belonging: Sequence[Any]) -> list[Any]:
    """The seeds, what belongs to them, and all operators between them that nothing else reads or feeds."""
    fixed = {id(operator) for operator in (*seeds, *belonging)}
    inside = {id(operator): operator for operator in graph.operators if id(operator) in fixed}
    inside |= {id(operator): operator for operator in graph.operators if _is_plain(graph, operator)}
    outside: list[int] | None = None
    while outside is None or outside:
        written = {tensor for operator in inside.values() for tensor in operator.outputs} | set(graph.subgraph.inputs)
        read_elsewhere = {
            tensor for operator in graph.operators if id(operator) not in inside for tensor in operator.inputs
        }
        outside = [
            key
            for key, operator in inside.items()
            if key not in fixed
            and not (
                _floats(graph, operator.inputs) <= written and not _floats(graph, operator.outputs) & read_elsewhere
            )
        ]
        for key in outside:
            del inside[key]
    connected = _connected(graph, fixed, inside.values())
    return [operator for operator in graph.operators if id(operator) in connected]


def _connected(graph: Graph, fixed: set[int], operators: Iterable[Any]) -> set[int]:
    """Those operators that are reached from fixed ones over float tensors; others have float neighbours by chance."""
    reached, waiting = set(fixed), [operator for operator in operators if id(operator) in fixed]
    inputs = set(graph.subgraph.inputs)
    while waiting:
        tensors = _tensors(graph, waiting.pop()) - inputs
        for operator in operators:
            if id(operator) not in reached and tensors & _tensors(graph, operator):
                reached.add(id(operator))
                waiting.append(operator)
    return reached


def _tensors(graph: Graph, operator: Any) -> set[int]:
    return _floats(graph, operator.inputs) | _floats(graph, operator.outputs)


def _floats(graph: Graph, tensors: Iterable[int]) -> set[int]:
    """The computed float32 tensors among some."""
    return {
        tensor
        for tensor in tensors
        if tensor != ABSENT
        and graph.tensor(tensor).type == schema.TensorType.FLOAT32
        and graph.constant(tensor) is None
    }


def _is_plain(graph: Graph, operator: Any) -> bool:
    """Whether an operator computes floats without weights, so that it is quantized only because of its neighbours."""
    return (
        graph.code(operator) not in _CONTROL
        and weights_of(graph, operator) == ABSENT
        and bool(_floats(graph, operator.outputs))
    )


def restore_islands(graph: Graph, islands: Islands, *, int8_io: bool) -> None:
    """Puts what was taken out back, its weights stored as they are to be; LSTMs come back as carriers.

    Args:
        graph: The quantized cut graph; changed in place. The inputs and outputs that were added stay.
        islands: What `cut_islands` took out.
        int8_io: Whether the model's inputs and outputs are to become int8; then they are quantized on their way to the
            floats.
    """
    _Restoring(graph, islands, int8_io=int8_io).restore()


class _Restoring:
    def __init__(self, graph: Graph, islands: Islands, *, int8_io: bool) -> None:
        self._graph, self._islands, self._int8_io = graph, islands, int8_io
        inputs, outputs = graph.subgraph.inputs, graph.subgraph.outputs
        # Tensors of the graph by those of the source.
        self._tensors = {tensor: inputs[position] for tensor, position in islands.given.items()}
        self._tensors |= {tensor: unquantized(graph, outputs[at]) for tensor, at in islands.taken.items()}
        self._constants: dict[int, int] = {}

    def restore(self) -> None:
        graph, islands = self._graph, self._islands
        self._rewire_outputs()
        if self._int8_io:
            for tensor in islands.own_inputs & self._tensors.keys():
                self._tensors[tensor] = self._detour(tensor)
        store = WeightStore(graph)
        for operator in islands.operators:
            code = islands.codes[id(operator)]
            inputs, outputs = (
                [self._translated(each) for each in side] for side in (operator.inputs, operator.outputs)
            )
            restored = graph.add_operator(
                max(int(code.builtinCode), int(code.deprecatedBuiltinCode)),
                inputs,
                outputs,
                version=int(code.version),
                options=operator.builtinOptions,
                options_type=operator.builtinOptionsType,
            )
            if code.customCode:
                graph.model.operatorCodes.append(code)
                restored.opcodeIndex = len(graph.model.operatorCodes) - 1
            if id(operator) in islands.precisions:
                store.store(restored, islands.precisions[id(operator)])
        graph.sort()

    def _rewire_outputs(self) -> None:
        """Gives floats that are outputs of the model out as they are, or quantized once if these become int8."""
        outputs = self._graph.subgraph.outputs
        given = {self._tensors[tensor]: tensor for tensor in self._islands.written & self._tensors.keys()}
        for position in range(self._islands.own_outputs):
            source = unquantized(self._graph, outputs[position])
            if source in given:
                outputs[position] = self._detour(given[source]) if self._int8_io else source

    def _detour(self, tensor: int) -> int:
        """A source tensor after a way through int8; if it is not float32, as it is."""
        graph, read = self._graph, self._tensors[tensor]
        if graph.tensor(read).type != schema.TensorType.FLOAT32:
            return int(read)
        name, shape = graph.tensor(read).name.decode("utf-8", "replace"), graph.shape(read)
        parameters = quantization(*asymmetric(self._islands.ranges[tensor]))
        stored = graph.add_tensor(f"{name}/int8", shape, np.int8, quantization=parameters)
        result = graph.add_tensor(f"{name}/float32", shape, np.float32)
        add_quantize(graph, read, stored)
        add_dequantize(graph, stored, result)
        return result

    def _translated(self, tensor: int) -> int:
        """The graph's tensor for one of the source; constants are copied."""
        if tensor == ABSENT:
            return ABSENT
        source = self._islands.source
        name, value = source.tensor(tensor).name.decode("utf-8", "replace"), source.constant(tensor)
        if value is not None and tensor not in self._constants:
            self._constants[tensor] = self._graph.add_constant(name, value)
        if value is not None:
            return self._constants[tensor]
        if tensor not in self._tensors:
            dtype = DTYPES[source.tensor(tensor).type]
            self._tensors[tensor] = self._graph.add_tensor(name, source.shape(tensor), dtype)
        return int(self._tensors[tensor])
