"""Where an artifact runs and is timed. `base` holds the contract, `worker` the program that most targets start."""

from __future__ import annotations

import difflib

from edgelstm.errors import SettingError
from edgelstm.targets import adb, cpu, emulated, gpu, profile, ssh
from edgelstm.targets.base import Availability, Report, SetupOptions, Target, TargetKind

KINDS: tuple[TargetKind, ...] = (cpu.KIND, gpu.KIND, ssh.KIND, adb.KIND, emulated.KIND, profile.KIND)
"""All kinds of targets, in the order in which people read them."""


def find_kind(name: str) -> TargetKind:
    """Finds the kind that a target's name belongs to.

    Raises:
        SettingError: If there is none.
    """
    for kind in KINDS:
        if name == kind.prefix or (kind.form != kind.prefix and name.startswith(kind.prefix)):
            return kind
    forms = [kind.form for kind in KINDS]
    close = difflib.get_close_matches(name, forms, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise SettingError(f"Target {name!r} is not known, only {', '.join(forms)}.{hint} edgelstm targets lists them.")


def find_target(name: str) -> Target:
    """Makes a target of its name.

    Args:
        name: As in `TargetKind.form`: "cpu", "ssh://pi@raspberrypi", "emulated:arm64", "profile:raspberry-pi-4".

    Raises:
        SettingError: If there is no such target.
    """
    return find_kind(name).make(name)


def list_targets() -> list[Availability]:
    """Lists what can be used from here, and why not the rest."""
    return [availability for kind in KINDS for availability in kind.available()]


def set_up(name: str, options: SetupOptions, report: Report | None = None) -> str:
    """Prepares a target.

    Args:
        name: Its name.
        options: How.
        report: Is told what is being done.

    Returns:
        What was done, in a sentence.

    Raises:
        SettingError: If there is no such target, or nothing to prepare for it.
        TargetError: If it cannot be prepared.
    """
    kind = find_kind(name)
    if kind.setup is None:
        others = ", ".join(other.form for other in KINDS if other.setup)
        raise SettingError(f"Target {name!r} needs no setup; only {others} do.")
    return kind.setup(name, options, report)
