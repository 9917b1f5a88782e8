from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgelstm.pages import plots
from edgelstm.targets.measurement import ProcessSamples
from tests.targets.made import estimated, measured, summarized

FORMULA = "cost$_{1$.tflite"


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn."""
    drawn = []
    write = plots._svg

    def keep(figure):
        drawn.append(figure)
        return write(figure)

    monkeypatch.setattr(plots, "_svg", keep)
    return drawn


def test_a_summary_is_drawn_from_its_statistics(figures):
    svg = plots.draw_distributions([("m", summarized(100.0)), ("n", summarized(300.0))])
    (axis,) = figures[0].axes
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axis.lines]
    assert lines[0] == ([80.0, 200.0], [0, 0])
    assert lines[1] == ([100.0, 100.0], [-0.36, 0.36])
    assert lines[2] == ([240.0, 600.0], [1, 1])
    boxes = [(box.get_x(), box.get_x() + box.get_width()) for box in axis.patches]
    assert boxes == [(100.0, 125.0), (300.0, 375.0)]
    assert "100 µs" in svg
    assert "each dot" not in svg


def test_a_box_holds_the_middle_of_the_samples(figures):
    process = ProcessSamples([1000 * value for value in range(1, 102)], [], 1.0, 1.0)
    plots.draw_distributions([("m", measured(processes=(process,)))])
    (axis,) = figures[0].axes
    (box,) = axis.patches
    np.testing.assert_allclose((box.get_x(), box.get_x() + box.get_width()), (11.0, 91.0), rtol=1e-12)
    assert len(axis.lines[0].get_xdata()) == 101
    assert axis.lines[1].get_xdata().tolist() == [51.0, 51.0]


def test_the_course_leaves_out_what_has_no_samples(figures):
    taken = measured(100.0)
    late = replace(taken, processes=(ProcessSamples([], [], 1.0, 1.0), *taken.processes))
    plots.draw_course([("none", summarized()), ("late", late)])
    (axis,) = figures[0].axes
    assert [text.get_text().strip() for text in axis.get_legend().get_texts()] == ["late"]
    assert len(axis.lines) == 2 * len(taken.processes)


@pytest.mark.parametrize(
    "draw",
    [
        lambda name: plots.draw_distributions([(name, measured())]),
        lambda name: plots.draw_course([(name, measured())]),
        lambda name: plots.draw_tradeoff([(name, estimated(10.0))]),
        lambda name: plots.draw_tradeoff([("m", replace(measured(), accuracy={"metric": name, "value": 0.5}))]),
        lambda name: plots.draw_scaling([(name, [(1, 2.0), (2, 1.0)])], "threads"),
        lambda name: plots.draw_bars([name], [1.0], "µs", str),
        lambda name: plots.draw_parts([name], [{"bytes": 1.0}], "µs"),
        lambda name: plots.draw_parts(["m"], [{name: 1.0}], "µs"),
    ],
)
def test_names_are_no_formulas(draw):
    assert FORMULA in draw(FORMULA)
    assert "_hidden" in draw("_hidden")


def test_long_names_go_on_below():
    name = "a_model_with_a_name, keras-tensorflow, 4 threads, batch 64, float16"
    svg = plots.draw_bars([name], [1.0], "µs", str)
    assert "a_model_with_a_name,<" in svg
    assert name not in svg


def test_a_legend_of_many_names_fits(figures):
    names = [f"model_{number}, keras-tensorflow, 4 threads, batch 64, float16" for number in range(14)]
    plots.draw_scaling([(name, [(1, 2.0), (2, 1.0)]) for name in names], "threads")
    (axis,) = figures[0].axes
    legend, whole = axis.get_legend().get_window_extent(), figures[0].bbox
    assert legend.y0 >= whole.y0
    assert legend.x1 <= whole.x1
    assert axis.get_window_extent().height > whole.height / 2


@pytest.mark.parametrize(
    "accuracy", [{}, {"metric": "accuracy"}, {"value": 0.5}, {"metric": "accuracy", "value": "high"}, {"data": "x"}]
)
def test_a_card_without_a_score_is_left_out(accuracy):
    bare = plots.draw_tradeoff([("m", measured())])
    assert plots.draw_tradeoff([("m", replace(measured(), accuracy=accuracy))]) == bare
    assert plots.draw_tradeoff([("m", replace(measured(), accuracy={"metric": "f1", "value": 1}))]) != bare


def test_an_interval_beside_the_median_is_drawn():
    odd = summarized(100.0)
    for ends in ({"p50_low_us": 101.0}, {"p50_high_us": 99.0}):
        plots.draw_tradeoff([("m", replace(odd, statistics=replace(odd.statistics, **ends)))])


def test_bars_of_nothing_are_drawn():
    assert "LSTM" in plots.draw_bars(["LSTM"], [0.0], "µs", str)
