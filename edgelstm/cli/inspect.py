"""`edgelstm inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.cli.options import FILE, json_option
from edgelstm.cli.output import WIDTH, print_json, print_warning, working


@click.command(short_help="Say what is inside a .tflite file, and where it runs.")
@click.argument("file", type=FILE)
@click.option("--run", is_flag=True, help="Run it, too, on every runtime that is installed here. Only files you trust.")
@json_option
def inspect(file: Path, run: bool, as_json: bool) -> int:
    """Say what is inside any .tflite file, whoever made it, and where it runs.

    Inputs, outputs, operators, LSTMs with their precision, whether state leaks from call to call, size by kind of
    tensor, a warning for every known trap; and for every runtime whether it loads the file and answers rightly on every
    call, why not, and how that is known. The file is not run unless --run is given.

    \b
    Examples:
      edgelstm inspect model.tflite
      edgelstm inspect model.tflite --run
    """
    with working():
        from edgelstm.runtime import support

        found = support.examine(file, run=run)
    for contradiction in found.contradictions:
        print_warning(contradiction)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.to_text(WIDTH))
    return 0
