from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError
from edgelstm.tasks.series.reading import read_series

# 2024-01-30, 00:00.
JANUARY_30_S = 1706572800
DAY_S = 86400


@pytest.fixture
def write(tmp_path):
    def write_file(*lines, encoding="utf-8"):
        path = tmp_path / "own.csv"
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return path

    return write_file


def test_numbers_come_in_the_order_of_time(write):
    series = read_series(write("date,load,wind", "2024-01-30,1,4", "2024-01-31,2.5,5", "2024-02-01,3,-6e1"))
    assert series.names == ("load", "wind")
    np.testing.assert_array_equal(series.values, [[1, 4], [2.5, 5], [3, -60]])
    np.testing.assert_array_equal(series.seconds, JANUARY_30_S + DAY_S * np.arange(3))
    assert (series.is_calendar, series.step_s, series.notes) == (True, DAY_S, ())


def test_unsorted_rows_are_sorted_and_it_is_said(write):
    series = read_series(write("date,load", "2024-02-01,3", "2024-01-30,1", "2024-01-31,2"))
    np.testing.assert_array_equal(series.values[:, 0], [1, 2, 3])
    assert series.notes == ("Rows were not in the order of their dates and were sorted.",)


@pytest.mark.parametrize(
    "dates",
    [
        ["30.01.2024", "31.01.2024", "01.02.2024"],
        ["1/30/2024", "1/31/2024", "2/1/2024"],
        ["30/01/2024", "31/01/2024", "01/02/2024"],
        ["2024/01/30", "2024/01/31", "2024/02/01"],
        ["2024-01-30 00:00", "2024-01-31 00:00", "2024-02-01 00:00"],
        ["2024-01-30T00:00:00Z", "2024-01-31T01:00:00+01:00", "2024-01-31T22:00:00-02:00"],
        ["20240130", "20240131", "20240201"],
        ["1706572800", "1706659200", "1706745600"],
        ["1706572800000", "1706659200000", "1706745600000"],
    ],
)
def test_dates_are_read_in_many_forms(write, dates):
    series = read_series(write("Date,load", *(f"{date},{row}" for row, date in enumerate(dates))))
    np.testing.assert_array_equal(series.seconds, JANUARY_30_S + DAY_S * np.arange(3))
    assert series.is_calendar
    assert series.notes == ()


@pytest.mark.parametrize(
    "dates, order",
    [(["01/02/2024", "02/02/2024", "03/02/2024"], "day"), (["02/01/2024", "02/02/2024", "02/03/2024"], "month")],
)
def test_days_and_months_are_told_apart_by_even_steps(write, dates, order):
    series = read_series(write("date,load", *(f"{date},{row}" for row, date in enumerate(dates))))
    np.testing.assert_array_equal(series.seconds, JANUARY_30_S + DAY_S * np.arange(2, 5))
    assert series.notes == (f"Dates in column 'date' could be read in two ways and were read with the {order} first.",)


def test_a_column_of_dates_is_found_by_its_content(write):
    series = read_series(write("load,messung", "1,2024-01-30", "2,2024-01-31"))
    assert (series.names, series.step_s) == (("load",), DAY_S)


def test_a_named_column_of_counted_steps_orders_rows_but_makes_no_calendar(write):
    series = read_series(write("cycle,load", "2,20", "1,10", "3,30"), date_column="cycle")
    np.testing.assert_array_equal(series.values[:, 0], [10, 20, 30])
    assert not series.is_calendar
    assert "Column 'cycle' holds no dates, so it counts steps." in series.notes


def test_without_dates_the_order_of_the_file_counts_and_it_is_said(write):
    series = read_series(write("load,wind", "3,1", "1,1"))
    np.testing.assert_array_equal(series.values[:, 0], [3, 1])
    assert (series.seconds, series.step_s) == (None, 0)
    assert series.notes == ("No column holds dates, so rows are taken in the order of the file.",)


def test_repeated_rows_count_once(write):
    series = read_series(write("date,load", "2024-01-31,2", "2024-01-30,1", "2024-01-31,2"))
    np.testing.assert_array_equal(series.values[:, 0], [1, 2])
    assert "1 row stood in the table twice and counted once." in series.notes


def test_two_rows_of_one_date_are_refused(write):
    path = write("date,load", "2024-01-31,2", "2024-01-30,1", "2024-01-31,3")
    with pytest.raises(
        DataError, match=r"2024-01-31 in column 'date' twice, in rows 1 and 3, with different values: give each"
    ):
        read_series(path)


@pytest.mark.parametrize("date, message", [("soon", "'soon' in row 2, column 'date'"), ("", "no date in row 2")])
def test_a_date_that_cannot_be_read_is_refused(write, date, message):
    with pytest.raises(DataError, match=message):
        read_series(write("date,load", "2024-01-30,1", f"{date},2", "2024-02-01,3"))


def test_short_gaps_in_numbers_take_the_last_one_and_it_is_said(write):
    series = read_series(write("date,a,b", "2024-01-30,1,7", "2024-01-31,,8", "2024-02-01,NA,9", "2024-02-02,4,9"))
    np.testing.assert_array_equal(series.column("a"), [1, 1, 1, 4])
    assert series.notes == ("2 missing numbers in column 'a' took the last one before.",)


@pytest.mark.parametrize(
    "numbers, message",
    [
        (["1", "", "", "4"], "2 missing numbers from row 2 on in column 'a'"),
        (["", "2", "3", "4"], "1 missing number from row 1 on in column 'a'"),
        (["1", "2", "", ""], "2 missing numbers from row 3 on in column 'a'"),
    ],
)
def test_longer_gaps_are_refused(write, numbers, message):
    path = write("a,b", *(f"{number},1" for number in numbers))
    with pytest.raises(DataError, match=message + ", and at most 1 after a known one are filled"):
        read_series(path, max_gap=1)


def test_rows_are_named_by_their_place_in_the_file(write):
    path = write("date,load", "2024-02-01,x", "2024-01-30,1", "2024-01-31,2")
    with pytest.raises(DataError, match="'x' in row 1, column 'load', where a number should be"):
        read_series(path)


def test_an_infinite_number_is_refused(write):
    with pytest.raises(DataError, match="'inf' in row 2, column 'load', where a number should be"):
        read_series(write("load,b", "1,1", "inf,1", "2,1"))


def test_columns_of_text_are_left_out_and_it_is_said(write):
    series = read_series(write("date,load,place,empty", "2024-01-30,1,here,", "2024-01-31,2,there,"))
    assert series.names == ("load",)
    assert series.notes == (
        "Column 'place' holds text and was left out.",
        "Column 'empty' holds nothing and was left out.",
    )


def test_a_table_without_numbers_is_refused(write):
    with pytest.raises(DataError, match="has no column of numbers beside date"):
        read_series(write("date,place", "2024-01-30,here", "2024-01-31,there"))


def test_decimal_commas_are_read(write):
    series = read_series(write("Datum;Last", "30.01.2024;1,5", "31.01.2024;-2"))
    np.testing.assert_array_equal(series.values[:, 0], [1.5, -2])
    assert series.notes == ("Column 'Last' writes decimals with a comma and was read so.",)


def test_another_encoding_is_read_and_it_is_said(write):
    series = read_series(write("date,Wärme", "2024-01-30,1", "2024-01-31,2", encoding="cp1252"))
    assert series.names == ("Wärme",)
    assert "is not in UTF-8 and was read as cp1252" in series.notes[0]


def test_uneven_times_are_said(write):
    series = read_series(write("date,a", "2024-01-01,1", "2024-01-02,2", "2024-01-03,3", "2024-01-08,4"))
    np.testing.assert_array_equal(series.follows_gap, [False, False, False, True])
    assert "1 time more than the usual step lies between two rows, at most 5 steps" in series.notes[0]


def test_columns_of_words_are_kept_as_they_are_in_the_order_of_time(write):
    path = write("date,a,state", "2024-01-31,2,broken", "2024-01-30,1,fine")
    series = read_series(path, words=["state"])
    assert series.words["state"].tolist() == ["fine", "broken"]
    assert series.names == ("a",)


def test_missing_columns_and_folders_are_said(write, tmp_path):
    path = write("date,load", "2024-01-30,1")
    with pytest.raises(DataError, match=r"has no column 'state'\. Its columns are date, load"):
        read_series(path, words=["state"])
    with pytest.raises(DataError, match="has no column 'when'"):
        read_series(path, date_column="when")
    with pytest.raises(DataError, match="is a folder: give the path of one CSV file"):
        read_series(tmp_path)
