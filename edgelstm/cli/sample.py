"""`edgelstm sample`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edgelstm.cli.options import FILE, POSITIVE, json_option
from edgelstm.cli.output import print_json, working


@click.command(short_help="Draw pictures with a converted file.")
@click.argument("folder", type=FILE, metavar="RUN")
@click.argument("file", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="F.png", help="The picture to write.")
@click.option("--count", type=POSITIVE, default=16, show_default=True, metavar="N", help="How many to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the chances.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="T",
    help="Below 1 prefers probable pixels, 0 takes the most probable ones.",
)
@json_option
def sample(folder: Path, file: Path, output: Path, count: int, seed: int, temperature: float, as_json: bool) -> int:
    """Draw pictures with FILE, pixel after pixel, and write them side by side into a PNG file.

    RUN is the folder of edgelstm train pixels, variant next or multiscale. FILE is its model, converted with
    --streaming: every pixel is one call. Neither Keras nor TensorFlow is needed.

    \b
    Examples:
      edgelstm convert digits/model.keras -o digits.tflite --streaming
      edgelstm sample digits digits.tflite -o samples.png --count 16 --seed 0
    """
    with working():
        from edgelstm.tasks.drawing.sampling import draw_samples

        start = time.monotonic()
        samples = draw_samples(folder, file, count=count, seed=seed, temperature=temperature)
        seconds = time.monotonic() - start
        samples.save(output)
    _, height, width = samples.images.shape
    num_steps = samples.values.shape[1]
    if as_json:
        figures = {"count": count, "height": height, "width": width, "steps": num_steps, "seconds": seconds}
        print_json({"picture": str(output), **figures})
    else:
        click.echo(f"Written to {output}: {count} pictures, {height} x {width} pixels, {num_steps} steps each.")
    return 0
