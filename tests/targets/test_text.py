from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgelstm.targets.comparison import Ratio
from edgelstm.targets.harness import BenchResult
from edgelstm.targets.regression import Change, RegressionReport, find_regressions
from edgelstm.targets.regression_text import format_regressions
from edgelstm.targets.subjects import Settings
from edgelstm.targets.text import describe, format_result, format_us, operator_times
from tests.targets.made import PLAN, emulated, estimated, measured, processes, summarized


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
        "  energy      2 mJ a call, 4 W (rapl:package-0, the whole machine's share",
        "              included)",
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
        "            load  first call   memory  calls/s",
        "  m       900 µs      400 µs  6.0 MiB   10,000",
        "  longer  900 µs      400 µs  6.0 MiB    4,000",
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
    lines = text.splitlines()
    assert lines[lines.index("") - 1] == "  One process each: --plan full tells how sure the ratios are."
    assert "2.0" in text
    several = [measured(value, name=name, seed=int(value)) for name, value in (("a", 1.0), ("b", 2.0))]
    text = format_result(BenchResult(PLAN, tuple(several), ()))
    assert "One process" not in text
    assert "-2.0" in text


def test_regressions_begin_with_the_slower():
    old = [exact(100.0, name="same.tflite"), exact(100.0, name="slow.tflite"), exact(1.0, name="gone.tflite")]
    new = [exact(100.0, name="same.tflite"), exact(200.0, name="slow.tflite"), exact(1.0, name="new.tflite")]
    lines = format_regressions(find_regressions(old, new)).splitlines()
    assert lines[1].split()[:5] == ["slow.tflite", "(1", "thread)", "cpu", "ai-edge-litert"]
    assert lines[1].endswith("2.000  slower")
    assert lines[-3:] == [
        "only in the old run: gone.tflite on cpu (ai-edge-litert, 1 thread)",
        "only in the new run: new.tflite on cpu (ai-edge-litert, 1 thread)",
        "1 of 2 slower beyond the noise, 1 not measured any more.",
    ]
    assert format_regressions(find_regressions(new, new)).splitlines()[-1] == "No regression."


def told_more(**changes):
    """Samples of two processes that know everything but what is changed."""
    known = {
        "arena_bytes": 20_480,
        "cold_start": {"process_us": 50_000.0, "import_us": 30_000.0, "load_us": 900.0, "first_invoke_us": 400.0},
        "energy": {"source": "rapl:package-0+package-1", "joules": 2.0, "seconds": 0.5, "calls": 1000},
    }
    return tuple(replace(process, **{**known, **changes}) for process in processes(100.0, count=2, spread=0.0))


def lines_after_medians(*measurements):
    """The table of what is told besides the medians."""
    lines = format_result(BenchResult(PLAN, measurements, ())).splitlines()
    return lines[lines.index("") + 1 :]


def test_several_measurements_tell_start_memory_rate_and_energy():
    more = measured(name="more.tflite", processes=told_more())
    assert lines_after_medians(exact(100.0), more) == [
        "          start    load  first call   memory  calls/s  mJ/call",
        "  m              900 µs      400 µs  6.0 MiB   10,000",
        "  more  81.3 ms  900 µs      400 µs  6.0 MiB   10,000        2",
    ]


def test_energy_of_several_processes_is_of_all_their_calls():
    first, second = told_more()
    second = replace(second, energy={**second.energy, "joules": 10.0, "calls": 2000})
    text = describe(measured(processes=(first, second)))
    assert "4 mJ a call, 12 W" in text  # 12 J in 3000 calls and 1 s
    first = replace(first, energy={**first.energy, "joules": 1234.5, "calls": 1})
    assert "1,234,500 mJ a call, 2,469 W" in " ".join(describe(measured(processes=(first,))).split())


def test_rates_of_batches_stand_apart_from_rates_of_calls():
    single, batch = exact(100.0), exact(400.0, settings=Settings(batch=64))
    assert lines_after_medians(batch, batch)[0].split()[-1] == "inputs/s"
    header, *rows = lines_after_medians(single, batch)
    places = [header.index(name) + len(name) for name in ("calls/s", "inputs/s")]
    assert rows[0][: places[0]].endswith(" 10,000")
    assert len(rows[0]) == places[0]
    assert rows[1].endswith(" 160,000")
    assert len(rows[1]) == places[1]


def test_names_that_make_a_table_too_wide_stand_above_their_numbers():
    long = "human_activity_recognition_bidirectional_lstm"
    each = [measured(name=f"{long}_{part}.tflite", processes=told_more()) for part in ("float32", "dynamic_w8_a32")]
    assert lines_after_medians(*each) == [
        "      start    load  first call   memory  calls/s  mJ/call",
        f"  {long}_float32",
        "    81.3 ms  900 µs      400 µs  6.0 MiB   10,000        2",
        f"  {long}_dynamic_w8_a32",
        "    81.3 ms  900 µs      400 µs  6.0 MiB   10,000        2",
    ]


def test_the_median_of_one_process_has_no_confidence():
    alone = measured(processes=processes(100.0, count=1, spread=0.0))
    assert "  median      100 µs (one process), 10,000 calls/s" in describe(alone).splitlines()
    assert "100 µs (95% confidence 100 µs to 100 µs)" in describe(exact(100.0))
    assert "(one process)" in describe(summarized())
    assert "(95% confidence 99 µs to 101 µs)" in describe(summarized(count=2))


LSTM = {"name": "lstm", "operator": "LSTM", "calls": 20, "inferences": 20, "total_us": 9000.0}
LOOPED = {"name": "body/mul", "operator": "Mul", "calls": 480, "inferences": 20, "total_us": 1000.0}


def profiled(*operators, count=2, **changes):
    taken = tuple(replace(each, operators=list(operators)) for each in processes(100.0, count=count, spread=0.0))
    return measured(processes=taken, plan=PLAN.with_operators(True), **changes)


def test_operators_are_listed_by_their_time_in_one_inference():
    assert describe(profiled(LOOPED, LSTM)).splitlines()[-3:] == [
        "  operator      µs in one inference  share",
        "  LSTM lstm                   450.0    90%",
        "  Mul body/mul                 50.0    10%",
    ]
    old = {key: value for key, value in LOOPED.items() if key != "inferences"}
    assert describe(profiled(old)).splitlines()[-1].split() == ["Mul", "body/mul", "2.1", "100%"]


def test_times_by_operator_are_means_of_the_processes_that_tell():
    first, second = processes(100.0, count=2)
    taken = replace(first, operators=[LSTM]), replace(second, operators=[{**LSTM, "total_us": 3000.0}])
    assert operator_times(measured(processes=taken)) == [("LSTM lstm", 300.0, 1.0)]
    assert operator_times(measured(processes=(taken[0], second))) == [("LSTM lstm", 450.0, 1.0)]


def test_the_ten_operators_that_take_the_most_are_listed():
    many = [{**LSTM, "name": f"n{number}", "total_us": 100.0 * number} for number in range(1, 13)]
    listed = operator_times(profiled(*many))
    assert [name for name, _, _ in listed] == [f"LSTM n{number}" for number in range(12, 2, -1)]
    assert listed[0][2] == pytest.approx(12 / 78)  # of all, those that are not listed too


def test_long_names_of_operators_are_shortened_at_their_beginning():
    text = describe(profiled({**LSTM, "operator": "MatMul", "name": NODE}))
    assert "\n  MatMul …orward_lstm_cell_4/while/body/_42/MatMul_1  " in text
    assert NODE not in text


def test_several_measurements_list_their_operators_by_name():
    result = BenchResult(PLAN, (profiled(LSTM), profiled(LOOPED, name="n.tflite")), ())
    lines = format_result(result).splitlines()
    assert lines[lines.index("  m:") + 2].split()[:2] == ["LSTM", "lstm"]
    assert lines[lines.index("  n:") + 2].split()[:2] == ["Mul", "body/mul"]


def test_runtimes_that_tell_no_times_by_operator_are_named():
    silent = "no runtime here tells times by operator (ai-edge-litert)"
    assert f"  operators   {silent}" in describe(profiled()).splitlines()
    two = profiled(), profiled(name="n.tflite")
    assert f"  {silent}" in format_result(BenchResult(PLAN, two, ())).splitlines()
    mixed = profiled(), profiled(LSTM, runtime="onnxruntime")
    assert "  no times by operator from ai-edge-litert" in format_result(BenchResult(PLAN, mixed, ())).splitlines()
    assert "by operator" not in describe(exact(100.0))
    assert "by operator" not in describe(profiled(LSTM))
    assert "by operator" not in describe(emulated(10, plan=PLAN.with_operators(True)))


WIDE = {
    "runtime": "keras-tensorflow",
    "runtime_version": "3.15.1 (tensorflow 2.21.0)",
    "target": "ssh://pi@raspberrypi.local:2222",
    "settings": Settings(threads=4, batch=64, length=128, mode="graph", dtype="float16", delegate="lib/libedgelstm.so"),
    "machine": {"device": "Raspberry Pi 4 Model B Rev 1.4", "cpu": "Cortex-A72", "num_cores": 4},
    "warnings": ("The device throttled during the run: its supply voltage was too low. " * 3,),
    "plan": PLAN.with_operators(True),
}
NODE = "functional_1/bidirectional_2/forward_lstm_cell_4/while/body/_42/MatMul_1"


def wide_measurements():
    """Everything long that comes in practice, in all orders of magnitude."""
    rng = np.random.default_rng(0)
    made = []
    for number, median_us in enumerate([0.0123, 9.87, 123.0, 9_990.0, 987_654.0, 1.23e8]):
        taken = []
        for process in processes(median_us, count=1 + number % 3, spread=0.3, seed=number):
            peak = 40 * 2**20 + int(rng.integers(2**33))
            energy = {"source": "rapl:package-0+package-1", "joules": 1234.5, "seconds": 9.87, "calls": 7}
            operators = [{**LSTM, "name": NODE, "total_us": 20 * median_us}]
            cold = {name: 9e5 * (1 + rng.random()) for name in ("process_us", "import_us", "load_us")}
            known = {"peak_rss_bytes": peak, "arena_bytes": peak // 3, "energy": energy, "operators": operators}
            first = 7.77 * median_us
            taken.append(
                replace(process, **known, cold_start={**cold, "first_invoke_us": first}, first_invoke_us=first)
            )
        made.append(measured(processes=tuple(taken), name=f"activity_lstm_{number}.keras", **WIDE))
    return made


def width(text):
    return max(map(len, text.splitlines()))


@pytest.mark.parametrize("number", range(6))
def test_no_line_on_one_measurement_is_wider_than_80(number):
    measurement = wide_measurements()[number]
    assert width(describe(measurement)) <= 80
    assert width(describe(replace(measurement, processes=(), settings=Settings()))) <= 80


def test_no_line_on_several_measurements_is_wider_than_80():
    wide = wide_measurements()
    others = [replace(each, settings=Settings(threads=2), runtime="tflite-runtime") for each in wide]
    silent = [replace(each, processes=(), runtime="keras-jax") for each in wide]
    for several in (wide, wide + others, wide[:1] + silent, wide[::-1] + others[:2] + silent):
        text = format_result(BenchResult(PLAN, tuple(several), ()))
        assert width(text) <= 80
        assert text.count("activity_lstm_0") >= 2


def test_no_line_on_counts_and_estimates_is_wider_than_80():
    machine = {"device": "Raspberry Pi 4 Model B Rev 1.4 (Cortex-A72), 4 GiB, Raspberry Pi OS Bookworm 64 bit"}
    counted = emulated(123_456_789_012, machine=machine, runtime="tflite-runtime", settings=WIDE["settings"])
    estimate = estimated(123_456.0, machine=machine, settings=WIDE["settings"])
    parts = {f"multiply-accumulates of {name}": 1e5 for name in ("lstm_1", "lstm_2", "dense", "conv")}
    estimate = replace(estimate, estimate=replace(estimate.estimate, parts=parts, band="Nobody knows. " * 12))
    for each in (counted, estimate):
        assert width(describe(each)) <= 80
        assert width(format_result(BenchResult(PLAN, (each, replace(each, runtime="keras-tensorflow")), ()))) <= 80


def change(verdict, **changes):
    ratio = Ratio(*{"slower": (1.2, 1.1, 1.3), "unsure": (1.0, 0.8, 1.2)}.get(verdict, (1.0, 0.99, 1.01)))
    fields = {
        "artifact": "m.tflite",
        "target": "cpu",
        "runtime": "ai-edge-litert",
        "settings": "1 thread",
        "kind": "measured",
        "ratio": ratio,
        "verdict": verdict,
        "tolerance": 0.05,
    }
    return Change(**{**fields, **changes})


@pytest.mark.parametrize(
    "verdicts, missing, sentence",
    [
        (["same", "faster"], [], "No regression."),
        (["same", "unsure", "unsure"], [], "No regression, 2 unsure: measure longer (--plan full)."),
        (["slower", "same"], [], "1 of 2 slower beyond the noise."),
        (["same", "same"], ["a", "b"], "0 of 2 slower beyond the noise, 2 not measured any more."),
        (["unsure"], ["a"], "0 of 1 slower beyond the noise, 1 unsure, 1 not measured any more."),
        (
            ["slower", "unsure", "same", "unsure", "faster"],
            ["a"],
            "1 of 5 slower beyond the noise, 2 unsure, 1 not measured any more.",
        ),
        ([], ["a"], "1 not measured any more."),
    ],
)
def test_the_last_sentence_on_regressions_counts(verdicts, missing, sentence):
    report = RegressionReport(tuple(map(change, verdicts)), tuple(missing), ())
    assert format_regressions(report).splitlines()[-1] == sentence


def test_regressions_show_the_runtime_and_what_else_differs():
    changes = change("same"), change("slower", runtime="tflite-runtime")
    report = RegressionReport(changes, (), (), ("The processor differs: A, then B.",))
    assert format_regressions(report).splitlines() == [
        "                       target         runtime  new/old",
        "  m.tflite (1 thread)     cpu  tflite-runtime    1.200  1.100-1.300  slower",
        "  m.tflite (1 thread)     cpu  ai-edge-litert    1.000  0.990-1.010    same",
        "The processor differs: A, then B.",
        "1 of 2 slower beyond the noise.",
    ]


def test_regressions_that_are_too_wide_have_titles_above():
    wide = change("slower", target="ssh://pi@raspberrypi.local:2222", settings="4 threads")
    assert format_regressions(RegressionReport((wide,), (), ())).splitlines()[:3] == [
        "    new/old",
        "  m.tflite (4 threads), ssh://pi@raspberrypi.local:2222, ai-edge-litert",
        "      1.200  1.100-1.300  slower",
    ]


@pytest.mark.parametrize(
    "duration_us, text",
    [(0.1234, "0.123 µs"), (99.94, "99.9 µs"), (999.4, "999 µs"), (999.6, "1 ms"), (750_000, "750 ms"), (2e6, "2 s")],
)
def test_durations_have_a_unit_of_their_size(duration_us, text):
    assert format_us(duration_us) == text
