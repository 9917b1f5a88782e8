from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgelstm.errors import MissingExtraError, OutputError
from edgelstm.pages import plots
from edgelstm.pages.bench import check_page, write_page
from edgelstm.targets.harness import BenchResult, Failure
from edgelstm.targets.subjects import Settings
from tests.targets.made import PLAN, emulated, estimated, measured, processes, summarized


@pytest.fixture
def page(tmp_path):
    """Writes a page of some measurements and returns its text."""

    def write(*measurements, failures=(), command="edgelstm bench m.tflite"):
        path = tmp_path / "page.html"
        write_page(path, BenchResult(PLAN, measurements, tuple(failures)), command=command)
        assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
        return path.read_text(encoding="utf-8")

    return write


@pytest.fixture
def curves(monkeypatch):
    """The scaling curves that are drawn, by the setting."""
    drawn = {}
    monkeypatch.setattr(plots, "draw_scaling", lambda series, setting: str(drawn.setdefault(setting, series)))
    return drawn


def exact(median_us: float, **changes):
    """A measurement without noise."""
    return measured(processes=processes(median_us, spread=0.0), **changes)


def text_of(page: str) -> str:
    """What a reader sees, without the plots."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(svg|style).*?</\1>", " ", page)))


def test_a_page_stands_alone(page):
    text = page(measured(100.0), measured(50.0, name="n.tflite", sha256="n"))
    assert text.count("<svg") == 3
    assert not re.search(r'(src|href)="(?!#)', re.sub(r'xlink:href="#[^"]*"', "", text))
    assert "<script" not in text


def test_each_target_has_its_section_and_says_what_its_numbers_are(page):
    text = text_of(page(measured(100.0), emulated(1_234_567), estimated(80.0)))
    assert "cpu measured Abacus" in text
    assert "emulated:arm64 emulated: instruction counts, no latency" in text
    assert "profile:raspberry-pi-4 estimated, not measured" in text
    assert "1,234,567" in text
    assert "40 µs to 160 µs" in text


def test_numbers_of_the_table_are_those_of_the_measurement(page):
    exact = measured(processes=processes(100.0, spread=0.0))
    slower = measured(name="n.tflite", processes=processes(250.0, spread=0.0))
    text = text_of(page(exact, slower))
    assert "m 4.9 100 µs 100 µs to 100 µs 100 µs 100 µs 100 µs 100 µs 180 1" in text
    assert "n 4.9 250 µs 250 µs to 250 µs 250 µs 250 µs 250 µs 250 µs 180 2.50" in text


def test_names_from_outside_are_text(page):
    evil = measured(name="<img src=x onerror=alert(1)>.tflite")
    failure = Failure("cpu", Path("<b>.tflite"), "1 thread", "<script>alert(2)</script>")
    text = page(evil, failures=[failure], command="edgelstm bench '<i>'")
    assert "<img" not in text
    assert "<script" not in text
    assert "<i>" not in text
    assert "&lt;script&gt;alert(2)" in text


def test_scaling_is_drawn_where_one_setting_differs(page):
    ways = [measured(100.0 / n, settings=Settings(threads=n)) for n in (1, 2, 4)]
    text = page(*ways)
    assert "Scaling over threads" in text
    assert "Scaling over batch" not in text
    assert "Scaling over" not in page(measured(100.0), measured(50.0, name="n.tflite", sha256="n"))
    assert "Scaling over batch" in page(*(estimated(10.0 * n, settings=Settings(batch=n)) for n in (1, 2)))


@pytest.mark.parametrize(
    "change",
    [
        {"settings": Settings(delegate="libx.so")},
        {"settings": Settings(mode="eager")},
        {"settings": Settings(dtype="float16")},
        {"settings": Settings(threads=2, delegate="libx.so")},
        {"settings": Settings(batch=8)},
        {"settings": Settings(threads=2, batch=8)},
        {"settings": Settings(threads=2), "runtime": "tflite-runtime"},
        {"settings": Settings(threads=2), "sha256": "other"},
        {"settings": Settings(threads=2), "artifact": Path("other/m.tflite")},
        {},
    ],
)
def test_what_differs_in_more_than_one_setting_is_no_curve(page, change):
    assert "Scaling over" not in page(measured(100.0), measured(50.0, **change))


def test_each_way_to_run_a_model_has_a_curve_of_its_own(page, curves):
    ways = [Settings(threads=n, delegate=path) for path in (None, "lib/libx.so") for n in (1, 2, 4)]
    times = [120.0, 70.0, 40.0, 60.0, 35.0, 20.0]
    page(*(exact(time, settings=way) for time, way in zip(times, ways, strict=True)))
    assert curves == {
        "threads": [
            ("m", [(1, 120.0), (2, 70.0), (4, 40.0)]),
            ("m, libx.so", [(1, 60.0), (2, 35.0), (4, 20.0)]),
        ]
    }


def test_curves_are_of_one_file_on_one_runtime(page, curves):
    made = [
        exact(10.0 * n * factor, settings=Settings(batch=n), name=name, sha256=name, runtime=runtime)
        for factor, name, runtime in [
            (1, "a/m.onnx", "onnxruntime"),
            (2, "a/m.onnx", "openvino"),
            (3, "b/m.onnx", "openvino"),
        ]
        for n in (1, 8)
    ]
    page(*made, exact(5.0, name="n.onnx", sha256="n", settings=Settings(batch=1)))
    assert curves == {
        "batch": [
            ("a/m, onnxruntime", [(1, 10.0), (8, 80.0)]),
            ("a/m, openvino", [(1, 20.0), (8, 160.0)]),
            ("b/m, openvino", [(1, 30.0), (8, 240.0)]),
        ]
    }


def test_what_was_measured_twice_is_no_curve(page):
    assert "Scaling over" not in page(exact(100.0), exact(101.0))


def test_size_against_latency_says_the_score(page):
    scored = replace(measured(100.0), accuracy={"metric": "accuracy", "value": 0.9876})
    text = page(scored, measured(50.0, name="n.tflite", sha256="n"))
    assert "accuracy 0.9876" in text


def test_operators_are_drawn(page):
    operators = [{"name": "lstm", "operator": "LSTM", "inferences": 10, "calls": 240, "total_us": 1230.0}]
    text = page(measured(processes=(replace(processes(100.0)[0], operators=operators),)))
    assert "Operators of m<" in text
    assert "LSTM lstm" in text
    assert ">123<" in text
    assert "µs in one inference" in text
    page(measured(processes=(replace(processes(100.0)[0], operators=[{**operators[0], "total_us": 0}]),)))


def test_runtimes_that_tell_no_times_by_operator_are_named(page):
    text = text_of(page(measured(plan=PLAN.with_operators(True))))
    assert "no runtime here tells times by operator (ai-edge-litert)" in text
    assert "by operator" not in page(measured())


def test_start_memory_rate_and_energy_are_told(page):
    energy = {"source": "rapl:package-0", "joules": 2.0, "seconds": 0.5, "calls": 1000}
    process = replace(processes(100.0, spread=0.0)[0], energy=energy)
    text = text_of(page(measured(processes=(process,)), exact(200.0, name="n.tflite")))
    assert " load first call memory calls/s mJ/call " in text
    assert " m 900 µs 400 µs 6.0 MiB 10,000 2 " in text
    assert " n 900 µs 400 µs 6.0 MiB 5,000 " in text
    assert "calls/s" not in page(emulated(10), estimated(10.0))


def test_the_median_of_one_process_has_no_confidence(page):
    assert "100 µs one process 100 µs" in text_of(page(measured(processes=processes(100.0, count=1, spread=0.0))))


def test_a_summary_without_single_calls_is_drawn(page):
    text = page(summarized(100.0), summarized(300.0, name="n.tflite", sha256="n"))
    assert "without dots only a summary is known" in text
    assert "In order" not in text
    assert "Size against latency" in text
    assert "without dots" not in page(measured())
    page(replace(summarized(), processes=()))
    both = page(measured(target="adb:SERIAL"), summarized(300.0, name="n.tflite"))
    assert "each dot a call" in both
    assert "without dots" in both
    assert "In order" in both


def test_what_failed_and_what_is_doubtful_is_said(page):
    failure = Failure("ssh://pi@board", Path("m.tflite"), "1 thread", "ssh://pi@board: no route.")
    text = text_of(page(replace(measured(100.0), warnings=("It was hot.",)), failures=[failure]))
    assert "m: It was hot." in text
    assert "m.tflite on ssh://pi@board: ssh://pi@board: no route." in text


def test_the_same_result_gives_the_same_bytes(page):
    first = page(measured(100.0), estimated(80.0))
    assert page(measured(100.0), estimated(80.0)) == first


def test_a_folder_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match="there is no folder"):
        check_page(tmp_path / "none" / "page.html")


def test_missing_matplotlib_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgelstm\[train\]"'):
        plots.check_plots()
