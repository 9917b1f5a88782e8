"""The figures of compression that the documentation states are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.compression_table import RESULTS, speed_table, tables

DOCUMENT = Path(__file__).parents[1] / "docs" / "compression.md"


def table_after(head: str) -> list[str]:
    """The lines of the table in the documentation that begins with some cells."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(head))
    end = next(number for number in range(begin, len(lines)) if not lines[number].startswith("|"))
    return lines[begin:end]


def test_the_tables_are_those_of_the_results():
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    made = tables(document["results"])
    middle = made.index("")
    assert table_after("| task | after |") == made[:middle]
    assert table_after("| task | seeds | at most") == made[middle + 1 :]
    assert table_after("| file | 128 units |") == speed_table(document["speed"])


def case(higher: bool, *scores: tuple[float, float, int]) -> dict:
    return {
        "higher_is_better": higher,
        "start": {"size_bytes": 1000, "macs": 600, "score": 0.9},
        "steps": [
            {
                "stage": {"kind": "prune-units", "fraction": 0.5},
                "measures": {"size_bytes": size, "macs": size, "score": score},
                "scratch": {"score": scratch},
            }
            for score, scratch, size in scores
        ],
    }


@pytest.mark.parametrize(
    "higher, better, lost, front",
    [
        (True, ["no", "yes"], ["0.30", "1.40"], ["10.0", "10.0", "20.0"]),
        (False, ["yes", "no"], ["-0.33", "-1.56"], ["20.0", "20.0", "20.0"]),
    ],
)
def test_means_are_compared_and_the_smallest_allowed_file_is_told(higher, better, lost, front):
    seeds = {
        "1": case(higher, (0.896, 0.9, 100), (0.886, 0.8, 50)),
        "0": case(higher, (0.898, 0.899, 100), (0.886, 0.88, 50)),
    }
    lines = tables({"rows": seeds})
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[2] == ["`rows`", "float32", "1.0", "", "", "0.9 (0.9 to 0.9)", "", "", ""]
    assert cells[3][:6] == ["`rows`", "prune-units 0.5", "0.1", "10.0", "6.0", "0.897 (0.896 to 0.898)"]
    assert [cells[row][8] for row in (3, 4)] == better
    assert [cells[row][6] for row in (3, 4)] == lost
    assert [cell.split()[0] for cell in cells[-1][2:]] == front
    assert cells[-1][1] == "2"


def test_speed_is_a_ratio():
    entry = {"precision": "int8", "whole_us": 300.4, "half_us": 100.2, "ratio": 2.998, "size_bytes": [80_000, 20_400]}
    assert speed_table([entry])[2] == "| int8 | 300 us | 100 us | 3.0 | 80 to 20 |"
