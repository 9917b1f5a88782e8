"""Target "ssh": a Raspberry Pi, or any Linux machine that OpenSSH reaches.

The user's own `ssh` does it, with the user's keys, agent, configuration and known hosts. Host keys are verified and
nothing is ever asked. What is put on the device lies in one private folder, which a script there removes when the
connection ends, whatever ends it; `edgelstm targets setup` alone leaves something there, a virtual environment.
`docs/devices.md` tells people how to use it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from edgelstm.targets.base import Availability, Report, SetupOptions, TargetKind
from edgelstm.targets.measurement import Kind
from edgelstm.targets.remote.guard import BEAT_S, WATCH_S
from edgelstm.targets.remote.place import RemotePlace
from edgelstm.targets.ssh.address import FORM, PREFIX, Address
from edgelstm.targets.ssh.setup import Setup
from edgelstm.targets.ssh.shell import SshShell
from edgelstm.targets.workers import WorkerTarget


class SshTarget(WorkerTarget):
    """Times models on a device that ssh reaches.

    Attributes:
        address: Where it is.
        timeout_s: Seconds after which a worker there is stopped.
        beat_s: Seconds between signs of life sent to it.
        watch_s: Seconds without one after which it cleans up by itself.
    """

    kind: Kind = "measured"
    is_here = False

    def __init__(self, name: str, *, timeout_s: float = 600.0, beat_s: float = BEAT_S, watch_s: int = WATCH_S) -> None:
        """Reads the name.

        Raises:
            SettingError: If it names no host.
        """
        self.name = name
        self.address = Address.parse(name)
        self.timeout_s = timeout_s
        self.beat_s = beat_s
        self.watch_s = watch_s

    @contextmanager
    def connect(self) -> Iterator[RemotePlace]:
        """Connects; leaving the context removes the folder there, also after an error.

        Raises:
            TargetError: If the device cannot be reached.
        """
        shell = SshShell(self.name, self.address)
        try:
            place = RemotePlace(shell, beat_s=self.beat_s, watch_s=self.watch_s)
            try:
                yield place
            finally:
                place.close()
        finally:
            shell.close()

    @contextmanager
    def open_place(self, report: Report | None) -> Iterator[RemotePlace]:
        """Connects and finds a Python; see `WorkerTarget.open_place`."""
        if report:
            report(f"{self.name}: connecting")
        with self.connect() as place:
            _ = place.python  # what is missing is said before anything is measured
            yield place


def _available() -> list[Availability]:
    if shutil.which("ssh") is None:
        return [Availability(FORM, False, "there is no ssh program here: sudo apt install openssh-client.")]
    return [Availability(FORM, True, "a Raspberry Pi or any Linux machine that your ssh reaches with a key.")]


def _setup(name: str, options: SetupOptions, report: Report | None) -> str:
    with SshTarget(name).connect() as place:
        return Setup(place, options, report).run()


KIND = TargetKind(form=FORM, prefix=PREFIX, make=SshTarget, available=_available, setup=_setup)
