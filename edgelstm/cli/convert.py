"""`edgelstm convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgelstm.cli.options import FILE, POSITIVE, custom_option, json_option, weights_option
from edgelstm.cli.output import print_json, print_warning, working
from edgelstm.cli.summary import conversion_summary


@click.command(short_help="Turn a Keras model into a verified file for a device.")
@click.argument("model", type=FILE)
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="OUT",
    help="What to write: OUT.tflite, OUT.onnx, or OUT/ for a SavedModel.",
)
@click.option(
    "--runtime",
    type=click.Choice(["interpreter", "compiled", "web", "mediapipe", "micro"]),
    default="interpreter",
    show_default=True,
    help="What the file is for. compiled: LiteRT CompiledModel. web: LiteRT.js. micro: TensorFlow Lite Micro.",
)
@click.option(
    "--quantize",
    type=click.Choice(["float32", "float16", "dynamic", "int8"]),
    default="float32",
    show_default=True,
    help="float16: weights in half precision. dynamic: int8 weights. int8: all integer, needs --calibration.",
)
@click.option("--calibration", type=FILE, metavar="F.npz", help="Typical inputs, one array for each input's name.")
@click.option("--batch", type=POSITIVE, metavar="N", help="Samples in one call; 1 where the model leaves it open.")
@click.option("--length", type=POSITIVE, metavar="N", help="Time steps, where the model leaves them open.")
@click.option(
    "--streaming",
    is_flag=True,
    help="Keep the state from call to call; a call takes --length time steps, 1 if not given.",
)
@click.option(
    "--approximate-gates",
    is_flag=True,
    help="Compute hard sigmoid gates as sigmoids, which is faster; the difference is measured.",
)
@click.option(
    "--padding",
    type=click.Choice(["auto", "pre", "post", "none"]),
    default="auto",
    show_default=True,
    help="Where masked steps stand, if always there; auto is right for any mask.",
)
@click.option(
    "--io",
    type=click.Choice(["float", "int8"]),
    default="float",
    show_default=True,
    help="Inputs and outputs of an int8 model.",
)
@weights_option
@custom_option
@click.option("--no-verify", is_flag=True, help="Leave out the comparison with the Keras model.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of the native converter.",
)
@json_option
def convert(model: Path, output: Path, no_verify: bool, timeout: float, as_json: bool, **options: Any) -> int:
    """Turn a trained Keras model into a .tflite or .onnx file, or a SavedModel, and verify it.

    MODEL is a .keras or .h5 file of any Keras, a SavedModel folder, or an architecture in a .json file with --weights.
    Beside OUT.tflite stands its card, OUT.json: inputs, outputs, operators, parity with the Keras model. That of
    OUT.onnx is OUT.onnx.json.

    \b
    Examples:
      edgelstm convert digits.keras -o digits.tflite
      edgelstm convert digits.keras -o small.tflite --quantize dynamic
      edgelstm convert digits.keras -o browser.tflite --runtime web
    """
    with working() as report:
        from edgelstm import conversion

        artifact = conversion.convert(
            model, output, verify=not no_verify, timeout_s=timeout, progress=report, **options
        )
    for warning in artifact.card["warnings"]:
        print_warning(warning)
    if as_json:
        print_json({"path": str(artifact.path), "card_path": str(artifact.card_path), "card": artifact.card})
    else:
        click.echo(conversion_summary(artifact))
    return 0
