"""What an inspection of a .tflite file says."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Precision = Literal["float32", "float16", "dynamic", "int8", "int16x8", "unknown"]
StateSemantics = Literal["self-resetting", "streaming", "leaking", "explicit"]


@dataclass(frozen=True)
class TensorSummary:
    """An input or output of a signature.

    Attributes:
        name: Name in the signature, or of the tensor where the file has no signature.
        shape: Sizes; -1 where the file leaves a size open.
        dtype: Element type, for instance "float32".
        scale: Step of a per-tensor quantization, None without one.
        zero_point: Zero point of a per-tensor quantization, None without one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class SignatureSummary:
    """Inputs and outputs of one signature; the key is None for a file without signatures."""

    key: str | None
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]


@dataclass(frozen=True)
class OperatorCount:
    """How often an operator occurs in all subgraphs; the kind is "builtin", "custom" or "flex"."""

    name: str
    count: int
    kind: Literal["builtin", "custom", "flex"]


@dataclass(frozen=True)
class LstmSummary:
    """One LSTM operator.

    Attributes:
        index: Position among the file's LSTM operators, in the order of execution.
        graph: Subgraph that holds the operator.
        operator: Position of the operator in that subgraph.
        name: Name of the operator's output tensor; "lstm INDEX" where the file gives it none.
        kind: UNIDIRECTIONAL_SEQUENCE_LSTM, BIDIRECTIONAL_SEQUENCE_LSTM or LSTM (one step).
        batch: Rows of the input; None if the file does not say, as for the next three.
        time: Steps of the input.
        features: Values per step.
        units: Size of the state, per direction.
        activation: Activation of cell input and output, as Keras names it.
        time_major: Whether the input is (time, batch, features) instead of (batch, time, features).
        precision: "float32"; "float16", weights behind DEQUANTIZE; "dynamic", int8 weights and float state; "int8",
            int8 hidden and int16 cell state; "int16x8", int8 weights and int16 hidden state; or "unknown".
        cell_clip: Bound of the cell state, 0 for none.
        state: "self-resetting" if operators before this one write its states anew on every call, "leaking" if the
            states survive from call to call, "streaming" if they do and the model's card says that they are meant to,
            "explicit" if they are ordinary inputs and outputs of the operator.
        input_scale: Quantization step of the input, None for a float one, as for the next four.
        output_scale: Step of the output.
        hidden_scale: Step of the hidden state.
        cell_scale: Step of the cell state.
        intermediate_scale: Step of the fifth intermediate tensor, the hidden state as the integer kernel computes it;
            None also where a projection follows, which has a step of its own.
    """

    index: int
    graph: int
    operator: int
    name: str
    kind: str
    batch: int | None
    time: int | None
    features: int | None
    units: int | None
    activation: str
    time_major: bool
    precision: Precision
    cell_clip: float
    state: StateSemantics
    input_scale: float | None
    output_scale: float | None
    hidden_scale: float | None
    cell_scale: float | None
    intermediate_scale: float | None


@dataclass(frozen=True)
class LoopSummary:
    """A WHILE operator, whether its body computes what an LSTM step does, and how many such steps a turn takes."""

    graph: int
    operator: int
    body_graph: int
    looks_like_lstm: bool
    num_steps: int = 0


@dataclass(frozen=True)
class SizeBreakdown:
    """Bytes of the file by what they hold; they add up to the size of the file.

    Attributes:
        tables: Embedding tables and other tables that rows are gathered from.
        lstm_weights: Weights and biases of LSTM operators.
        other_weights: Weights and biases of all other operators.
        constants: Other constant tensors: shapes, indices, initial states, scalars.
        metadata: Metadata buffers.
        structure: Everything else: tensors, operators, names, padding, data that nothing refers to.
    """

    tables: int
    lstm_weights: int
    other_weights: int
    constants: int
    metadata: int
    structure: int


@dataclass(frozen=True)
class InspectionWarning:
    """A trap that can be seen in the file.

    Attributes:
        code: Stable name of the kind of trap.
        severity: "warning" if answers may be wrong or the file may not run, "note" if it is only worth knowing.
        message: What was found, in one sentence.
        advice: What to do about it.
    """

    code: str
    severity: Literal["warning", "note"]
    message: str
    advice: str


@dataclass(frozen=True)
class Inspection:
    """What a .tflite file holds.

    Attributes:
        path: The file.
        size_bytes: Size of the file.
        gzip_bytes: Size after gzip at level 6; None for a file that is too large to be compressed on the way.
        description: Who made the file, as the file says.
        signatures: The signatures; one without a key if the file has none.
        operators: Operators of all subgraphs, the most frequent first.
        lstms: LSTM operators.
        loops: WHILE operators.
        parameters: Number of weights in tables, LSTM and other operators, shared ones once.
        weight_bytes: Bytes of these weights by element type.
        sizes: Size by what the bytes hold.
        macs: Multiply-accumulates of one call; None where a size is left open or a loop has matrix products.
        unrolled_steps: LSTM steps written out as plain operators, outside of loops.
        streaming: Whether the model's card says that its state is meant to survive from call to call.
        warnings: Traps that can be seen in the file.
    """

    path: Path
    size_bytes: int
    gzip_bytes: int | None
    description: str
    signatures: tuple[SignatureSummary, ...]
    operators: tuple[OperatorCount, ...]
    lstms: tuple[LstmSummary, ...]
    loops: tuple[LoopSummary, ...]
    parameters: int
    weight_bytes: dict[str, int]
    sizes: SizeBreakdown
    macs: int | None = None
    unrolled_steps: int = 0
    streaming: bool = False
    warnings: tuple[InspectionWarning, ...] = ()

    @property
    def inputs(self) -> tuple[TensorSummary, ...]:
        """Inputs of the first signature."""
        return self.signatures[0].inputs

    @property
    def outputs(self) -> tuple[TensorSummary, ...]:
        """Outputs of the first signature."""
        return self.signatures[0].outputs

    @property
    def uses_flex(self) -> bool:
        """Whether any operator needs the Flex delegate, that is TensorFlow's own kernels."""
        return any(operator.kind == "flex" for operator in self.operators)

    def to_json(self) -> dict[str, Any]:
        """Returns everything as values that JSON can hold; numbers that are not finite become None."""
        fields = {**dataclasses.asdict(self), "path": str(self.path), "uses_flex": self.uses_flex}
        return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
