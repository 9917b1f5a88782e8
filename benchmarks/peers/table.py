"""The results of `latency.py` as tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

BASE = "ai-edge-litert float32"


def format_tables(document: Mapping[str, Any]) -> str:
    """Returns one table for each number of threads: medians in ms, one column for each way, the fastest in bold."""
    entries = document["results"]
    tables = [_table(entries, threads) for threads in sorted({entry["threads"] for entry in entries})]
    return "\n\n".join(tables)


def _table(entries: Iterable[Mapping[str, Any]], threads: int) -> str:
    chosen = [entry for entry in entries if entry["threads"] == threads]
    models = list(dict.fromkeys(entry["model"] for entry in chosen))
    titles = list(dict.fromkeys(entry["title"] for entry in chosen))
    medians = {(entry["model"], entry["title"]): entry["statistics"]["p50_us"] / 1e3 for entry in chosen}
    lines = [
        f"| {threads} thread{'s' if threads > 1 else ''}, ms | {' | '.join(models)} |",
        f"|---|{'---|' * len(models)}",
    ]
    for title in titles:
        cells = [_cell(medians, model, title, titles) for model in models]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(medians: Mapping[tuple[str, str], float], model: str, title: str, titles: Iterable[str]) -> str:
    value = medians.get((model, title))
    if value is None:
        return "-"
    fastest = min(medians[model, other] for other in titles if (model, other) in medians)
    text = f"{value:.3g}"
    return f"**{text}**" if value == fastest else text
