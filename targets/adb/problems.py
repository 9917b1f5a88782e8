"""Which device adb reaches, and why not, in sentences that say what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.targets.remote.shell import last_line, read_text

LIST_TIMEOUT_S = 20
"""The first call of a day starts adb's server, which takes some seconds."""

INSTALL = "install it: sudo apt install adb, or the platform tools of the Android SDK, and set ANDROID_HOME"


@dataclass(frozen=True)
class Device:
    """A line of `adb devices -l`.

    Attributes:
        serial: What tells it from others.
        state: "device" if it can be used, else why not in adb's words: "unauthorized", "offline", "no permissions".
        model: Its model, empty if adb does not know.
    """

    serial: str
    state: str
    model: str = ""

    @property
    def problem(self) -> str | None:
        """Why it cannot be used and what to do, None if it can."""
        if self.state == "device":
            return None
        return (
            _STATES.get(self.state)
            or f"adb calls it {self.state!r}; it must have started up, with USB debugging switched on"
        )


_STATES = {
    "unauthorized": "it does not trust this computer yet. Unlock it and confirm 'Allow USB debugging'",
    "authorizing": "it is being asked to trust this computer. Unlock it and confirm 'Allow USB debugging'",
    "offline": "adb calls it offline. Plug it in anew, or: adb reconnect",
    "no permissions": "this user may not use it. Install the udev rules (sudo apt install "
    "android-sdk-platform-tools-common), then plug it in anew",
    "recovery": "it is in recovery mode. Start Android on it",
    "bootloader": "it is in its bootloader. Start Android on it",
    "sideload": "it waits for an update. Start Android on it",
}


def find_adb() -> str | None:
    """Returns the adb program: the one on PATH, else that of the Android SDK."""
    places = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    found = [
        shutil.which("adb"),
        *(shutil.which("adb", path=str(Path(each) / "platform-tools")) for each in places if each),
    ]
    return next(filter(None, found), None)


def list_devices(program: str) -> list[Device]:
    """Lists what adb sees.

    Raises:
        TargetError: If adb does not work.
    """
    try:
        done = subprocess.run([program, "devices", "-l"], capture_output=True, timeout=LIST_TIMEOUT_S, check=False)
        output = read_text(done.stdout)
        trouble = last_line(read_text(done.stderr)) or f"status {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    if trouble:
        raise TargetError(f"adb: its devices cannot be listed: {trouble}. Try: adb kill-server; adb devices.")
    lines = output.partition("List of devices attached")[2].splitlines()
    return [_read_line(line) for line in lines if line.strip() and not line.startswith("*")]


def _read_line(line: str) -> Device:
    serial, _, rest = line.strip().replace("\t", " ").partition(" ")
    rest = rest.strip()
    state = "no permissions" if rest.startswith("no permissions") else (rest.split() or ["unknown"])[0]
    model = re.search(r"\bmodel:(\S+)", rest)
    return Device(serial, state, model[1] if model else "")


def choose_device(name: str, serial: str, devices: list[Device]) -> Device:
    """Chooses the device of a target.

    Args:
        name: Of the target, for errors.
        serial: The one to use, empty for the only one.
        devices: Those that adb sees.

    Raises:
        TargetError: If there is none, it cannot be used, or several could be meant.
    """
    if serial:
        device = next((each for each in devices if each.serial == serial), None)
        if device is None:
            seen = ", ".join(each.serial for each in devices) or "none"
            raise TargetError(f"{name}: adb sees no such device, only {seen}. Plug it in, or: adb connect HOST:PORT.")
    elif not devices:
        raise TargetError(
            f"{name}: adb sees no device. Plug one in with USB debugging on (Settings, Developer options), or: "
            "adb connect HOST:PORT."
        )
    else:
        usable = [each for each in devices if each.problem is None]
        if len(usable) > 1 or (not usable and len(devices) > 1):
            names = ", ".join(f"adb:{each.serial}" for each in usable or devices)
            raise TargetError(f"{name}: there are {len(usable or devices)} devices. Name one: {names}.")
        device = (usable or devices)[0]
    if device.problem is not None:
        raise TargetError(f"{name}: device {device.serial}: {device.problem}.")
    return device
