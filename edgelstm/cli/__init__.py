"""The command line: parses, calls the library, prints, and returns the exit code.

Exit codes: 0 the job is done, 1 it could not be done, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import click

from edgelstm.cli.bench import bench
from edgelstm.cli.compress import compress, stages
from edgelstm.cli.convert import convert
from edgelstm.cli.demo import demo
from edgelstm.cli.group import CommandGroup, show_version
from edgelstm.cli.inspect import inspect
from edgelstm.cli.output import print_error
from edgelstm.cli.sample import sample
from edgelstm.cli.targets import targets
from edgelstm.cli.train import evaluate, tasks, train
from edgelstm.cli.tune import tune
from edgelstm.cli.verify import verify
from edgelstm.errors import EdgeLSTMError

INTERRUPTED = 130
"""What a shell reports for a program that SIGINT ended: 128 + 2."""


@dataclass
class Settings:
    """What stands before the command: whether errors come with their traceback."""

    traceback: bool = False


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command has its own help, e.g. edgelstm convert --help.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show the version."
)
@click.option("--traceback", is_flag=True, help="Show where in the program an error came from.")
@click.pass_obj
def edgelstm(settings: Settings, traceback: bool) -> None:
    """Keras LSTMs on devices: trained, converted, verified, inspected and timed."""
    settings.traceback = traceback


for command in (tasks, train, tune, evaluate, sample, stages, compress, convert, verify, inspect, bench, targets, demo):
    edgelstm.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    # TensorFlow reads this when it is first imported: its notices about the machine are not about the user's job.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    settings = Settings()
    try:
        code = edgelstm.main(
            None if argv is None else list(argv), prog_name="edgelstm", standalone_mode=False, obj=settings
        )
    except (click.Abort, KeyboardInterrupt) as error:
        print_error(str(error.__cause__ or error) or "interrupted.")  # click aborts because of what was raised
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        print_error(_usage_message(error))
        return error.exit_code
    except Exception as error:
        if settings.traceback:
            traceback.print_exc()
        print_error(_message(error))
        return 1
    return int(code or 0)


def _usage_message(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "edgelstm"
    message = error.format_message().strip()
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} See '{path} --help'."


def _message(error: Exception) -> str:
    if isinstance(error, EdgeLSTMError):
        return str(error)
    if isinstance(error, click.ClickException):
        return error.format_message()
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:299] + "…"
    return f"unexpected {type(error).__name__}: {text} (To see where: edgelstm --traceback COMMAND …)"
