"""`edgelstm verify`."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.cli.options import FILE, custom_option, json_option, weights_option
from edgelstm.cli.output import print_error, print_json, working


@click.command(short_help="Compare a .tflite or .onnx file with its Keras model.")
@click.argument("model", type=FILE)
@click.argument("artifact", type=FILE)
@click.option("--data", type=FILE, metavar="F.npz", help="Inputs to compare on, one array for each input's name.")
@weights_option
@custom_option
@json_option
def verify(
    model: Path, artifact: Path, data: Path | None, weights: Path | None, custom: tuple[str, ...], as_json: bool
) -> int:
    """Compare the answers of a .tflite or .onnx file with those of its Keras model.

    MODEL is the Keras model, ARTIFACT the exported file. It runs in a process of its own, several calls in a row, on
    every runtime that it is for and that is installed. Ends with exit code 1 if they disagree.

    \b
    Example:
      edgelstm verify digits.keras digits.tflite --data test.npz
    """
    with working():
        from edgelstm import verifying

        report = verifying.verify(model, artifact, data=data, weights=weights, custom=custom)
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(report.summary())
    if not report.passed:
        print_error(f"{artifact} does not answer as {model} does.")
        return 1
    return 0
