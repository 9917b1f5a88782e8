from __future__ import annotations

from dataclasses import replace

import pytest

from edgelstm.targets.harness import BenchResult
from edgelstm.targets.regression import find_regressions
from edgelstm.targets.subjects import Settings
from edgelstm.targets.text import describe, format_regressions, format_result, format_us
from tests.targets.made import PLAN, emulated, estimated, measured, processes


def exact(median_us: float, **changes):
    """A measurement without noise."""
    return measured(median_us, processes=processes(median_us, spread=0.0), **changes)


def test_a_measurement_reads_well():
    assert describe(exact(100.0)).splitlines() == [
        "m.tflite (5,000 bytes), measured on cpu",
        "  machine     Abacus, 1 thread",
        "  runtime     ai-edge-litert 9.8",
        "  median      100 µs (95% confidence 100 µs to 100 µs), 10,000 calls/s",
        "  p90, p99    100 µs, 100 µs",
        "  min, max    100 µs, 100 µs of 180 calls",
        "  start       load 900 µs, first call 400 µs",
        "  memory      6.0 MiB for runtime and model",
    ]


def test_what_a_worker_knows_more_is_told():
    process = replace(
        processes(100.0, spread=0.0)[0],
        arena_bytes=20_480,
        cold_start={"process_us": 50_000.0, "import_us": 30_000.0, "load_us": 900.0, "first_invoke_us": 400.0},
        energy={"source": "rapl:package-0", "joules": 2.0, "seconds": 0.5, "calls": 1000},
    )
    lines = describe(measured(processes=(process,))).splitlines()
    assert lines[6:] == [
        "  start       81.3 ms to the first answer: load 900 µs, first call 400 µs",
        "  memory      6.0 MiB for runtime and model, arena 20.0 KiB",
        "  energy      2 mJ a call, 4 W (rapl:package-0, the whole machine's share included)",
    ]


def test_a_batch_counts_as_many_inputs():
    assert "640 inputs/s" in describe(exact(100_000.0, settings=Settings(batch=64)))


def test_emulated_and_estimated_say_what_they_are():
    text = describe(emulated(1_234_567))
    assert "emulated on emulated:arm64" in text
    assert "1,234,567 instructions in one inference" in text
    assert "(3 inferences, the same)" in text
    assert "no latency" in text
    text = describe(estimated(100.0))
    assert "100 µs (error band 50 µs to 200 µs)" in text
    assert "runtime" not in text


def test_several_measurements_are_a_table_for_each_target():
    result = BenchResult(
        PLAN,
        (
            exact(100.0),
            exact(250.0, name="longer.tflite"),
            emulated(1000),
            emulated(2000, name="n.tflite"),
            estimated(10.0),
        ),
        (),
    )
    assert format_result(result).splitlines() == [
        "cpu: Abacus, ai-edge-litert 9.8",
        "          KiB  median     p90     p99  ratio",
        "  m       4.9  100 µs  100 µs  100 µs      1",
        "  longer  4.9  250 µs  250 µs  250 µs   2.50",
        "",
        "emulated:arm64: Abacus, ai-edge-litert 9.8",
        "  instructions counted under emulation, not a latency",
        "     KiB  instructions  ratio",
        "  m  4.9         1,000      1",
        "  n  4.9         2,000   2.00",
        "",
        "profile:raspberry-pi-4: Abacus",
        "  estimated from the device's peak rates, not measured",
        "     KiB  estimate     error band  ratio",
        "  m  4.9     10 µs  5 µs to 20 µs      1",
    ]


def test_rows_are_told_apart_by_what_differs():
    result = BenchResult(PLAN, (exact(100.0), exact(60.0, settings=Settings(threads=2))), ())
    text = format_result(result)
    assert "m, 1 thread " in text
    assert "m, 2 threads" in text
    result = BenchResult(PLAN, (exact(100.0), exact(60.0, runtime="tflite-runtime")), ())
    assert "m, tflite-runtime" in format_result(result)


def test_warnings_come_once():
    warned = [replace(exact(100.0, name=name), warnings=("It was hot.",)) for name in ("a", "b")]
    text = format_result(BenchResult(PLAN, tuple(warned), ()))
    assert text.count("It was hot.") == 1
    assert "warning: all: It was hot." in text
    assert max(map(len, text.splitlines())) <= 80
    alone = format_result(BenchResult(PLAN, (warned[0], exact(100.0, name="c")), ()))
    assert "warning: a: It was hot." in alone


def test_one_process_on_each_side_does_not_tell_how_sure_a_ratio_is():
    alone = [
        measured(value, name=name, processes=processes(value, count=1)) for name, value in (("a", 1.0), ("b", 2.0))
    ]
    text = format_result(BenchResult(PLAN, tuple(alone), ()))
    assert "One process each: --plan full tells how sure the ratios are." in text
    assert "2.0" in text
    several = [measured(value, name=name, seed=int(value)) for name, value in (("a", 1.0), ("b", 2.0))]
    text = format_result(BenchResult(PLAN, tuple(several), ()))
    assert "One process" not in text
    assert "-2.0" in text


def test_regressions_begin_with_the_slower():
    old = [exact(100.0, name="same.tflite"), exact(100.0, name="slow.tflite"), exact(1.0, name="gone.tflite")]
    new = [exact(100.0, name="same.tflite"), exact(200.0, name="slow.tflite"), exact(1.0, name="new.tflite")]
    lines = format_regressions(find_regressions(old, new)).splitlines()
    assert lines[1].split()[:4] == ["slow.tflite", "(1", "thread)", "cpu"]
    assert lines[1].endswith("2.000  slower")
    assert lines[-3:] == [
        "only in the old run: gone.tflite on cpu (1 thread)",
        "only in the new run: new.tflite on cpu (1 thread)",
        "1 of 2 slower beyond the noise, 1 not measured any more.",
    ]
    assert format_regressions(find_regressions(new, new)).splitlines()[-1] == "No regression."


@pytest.mark.parametrize(
    "duration_us, text",
    [(0.1234, "0.123 µs"), (99.94, "99.9 µs"), (999.4, "999 µs"), (999.6, "1 ms"), (750_000, "750 ms"), (2e6, "2 s")],
)
def test_durations_have_a_unit_of_their_size(duration_us, text):
    assert format_us(duration_us) == text
