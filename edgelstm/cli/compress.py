"""`edgelstm compress` and `edgelstm stages`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from edgelstm.cli.options import FILE, json_option
from edgelstm.cli.output import aligned, print_json, print_warning, two_columns, working, wrapped
from edgelstm.errors import SettingError


@click.command(short_help="Make a trained model smaller by a recipe.")
@click.argument("model", type=FILE)
@click.option("--data", required=True, metavar="D", help="task:NAME, a folder of edgelstm train, an .npz file with y, "
              "or package.module:function.")  # fmt: skip
@click.option("--recipe", type=FILE, required=True, metavar="R.toml", help="The stages, and the precision of the file.")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder for the result.")
@click.option("--latency/--no-latency", default=True, help="Time each file on this machine.")
@click.option("--restart", is_flag=True, help="Delete what an earlier compression left in DIR.")
@json_option
def compress(model: Path, recipe: Path, as_json: bool, **options: Any) -> int:
    """Run the stages of a recipe on MODEL, export it, and report what each stage changed.

    The same command again goes on with a compression that was interrupted.

    \b
    Examples:
      edgelstm train text -o sentiment
      edgelstm compress sentiment/model.keras --data sentiment \\
        --recipe small.toml -o small
    """
    with working() as report:
        from edgelstm.compression.recipe import read_recipe
        from edgelstm.compression.runner import compress as run

        try:
            done = run(model, recipe=read_recipe(recipe), progress=report, **options)
        except SettingError as error:
            raise click.UsageError(str(error)) from error
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(str(error) or "interrupted: give the same command again to go on.") from error
    for step in done.steps:
        for note in step.notes:
            print_warning(f"{step.name}: {note}")
    if as_json:
        print_json({"folder": str(done.folder), "score": done.score, "steps": [step.to_json() for step in done.steps]})
    else:
        click.echo(summary(done))
    return 0


@click.command(short_help="List the stages of recipes.")
@click.argument("stage", required=False)
@json_option
def stages(stage: str | None, as_json: bool) -> int:
    """List all stages, or tell the settings of STAGE."""
    from edgelstm.converters.stages import STAGES, find_stage

    try:
        found = [find_stage(name) for name in ([stage] if stage else STAGES)]
    except SettingError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json(
            [
                {
                    "name": each.name,
                    "title": each.title,
                    "settings": {name: setting.default for name, setting in each.settings.items()},
                }
                for each in found
            ]
        )
    elif stage:
        click.echo(stage_text(found[0]))
    else:
        rows = {each.name: each.title for each in found}
        click.echo("\n".join([*two_columns(rows), "", "More about one: edgelstm stages STAGE"]))
    return 0


def stage_text(stage: Any) -> str:
    """Returns a stage with its settings as text, and a recipe to begin with."""
    rows = {f"{name} = {_toml(setting.default)}": setting.help for name, setting in stage.settings.items()}
    return "\n".join(
        [
            *wrapped(f"{stage.name}: {stage.title}.", ""),
            "",
            "Settings with their defaults:",
            *two_columns(rows),
            "",
            "In a recipe:",
            "  [[stage]]",
            f'  kind = "{stage.name}"',
        ]
    )


def summary(done: Any) -> str:
    """Returns what a finished compression prints: a line for each stage, and what came of it all."""
    rows: list[tuple[str, ...]] = [("", "weights", "kB", "gzip kB", "MACs", done.score.replace("_", " "), "95 %", "us")]
    rows += [_row(step.name, step.measures) for step in done.steps]
    before, after = done.reference, done.result
    macs = f", {before.macs / after.macs:.1f} times fewer MACs" if before.macs and after.macs else ""
    return "\n".join(
        [
            *aligned(rows, right=range(1, len(rows[0]))),
            "",
            f"{before.size_bytes / after.size_bytes:.1f} times smaller than the float32 file{macs}.",
            "",
            f"Written to {done.folder}:",
            *wrapped(", ".join(sorted(path.name for path in Path(done.folder).iterdir())), "  "),
            "",
            "Next:",
            f"  {shlex.join(['edgelstm', 'inspect', str(done.artifact.path)])}",
        ]
    )


def _row(name: str, measures: Any) -> tuple[str, ...]:
    low, high = measures.interval
    return (
        name,
        _count(measures.parameters),
        _kilobytes(measures.size_bytes),
        "-" if measures.gzip_bytes is None else _kilobytes(measures.gzip_bytes),
        "-" if measures.macs is None else _count(measures.macs),
        f"{measures.score:.4g}",
        f"{low:.3g}-{high:.3g}",
        "-" if measures.latency_us is None else f"{measures.latency_us:,.0f}",
    )


def _kilobytes(size_bytes: int) -> str:
    return f"{size_bytes / 1000:,.{0 if size_bytes >= 1_000_000 else 1}f}"


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1_000_000 else f"{number / 1e3:.1f} k"


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
