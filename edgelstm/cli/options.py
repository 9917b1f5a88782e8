"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from pathlib import Path

import click

FILE = click.Path(path_type=Path)
"""A file; whether it exists and what it holds is the library's question, answered with exit code 1."""

POSITIVE = click.IntRange(min=1)
"""A count of something."""


def check_classes(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Checks that each value has the form `package.module:Class`; whether it exists is found out on loading the model.

    Raises:
        click.BadParameter: If one has not.
    """
    for value in values:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", value):
            raise click.BadParameter(f"{value!r} is not of the form module:Class, e.g. my_layers:Attention.")
    return values


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")

custom_option = click.option(
    "--custom",
    multiple=True,
    metavar="MODULE:CLASS",
    callback=check_classes,
    help="A layer class of your own that the model needs; its code is run. May be repeated.",
)

weights_option = click.option(
    "--weights", type=FILE, metavar="W.h5", help="The weights, where MODEL is an architecture in a .json file."
)
