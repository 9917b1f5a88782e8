"""Small changes of a layer's settings, of which the table of rewrites is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgelstm.converters.loading.rewriting.base import Context, Layer

Change = Callable[[Layer, Context], None]


def rename(**names: str) -> Change:
    """Gives settings, named by their old names, their new names; a setting under its new name already stays."""

    def change(layer: Layer, _: Context) -> None:
        for old, new in names.items():
            if old in layer.settings:
                layer.settings.setdefault(new, layer.settings.pop(old))

    return change


def translate(name: str, values: Mapping[Any, Any]) -> Change:
    """Replaces values of one setting."""

    def change(layer: Layer, _: Context) -> None:
        value = layer.settings.get(name)
        if isinstance(value, (str, int, type(None))) and value in values and name in layer.settings:
            layer.settings[name] = values[value]

    return change


def default(**values: Any) -> Change:
    """Writes out settings that the file leaves to the defaults of the Keras that wrote it."""

    def change(layer: Layer, _: Context) -> None:
        for name, value in values.items():
            layer.settings.setdefault(name, value)

    return change


def drop(*names: str) -> Change:
    """Leaves out settings that do not change what a layer answers."""

    def change(layer: Layer, _: Context) -> None:
        for name in names:
            layer.settings.pop(name, None)

    return change


def drop_if(allowed: tuple[Any, ...], why: str, *names: str) -> Change:
    """Leaves out settings that have one of the allowed values, and refuses a layer with another.

    Args:
        allowed: Values that do not change what the layer answers.
        why: What is told otherwise: "the layer ... has NAME=VALUE, " and this.
        names: Names of the settings.
    """

    def change(layer: Layer, context: Context) -> None:
        for name in names:
            value = layer.settings.pop(name, allowed[0])
            if value not in allowed:
                raise context.refusal(layer.name, f"has {name}={value!r}, {why}")

    return change


def single(name: str) -> Change:
    """Takes the one element out of a list of one."""

    def change(layer: Layer, _: Context) -> None:
        value = layer.settings.get(name)
        if isinstance(value, list) and len(value) == 1:
            layer.settings[name] = value[0]

    return change


def become(class_name: str, **values: Any) -> Change:
    """Makes a layer one of another class, with settings that the old class did not have."""

    def change(layer: Layer, _: Context) -> None:
        layer.class_name = class_name
        layer.settings |= values

    return change
