"""`edgelstm compress` and `edgelstm stages`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgelstm.cli.options import FILE, json_option
from edgelstm.cli.output import aligned, print_json, print_warning, two_columns, working, wrapped
from edgelstm.errors import SettingError

_SIZES = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "kib": 1024.0, "mib": 1024.0**2}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def read_size(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Reads a size such as 100KB or 1.5MB, in bytes.

    Raises:
        click.BadParameter: If it is of another form.
    """
    return None if value is None else _quantity(value, _SIZES, "a size such as 100KB")


def read_time(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Reads a time such as 500us, 2ms or 30m, in seconds.

    Raises:
        click.BadParameter: If it is of another form.
    """
    return None if value is None else _quantity(value, _TIMES, "a time such as 2ms or 30m")


def _quantity(value: str, units: Mapping[str, float], form: str) -> float:
    number = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)\s*", value)
    if not number or number[2].lower() not in units or not float(number[1]):
        raise click.BadParameter(f"{value!r} is not {form}.")
    return float(number[1]) * units[number[2].lower()]


@click.command(short_help="Make a trained model smaller.")
@click.argument("model", type=FILE)
@click.option("--data", required=True, metavar="D", help="task:NAME, a folder of edgelstm train, an .npz file with y, "
              "or package.module:function.")  # fmt: skip
@click.option("--recipe", type=FILE, metavar="R.toml", help="The stages, and the precision of the file. Without one, "
              "a recipe is looked for.")  # fmt: skip
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder for the result.")
@click.option(
    "--max-drop",
    type=float,
    metavar="P",
    help="Points of the score that may be lost (percent, where it is an error), judged by examples kept for that. "
    "Without a recipe 0.5.",
)
@click.option("--max-size", metavar="SIZE", callback=read_size, help="Look for a file of at most so much: 100KB.")
@click.option("--max-latency", metavar="TIME", callback=read_time, help="Look for a file that is so fast: 2ms.")
@click.option("--time-budget", metavar="TIME", callback=read_time, help="Look no longer than this: 30m, the default.")
@click.option("--target", default="cpu", show_default=True, metavar="T", help="Where latency is measured.")
@click.option("--latency/--no-latency", default=True, help="Whether it is measured at all.")
@click.option("--restart", is_flag=True, help="Delete what an earlier compression left in DIR.")
@json_option
def compress(
    model: Path,
    recipe: Path | None,
    max_size: float | None,
    max_latency: float | None,
    time_budget: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Make MODEL smaller, by a recipe of stages or by one that is looked for, and report what each stage changed.

    The same command again goes on with a compression that was interrupted.

    \b
    Examples:
      edgelstm train text -o sentiment
      edgelstm compress sentiment/model.keras --data sentiment -o small
      edgelstm compress sentiment/model.keras --data sentiment -o small \\
        --max-size 20KB --time-budget 1h
      edgelstm compress sentiment/model.keras --data sentiment -o small \\
        --recipe mine.toml --max-drop 1
    """
    goals = _goals(max_size, max_latency, time_budget)
    if recipe is not None and goals is not None:
        raise click.UsageError("--max-size, --max-latency and --time-budget are for finding a recipe: leave out "
                               "--recipe.")  # fmt: skip
    if max_latency is not None and not options["latency"]:
        raise click.UsageError("--max-latency needs latency to be measured: leave out --no-latency.")
    with working() as report:
        from edgelstm.compression.recipe import read_recipe
        from edgelstm.compression.runner import compress as run

        try:
            read = read_recipe(recipe) if recipe else None
            done = run(model, recipe=read, goals=_limits(goals), progress=report, **options)
        except SettingError as error:
            raise click.UsageError(str(error)) from error
        except KeyboardInterrupt as error:
            how = str(error) or "interrupted: give the same command again to go on."
            raise KeyboardInterrupt(how + (" Leave out --restart then." if options["restart"] else "")) from error
    for note in [*done.notes, *(f"{step.name}: {note}" for step in done.steps for note in step.notes)]:
        print_warning(note)
    if as_json:
        steps = [step.to_json() for step in done.tried]
        print_json({"folder": str(done.folder), "score": done.score, "notes": list(done.notes), "steps": steps})
    else:
        click.echo(summary(done))
    return 0


def _goals(max_size: float | None, max_latency: float | None, time_budget: float | None) -> dict[str, float] | None:
    """What is looked for, by the names of `auto.Goals`; None if nothing was said."""
    given = {
        "max_size_bytes": max_size,
        "max_latency_us": None if max_latency is None else 1e6 * max_latency,
        "time_budget_s": time_budget,
    }
    return {name: value for name, value in given.items() if value is not None} or None


def _limits(goals: dict[str, float] | None) -> Any:
    from edgelstm.compression.auto import Goals

    return None if goals is None else Goals(**goals)


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
    from edgelstm.compression.report import caption, dropped_line, ratios, table_head, table_row

    rows = [table_head(done), *(table_row(step) for step in done.steps)]
    dropped = [line for step in done.dropped for line in wrapped(dropped_line(step), "    ", "  - ")]
    return "\n".join(
        [
            *aligned(rows, right=range(1, len(rows[0]))),
            "",
            ratios(done),
            "",
            *wrapped(caption(done), ""),
            "",
            *(["Tried and not kept:", *dropped, ""] if dropped else []),
            f"Written to {done.folder}:",
            *wrapped(", ".join(sorted(path.name for path in Path(done.folder).iterdir())), "  "),
            "",
            "Next:",
            f"  {shlex.join(['edgelstm', 'inspect', str(done.artifact.path)])}",
        ]
    )


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
