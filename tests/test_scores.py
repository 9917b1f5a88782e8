"""The scores that the documentation states are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.scores import RESULTS, table

DOCUMENT = Path(__file__).parents[1] / "docs" / "tasks.md"


def test_the_table_of_scores_is_that_of_the_results():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| task | variant | seeds |"))
    end = next(number for number in range(begin, len(lines)) if not lines[number].startswith("|"))
    assert lines[begin:end] == table(json.loads(RESULTS.read_text(encoding="utf-8"))["results"])


def test_a_refused_precision_is_no_score():
    case = {"score": "macro_f1", "baselines": {"bag_of_words": 0.25}, "keras": 0.5, "float32": 0.5}
    case |= {"float16": 0.5, "dynamic": 0.49951, "int8": "refused: 8 bits are not enough."}
    assert table({"text": {"lstm": {"0": case, "1": case}}})[2] == (
        "| `text` | `lstm` | 0, 1 | macro f1 | 0.500, 0.500 | 0.500, 0.500 | 0.500, 0.500 | 0.500, 0.500 "
        "| refused, refused | bag of words 0.250 |"
    )
