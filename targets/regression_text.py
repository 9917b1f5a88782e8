"""What became of models since an earlier run, as text of at most 80 columns."""

from __future__ import annotations

from edgelstm.targets.layout import table, wrapped
from edgelstm.targets.regression import RegressionReport


def format_regressions(report: RegressionReport) -> str:
    """Returns what became of each model since the earlier run, the slower ones first."""
    order = {"slower": 0, "unsure": 1, "same": 2, "faster": 3}
    changes = sorted(report.changes, key=lambda change: order[change.verdict])
    rows = [("", "target", "runtime", "new/old", "", "")]
    for each in changes:
        spread = f"{each.ratio.low:.3f}-{each.ratio.high:.3f}" if each.ratio.low != each.ratio.high else ""
        model, runtime = f"{each.artifact} ({each.settings})", each.runtime
        rows.append((model, each.target, runtime, f"{each.ratio.value:.3f}", spread, each.verdict))
    lines = table(rows, num_titles=3) if changes else ["Nothing was measured in both."]
    sentences = [
        *(f"only in the old run: {title}" for title in report.missing),
        *(f"only in the new run: {title}" for title in report.added),
        *report.notes,
        _verdict(report),
    ]
    return "\n".join([*lines, *(line for sentence in sentences for line in wrapped(sentence))])


def _verdict(report: RegressionReport) -> str:
    """Returns the sentence that counts."""
    num_slower, num_unsure = (sum(each.verdict == name for each in report.changes) for name in ("slower", "unsure"))
    unsure = [f"{num_unsure} unsure"] if num_unsure else []
    if not num_slower and not report.missing:
        return f"{', '.join(['No regression', *unsure])}{': measure longer (--plan full)' if unsure else ''}."
    slower = [f"{num_slower} of {len(report.changes)} slower beyond the noise"] if report.changes else []
    missing = [f"{len(report.missing)} not measured any more"] if report.missing else []
    return f"{', '.join([*slower, *unsure, *missing])}."
