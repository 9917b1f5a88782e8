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
from tests.targets.made import PLAN, emulated, estimated, measured, processes


@pytest.fixture
def page(tmp_path):
    """Writes a page of some measurements and returns its text."""

    def write(*measurements, failures=(), command="edgelstm bench m.tflite"):
        path = tmp_path / "page.html"
        write_page(path, BenchResult(PLAN, measurements, tuple(failures)), command=command)
        assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
        return path.read_text(encoding="utf-8")

    return write


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


def test_size_against_latency_says_the_score(page):
    scored = replace(measured(100.0), accuracy={"metric": "accuracy", "value": 0.9876})
    text = page(scored, measured(50.0, name="n.tflite", sha256="n"))
    assert "accuracy 0.9876" in text


def test_operators_are_drawn(page):
    operators = [{"name": "lstm", "operator": "LSTM", "calls": 10, "total_us": 500.0}]
    text = page(measured(processes=(replace(processes(100.0)[0], operators=operators),)))
    assert "Operators of m<" in text
    assert "LSTM lstm" in text


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
