from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.emulated.counts import NAMES, Counters, per_inference, read_marks, summarize_counts


def counters(start: int) -> Counters:
    return {name: start * (index + 1) for index, name in enumerate(NAMES)}


def line(kind: str, number: int, values: Counters) -> str:
    return f"{kind} {number} " + " ".join(f"{name} {value}" for name, value in values.items())


def test_marks_are_read_in_order_and_the_total_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    lines = [line("mark", 0, counters(10)), line("mark", 1, counters(30)), line("total", 0, counters(99))]
    path.write_text("\n".join(lines) + "\n")
    assert read_marks(path) == [(0, counters(10)), (1, counters(30))]


@pytest.mark.parametrize(
    "text", ["mark 0 instructions", "mark x instructions 1", "mark 0 instructions 5", "\xff", "mark 0 loads 1 loads"]
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "counts").write_text(text, encoding="latin-1")
    with pytest.raises(TargetError, match="left no counts that can be read"):
        read_marks(tmp_path / "counts")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="left no counts"):
        read_marks(tmp_path / "counts")


def test_an_inference_is_the_difference_of_two_marks_without_the_cost_of_a_mark() -> None:
    # A mark costs 7; the inferences cost 100 and 103.
    marks = [(0, counters(50)), (0, counters(57)), (1, counters(164)), (2, counters(274))]
    assert per_inference(marks) == [counters(100), counters(103)]


@pytest.mark.parametrize("numbers", [[], [0, 0], [0, 1, 2], [0, 0, 2], [0, 0, 1, 1]])
def test_other_marks_are_refused(numbers: list[int]) -> None:
    with pytest.raises(TargetError, match="instead of 0, 0, 1"):
        per_inference([(number, counters(number)) for number in numbers])


def test_the_summary_is_the_median_of_each_counter() -> None:
    count = summarize_counts([counters(5), counters(1), counters(9)], "cortex-a72")
    assert (count.instructions, count.least, count.most, count.inferences) == (5, 1, 9, 3)
    assert count.parts == {name: value for name, value in counters(5).items() if name != "instructions"}
    assert count.cpu == "cortex-a72"


def test_a_median_of_an_even_number_is_one_of_the_counts() -> None:
    assert summarize_counts([counters(4), counters(1), counters(9), counters(5)], "x").instructions == 4
