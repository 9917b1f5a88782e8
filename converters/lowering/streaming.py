"""The states of a streaming model: what stays from call to call, under which name, and where it is kept.

A fused LSTM keeps its states in variable tensors of the file, which start as zeros. A loop or an unrolled LSTM
has none: its states become inputs and outputs of the model, in float32, and the app feeds the one back as the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import DTYPES, Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.signature import identifier, unique
from edgelstm.converters.lowering.states import add_dequantize
from edgelstm.errors import LoweringError

HIDDEN_STATE, CELL_STATE = "hidden", "cell"
KINDS = (HIDDEN_STATE, CELL_STATE)


@dataclass(frozen=True)
class StreamState:
    """One state of a streaming model, as the card tells it.

    Attributes:
        name: What it is read and set by: the path of its layer and its kind.
        layer: Path of the layer.
        kind: "hidden" or "cell".
        shape: (batch, units).
        dtype: Of the stored values.
        scale: Of an integer state, None for a float one; the zero point is 0.
        storage: "variable" for a variable tensor called `name`, "input" for an input and an output of the model.
        input: Name of that input.
        output: Name of the output that holds its next value.
    """

    name: str
    layer: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    storage: str
    input: str | None = None
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {**asdict(self), "shape": list(self.shape), "zero_point": None if self.scale is None else 0}


@dataclass
class _Exchanged:
    """A state that is an input of the model, and the tensor of its next value."""

    name: str
    call: LstmCall
    kind: str
    given: int
    taken: int = -1


class StreamStates:
    """Collects the states of one graph while its LSTMs are placed."""

    def __init__(self, graph: Graph, calls: Sequence[LstmCall]) -> None:
        """Names the states of all calls; a layer that is called twice has states for each call."""
        self._graph = graph
        self._names = dict(zip((call.index for call in calls), unique([call.layer for call in calls]), strict=True))
        self._variables: list[StreamState] = []
        self._exchanged: list[_Exchanged] = []

    def name(self, call: LstmCall, kind: str) -> str:
        """The name of a state."""
        return f"{self._names[call.index]}/{kind}_state"

    def keep(self, call: LstmCall, kind: str, tensor: int) -> None:
        """Notes a variable tensor that nothing in the graph writes but its LSTM."""
        entry = self._graph.tensor(tensor)
        entry.name = self.name(call, kind).encode()
        scale = None if entry.quantization is None else float(entry.quantization.scale[0])
        self._variables.append(
            StreamState(
                self.name(call, kind),
                call.layer,
                kind,
                tuple(self._graph.shape(tensor)),
                np.dtype(DTYPES[entry.type]).name,
                scale,
                "variable",
            )
        )

    def give(self, call: LstmCall, kind: str, batch: int) -> int:
        """A float32 tensor (batch, units) that becomes an input of the model."""
        name = identifier(self.name(call, kind))
        tensor = self._graph.add_tensor(name, [batch, call.units], np.float32)
        self._exchanged.append(_Exchanged(self.name(call, kind), call, kind, tensor))
        return tensor

    def take(self, call: LstmCall, kind: str, tensor: int) -> None:
        """Notes the tensor of the state's next value, float32 or int16."""
        next(entry for entry in self._exchanged if entry.call is call and entry.kind == kind).taken = tensor

    def expose(self) -> list[StreamState]:
        """Makes inputs and outputs of the states that need them, and describes all states."""
        return [*self._variables, *(self._expose(entry) for entry in self._exchanged)]

    def _expose(self, entry: _Exchanged) -> StreamState:
        graph = self._graph
        source = entry.taken
        if graph.tensor(source).type != schema.TensorType.FLOAT32:
            taken = graph.add_tensor("", graph.shape(source), np.float32)
            add_dequantize(graph, source, taken)
            source = taken
        # A tensor of its own: one that is two outputs at once confuses runtimes.
        output = Operators(graph).reshape(source, graph.shape(source))
        taken_names = [mapped.name.decode() for side in ("inputs", "outputs") for mapped in self._mapped(side)]
        given = identifier(entry.name)
        *_, given_name, output_name = unique([*taken_names, given, f"next_{given}"])
        graph.tensor(entry.given).name = given_name.encode()
        graph.tensor(output).name = output_name.encode()
        for side, name, tensor in (("inputs", given_name, entry.given), ("outputs", output_name, output)):
            mapped = schema.TensorMapT()
            mapped.name, mapped.tensorIndex = name.encode(), tensor
            self._mapped(side).append(mapped)
            getattr(graph.subgraph, side).append(tensor)
        shape = tuple(graph.shape(entry.given))
        return StreamState(
            entry.name, entry.call.layer, entry.kind, shape, "float32", None, "input", given_name, output_name
        )

    def _mapped(self, side: str) -> list[Any]:
        return getattr(self._graph.model.signatureDefs[0], side)  # type: ignore[no-any-return]


def check_streaming(graph: Graph, call: LstmCall, initial: Sequence[int]) -> None:
    """Refuses calls whose result over a stream would not be that over the whole sequence.

    Args:
        graph: The graph with carriers.
        call: The call.
        initial: Tensor indices of its initial states.

    Raises:
        LoweringError: Naming the layer and the reason.
    """
    if call.backwards:
        raise LoweringError(
            f"Layer {call.layer!r} reads its sequence backwards, from a last step that a stream does not have: leave "
            "--streaming out, or use a layer that runs forwards."
        )
    if call.masked:
        raise LoweringError(
            f"Layer {call.layer!r} skips masked steps, and a stream has none: add --padding none to promise that no "
            "padded step is fed."
        )
    if any(value is None or value[0].any() for value in map(graph.float_constant, initial)):
        raise LoweringError(
            f"Layer {call.layer!r} starts from states that the model computes or is given, so they do not stay from "
            "call to call: leave --streaming out and feed the states yourself."
        )
