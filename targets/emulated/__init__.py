"""Targets "emulated:arm64" and "emulated:armhf": Raspberry-Pi-class userlands under QEMU.

They prove that a model loads on Arm and answers there as it does here, and count the instructions of an inference,
which repeat from run to run. They never tell a latency.
"""

from __future__ import annotations

from edgelstm.errors import SettingError
from edgelstm.targets.base import Availability, Report, SetupOptions, Target, TargetKind
from edgelstm.targets.emulated.boards import BOARDS, DEFAULT_BOARDS
from edgelstm.targets.emulated.pins import ARCHITECTURES, QEMU

PREFIX = "emulated:"


def make_target(name: str) -> Target:
    """Makes a target of "emulated:arm64" or "emulated:arm64/pi5".

    Raises:
        SettingError: If there is no such architecture or board.
    """
    from edgelstm.targets.emulated.target import EmulatedTarget

    return EmulatedTarget(*_parse(name))


def _parse(name: str) -> tuple[str, str | None]:
    architecture, slash, board = name.removeprefix(PREFIX).partition("/")
    if architecture not in ARCHITECTURES:
        raise SettingError(f"Target {name!r} is not known, only {', '.join(PREFIX + each for each in ARCHITECTURES)}.")
    if slash and board not in BOARDS:
        raise SettingError(
            f"Target {name!r} is not known: boards are {', '.join(BOARDS)}, e.g. {PREFIX}{architecture}/pi4."
        )
    return architecture, board or None


def _available() -> list[Availability]:
    from edgelstm.targets.emulated.userland import why_not_usable

    found = []
    for name, architecture in ARCHITECTURES.items():
        obstacle, board = why_not_usable(name), BOARDS[DEFAULT_BOARDS[name]]
        others = ", /".join(other for other in BOARDS if other != board.name)
        text = (
            f"{board.model.partition(' Rev')[0]} emulated by QEMU {QEMU}, with {' and '.join(architecture.runtimes)}: "
            f"instruction counts, no latency. Other boards: {PREFIX}{name}/{others}."
        )
        found.append(Availability(f"{PREFIX}{name}", obstacle is None, text if obstacle is None else f"{obstacle}."))
    return found


def _set_up(name: str, options: SetupOptions, report: Report | None) -> str:
    from edgelstm.targets.emulated.userland import set_up, size_bytes

    architecture, _ = _parse(name)
    wheels = ARCHITECTURES[architecture].wheels
    if options.options:
        flags = ", ".join(f"--{option}" for option in options.options)
        raise SettingError(
            f"{name} takes no {flags}: that is for devices which are reached from here; this target is on this machine "
            "and always fetches what it needs. Leave it out, or name a folder of wheels with --wheels."
        )
    if options.runtime not in ("auto", *ARCHITECTURES[architecture].runtimes):
        raise SettingError(
            f"There is no {options.runtime} for {name}, only {', '.join(ARCHITECTURES[architecture].runtimes)}; "
            "all of them are installed."
        )
    folder = set_up(architecture, options, report)
    content = ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels)
    return f"{name} is ready: {content}, in {folder} ({size_bytes(folder) / 2**20:.0f} MiB)."


KIND = TargetKind(
    form=f"{PREFIX}{'|'.join(ARCHITECTURES)}[/board]",
    prefix=PREFIX,
    make=make_target,
    available=_available,
    setup=_set_up,
)
