"""The group of commands: their order, the nearest name for a wrong one, the version."""

from __future__ import annotations

import difflib

import click


class CommandGroup(click.Group):
    """Lists commands in the order of work, not of the alphabet, and suggests the nearest for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order in which the commands were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the first argument names.

        Raises:
            click.UsageError: If there is none; the message names the nearest, or all.
        """
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.commands, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Commands: {', '.join(self.commands)}."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


def show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Prints the version and ends, if the option is there."""
    if value and not ctx.resilient_parsing:
        from edgelstm import __version__

        click.echo(f"edgelstm {__version__}")
        ctx.exit()
