"""Lays an inspection out for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence

from edgelstm.runtime.inspection.report import Inspection, InspectionWarning, LstmSummary, TensorSummary

MIN_WIDTH = 40
_INDENT = "  "
_GAP = "  "
_KINDS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "unidirectional",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "bidirectional",
    "LSTM": "one step",
}
_SIZES = (
    ("tables", "embedding tables"),
    ("lstm_weights", "LSTM weights"),
    ("other_weights", "other weights"),
    ("constants", "constants"),
    ("metadata", "metadata"),
    ("structure", "structure"),
)


def format_text(inspection: Inspection, width: int = 80) -> str:
    """Returns an inspection as text for a terminal.

    Args:
        inspection: What `inspect` returned.
        width: Columns of the terminal; at least 40 are used. No line is longer.

    Returns:
        Lines without a final line end. Control characters in the file's names are replaced.
    """
    width = max(width, MIN_WIDTH)
    sections = (
        _overview(inspection),
        _signatures(inspection, width),
        _lstms(inspection),
        _sizes(inspection),
        _operators(inspection),
        _warnings(inspection, width),
    )
    return "\n\n".join("\n".join(_shorten(line, width) for line in section) for section in sections if section)


def _shorten(line: str, width: int) -> str:
    line = "".join(character if character.isprintable() else "?" for character in line).rstrip()
    return line if len(line) <= width else line[: width - 3] + "..."


def _table(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Returns the rows as aligned columns; those whose indices are in `right` are aligned to the right."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]

    def aligned(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        return _GAP.join(
            cell.rjust(size) if index in right else cell.ljust(size) for index, (cell, size) in enumerate(cells)
        )

    return [_INDENT + aligned(row) for row in rows]


def _overview(inspection: Inspection) -> list[str]:
    gzip = "" if inspection.gzip_bytes is None else f" ({_size(inspection.gzip_bytes)} gzipped)"
    size = f"{_size(inspection.size_bytes)}{gzip}, {inspection.parameters:,} parameters"
    description = [_INDENT + inspection.description] if inspection.description else []
    macs = [] if inspection.macs is None else [f"{_INDENT}{inspection.macs:,} multiply-accumulates a call"]
    return [str(inspection.path), _INDENT + size, *macs, *description, *_streaming(inspection)]


def _streaming(inspection: Inspection) -> list[str]:
    if not inspection.streaming:
        return []
    if any(lstm.state == "streaming" for lstm in inspection.lstms):
        return [_INDENT + "streaming: its state is meant to survive from call to call"]
    return [_INDENT + "streaming: the app hands its state on, from outputs to inputs"]


def _size(size_bytes: int) -> str:
    if size_bytes < 1_000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1e6:.2f} MB"


def _signatures(inspection: Inspection, width: int) -> list[str]:
    lines: list[str] = []
    for signature in inspection.signatures:
        suffix = f" of signature {signature.key}" if len(inspection.signatures) > 1 else ""
        for title, tensors in (("Inputs", signature.inputs), ("Outputs", signature.outputs)):
            rows = [_tensor_cells(tensor, width // 2) for tensor in tensors]
            lines += [title + suffix, *(_table(rows) or [_INDENT + "none"])]
    return lines


def _tensor_cells(tensor: TensorSummary, max_name: int) -> tuple[str, str, str, str]:
    shape = _product(None if size < 0 else size for size in tensor.shape) or "scalar"
    quantization = "" if tensor.scale is None else f"scale {tensor.scale:.4g}, zero point {tensor.zero_point}"
    return _shorten(tensor.name or "(no name)", max_name), tensor.dtype, shape, quantization


def _product(sizes: Iterable[int | None]) -> str:
    return " x ".join(_known(size) for size in sizes)


def _known(size: int | None) -> str:
    return "?" if size is None else str(size)


def _lstms(inspection: Inspection) -> list[str]:
    lines = ["LSTM operators"] if inspection.lstms else []
    for lstm in inspection.lstms:
        number = f"{lstm.index}  "
        first, *others = _lstm_lines(lstm)
        lines.append(_INDENT + number + first)
        lines += [_INDENT + " " * len(number) + other for other in others]
    return lines + _written_out(inspection)


def _written_out(inspection: Inspection) -> list[str]:
    """Says what stands in loops, or is unrolled."""
    lines, others = [], 0
    for loop in inspection.loops:
        if loop.looks_like_lstm:
            steps = f"{loop.num_steps} step{'s' if loop.num_steps > 1 else ''}"
            lines.append(f"LSTM as a loop: operator {loop.operator}, {steps} in each turn")
        else:
            others += 1
    if inspection.unrolled_steps:
        lines.append(f"LSTM unrolled: {inspection.unrolled_steps} steps outside of loops")
    return [*lines, f"Other loops: {others}"] if others else lines


def _lstm_lines(lstm: LstmSummary) -> list[str]:
    axes, sizes = "batch x time", (lstm.batch, lstm.time)
    if lstm.time_major:
        axes, sizes = "time x batch", (lstm.time, lstm.batch)
    details = [f"cell clip {lstm.cell_clip:g}" if lstm.cell_clip else "no cell clip"]
    if lstm.cell_scale is not None:
        details.append(f"cell scale {_power_of_two(lstm.cell_scale)}")
    return [
        f"{_KINDS[lstm.kind]}, {_known(lstm.units)} units, {lstm.activation}, {lstm.precision}, {lstm.state}",
        f"input {_product((*sizes, lstm.features))} ({axes} x features)",
        ", ".join(details),
    ]


def _power_of_two(scale: float) -> str:
    mantissa, exponent = math.frexp(scale)
    return f"2^{exponent - 1}" if mantissa == 0.5 else f"{scale:.4g}"


def _sizes(inspection: Inspection) -> list[str]:
    rows = []
    for field, title in _SIZES:
        size_bytes: int = getattr(inspection.sizes, field)
        if size_bytes:
            rows.append((title, f"{size_bytes:,}", f"{100 * size_bytes / inspection.size_bytes:.0f} %"))
    return ["Bytes", *_table(rows, right=(1, 2))]


def _operators(inspection: Inspection) -> list[str]:
    rows = [
        (str(operator.count), operator.name if operator.kind == "builtin" else f"{operator.name} ({operator.kind})")
        for operator in inspection.operators
    ]
    return ["Operators", *(_table(rows, right=(0,)) or [_INDENT + "none"])]


def _warnings(inspection: Inspection, width: int) -> list[str]:
    if not inspection.warnings:
        return ["No traps found."]
    return ["Traps", *(line for warning in inspection.warnings for line in _warning_lines(warning, width))]


def _warning_lines(warning: InspectionWarning, width: int) -> list[str]:
    indent = _INDENT * 2
    texts = (warning.message, f"To do: {warning.advice}")
    wrapped = (textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent) for text in texts)
    return [f"{_INDENT}{warning.severity}: {warning.code}", *(line for lines in wrapped for line in lines)]
