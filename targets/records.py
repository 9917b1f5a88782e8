"""Reads dataclasses out of JSON values that nobody vouches for."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def read_record(kind: type[T], document: Any) -> T:
    """Makes a dataclass of a JSON object; keys that it does not have are left out.

    Args:
        kind: The dataclass; its fields are numbers, texts, None, lists, tuples, dicts and such dataclasses.
        document: The object.

    Raises:
        ValueError: If a value is missing, or of another type than its field, or a number is not finite.
    """
    if not isinstance(document, dict):
        raise ValueError(f"{kind.__name__} is {type(document).__name__}, not an object")
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in document:
            values[field.name] = _read(hints[field.name], document[field.name], field.name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{field.name} is missing")
    return kind(**values)


def _read(hint: Any, value: Any, name: str) -> Any:
    """Returns a value as its type hint wants it.

    Raises:
        ValueError: If it is another.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None and type(None) in arguments else _read(_not_none(arguments, name), value, name)
    if dataclasses.is_dataclass(hint):
        return read_record(hint, value)  # type: ignore[arg-type]
    return _read_plain(hint, value, name) if origin is None else _read_generic(origin, arguments, value, name)


def _read_generic(origin: Any, arguments: tuple[Any, ...], value: Any, name: str) -> Any:
    if origin is typing.Literal:
        return _checked(isinstance(value, str) and value in arguments, value, name)
    if origin is dict:
        _checked(isinstance(value, dict), value, name)
        return {key: _read(arguments[1], item, name) for key, item in value.items()}
    _checked(isinstance(value, list), value, name)
    items = [_read(arguments[0], item, name) for item in value]
    return items if origin is list else tuple(items)


def _read_plain(hint: Any, value: Any, name: str) -> Any:
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        return _checked(is_number and math.isfinite(value), value, name)
    return hint(_checked(isinstance(value, bool if hint is bool else str), value, name))


def _not_none(arguments: tuple[Any, ...], name: str) -> Any:
    kinds = [argument for argument in arguments if argument is not type(None)]
    assert len(kinds) == 1, name
    return kinds[0]


def _checked(is_right: bool, value: Any, name: str) -> Any:
    if not is_right:
        raise ValueError(f"{name} cannot be {str(value)[:40]!r}")
    return value
