"""`edgelstm tune`."""

from __future__ import annotations

import shlex
import textwrap
from typing import Any

import click

from edgelstm.cli.options import FILE, POSITIVE, json_option
from edgelstm.cli.output import WIDTH, print_error, print_json, print_warning, working
from edgelstm.cli.train import read_settings, set_option
from edgelstm.errors import SettingError


@click.command(short_help="Search for good settings of a task.")
@click.argument("task")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder for the study and its pictures.")
@click.option("--trials", type=POSITIVE, default=20, show_default=True, metavar="N", help="Trials in all.")
@click.option("--variant", metavar="V", help="Architecture; the task's first one if not given.")
@click.option("--data", "source", metavar="D", help="Data: a name that the task knows, or a path of your own.")
@click.option("--epochs", type=POSITIVE, metavar="N", help="Passes over the training data in a trial, at most.")
@set_option
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="NAME=RANGE",
    callback=read_settings,
    help="Where to look: LOW:HIGH, LOW:HIGH:STEP, LOW:HIGH:log, or A,B,C. May be repeated; the task's own ranges if "
    "not given.",
)
@click.option(
    "--sampler", type=click.Choice(["tpe", "random", "grid"]), default="tpe", show_default=True, help="Who chooses."
)
@click.option("--no-prune", is_flag=True, help="Let hopeless trials run to their end.")
@click.option(
    "--storage",
    metavar="URL",
    envvar="EDGELSTM_STORAGE",
    show_envvar=True,
    help="Database that many machines share; a file in DIR if not given.",
)
@click.option("--study", "study_name", metavar="NAME", help="Name of the study in the database.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything random.")
@json_option
def tune(task: str, epochs: int | None, settings: dict[str, Any], no_prune: bool, as_json: bool, **options: Any) -> int:
    """Search for the settings of TASK with the lowest validation loss.

    The same command again goes on with a search that was interrupted. Give the same --storage on many machines and
    they share the work.

    \b
    Examples:
      edgelstm tune text -o search --trials 30
      edgelstm tune rows -o search --range units=32:256:32 --range dropout=0.1:0.5
    """
    if epochs is not None:
        settings = {**settings, "epochs": epochs}
    found, interruption = None, ""
    with working() as report:
        from edgelstm.tuning import search

        try:
            found = search.tune(task, settings=settings, prune=not no_prune, progress=report, **options)
        except SettingError as error:
            raise click.UsageError(str(error)) from error
        except KeyboardInterrupt as error:
            interruption = str(error) or "interrupted: give the same command again to go on."
    if found is None:  # click would drop what the interruption says
        from edgelstm.cli import INTERRUPTED

        print_error(interruption)
        return INTERRUPTED
    if found.num_failed:
        which = "The trial that failed did so" if found.num_failed == 1 else "The last trial that failed did so"
        print_warning(f"{which} for this reason: {found.last_error}")
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(search_summary(found, options["trials"]))
    return 0


def search_summary(found: Any, wanted: int) -> str:
    """Returns what a search prints.

    Args:
        found: What was found.
        wanted: The number of trials that was asked for.
    """
    lines = [_counts(found)]
    if found.num_combinations is not None and found.num_trials >= found.num_combinations:
        lines.append(f"All combinations were tried: {found.num_combinations}.")
    elif found.num_combinations is not None:
        lines.append(f"Tried {found.num_trials} of {found.num_combinations:,} combinations.")
    elif found.num_trials > wanted:
        lines.append(f"The study had more than {wanted} trials already.")
    width = max(map(len, found.settings))
    lines += ["", f"Lowest validation loss {found.loss:#.4g}, in trial {found.trial}:"]
    lines += [f"  {name:<{width}}  {value}" for name, value in found.settings.items()]
    lines += ["", "Train with these settings:", wrap_command(found.command)]
    files = f"Written to {found.folder}: {', '.join(found.files)}"
    lines += ["", textwrap.fill(files, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)]
    return "\n".join(lines)


def _counts(found: Any) -> str:
    counts = [
        f"{found.num_complete} complete",
        *([f"{found.num_pruned} ended early"] if found.num_pruned else []),
        *([f"{found.num_failed} failed"] if found.num_failed else []),
        *([f"{found.num_running} running in other processes"] if found.num_running else []),
    ]
    return f"{found.num_trials} {'trial' if found.num_trials == 1 else 'trials'}: {', '.join(counts)}."


def wrap_command(command: str) -> str:
    """Returns a command in lines that fit the terminal where its words allow it, and that a shell takes as one."""
    lines = ["  "]
    words = [shlex.quote(word) for word in shlex.split(command)]
    groups: list[str] = []
    for word in words:
        if groups and groups[-1].startswith("-") and " " not in groups[-1]:
            groups[-1] += f" {word}"  # an option stays with its value
        else:
            groups.append(word)
    for group in groups:
        if len(lines[-1]) + len(group) + 2 > WIDTH and lines[-1].strip():
            lines[-1] += "\\"
            lines.append("    ")
        lines[-1] += f"{group} "
    return "\n".join(line.rstrip() if line.endswith(" ") else line for line in lines)
