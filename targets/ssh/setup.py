"""Installs a runtime on a device, in a virtual environment of its own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.targets.base import Report, SetupOptions
from edgelstm.targets.remote.place import RemotePlace
from edgelstm.targets.remote.pythons import SYSTEM, VENV, RemotePython, check_version, find_pythons
from edgelstm.targets.remote.shell import Done, last_line
from edgelstm.targets.ssh.wheels import Offer, choose_offer, download, download_command, fitting

VENV_TIMEOUT_S = 600.0
PIP_TIMEOUT_S = 1800.0
IMPORT_TIMEOUT_S = 120.0

_FULL_KIB = 20_000

_PIP_OPTIONS = (
    "--quiet",
    "--disable-pip-version-check",
    "--no-input",
    "--no-cache-dir",
    "--only-binary=:all:",  # building numpy takes a Raspberry Pi hours
    *("--retries", "1", "--timeout", "20"),
)
_NO_NETWORK = re.compile(
    r"(Failed to establish a new connection|NewConnectionError|name resolution|Name or service not known|"
    r"Network is unreachable|ConnectTimeoutError|Max retries exceeded|Could not fetch URL)"
)
_IMPORT = """
import importlib, importlib.metadata as m, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps({name: m.version(name) for name in (sys.argv[2], "numpy")}))
"""


class Setup:
    """One installation on one device.

    Args:
        place: The device.
        options: How.
        report: Is told what is being done.
    """

    def __init__(self, place: RemotePlace, options: SetupOptions, report: Report | None) -> None:
        self._place = place
        self._name = place.shell.name
        self._options = options
        self._report = report or (lambda text: None)

    def run(self) -> str:
        """Installs what is missing and returns what is there now, in a sentence.

        Raises:
            SettingError: If the runtime cannot be installed on any device.
            TargetError: If it cannot be installed on this one.
        """
        self._report(f"{self._name}: looking at its Pythons")
        shell = self._place.shell
        pythons = find_pythons(shell, SYSTEM, all_of_them=True)
        check_version(shell, pythons)
        installed = [] if self._options.again else find_pythons(shell, (f"{VENV}/bin/python",), all_of_them=True)
        installed = [python for python in installed if python.is_usable]
        offer, python = choose_offer(self._name, self._options.runtime, installed or pythons)
        if installed and offer.module.partition(".")[0] in python.packages:
            versions = self._try(offer)
            if versions:
                return f"{self._name}: it is set up already: {versions}."
        with ExitStack() as stack:
            wheels = self._wheels(offer, python, stack)
            try:
                if not installed:
                    self._make_environment(python)
                self._install(offer, python, wheels)
                versions = self._try(offer)
                if versions is None:
                    raise TargetError(f"{self._name}: {offer.name} was installed there, but cannot be imported.")
            except TargetError:
                if not installed:  # half of one would only take space
                    self._line("rm -rf", VENV)
                raise
        done = self._line("echo '{}' >", f"{VENV}/edgelstm.json")
        if done.status:
            raise self._failed("the environment cannot be completed there", done.notes)
        return f"{self._name}: installed {versions} for {python.text} on {python.machine}, in {VENV}."

    def _make_environment(self, python: RemotePython) -> None:
        self._report(f"{self._name}: making a virtual environment")
        self._line("rm -rf", VENV)
        shared = ("--system-site-packages",) if _shares_numpy(python) else ()
        words = shlex.join([*python.command, "-m", "venv", *shared])
        done = self._line(words, VENV, timeout_s=VENV_TIMEOUT_S)
        said = done.output + done.notes
        if done.status and re.search(r"ensurepip is not available|No module named '?(venv|ensurepip)", said):
            raise TargetError(
                f"{self._name}: Python there cannot make virtual environments. Install what it lacks there: "
                "sudo apt install python3-venv."
            )
        if done.status:
            raise self._failed("no virtual environment can be made there", said)

    def _install(self, offer: Offer, python: RemotePython, wheels: list[Path] | None) -> None:
        source = () if wheels is None else ("--no-index", "--find-links", self._send(wheels))
        self._report(f"{self._name}: installing {offer.name}")
        words = shlex.join(("-m", "pip", "install", *_PIP_OPTIONS, *source, *offer.requirements))
        done = self._line("", f"{VENV}/bin/python", words, timeout_s=PIP_TIMEOUT_S)
        if done.status != 0:
            raise self._pip_failed(offer, python, done, wheels)

    def _wheels(self, offer: Offer, python: RemotePython, stack: ExitStack) -> list[Path] | None:
        """Returns the wheels to send along, None if the device shall fetch them itself."""
        folder = self._options.wheels
        if folder is None and self._options.options.get("download"):
            self._report(f"{self._name}: fetching the wheels for it")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgelstm-")))
            download(self._name, python, folder, _wanted(offer, python))
        if folder is None:
            return None
        if not folder.is_dir():
            raise TargetError(f"{folder}: is no folder. Name the folder that the wheels are in.")
        wheels = fitting(folder, python.machine)
        if not wheels:
            raise TargetError(
                f"{folder}: has no wheels for {python.machine}. Fetch them here: {_how_to_fetch(offer, python)}."
            )
        return wheels

    def _send(self, wheels: list[Path]) -> str:
        """Sends wheels and returns the folder they are in there, under the names that pip knows."""
        destination = f"{self._place.folder}/wheels"
        self._run(["mkdir", "-p", destination])
        for wheel in wheels:
            self._report(f"{self._name}: sending {wheel.name}")
            sent = self._place.send(wheel)
            self._run(["mv", sent, f"{destination}/{wheel.name}"])
        return destination

    def _try(self, offer: Offer) -> str | None:
        """Returns the versions of what is installed, None if it cannot be imported."""
        words = shlex.join(("-I", "-B", "-c", _IMPORT, offer.module, offer.requirements[0]))
        done = self._line("", f"{VENV}/bin/python", words, timeout_s=IMPORT_TIMEOUT_S)
        if done.status != 0:
            return None
        return ", ".join(f"{name} {version}" for name, version in json.loads(done.output.splitlines()[-1]).items())

    def _pip_failed(self, offer: Offer, python: RemotePython, done: Done, wheels: list[Path] | None) -> TargetError:
        """Puts into words why pip failed."""
        said = done.output + done.notes
        errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
        trouble = last_line(errors[-1] if errors else said).removeprefix("ERROR: ")
        fetch = f"{_how_to_fetch(offer, python)}; then: edgelstm targets setup {self._name} --wheels wheels"
        if wheels is None and _NO_NETWORK.search(said):
            return TargetError(f"{self._name}: it cannot reach the package index. Fetch the wheels here: {fetch}.")
        if "No matching distribution" not in said:
            return self._failed(f"{offer.name} cannot be installed there", errors[-1] if errors else said, said)
        if "numpy" in trouble and python.machine == "armv7l":
            return TargetError(
                f"{self._name}: there is no numpy for it ({trouble}). Install the system's own there, then set up "
                "again, with --again: sudo apt install python3-numpy."
            )
        where = f"{wheels[0].parent} lacks a wheel" if wheels else "the package index it asks has no wheel"
        return TargetError(f"{self._name}: {where} ({trouble}). Fetch all that are needed here: {fetch}.")

    def _failed(self, what: str, reason: str, said: str = "") -> TargetError:
        free_kib = int(self._place.shell.ask("free.sh").strip() or 0)
        # venv does not show what pip said when it failed.
        if free_kib < _FULL_KIB or re.search(r"No space left on device|Disk quota exceeded|Errno 28", said or reason):
            return TargetError(
                f"{self._name}: {what}: its disk is full, {free_kib:,} KiB are free. A runtime takes up to 150 MB."
            )
        reason = last_line(reason).removeprefix("ERROR: ") or "no reason was given"
        return TargetError(f"{self._name}: {what}: {reason}.")

    def _line(self, words: str, path: str, more: str = "", *, timeout_s: float = 60.0) -> Done:
        """Runs words, a path that begins with ~, and more words as a line of shell."""
        line = f'{words} "$HOME"{shlex.quote(path.removeprefix("~"))} {more}'
        return self._run(["sh", "-c", line.strip()], timeout_s=timeout_s)

    def _run(self, command: list[str], *, timeout_s: float = 60.0) -> Done:
        try:
            return self._place.run(command, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TargetError(
                f"{self._name}: a step of the setup took longer than {timeout_s:g} s and was stopped. Set up again."
            ) from error


def _shares_numpy(python: RemotePython) -> bool:
    """Says whether to use the system's numpy: the package index has none of 32 bits; runtimes were built for 1.x."""
    return python.machine == "armv7l" and python.numpy is not None and python.numpy.startswith("1.")


def _wanted(offer: Offer, python: RemotePython) -> list[str]:
    """Returns the requirements that wheels are needed for."""
    shared = _shares_numpy(python)
    return [each for each in offer.requirements if not (shared and each.startswith("numpy"))]


def _how_to_fetch(offer: Offer, python: RemotePython) -> str:
    return shlex.join(download_command(python, "wheels", _wanted(offer, python)))
