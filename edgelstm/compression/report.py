"""The report of a compression as Markdown: what every stage changed, and what was tried in vain."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.compression.measures import Measures
from edgelstm.compression.steps import Compression, Step

_TELLING = (
    *("fraction", "sparsity", "pattern", "energy", "rank", "max_loss", "clusters", "min_count", "vocabulary", "bits"),
    *("student", "units", "epochs"),
)
"""Settings that tell one attempt from another."""


def report_text(done: Compression) -> str:
    """Returns a finished compression as Markdown."""
    rows = [table_head(done), *(table_row(step) for step in done.steps)]
    parts = ["# Compression", *done.notes, _markdown(rows), f"{ratios(done)}\n\n{caption(done)}"]
    if done.dropped:
        parts += ["## Tried and not kept", "\n".join(f"- {dropped_line(step)}" for step in done.dropped)]
    noted = [f"- {step.name}: {note}" for step in done.steps for note in step.notes]
    if noted:
        parts += ["## Notes", "\n".join(noted)]
    return "\n\n".join(parts) + "\n"


def table_head(done: Compression) -> tuple[str, ...]:
    """Returns the names of the columns."""
    return ("", "weights", "kB", "gzip kB", "MACs", done.score.replace("_", " "), "95 %", "us")


def table_row(step: Step) -> tuple[str, ...]:
    """Returns the figures of a step, one for each column."""
    assert step.measures is not None
    return (step.name, *_figures(step.measures))


def ratios(done: Compression) -> str:
    """Returns how much smaller the result is, one sentence."""
    before, after = done.reference, done.result
    macs = f", {before.macs / after.macs:.1f} times fewer MACs" if before.macs and after.macs else ""
    return f"{before.size_bytes / after.size_bytes:.1f} times smaller than the float32 file{macs}."


def caption(done: Compression) -> str:
    """Tells what the columns are, and what the guard allowed."""
    latency = f"us: median time of a call on {done.target}, one thread" if done.target else "us: not measured"
    unit = "points" if done.higher_is_better else "% more error"
    guard = (
        f" The guard allowed {done.guard[0]:g} {unit}, judged by {done.guard[1]} other examples." if done.guard else ""
    )
    return (
        f"kB: the file, and after gzip. MACs: multiply-accumulates of a call. {done.score.replace('_', ' ')}: on test "
        f"examples, with its 95 % interval. {latency}.{guard}"
    )


def dropped_line(step: Step) -> str:
    """Tells what was tried in vain, and why it was not kept."""
    return f"{_named(step)}: {step.reason.rstrip('.')}."


def _named(step: Step) -> str:
    """A step with the settings that tell it from others of its name."""
    if "quantize" in step.settings:
        layers = ", ".join(f"{layer} in {precision}" for layer, precision in step.settings["layers"].items())
        return f"{step.name} {step.settings['quantize']}" + (f" with {layers}" if layers else "")
    values = {name: step.settings[name] for name in _TELLING if step.settings.get(name)}
    shown = [
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}" for name, value in values.items()
    ]
    return f"{step.name} ({', '.join(shown)})" if shown else step.name


def _figures(measures: Measures) -> tuple[str, ...]:
    low, high = measures.interval
    return (
        _count(measures.parameters),
        _kilobytes(measures.size_bytes),
        "-" if measures.gzip_bytes is None else _kilobytes(measures.gzip_bytes),
        "-" if measures.macs is None else _count(measures.macs),
        f"{measures.score:.4g}",
        f"{low:.3g}-{high:.3g}",
        "-" if measures.latency_us is None else f"{measures.latency_us:,.0f}",
    )


def _kilobytes(size_bytes: int) -> str:
    return f"{size_bytes / 1000:,.{0 if size_bytes >= 1_000_000 else 1}f}"


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1_000_000 else f"{number / 1e3:.1f} k"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *others])
