"""A headless Chromium, found and started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_REMOVAL_TRIES, _REMOVAL_PAUSE_S = 40, 0.05

_MAX_PATH = 55  # of the folder for temporary files: Chromium adds a socket's name to it, and 107 characters is all

# A browser that is controlled by a pipe ends when the pipe does, so it does not outlive this process even if that is
# killed. It reads from file 3 and writes to file 4; nothing is said through either.
_LAUNCHER = ("/bin/sh", "-c", 'exec "$0" "$@" 3<&0 4>/dev/null </dev/null')

_OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--no-first-run",
    "--disable-breakpad",  # no crash reports
    # No name but this machine's: neither the page nor the browser itself reaches anything else.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
)


@dataclass(frozen=True)
class Browser:
    """A browser that runs.

    Attributes:
        process: The process, leader of a process group.
        notes: The file that its stderr goes to.
    """

    process: subprocess.Popen[bytes]
    notes: Path

    def last_words(self) -> str:
        """Returns why it ended: the last line on stderr that calls itself fatal, or the last one of all."""
        lines = [line.strip() for line in self.notes.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        fatal = [line.partition("] ")[2] or line for line in lines if ":FATAL:" in line]
        return [*(fatal or lines or ["no message"])][-1].rstrip(".")


def find_chromium() -> str | None:
    """Returns the command of the browser: that of the environment variable, or what is installed; None without one."""
    if named := os.environ.get(VARIABLE):
        return shutil.which(named)
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextlib.contextmanager
def open_browser(command: str, url: str) -> Iterator[Browser]:
    """Opens a page, and ends the browser with all its processes when the block is left; no file of it remains.

    A command that cannot be started ends like a browser that does, with its last words.
    """
    with _temporary_folder() as folder:
        notes = Path(folder, "notes")
        places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"), folder)
        with notes.open("wb") as stderr:
            process = subprocess.Popen(
                [*_LAUNCHER, command, *_OPTIONS, *_no_sandbox(), f"--user-data-dir={folder}/profile", url],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, **places},
                start_new_session=True,
            )
        try:
            yield Browser(process, notes)
        finally:
            # Its children as well, also where it has ended already: a process group lives as long as one of them does.
            # Only its crash handlers are outside; they end by themselves when what they watch is gone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str]:
    """Makes a folder that is gone afterwards, although processes that were just killed may still write into it."""
    parent = "/tmp" if len(tempfile.gettempdir()) > _MAX_PATH else None
    folder = tempfile.mkdtemp(prefix="edgelstm-web-", dir=parent)
    try:
        yield folder
    finally:
        for _ in range(_REMOVAL_TRIES):
            shutil.rmtree(folder, ignore_errors=True)
            if not Path(folder).exists():
                break
            time.sleep(_REMOVAL_PAUSE_S)


def _no_sandbox() -> tuple[str, ...]:
    # Chromium refuses to run as root with its sandbox, as the tests of most containers do.
    return ("--no-sandbox",) if os.geteuid() == 0 else ()
