"""Installs a runtime on a device, in a virtual environment of its own."""

from __future__ import annotations

import contextlib
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
from edgelstm.targets.remote.pythons import FOLDER, SYSTEM, VENV, RemotePython, check_version, find_pythons
from edgelstm.targets.remote.shell import Done, last_line, printable, read_number
from edgelstm.targets.ssh.wheels import OFFERS, Offer, choose_offer, download, download_command, fitting

VENV_TIMEOUT_S = 600.0
PIP_TIMEOUT_S = 1800.0
IMPORT_TIMEOUT_S = 120.0

_NEW = f"{VENV}.new"
"""Where an environment is built, to be moved. Only its Python is used, which finds its packages wherever it lies."""

_SCRIPT = Path(__file__).parent / "environment.sh"
_IN_THE_WAY = 90
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
            done = self._import(offer, VENV)
            if done.status == 0:
                return f"{self._name}: it is set up already: {self._versions(done)}."
        with ExitStack() as stack:
            wheels = self._wheels(offer, python, stack)
            versions = self._add(offer, python, wheels) if installed else self._build(offer, python, wheels)
        return f"{self._name}: installed {versions} for {python.text} on {python.machine}, in {VENV}."

    def _add(self, offer: Offer, python: RemotePython, wheels: list[Path] | None, venv: str = VENV) -> str:
        """Installs into an environment and returns the versions."""
        self._install(offer, python, wheels, venv)
        done = self._import(offer, venv)
        if done.status:
            raise TargetError(self._why_not_imported(offer, python, done))
        return self._versions(done)

    def _build(self, offer: Offer, python: RemotePython, wheels: list[Path] | None) -> str:
        """Makes a new environment; the one before stays until this one is complete. Returns the versions."""
        self._report(f"{self._name}: making a virtual environment")
        self._environment("prepare")
        try:
            self._make_environment(python)
            versions = self._add(offer, python, wheels, _NEW)
            self._environment("finish")
            self._environment("swap")
        except BaseException:
            with contextlib.suppress(TargetError):  # without a connection the next setup does it
                self._environment("drop")
            raise
        return versions

    def _environment(self, what: str) -> None:
        """Runs `environment.sh`."""
        script, folder = shlex.quote(_SCRIPT.read_text(encoding="utf-8")), FOLDER.removeprefix("~")
        done = self._run(["sh", "-c", f'exec sh -c {script} sh {what} "$HOME"{shlex.quote(folder)}'])
        if done.status == _IN_THE_WAY:
            raise TargetError(
                f"{self._name}: {last_line(done.output)} there was not made by edgelstm targets setup. Move it away, "
                "then set up again."
            )
        if done.status:
            raise self._failed("the environment cannot be completed there", done.notes)

    def _make_environment(self, python: RemotePython) -> None:
        shared = ("--system-site-packages",) if _shares_numpy(python) else ()
        words = shlex.join([python.command, "-m", "venv", *shared])
        done = self._line(words, _NEW, timeout_s=VENV_TIMEOUT_S)
        said = done.output + done.notes
        if done.status and re.search(r"ensurepip is not available|No module named '?(venv|ensurepip)", said):
            raise TargetError(
                f"{self._name}: Python there cannot make virtual environments. Install what it lacks there: "
                "sudo apt install python3-venv."
            )
        if done.status:
            raise self._failed("no virtual environment can be made there", said)

    def _install(self, offer: Offer, python: RemotePython, wheels: list[Path] | None, venv: str) -> None:
        source = () if wheels is None else ("--no-index", "--find-links", self._send(wheels))
        self._report(f"{self._name}: installing {offer.name}")
        words = shlex.join(("-m", "pip", "install", *_PIP_OPTIONS, *source, *offer.requirements))
        done = self._line("", f"{venv}/bin/python", words, timeout_s=PIP_TIMEOUT_S)
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

    def _import(self, offer: Offer, venv: str) -> Done:
        """Imports what is installed in an environment, and tells versions."""
        words = shlex.join(("-I", "-B", "-c", _IMPORT, offer.module, offer.requirements[0]))
        return self._line("", f"{venv}/bin/python", words, timeout_s=IMPORT_TIMEOUT_S)

    def _versions(self, done: Done) -> str:
        """Returns what an import told."""
        try:
            told = json.loads(last_line(done.output))
            return ", ".join(f"{printable(str(name))} {printable(str(version))}" for name, version in told.items())
        except (ValueError, AttributeError, RecursionError) as error:
            raise TargetError(
                f"{self._name}: the Python of {VENV} there answered nonsense. Set up anew: {self._command()} --again."
            ) from error

    def _why_not_imported(self, offer: Offer, python: RemotePython, done: Done) -> str:
        """Says why what was installed does not work, and what may."""
        reason = f"signal {-done.status}" if done.status < 0 else last_line(done.notes) or f"status {done.status}"
        others = [each.name for each in OFFERS.values() if each.name != offer.name and each.fits(python)]
        advice = f"Try another runtime: {self._command()} --runtime {others[0]}" if others else "Update its system"
        return f"{self._name}: {offer.name} was installed there, but cannot be imported: {reason}. {advice}."

    def _command(self) -> str:
        return f"edgelstm targets setup {self._name}"

    def _pip_failed(self, offer: Offer, python: RemotePython, done: Done, wheels: list[Path] | None) -> TargetError:
        """Puts into words why pip failed."""
        said = done.output + done.notes
        errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
        trouble = last_line(errors[-1] if errors else said).removeprefix("ERROR: ")
        fetch = f"{_how_to_fetch(offer, python)}; then: {self._command()} --wheels wheels"
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
        free_kib = read_number(self._place.shell.ask("free.sh"))
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
