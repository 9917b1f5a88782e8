"""`edgelstm bench`."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edgelstm.cli.options import FILE, POSITIVE, json_option
from edgelstm.cli.output import print_error, print_json, working

PARTIAL = ".partial"
"""Ending of the file beside --output in which finished rounds are kept until all is measured."""


@click.command(short_help="Measure models: on this machine, a board, a phone, an emulator.")
@click.argument("files", nargs=-1, type=FILE, metavar="[FILE]...")
@click.option("--target", "targets", multiple=True, default=("cpu",), metavar="T", help="Where; cpu if not given.")
@click.option("--runtime", "runtimes", multiple=True, default=("auto",), metavar="NAME", help="Runtime; see above.")
@click.option("--threads", multiple=True, type=POSITIVE, default=(1,), metavar="N", help="Threads of the runtime.")
@click.option("--batch", "batches", multiple=True, type=POSITIVE, metavar="N", help="Inputs in one call.")
@click.option("--length", "lengths", multiple=True, type=POSITIVE, metavar="N", help="Time steps, where free.")
@click.option("--delegate", "delegates", multiple=True, metavar="PATH", help="External delegate, edgelstm or none.")
@click.option(
    "--mode", "modes", multiple=True, type=click.Choice(["jit", "graph", "eager"]), help="How Keras runs a model."
)
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(["float32", "float16"]), help="What Keras computes in."
)
@click.option(
    "--plan",
    type=click.Choice(["quick", "full"]),
    default="full",
    show_default=True,
    help="How long to measure: quick for a first look.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Seconds after which a process is stopped.",
)
@click.option("--operators", is_flag=True, help="Time by operator, where the runtime tells.")
@click.option("-o", "--output", type=FILE, metavar="F.json", help="Write all samples; an interrupted run goes on.")
@click.option("--html", type=FILE, metavar="F.html", help="Write one page with plots.")
@click.option(
    "--compare",
    "comparing",
    nargs=2,
    type=FILE,
    metavar="OLD NEW",
    help="Compare two outputs; exit 1 if NEW is slower.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="P",
    help="Percent of a latency that --compare allows.",
)
@json_option
def bench(
    files: tuple[Path, ...],
    comparing: tuple[Path, Path] | None,
    tolerance: float,
    as_json: bool,
    output: Path | None,
    html: Path | None,
    **options: Any,
) -> int:
    """Measure models on one target or several, all in one run, taking turns.

    A target is cpu, gpu, ssh://user@host, emulated:arm64, adb:SERIAL or profile:NAME; edgelstm targets lists what can
    be reached from here. Options that may be repeated are measured in every combination; --threads 1 --threads 2 shows
    how a model scales.

    Runtimes of .tflite files are ai-edge-litert, tflite-runtime, tensorflow-lite, litert-compiled and tflite-micro, of
    .onnx files onnxruntime and openvino, of .keras files keras-tensorflow, keras-jax and keras-torch, of .pt files
    pytorch; auto is the first that is there.

    \b
    Examples:
      edgelstm bench model.tflite --plan quick
      edgelstm bench a.tflite b.tflite --target cpu --target ssh://pi@raspberrypi
      edgelstm bench model.tflite --threads 1 --threads 2 -o a.json --html a.html
      edgelstm bench --compare a.json b.json
    """
    if comparing:
        if files or output or html:
            raise click.UsageError("--compare takes two outputs of earlier runs, no model files, -o or --html.")
        if not math.isfinite(tolerance):
            raise click.UsageError("--tolerance is a number of percent.")
        return _compare(comparing, tolerance / 100, as_json)
    if not files:
        raise click.UsageError("Give at least one model file.")
    return _measure(files, as_json, output, html, **options)


def _compare(outputs: tuple[Path, Path], tolerance: float, as_json: bool) -> int:
    from edgelstm.targets.documents import read_measurements
    from edgelstm.targets.regression import find_regressions
    from edgelstm.targets.regression_text import format_regressions

    old, new = map(read_measurements, outputs)
    report = find_regressions(old, new, tolerance)
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(format_regressions(report))
    return int(report.has_regression)


def _measure(
    files: tuple[Path, ...],
    as_json: bool,
    output: Path | None,
    html: Path | None,
    *,
    targets: tuple[str, ...],
    plan: str,
    operators: bool,
    timeout_s: float,
    **matrix: Any,
) -> int:
    with working() as report:
        from edgelstm import __version__
        from edgelstm.errors import SettingError
        from edgelstm.targets.bench import Matrix, bench_all
        from edgelstm.targets.documents import to_document, write_document
        from edgelstm.targets.plans import PLANS

        if html:
            from edgelstm.pages.bench import check_page, write_page

            check_page(html)
        ways: dict[str, Any] = {name: values or (None,) for name, values in matrix.items()}
        ways["delegates"] = tuple(map(_delegate_path, ways["delegates"]))
        journal = output and output.with_name(output.name + PARTIAL)
        try:
            result = bench_all(
                files,
                targets=targets,
                matrix=Matrix(**ways),
                plan=PLANS[plan].with_operators(operators),
                journal_path=journal,
                timeout_s=timeout_s,
                report=report,
            )
        except SettingError as error:
            raise click.UsageError(str(error)) from error
        except KeyboardInterrupt as error:
            how = f"interrupted: the same command goes on from {journal}." if journal else "interrupted."
            raise KeyboardInterrupt(how) from error
        command = ["edgelstm", *sys.argv[1:]]
        document = to_document(result, version=__version__, command=command)
        if output:
            write_document(output, document)
        if journal and not result.failures:
            journal.unlink(missing_ok=True)
        if html and result.measurements:
            write_page(html, result, command=shlex.join(command))
    if as_json:
        print_json(document)
    elif result.measurements:
        from edgelstm.targets.text import format_result

        click.echo(format_result(result))
    for failure in result.failures:
        print_error(f"{failure.target}: {failure.message.removeprefix(f'{failure.target}: ')}")
    return int(bool(result.failures))


def _delegate_path(name: str | None) -> str | None:
    """Returns the path of a delegate by what --delegate says of it."""
    if name == "edgelstm":
        from edgelstm.native import library_path

        return str(library_path())
    return None if name == "none" else name
