"""`edgelstm inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.cli.options import FILE, json_option
from edgelstm.cli.output import print_json, working


@click.command(short_help="Say what is inside a .tflite file, and its traps.")
@click.argument("file", type=FILE)
@json_option
def inspect(file: Path, as_json: bool) -> int:
    """Say what is inside any .tflite file, whoever made it.

    Inputs, outputs, operators, LSTMs with their precision, whether state leaks from call to call, size by kind of
    tensor, and a warning for every known trap.

    \b
    Example:
      edgelstm inspect model.tflite
    """
    with working():
        from edgelstm.runtime import inspection

        found = inspection.inspect(file)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(inspection.format_text(found))
    return 0
