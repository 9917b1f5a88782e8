"""What benchmark_model prints; lines as its builds of 2020 to 2025 print them."""

from __future__ import annotations

import pytest

from edgelstm.targets.adb.native import combine, parse_output

WARMUP = "count=12 first=156677 curr=33205 min=32578 max=156677 avg=43268.1 std=34197\n\n"
TIMINGS = "Inference timings in us: Init: 3501, First inference: 156677, Warmup (avg): 43268.1, Inference (avg): {}\n"


def test_the_counted_calls_are_read_and_not_the_warm_up():
    text = (
        WARMUP + "count=50 first=33228 curr=33130 min=32687 max=33239 avg=33071.8 std=129\n\n" + TIMINGS.format(33071.8)
    )
    assert parse_output(text) == {
        "count": 50,
        "min": 32687,
        "max": 33239,
        "avg": 33071.8,
        "std": 129,
        "init": 3501,
        "first_inference": 156677,
    }


def test_percentiles_are_read_where_they_are_printed():
    line = "I tflite  : count=25 first=9 curr=9 min=1 max=9 avg=4.5 std=2 p5=1.5 median=4 p95=8\n"
    told = parse_output(WARMUP + line + TIMINGS.format(4.5))
    assert (told["median"], told["p95"]) == (4, 8)


def test_big_numbers_and_equal_ones_are_read():
    told = parse_output(
        WARMUP + "count=3 first=9.99242e+06 curr=1 min=1 max=9.99242e+06 avg=2e+06 std=7\n" + TIMINGS.format(1)
    )
    assert (told["max"], told["avg"]) == (9_992_420, 2_000_000)
    told = parse_output(WARMUP + "count=5 curr=77 (all same)\n" + TIMINGS.format(77))
    assert (told["count"], told["min"], told["median"], told["p95"], told["max"], told["std"]) == (5, 77, 77, 77, 77, 0)


@pytest.mark.parametrize("text", ["", "ERROR: failed", WARMUP, WARMUP + WARMUP, WARMUP + TIMINGS.format(1)])
def test_a_tool_that_did_not_end_is_seen(text):
    assert parse_output(text) is None


@pytest.mark.parametrize(
    "line",
    [
        "count=0 first=9 curr=9 min=1 max=9 avg=4 std=2",
        "count=9 first=9 curr=9 min=5 max=1 avg=4 std=2",
        "count=9 first=9 curr=9 min=1 max=9 avg=1e+999 std=2",
        "count=9 first=9 curr=9 min=1 max=9 avg=4.4.4 std=2",
        "count=9 curr=9",
    ],
)
def test_numbers_that_no_calls_can_have_are_nonsense(line):
    with pytest.raises(ValueError, match=r"^count=[09] "):
        parse_output(f"{WARMUP}{line}\n{TIMINGS.format(4)}")


def summary(median: float | None, **values: float) -> dict[str, float]:
    told = {"count": 100.0, "min": 90.0, "max": 200.0, "avg": 105.0, "std": 10.0, "p95": 150.0, "init": 1.0}
    made = {**told, **({} if median is None else {"median": median}), **values}
    return made if median is not None else {key: value for key, value in made.items() if key != "p95"}


def test_rounds_are_put_together():
    told = combine([summary(100.0), summary(110.0, min=80.0), summary(104.0, max=300.0, p95=160.0)])
    assert (told.num_samples, told.min_us, told.max_us) == (300, 80, 300)
    assert (told.p50_us, told.p90_us, told.p99_us) == (104, 160, 300)
    # 1.96 standard errors of a median of 100 normal samples: 1.96 * 1.2533 * 10 / 10
    assert told.p50_low_us == pytest.approx(100 - 2.456, abs=1e-3)
    assert told.p50_high_us == pytest.approx(110 + 2.456, abs=1e-3)


def test_without_percentiles_the_mean_stands_in_and_is_called_so():
    told = combine([summary(None)])
    assert (told.p50_us, told.p90_us, told.p99_us) == (105, 200, 200)
    assert "the mean stands for it" in told.stability
    assert not told.stable
    assert "the median is the tool's own" in combine([summary(100.0)]).stability
