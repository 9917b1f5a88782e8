from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from edgelstm.targets.records import read_record


@dataclass(frozen=True)
class Inner:
    number: float


@dataclass(frozen=True)
class Outer:
    kind: Literal["one", "two"]
    count: int
    name: str = "x"
    sure: bool = True
    maybe: int | None = None
    inner: Inner | None = None
    samples: list[int] = field(default_factory=list)
    texts: tuple[str, ...] = ()
    by_name: dict[str, float | None] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


WHOLE = {
    "kind": "two",
    "count": 3,
    "name": "n",
    "sure": False,
    "maybe": 4,
    "inner": {"number": 1},
    "samples": [1, 2],
    "texts": ["a"],
    "by_name": {"a": 1.5, "b": None},
    "free": {"a": [{}]},
}


def test_values_are_taken_as_they_are():
    assert read_record(Outer, WHOLE) == Outer(
        "two", 3, "n", False, 4, Inner(1), [1, 2], ("a",), {"a": 1.5, "b": None}, {"a": [{}]}
    )


def test_what_has_a_default_may_be_missing_and_what_is_unknown_is_left_out():
    assert read_record(Outer, {"kind": "one", "count": 1, "later": 5}) == Outer("one", 1)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "three"}, "kind cannot be 'three'"),
        ({"kind": ["one"]}, "kind cannot be"),
        ({"count": 1.5}, "count cannot be '1.5'"),
        ({"count": True}, "count cannot be 'True'"),
        ({"count": None}, "count cannot be 'None'"),
        ({"name": 5}, "name cannot be '5'"),
        ({"sure": 1}, "sure cannot be '1'"),
        ({"maybe": "4"}, "maybe cannot be '4'"),
        ({"inner": [1]}, "Inner is list, not an object"),
        ({"inner": {}}, "number is missing"),
        ({"inner": {"number": float("nan")}}, "number cannot be 'nan'"),
        ({"inner": {"number": float("inf")}}, "number cannot be 'inf'"),
        ({"samples": 5}, "samples cannot be '5'"),
        ({"samples": ["a"]}, "samples cannot be 'a'"),
        ({"texts": "abc"}, "texts cannot be 'abc'"),
        ({"by_name": []}, "by_name cannot be"),
        ({"by_name": {"a": "b"}}, "by_name cannot be 'b'"),
    ],
)
def test_a_value_of_another_type_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        read_record(Outer, {**WHOLE, **change})
