"""The user's adb program, as a way to run scripts on a device."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.targets.adb.problems import INSTALL, choose_device, find_adb, list_devices
from edgelstm.targets.remote.shell import Shell, last_line, read_text

TERMUX = "/data/data/com.termux/files/usr/bin/python3"
"""The Python of Termux, an app that brings a Linux userland to a phone. adb may start it only as root."""


class AdbShell(Shell):
    """Runs scripts by `adb shell`.

    Attributes:
        serial: Of the device.
    """

    folders = ("/data/local/tmp",)

    def __init__(self, name: str, serial: str, python: str | None) -> None:
        """Looks for the device.

        Raises:
            TargetError: If there is no adb, or the device cannot be used.
        """
        self.name = name
        program = find_adb()
        if program is None:
            raise TargetError(f"{name}: there is no adb program here; {INSTALL}.")
        self._program = program
        self.serial = choose_device(name, serial, list_devices(program)).serial
        self.pythons = (python,) if python else ("python3", TERMUX)

    def command(self, line: str, *, first: bool = False) -> list[str]:
        """Returns the adb command line; see `Shell.command`."""
        return [self._program, "-s", self.serial, "shell", "-T", line]

    def explain(self, notes: str) -> str:
        """Says why there was no connection; see `Shell.explain`."""
        said = last_line(notes)
        try:
            choose_device(self.name, self.serial, list_devices(self._program))
        except TargetError as error:
            return str(error)
        if "-T" in said or "unknown option" in said:
            return f"{self.name}: the device or adb is too old for this: Android 7 and adb 1.0.36 are needed."
        return (
            f"{self.name}: adb shell does not work{f' ({said})' if said else ''}. Try: adb -s {self.serial} shell ls."
        )

    def how_to_set_up(self, runtime: str | None = None) -> str:
        """Says which ways there are; see `Shell.how_to_set_up`."""
        if runtime is not None:
            return "Name a Python there that has it by EDGELSTM_ANDROID_PYTHON"
        return (
            "Name the native tool by EDGELSTM_ANDROID_BENCHMARK=/path/to/benchmark_model, or a Python there that has "
            "numpy and a runtime by EDGELSTM_ANDROID_PYTHON"
        )

    def send(self, path: Path, destination: str, timeout_s: float) -> bool:
        """Copies a file by `adb push`; see `Shell.send`."""
        # Absolute, so that its name is not taken for an option.
        command = [self._program, "-s", self.serial, "push", str(path.absolute()), destination]
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
        except OSError as error:
            raise TargetError(self.cannot_start(error)) from error
        if done.returncode:
            reason = last_line(read_text(done.stderr + done.stdout)).removeprefix("adb: error: ")
            raise TargetError(
                f"{self.name}: {path.name} ({path.stat().st_size:,} bytes) cannot be written to "
                f"{destination.rpartition('/')[0]}: {reason}. Free some space there, and check that it is plugged in."
            )
        return True
