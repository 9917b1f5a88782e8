"""A converted model in a few lines of text."""

from __future__ import annotations

import textwrap
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.cli.output import WIDTH, aligned

_INDENT = "  "
_LABEL_WIDTH = 11
_NAME_WIDTH = 30
_NO_BREAK = "\u00a0"


def conversion_summary(artifact: Artifact) -> str:
    """Describes a converted model: size, inputs and outputs, operators, parity.

    Args:
        artifact: Its card holds what `edgelstm.convert` writes.

    Returns:
        Lines of at most 80 columns (a long path may need more), without the warnings.
    """
    card = artifact.card
    operators = ", ".join(f"{count}{_NO_BREAK}{name}" for name, count in card.get("operators", {}).items())
    lines = [
        f"Wrote {artifact.path} and its card {artifact.card_path.name}",
        *_labelled("size", ", ".join([format_size(card["size_bytes"]), card["precision"], *_opset(card)])),
        *_tensors("input", card["inputs"]),
        *_tensors("output", card["outputs"]),
        *(_labelled("operators", operators) if operators else []),
        *_states(card.get("state", {})),
        *_parity(
            card["source"]["name"], card["parity"], streaming=card.get("state", {}).get("semantics") == "streaming"
        ),
    ]
    return "\n".join(lines)


def format_size(size_bytes: int) -> str:
    """Writes a size with three digits and a decimal unit: "980 B", "104 kB", "1.24 MB"."""
    size, units = float(size_bytes), ["B", "kB", "MB", "GB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 99.95 else f"{size:.3g} {units[0]}"


def _tensors(label: str, tensors: list[dict[str, Any]]) -> list[str]:
    width = min(_NAME_WIDTH, max((len(tensor["name"]) for tensor in tensors), default=0))
    return [
        f"{_INDENT}{label:{_LABEL_WIDTH}}{_shorten(tensor['name']):{width}}  {tensor.get('dtype', '')}  "
        f"{' x '.join('any' if size < 0 else str(size) for size in tensor.get('shape', []))}".rstrip()
        for tensor in tensors
    ]


def _opset(card: dict[str, Any]) -> list[str]:
    return [f"ONNX opset {card['opset']}"] if "opset" in card else []


def _states(state: dict[str, Any]) -> list[str]:
    names = ", ".join(entry["name"] for entry in state.get("states", []))
    return _labelled("states", f"{names}: kept from call to call until they are reset") if names else []


def _parity(model: str, parity: list[dict[str, Any]], *, streaming: bool) -> list[str]:
    if not parity:
        return _labelled("parity", "not verified")
    invokes = max(entry["invokes"] for entry in parity)
    rows = [("", "largest", "mean", "allowed", "same decision"), *map(_parity_row, parity)]
    return [
        *_labelled(
            "parity",
            f"difference from {model}, {invokes} calls {'of sequences' if streaming else 'in a row'}",
        ),
        *((_INDENT * 2 + line).rstrip() for line in aligned(rows)),
    ]


def _parity_row(entry: dict[str, Any]) -> tuple[str, str, str, str, str]:
    agreement = entry["decision_agreement"]
    return (
        _shorten(entry["runtime"]),
        f"{entry['max_abs_difference']:.1e}",
        f"{entry['mean_abs_difference']:.1e}",
        f"{entry['tolerance']:.0e}",
        "-" if agreement is None else f"{agreement:.1%}",
    )


def _labelled(label: str, text: str) -> list[str]:
    first = f"{_INDENT}{label:{_LABEL_WIDTH}}"
    lines = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)
    return [line.replace(_NO_BREAK, " ") for line in lines] or [first.rstrip()]


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
