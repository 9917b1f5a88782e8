"""The traps that can be seen in a .tflite file: one function per trap, and one table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgelstm.runtime.inspection.report import Inspection, InspectionWarning, LstmSummary

# The integer kernel has a tanh for cell states of 0 to 6 integer bits in 16, and silently does nothing outside.
MIN_CELL_SCALE = 2.0**-15
MAX_CELL_SCALE = 2.0**-9
# Scales that have to agree are copies of one float32 number.
SCALE_TOLERANCE = 1e-6

_MAX_NAMED = 8
_VARIABLE_OPERATORS = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})


def find_traps(inspection: Inspection) -> tuple[InspectionWarning, ...]:
    """Returns every trap of a file once, in the order of the table below."""
    found = (trap(inspection) for trap in _TRAPS)
    return tuple(warning for warning in found if warning is not None)


def _listed(items: Iterable[object]) -> str:
    names = [str(item) for item in items]
    left_out = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {left_out} more" if left_out > 0 else "")


def _where(inspection: Inspection, is_trap: Callable[[LstmSummary], bool]) -> str:
    """Returns the LSTMs that a trap concerns, as the start of a sentence; nothing if there are none."""
    indices = [lstm.index for lstm in inspection.lstms if is_trap(lstm)]
    return f"LSTM {_listed(indices)}" if indices else ""


def _state_leaks(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: lstm.state == "leaking")
    if not where:
        return None
    return InspectionWarning(
        "state-leaks",
        "warning",
        f"{where}: the state survives from call to call, so an answer depends on the calls before it.",
        "Reset all variable tensors before every call, or export the model with edgelstm, which writes the reset into "
        "the file; in a streaming model the state is meant to survive.",
    )


def _cell_clip(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: lstm.cell_clip != 0)
    if not where:
        return None
    bounds = _listed(sorted({f"{lstm.cell_clip:g}" for lstm in inspection.lstms if lstm.cell_clip != 0}))
    return InspectionWarning(
        "cell-clip",
        "warning",
        f"{where}: the cell state is clipped at {bounds}, which Keras does not do.",
        "Export the model with edgelstm, which sets the clip to 0, or check on data whose cell state passes the bound.",
    )


def _cell_scale_too_small(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: _has_cell_scale(lstm, lambda scale: not scale >= MIN_CELL_SCALE))
    if not where:
        return None
    return InspectionWarning(
        "cell-scale-too-small",
        "warning",
        f"{where}: the scale of the int8 cell state is below 2^-15, where the integer kernel answers the same whatever "
        "the input.",
        "Export the model with edgelstm, which keeps the scale within 2^-15 and 2^-9.",
    )


def _cell_scale_too_large(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: _has_cell_scale(lstm, lambda scale: scale > MAX_CELL_SCALE))
    if not where:
        return None
    return InspectionWarning(
        "cell-scale-too-large",
        "warning",
        f"{where}: the scale of the int8 cell state is above 2^-9, where the integer kernel computes no tanh and "
        "answers wrongly.",
        "Export the model with edgelstm, which keeps the scale within 2^-15 and 2^-9, or use dynamic quantization.",
    )


def _has_cell_scale(lstm: LstmSummary, is_trap: Callable[[float], bool]) -> bool:
    return lstm.precision == "int8" and lstm.cell_scale is not None and is_trap(lstm.cell_scale)


def _scales_disagree(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: lstm.precision == "int8" and not _scales_agree(lstm))
    if not where:
        return None
    return InspectionWarning(
        "lstm-scales-disagree",
        "warning",
        f"{where}: output, hidden state and intermediate have different int8 scales, so values change on their way "
        "from one to the other.",
        "Export the model with edgelstm, which keeps them equal; the usual cause is an LSTM output with two consumers.",
    )


def _scales_agree(lstm: LstmSummary) -> bool:
    scales = [lstm.output_scale, lstm.hidden_scale, lstm.intermediate_scale]
    known = [scale for scale in scales if scale is not None]
    return not known or max(known) - min(known) <= SCALE_TOLERANCE * max(known)


def _int8_activation(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: lstm.precision == "int8" and lstm.activation != "tanh")
    if not where:
        return None
    return InspectionWarning(
        "int8-activation",
        "warning",
        f"{where}: the file asks for another activation than tanh, but the integer kernel always computes tanh.",
        "Use dynamic quantization, or train the model with activation='tanh'.",
    )


def _linear_activation(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: lstm.precision != "int8" and lstm.activation == "linear")
    if not where:
        return None
    return InspectionWarning(
        "linear-activation",
        "warning",
        f"{where}: the fused kernel answers wrongly with a linear activation.",
        "Train the model with another activation, or export it without the fused operator.",
    )


def _stayed_float32(inspection: Inspection) -> InspectionWarning | None:
    where = _where(inspection, lambda lstm: lstm.precision == "float32")
    if not where or "int8" not in inspection.weight_bytes:
        return None
    return InspectionWarning(
        "lstm-stayed-float32",
        "warning",
        f"{where}: computes in float32 although weights in the file are int8.",
        "Dynamic quantization leaves an LSTM alone if one of its matrices has fewer than 1,024 elements: use 32 or "
        "more units and features, or full int8.",
    )


def _lstm_as_loop(inspection: Inspection) -> InspectionWarning | None:
    loops = [loop.operator for loop in inspection.loops if loop.looks_like_lstm]
    if not loops:
        return None
    return InspectionWarning(
        "lstm-as-loop",
        "note",
        f"Operator {_listed(loops)}: an LSTM as a WHILE loop, which MediaPipe Tasks refuse.",
        "Nothing, unless the file is for MediaPipe: convert with --runtime mediapipe then.",
    )


def _flex_operators(inspection: Inspection) -> InspectionWarning | None:
    names = [operator.name for operator in inspection.operators if operator.kind == "flex"]
    if not names:
        return None
    return InspectionWarning(
        "flex-operators",
        "warning",
        f"The file needs the Flex delegate, which most runtimes lack, for {_listed(names)}.",
        "Convert the model to built-in operators only.",
    )


def _leftover_variables(inspection: Inspection) -> InspectionWarning | None:
    names = [operator.name for operator in inspection.operators if _is_leftover(operator.name)]
    if not names:
        return None
    return InspectionWarning(
        "leftover-variables",
        "warning",
        f"The conversion left {_listed(names)} behind; such files often answer NaN or do not run.",
        "Freeze the variables: export a SavedModel with a fixed batch and convert that.",
    )


def _is_leftover(name: str) -> bool:
    return name in _VARIABLE_OPERATORS or "TensorList" in name


_TRAPS: tuple[Callable[[Inspection], InspectionWarning | None], ...] = (
    _state_leaks,
    _cell_clip,
    _cell_scale_too_small,
    _cell_scale_too_large,
    _scales_disagree,
    _int8_activation,
    _linear_activation,
    _stayed_float32,
    _leftover_variables,
    _flex_operators,
    _lstm_as_loop,
)
