"""`edgelstm train`, `edgelstm tasks` and `edgelstm evaluate`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgelstm.cli.options import FILE, POSITIVE, json_option
from edgelstm.cli.output import WIDTH, print_json, print_warning, two_columns, working, wrapped
from edgelstm.errors import SettingError

_FIGURE_WIDTH, _LEAST_ROOM = 7, 20


def read_settings(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Reads values of the form name=value.

    Raises:
        click.BadParameter: If one is of another form.
    """
    settings = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals or not text:
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE, e.g. units=32.")
        settings[name] = text
    return settings


set_option = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", callback=read_settings, help="A setting. May be repeated."
)


@click.command(short_help="Train a model for a task.")
@click.argument("task")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder for the model and its files.")
@click.option("--variant", metavar="V", help="Architecture; the task's first one if not given.")
@click.option("--data", "source", metavar="D", help="Data: a name that the task knows, or a path of your own.")
@click.option("--epochs", type=POSITIVE, metavar="N", help="Passes over the training data, at most.")
@set_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything random.")
@click.option("--restart", is_flag=True, help="Delete what an earlier training left in DIR.")
@json_option
def train(task: str, epochs: int | None, settings: dict[str, Any], restart: bool, as_json: bool, **options: Any) -> int:
    """Train one architecture for a task; write the model and all that belongs to it into DIR.

    TASK is one of those that edgelstm tasks lists. The same command again goes on with a training that was interrupted.

    \b
    Examples:
      edgelstm train text -o sentiment
      edgelstm train rows -o digits --epochs 20 --set units=32
      edgelstm convert sentiment/model.keras -o sentiment.tflite
    """
    if epochs is not None:
        settings = {**settings, "epochs": epochs}
    with working() as report:
        from edgelstm.training import runs

        try:
            run = runs.train(task, settings=settings, progress=report, restart=restart, **options)
        except SettingError as error:
            raise click.UsageError(str(error)) from error
        except KeyboardInterrupt as error:
            how = str(error) or "interrupted: give the same command again to go on."
            raise KeyboardInterrupt(how + (" Leave out --restart then." if restart else "")) from error
    metrics = run.metrics
    for note in metrics["notes"]:
        print_warning(note)
    if as_json:
        print_json({"folder": str(run.folder), **metrics})
    else:
        click.echo(training_summary(run.folder, metrics))
    return 0


@click.command(short_help="List the tasks that can be trained.")
@click.argument("task", required=False)
@json_option
def tasks(task: str | None, as_json: bool) -> int:
    """List all tasks, or tell everything about TASK: its variants, data and settings."""
    from edgelstm.tasks import TASKS, load_task

    try:
        found = [load_task(name) for name in ([task] if task else TASKS)]
    except SettingError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        print_json([describe_task(each) for each in found])
    elif task:
        click.echo(task_text(found[0]))
    else:
        rows = {each.name: f"{each.title} ({', '.join(each.variants)})" for each in found}
        click.echo("\n".join([*two_columns(rows), "", "More about one: edgelstm tasks TASK"]))
    return 0


@click.command(short_help="Score a converted file on a training's test data.")
@click.argument("folder", type=FILE)
@click.argument("files", type=FILE, nargs=-1)
@json_option
def evaluate(folder: Path, files: tuple[Path, ...], as_json: bool) -> int:
    """Score FILES (.tflite or .keras) on the test data of the training in FOLDER, next to its own model.

    The main figure is noted in the card of each .tflite file, where edgelstm bench --html finds it.

    \b
    Example:
      edgelstm evaluate sentiment sentiment.tflite
    """
    with working() as report:
        from edgelstm.artifact import note_accuracy
        from edgelstm.training.evaluation import evaluate as score
        from edgelstm.training.runs import open_run

        run = open_run(folder)
        scores = {}
        for file in (run.model_path, *files):
            if report:
                report(f"scoring {file}")
            scores[str(file)] = score(run, file)
        main = run.task.objective.main
        for file in files:
            if file.suffix == ".tflite":
                note = {"metric": main, "value": scores[str(file)][main], "data": f"test split of {run.task.name}"}
                note_accuracy(file, note)
    if as_json:
        print_json({"main": run.task.objective.main, "scores": scores})
    else:
        click.echo(score_table(scores))
    return 0


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Returns one line for each file or way to answer, its figures below their names; a long name has its own line.

    Args:
        scores: Figures by name, by what has them; not all need have the same.
    """
    names = list(dict.fromkeys(name for figures in scores.values() for name in figures))
    widths = [max(len(name), _FIGURE_WIDTH) + 2 for name in names]
    room = max(WIDTH - sum(widths), _LEAST_ROOM)
    width = min(max(map(len, scores)), room)
    lines = [" " * width + "".join(f"{name:>{size}}" for name, size in zip(names, widths, strict=True))]
    for label, figures in scores.items():
        cells = [f"{figures[name]:.4f}" if name in figures else "-" for name in names]
        row = "".join(f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
        lines += [label, " " * width + row] if len(label) > width else [f"{label:<{width}}{row}"]
    return "\n".join(lines)


def training_summary(folder: Path, metrics: Mapping[str, Any]) -> str:
    """Returns what a finished training prints."""
    training, counts = metrics["training"], metrics["num_examples"]
    model = folder / "model.keras"
    files = ", ".join(sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")))
    lines = [
        f"{metrics['task']}, variant {metrics['variant']}: {metrics['num_parameters']:,} parameters, trained in "
        f"{_duration(training['seconds'])}",
        f"on {counts['train']:,} examples, best after {training['best_epoch']} of {training['epochs']} epochs by the "
        f"loss on {counts['validation']:,} others.",
        "",
        score_table({f"{counts['test']:,} test examples": metrics["test"], **metrics["baselines"]}),
        "",
        f"Written to {folder}:",
        *wrapped(files, "  "),
        "",
        "Next:",
        f"  {shlex.join(['edgelstm', 'convert', str(model), '-o', f'{folder}.tflite'])}",
    ]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def describe_task(task: Any) -> dict[str, Any]:
    """Returns a task as JSON values."""
    from edgelstm.tasks.settings import TRAINING

    return {
        "name": task.name,
        "title": task.title,
        "variants": {name: variant.title for name, variant in task.variants.items()},
        "sources": dict(task.sources),
        "reads": task.reads,
        "settings": {**TRAINING, **task.defaults, **task.training},
        "score": task.objective.main,
    }


def task_text(task: Any) -> str:
    """Returns everything about a task as text."""
    from edgelstm.tasks.settings import EXPLANATIONS

    described = describe_task(task)
    sources = described["sources"] | ({"PATH": task.reads} if task.reads else {})
    settings = described["settings"]
    own = {name: value for name, value in settings.items() if name in task.defaults}
    lines = [*wrapped(f"{task.name}: {task.title}; scored by {described['score'].replace('_', ' ')}.", "")]
    lines += ["", "Variants (--variant), the first one if none is given:", *two_columns(described["variants"])]
    lines += ["", "Data (--data), the first one if none is given:", *two_columns(sources)]
    lines += ["", "Settings of the data and the model (--set NAME=VALUE) with their defaults:"]
    lines += wrapped("  ".join(f"{name}={value}" for name, value in own.items()), "  ")
    lines += ["", "Settings of the training with their defaults:"]
    lines += two_columns({f"{name}={settings[name]}": text for name, text in EXPLANATIONS.items()})
    return "\n".join(lines)
