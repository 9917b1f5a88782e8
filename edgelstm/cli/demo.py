"""`edgelstm demo`."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.cli.options import FILE, json_option


@click.command(short_help="Train, convert, verify and time an example.")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder for what the demo writes.")
@json_option
def demo(output: Path, as_json: bool) -> int:
    """Train a small text classifier, convert it in every precision, verify and time each file, and print one table.

    Needs no network; takes a few minutes.
    """
    from edgelstm.demo import run_demo

    return run_demo(output, json_output=as_json)
