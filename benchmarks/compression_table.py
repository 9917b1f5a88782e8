"""The tables of compression in docs/compression.md, made of what benchmarks/compression.py measured.

python benchmarks/compression_table.py [benchmarks/results/compression.json]
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "compression.json"
LIMITS = (0.5, 1.0, 2.0)


def tables(results: Mapping[str, Any]) -> list[str]:
    """Returns the lines of two Markdown tables: every step, and how far one gets before so many points are lost."""
    steps = ["| task | after | kB | smaller | fewer MACs | score | lost | from scratch | better |", "|---" * 9 + "|"]
    front = [
        f"| task | seeds | {' | '.join(f'at most {limit:g} lost' for limit in LIMITS)} |",
        "|---" * (2 + len(LIMITS)) + "|",
    ]
    for task, seeds in results.items():
        cases = [seeds[seed] for seed in sorted(seeds, key=int)]
        rows = [_row(cases, number) for number in range(len(cases[0]["steps"]))]
        steps.append(_start(task, cases))
        steps += [_step(task, row, cases[0]["higher_is_better"]) for row in rows]
        cells = [_farthest(rows, limit) for limit in LIMITS]
        front.append(f"| `{task}` | {len(cases)} | {' | '.join(cells)} |")
    return [*steps, "", *front]


def _row(cases: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
    """Figures of one step over all seeds."""
    found = [(case["start"], case["steps"][number]) for case in cases]
    return {
        "stage": found[0][1]["stage"],
        "kb": statistics.mean(step["measures"]["size_bytes"] for _, step in found) / 1000,
        "smaller": statistics.mean(start["size_bytes"] / step["measures"]["size_bytes"] for start, step in found),
        "macs": statistics.mean(start["macs"] / step["measures"]["macs"] for start, step in found),
        "scores": [step["measures"]["score"] for _, step in found],
        "lost": [
            _lost(start["score"], step["measures"]["score"], higher=case["higher_is_better"])
            for case, (start, step) in zip(cases, found, strict=True)
        ],
        "scratch": [step["scratch"]["score"] for _, step in found],
    }


def _lost(before: float, after: float, *, higher: bool) -> float:
    """Points of a score, percent of an error."""
    return 100 * (before - after) if higher else 100 * (after / before - 1)


def _start(task: str, cases: Sequence[Mapping[str, Any]]) -> str:
    starts = [case["start"] for case in cases]
    size = statistics.mean(start["size_bytes"] for start in starts) / 1000
    return f"| `{task}` | float32 | {size:.1f} | | | {_spread([start['score'] for start in starts])} | | | |"


def _step(task: str, row: Mapping[str, Any], higher: bool) -> str:
    gain = statistics.mean(row["scores"]) - statistics.mean(row["scratch"])
    better = "yes" if (gain > 0) == higher and gain else "no"
    return (
        f"| `{task}` | {_named(row['stage'])} | {row['kb']:.1f} | {row['smaller']:.1f} | {row['macs']:.1f} | "
        f"{_spread(row['scores'])} | {statistics.mean(row['lost']):.2f} | {_spread(row['scratch'])} | {better} |"
    )


def _named(stage: Mapping[str, Any]) -> str:
    value = stage.get("fraction", stage.get("rank"))
    return f"{stage['kind']} {value:g}"


def _spread(values: Sequence[float]) -> str:
    """Mean and, where there are several, least and greatest."""
    mean = f"{statistics.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4g} to {max(values):.4g})"


def _farthest(rows: Sequence[Mapping[str, Any]], limit: float) -> str:
    """The smallest file that loses no more than a limit in the mean."""
    allowed = [row for row in rows if statistics.mean(row["lost"]) <= limit]
    if not allowed:
        return "none"
    best = max(allowed, key=lambda row: row["smaller"])
    return f"{best['smaller']:.1f} times smaller, {best['macs']:.1f} times fewer MACs"


def speed_table(speed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table of an LSTM before and after half its units are gone."""
    lines = ["| file | 128 units | 64 units | times faster | kB |", "|---" * 5 + "|"]
    for entry in speed:
        whole, half = entry["size_bytes"]
        lines.append(
            f"| {entry['precision']} | {entry['whole_us']:.0f} us | {entry['half_us']:.0f} us | {entry['ratio']:.1f} | "
            f"{whole / 1000:.0f} to {half / 1000:.0f} |"
        )
    return lines


if __name__ == "__main__":
    document = json.loads((Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS).read_text(encoding="utf-8"))
    print("\n".join([*tables(document["results"]), "", *speed_table(document.get("speed", []))]))
