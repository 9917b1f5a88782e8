from __future__ import annotations

import re

import pytest

from edgelstm.errors import DataError
from edgelstm.tasks.tables import read_csv, read_text, require_columns

ROWS = [("text", "label"), ("schön, gut", "ja"), ("für „alle“ €", "nein")]


def table_text(separator=","):
    return "\n".join(separator.join(f'"{cell}"' for cell in row) for row in ROWS) + "\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_and_separators_are_found(tmp_path, encoding, separator):
    path = tmp_path / "t.csv"
    path.write_bytes(table_text(separator).encode(encoding))
    table, notes = read_csv(path)
    assert [*table.columns] == ["text", "label"]
    assert table.to_numpy().tolist() == [list(row) for row in ROWS[1:]]
    assert bool(notes) == (encoding == "cp1252")
    assert all("is not in UTF-8 and was read as cp1252: save it in UTF-8" in note for note in notes)


def test_names_of_columns_lose_their_blanks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a , b\r\n1, x\r\n")
    table, _ = read_csv(path)
    assert [*table.columns] == ["a", "b"]
    assert table.to_numpy().tolist() == [[1, "x"]]


def test_bytes_that_no_encoding_knows_are_read_as_latin_1(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"a\x81b")
    assert read_text(path) == ("a\x81b", "latin-1")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"Cannot read the table .*t\.csv: No columns"),
        (b"a,b\n", r"The table .*t\.csv has no rows\."),
        (b"a,b\n1,2\n1,2,3\n", r"Cannot read the table .*t\.csv: .*line 3"),
        (b"PK\x03\x04\x00\x00", r"Cannot read .*t\.csv: it holds binary data, not text\."),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        read_csv(tmp_path / "t.csv")
    assert "\n" not in str(refused.value)


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(DataError, match=rf"Cannot read {re.escape(str(tmp_path))}: Is a directory\."):
        read_csv(tmp_path)
    with pytest.raises(DataError, match=r"Cannot read .*none\.csv: No such file or directory\."):
        read_csv(tmp_path / "none.csv")


def test_missing_columns_are_named_with_those_that_are_there(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(table_text())
    table, _ = read_csv(path)
    require_columns(table, path, ["label", "text"])
    with pytest.raises(DataError, match=r"has no column 'labels'\. Its columns are text, label\."):
        require_columns(table, path, ["text", "labels"])
