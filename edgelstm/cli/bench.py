"""`edgelstm bench`."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.cli.options import FILE, POSITIVE, json_option
from edgelstm.cli.output import print_json, working


@click.command(short_help="Time a .tflite file on this machine.")
@click.argument("file", type=FILE)
@click.option("--threads", type=POSITIVE, metavar="N", default=1, show_default=True, help="Threads of the runtime.")
@click.option(
    "--runtime",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="ai-edge-litert or tflite-runtime (auto: the first found), litert-compiled or tflite-micro.",
)
@click.option(
    "--plan",
    type=click.Choice(["quick", "full"]),
    default="full",
    show_default=True,
    help="How long to measure: quick for a first look.",
)
@json_option
def bench(file: Path, threads: int, runtime: str, plan: str, as_json: bool) -> int:
    """Time a .tflite file on this machine, in a process of its own.

    \b
    Example:
      edgelstm bench model.tflite --threads 2
    """
    with working() as report:
        from edgelstm.targets import cpu

        if report:
            report(f"Timing {file} …")
        measurement = cpu.bench(file, threads=threads, runtime=runtime, plan=plan)
    if as_json:
        print_json(measurement.to_json())
    else:
        click.echo(measurement.summary())
    return 0
