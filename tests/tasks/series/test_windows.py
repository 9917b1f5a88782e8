from __future__ import annotations

import json

import numpy as np
import pytest

from edgelstm.errors import DataError, LoadError, OutputError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Split
from edgelstm.tasks.series.reading import Series
from edgelstm.tasks.series.windows import (
    CALENDAR,
    INPUT,
    LOG_CHANGE,
    VALUE,
    Column,
    Scaler,
    calendar,
    choose_column,
    fit_column,
    split_rows,
    vary,
    window_ends,
    windows_at,
)

HOUR_S = 3600.0
# Saturday 2024-03-02, 06:00.
SATURDAY_S = 1709359200.0


@pytest.fixture
def scaler():
    columns = (Column("load", VALUE, 10, 4), Column("sin_day", CALENDAR), Column("p", LOG_CHANGE, -1, 0.5))
    return Scaler(columns, look_back=3, horizon=2, target="load", step_s=HOUR_S)


def setup_of(**settings):
    return load_task("forecast").setup(settings=settings)


def rows(count, seconds=None):
    values = np.arange(2.0 * count).reshape(count, 2)
    return Series(("a", "b"), values, seconds, is_calendar=seconds is not None)


def test_rows_are_split_by_time_into_70_15_and_15_percent():
    assert split_rows(200) == {"train": slice(0, 140), "validation": slice(140, 170), "test": slice(170, 200)}


def test_windows_and_the_rows_after_them_stay_within_their_part():
    ends = window_ends(rows(100), setup_of(look_back=4, horizon=3))
    for part, rows_of_part in split_rows(100).items():
        first, last = ends[part] - 3, ends[part] + 3
        assert first[0] == rows_of_part.start
        assert last[-1] == rows_of_part.stop - 1
        np.testing.assert_array_equal(np.diff(ends[part]), 1)


def test_windows_across_a_gap_are_left_out_if_asked_for():
    seconds = HOUR_S * np.arange(100)
    seconds[30:] += 5 * HOUR_S  # the gap lies between the rows 29 and 30
    series = rows(100, seconds)
    all_ends = window_ends(series, setup_of(look_back=4, horizon=3))["train"]
    ends = window_ends(series, setup_of(look_back=4, horizon=3, skip_gaps=True))["train"]
    # The last window before it reaches row 29 with its horizon, the first one after it begins with row 30.
    assert sorted(set(all_ends) - set(ends)) == list(range(27, 33))


def test_windows_end_only_where_they_may():
    is_usable = np.arange(100) % 2 == 0
    ends = window_ends(rows(100), setup_of(look_back=4, horizon=3), is_usable)
    assert (ends["test"] % 2 == 0).all()
    assert len(ends["train"]) == 32


@pytest.mark.parametrize("name", ["look_back", "horizon"])
def test_windows_of_no_length_are_refused(name):
    with pytest.raises(SettingError, match=f"The setting '{name}' must be at least 1, not 0"):
        window_ends(rows(100), setup_of(**{name: 0}))


def test_too_few_rows_are_refused_with_what_would_be_needed():
    message = (
        r"offline: the validation part, 15 of 100 rows, has fewer than 2 windows that can be used, and .* needs 16:"
    )
    with pytest.raises(DataError, match=message):
        window_ends(rows(100), setup_of(look_back=13, horizon=3))


def test_too_few_windows_because_of_gaps_are_refused_without_asking_for_shorter_ones():
    seconds = HOUR_S * (np.arange(100) + 10 * (np.arange(100) // 4))
    with pytest.raises(DataError, match=r"can be used: bring more rows, .* lower, or skip_gaps=false\."):
        window_ends(rows(100, seconds), setup_of(look_back=4, horizon=3, skip_gaps=True))


@pytest.mark.parametrize("ends", [np.array([2, 3, 4]), np.array([2, 5, 9])])
def test_a_window_holds_the_rows_up_to_its_end(ends):
    values = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    windows = windows_at(values, ends, 3)
    assert windows.shape == (3, 3, 4)
    for window, end in zip(windows, ends, strict=True):
        np.testing.assert_array_equal(window, values[end - 2 : end + 1])


def test_windows_that_follow_one_another_are_not_copied():
    values = np.zeros((1000, 2), np.float32)
    assert np.shares_memory(windows_at(values, np.arange(99, 1000), 100), values)


def test_numbers_are_scaled_to_mean_0_and_deviation_1_and_back(scaler):
    values = np.random.default_rng(0).normal(7, 3, (50, 1))
    column = fit_column("load", VALUE, values[:, 0])
    scaled = Scaler((column,), 1, 1, "load").scale(values)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0, 1], atol=1e-6)
    # Half a unit in the last place of a float32 below 4, times the scale of 3, is 7e-7.
    np.testing.assert_allclose(Scaler((column,), 1, 1, "load").unscale(scaled), values, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scaler.scale([[18, 0.5, 0]]), [[2, 0.5, 2]])
    np.testing.assert_allclose(scaler.unscale([[2], [-1]]), [[18], [6]])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_column_that_never_changes_is_not_stretched(value):
    assert fit_column("a", VALUE, np.full(100, value)).scale == 1


def test_answers_that_are_no_numbers_of_a_column_cannot_be_unscaled(scaler):
    with pytest.raises(ValueError, match="There is no column '' to turn answers into"):
        Scaler(scaler.columns, 3, 2).unscale([0.5])


def test_the_scaler_is_json_that_an_app_can_read_and_reads_back(scaler, tmp_path):
    path = tmp_path / "scaler.json"
    scaler.save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["columns"][0] == {"name": "load", "source": "value", "mean": 10, "scale": 4}
    assert {name: document[name] for name in ("look_back", "horizon", "target", "step_s")} == {
        "look_back": 3,
        "horizon": 2,
        "target": "load",
        "step_s": 3600,
    }
    assert Scaler.load(path) == scaler
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_said(scaler, tmp_path):
    with pytest.raises(OutputError, match=r"Cannot write .*No such file"):
        scaler.save(tmp_path / "missing" / "scaler.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"columns": [{"name": "a"}]}', '{"columns": 3}'])
def test_a_file_that_is_no_scaler_is_refused(content, tmp_path):
    path = tmp_path / "scaler.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LoadError, match=r"scaler\.json is no scaler"):
        Scaler.load(path)


def test_a_missing_scaler_is_said(tmp_path):
    with pytest.raises(LoadError, match=r"Cannot read the scaler .*No such file"):
        Scaler.load(tmp_path / "scaler.json")


def test_the_calendar_tells_the_time_of_day_and_of_the_week():
    dates = calendar(rows(48, SATURDAY_S + HOUR_S * np.arange(48)))
    assert list(dates) == ["sin_day", "cos_day", "sin_week", "cos_week"]
    # 06:00 is a quarter of the day, and five days and a quarter are three quarters of the week.
    angle = 2 * np.pi * 5.25 / 7
    np.testing.assert_allclose([dates[name][0] for name in dates], [1, 0, np.sin(angle), np.cos(angle)], atol=1e-9)
    np.testing.assert_allclose([dates["sin_day"][6], dates["cos_day"][6]], [0, -1], atol=1e-9)


@pytest.mark.parametrize("step_s, names", [(24 * HOUR_S, ["sin_week", "cos_week"]), (168 * HOUR_S, [])])
def test_the_calendar_leaves_out_what_does_not_change(step_s, names):
    assert list(calendar(rows(20, SATURDAY_S + step_s * np.arange(20)))) == names


def test_without_dates_there_is_no_calendar():
    assert calendar(rows(20)) == {}


def examples(count=64, look_back=10):
    x = np.random.default_rng(0).normal(size=(count, look_back, 2)).astype(np.float32)
    return Split({INPUT: x}, np.arange(count))


def test_by_default_windows_are_not_varied():
    given = examples()
    assert vary(given, np.random.default_rng(1), setup_of()).x[INPUT] is given.x[INPUT]


def test_jitter_adds_noise_of_its_strength_and_leaves_the_examples_alone():
    given, before = examples(500), examples(500)
    varied = vary(given, np.random.default_rng(1), setup_of(jitter=0.2)).x[INPUT]
    assert varied.dtype == np.float32
    assert (varied - given.x[INPUT]).std() == pytest.approx(0.2, rel=0.05)
    np.testing.assert_array_equal(given.x[INPUT], before.x[INPUT])


def test_a_cropped_window_begins_with_repeats_and_ends_as_before():
    given = examples()
    varied = vary(given, np.random.default_rng(1), setup_of(crop=0.4)).x[INPUT]
    hidden = set()
    for new, old in zip(varied, given.x[INPUT], strict=True):
        count = int(np.argmax((new == old).all(axis=1)))
        np.testing.assert_array_equal(new[:count], np.repeat(old[count : count + 1], count, axis=0))
        np.testing.assert_array_equal(new[count:], old[count:])
        hidden.add(count)
    assert hidden == {0, 1, 2, 3, 4}


def test_a_shifted_window_ends_some_steps_earlier():
    given = examples()
    varied = vary(given, np.random.default_rng(1), setup_of(), shift=2).x[INPUT]
    shifts = set()
    for new, old in zip(varied, given.x[INPUT], strict=True):
        (steps,) = (k for k in range(3) if (new[-1] == old[len(old) - 1 - k]).all())
        np.testing.assert_array_equal(new, old[np.maximum(np.arange(len(old)) - steps, 0)])
        shifts.add(steps)
    assert shifts == {0, 1, 2}


def test_the_same_generator_varies_alike():
    one, other = (vary(examples(), np.random.default_rng(3), setup_of(jitter=0.1, crop=0.5)) for _ in range(2))
    np.testing.assert_array_equal(one.x[INPUT], other.x[INPUT])
    assert one.y is not None


@pytest.mark.parametrize("settings, shift", [({"jitter": -1}, 0), ({"crop": 1}, 0), ({"crop": -0.1}, 0), ({}, 10)])
def test_variations_out_of_range_are_refused(settings, shift):
    with pytest.raises(SettingError, match="are out of range: jitter is at least 0"):
        vary(examples(), np.random.default_rng(0), setup_of(**settings), shift=shift)


def test_a_column_is_found_by_its_setting_its_usual_name_or_its_place(tmp_path):
    task, path = load_task("forecast"), tmp_path / "a.csv"
    path.write_text("x\n1\n", encoding="utf-8")
    series = Series(("Open", "Close"), np.zeros((3, 2)))
    own = task.setup(source=path)
    name, (note,) = choose_column(series, own, "target", ("close",))
    assert (name, note) == ("Close", "Column 'Close' was taken as target: set target for another one.")
    assert choose_column(series, own, "target")[0] == "Open"
    assert choose_column(series, task.setup(source=path, settings={"target": "Close"}), "target") == ("Close", ())
    with pytest.raises(DataError, match=r"has no column of numbers 'Low'\. Its columns of numbers are Open, Close"):
        choose_column(series, task.setup(source=path, settings={"target": "Low"}), "target")
