"""`edgelstm targets`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgelstm.cli.group import CommandGroup
from edgelstm.cli.options import FILE, json_option
from edgelstm.cli.output import print_json, working, wrapped


@click.group(cls=CommandGroup, invoke_without_command=True, short_help="List where models can be measured.")
@json_option
@click.pass_context
def targets(ctx: click.Context, as_json: bool) -> int:
    """List where models can be measured from here, and why not elsewhere.

    \b
    Examples:
      edgelstm targets
      edgelstm targets setup emulated:arm64
      edgelstm targets setup ssh://pi@raspberrypi
    """
    if ctx.invoked_subcommand:
        return 0
    with working():
        from edgelstm.targets import list_targets

        found = list_targets()
    if as_json:
        print_json([asdict(each) for each in found])
        return 0
    for each in found:
        mark = "+" if each.reachable else "-"
        for line in wrapped(each.text, "    ", f"{mark} {each.name}: "):
            click.echo(line)
    click.echo("\n+ can be used with edgelstm bench --target; - not now.")
    return 0


@targets.command(short_help="Prepare a target.")
@click.argument("target")
@click.option("--wheels", type=FILE, metavar="DIR", help="Install from these wheels, for a target without a network.")
@click.option("--runtime", default="auto", show_default=True, metavar="NAME", help="The runtime to install.")
@click.option("--download", is_flag=True, help="Fetch the wheels here, for a target without a network.")
@click.option("--again", is_flag=True, help="Start over where something is there already.")
def setup(target: str, wheels: Path | None, runtime: str, download: bool, again: bool) -> int:
    """Install what a target needs: a runtime on a board, a userland for the emulator.

    \b
    Examples:
      edgelstm targets setup emulated:arm64
      edgelstm targets setup ssh://pi@raspberrypi --wheels wheels/
    """
    with working() as report:
        from edgelstm.errors import SettingError
        from edgelstm.targets import set_up
        from edgelstm.targets.base import SetupOptions

        try:
            options = SetupOptions(wheels, runtime, again, {"download": "yes"} if download else {})
            done = set_up(target, options, report)
        except SettingError as error:
            raise click.UsageError(str(error)) from error
    click.echo(done)
    return 0
