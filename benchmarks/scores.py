"""The table of scores in docs/tasks.md, made of what benchmarks/accuracy.py measured.

python benchmarks/scores.py [benchmarks/results/accuracy.json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelstm.tasks import TASKS, load_task

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
PRECISIONS = ("keras", "float32", "float16", "dynamic", "int8")


def table(results: Mapping[str, Any]) -> list[str]:
    """Returns the lines of a Markdown table: a row for each variant, a cell for each precision with all its seeds."""
    lines = ["| task | variant | seeds | score | Keras | float32 | float16 | dynamic | int8 | simple ways |"]
    lines.append("|---" * 10 + "|")
    for task in sorted(results, key=list(TASKS).index):
        for variant in sorted(results[task], key=list(load_task(task).variants).index):
            seeds = dict(sorted(results[task][variant].items(), key=lambda pair: int(pair[0])))
            cells = [", ".join(_cell(case[precision]) for case in seeds.values()) for precision in PRECISIONS]
            first = next(iter(seeds.values()))
            others = "; ".join(f"{name} {_cell(score)}" for name, score in first["baselines"].items())
            named = [f"`{task}`", f"`{variant}`", ", ".join(seeds), first["score"].replace("_", " ")]
            lines.append(f"| {' | '.join([*named, *cells, others.replace('_', ' ')])} |")
    return lines


def _cell(score: float | str) -> str:
    return "refused" if isinstance(score, str) else f"{score:.3f}"


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    print("\n".join(table(json.loads(path.read_text(encoding="utf-8"))["results"])))
