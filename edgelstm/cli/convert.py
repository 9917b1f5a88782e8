"""`edgelstm convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgelstm.cli.options import FILE, POSITIVE, custom_option, json_option, weights_option
from edgelstm.cli.output import print_json, print_warning, working
from edgelstm.cli.summary import conversion_summary
from edgelstm.errors import SettingError

_PRECISIONS = ("float32", "float16", "dynamic", "int8")


def _layers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Splits NAME=PRECISION; whether there are such layers is the library's question.

    Raises:
        click.BadParameter: If a value has another form, or two values name one layer.
    """
    layers: dict[str, str] = {}
    for value in values:
        name, _equals, precision = value.rpartition("=")
        if not name or precision not in _PRECISIONS:
            raise click.BadParameter(
                f"{value!r} is not of the form NAME=PRECISION, e.g. lstm_1=float32, with a precision of "
                f"{', '.join(_PRECISIONS)}."
            )
        if name in layers:
            raise click.BadParameter(f"{name!r} is given twice.")
        layers[name] = precision
    return layers


_STAGES = {
    "shrink-embedding": click.option("--shrink-embedding", type=POSITIVE, metavar="RANK", help="Narrower embeddings."),
    "prune-units": click.option("--prune-units", type=float, metavar="SHARE", help="Remove so many units of LSTMs."),
    "factorize": click.option("--factorize", type=float, metavar="ENERGY", help="Kernels of low rank."),
    "distill": click.option("--distill", type=float, metavar="SHARE", help="Teach a student with so many units less."),
    "prune": click.option("--prune", type=float, metavar="SHARE", help="Make so many weights zero."),
    "cluster": click.option("--cluster", type=POSITIVE, metavar="N", help="Let weights share N values in a matrix."),
    "qat": click.option("--qat", type=POSITIVE, metavar="EPOCHS", help="Train for int8."),
}


def stage_options(command: Any) -> Any:
    """Adds a flag for each stage, and --data."""
    data = click.option("--data", metavar="D", help="What the stages learn from: task:NAME, a folder of edgelstm "
                        "train, an .npz file with y, or package.module:function.")  # fmt: skip
    for option in reversed([*_STAGES.values(), data]):
        command = option(command)
    return command


def _stages(options: dict[str, Any], data: str | None) -> list[dict[str, Any]]:
    """Takes the flags of stages out of the options; returns them as a recipe has them."""
    flags = {name: options.pop(name.replace("-", "_")) for name in _STAGES}
    if all(value is None for value in flags.values()):
        if data is not None:
            raise click.UsageError("--data is for stages such as --prune-units: add one, or leave it out.")
        return []
    from edgelstm.compression.staging import entries_of

    return entries_of(flags, trained=data is not None)


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
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="NAME=PRECISION",
    callback=_layers,
    help="Another precision for one layer: float32, float16 or dynamic. May be repeated.",
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
@click.option(
    "--strip-names",
    is_flag=True,
    help="Name only inputs, outputs and states in a .tflite file, which makes it smaller.",
)
@stage_options
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
def convert(
    model: Path,
    output: Path,
    data: str | None,
    no_verify: bool,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> int:
    """Turn a trained Keras model into a .tflite or .onnx file, or a SavedModel, and verify it.

    MODEL is a .keras or .h5 file of any Keras, a SavedModel folder, or an architecture in a .json file with --weights.
    Beside OUT.tflite stands its card, OUT.json: inputs, outputs, operators, parity with the Keras model. That of
    OUT.onnx is OUT.onnx.json.

    \b
    Examples:
      edgelstm convert digits.keras -o digits.tflite
      edgelstm convert digits.keras -o small.tflite --quantize dynamic
      edgelstm convert digits.keras -o browser.tflite --runtime web
      edgelstm convert digits/model.keras -o half.tflite --data digits \\
        --prune-units 0.5 --quantize int8
    """
    with working() as report:
        from edgelstm import conversion

        try:
            artifact = conversion.convert(
                model,
                output,
                stages=_stages(options, data),
                data=data,
                verify=not no_verify,
                timeout_s=timeout,
                progress=report,
                **options,
            )
        except SettingError as error:
            raise click.UsageError(str(error)) from error
    for warning in artifact.card["warnings"]:
        print_warning(warning)
    if as_json:
        print_json({"path": str(artifact.path), "card_path": str(artifact.card_path), "card": artifact.card})
    else:
        click.echo(conversion_summary(artifact))
    return 0
