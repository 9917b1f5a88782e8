"""The folder on a device, which lives as long as the connection."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time

from edgelstm.errors import TargetError
from edgelstm.targets.remote.exchange import MARK, MOST_NOTES, check_length, end_group, has_ended
from edgelstm.targets.remote.shell import Shell, read_text

START_TIMEOUT_S = 90.0
END_TIMEOUT_S = 15.0
PATIENCE_S = 2.0
"""Seconds in which the local program may end by itself."""

BEAT_S = 10.0
WATCH_S = 30
"""Seconds between signs of life, and between looks for them there. Both cost the device next to nothing."""


class Guard:
    """A script on the device that makes a folder, and removes it and ends what runs in it when the connection ends.

    Attributes:
        folder: Path of the folder there.
    """

    def __init__(self, shell: Shell, *, beat_s: float = BEAT_S, watch_s: int = WATCH_S) -> None:
        """Connects.

        Raises:
            TargetError: If the device cannot be reached, or no folder can be made there.
        """
        self._shell = shell
        arguments = (str(watch_s), *shell.folders)
        self._process, text = shell.start("guard.sh", *arguments)
        self._notes = bytearray()
        self._output = b""
        self._over, self._tell_over = os.pipe()
        # Read all the time: a pipe that is full would stop the connection.
        self._reader = threading.Thread(target=self._read_notes, daemon=True)
        self._reader.start()
        try:
            self._write(text)
            self.folder = self._read_folder()
        except BaseException:
            self._stop()
            raise
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, args=(beat_s,), daemon=True)
        self._beats.start()

    def check(self) -> None:
        """Checks that the connection is still there.

        Raises:
            TargetError: If it is not.
        """
        if has_ended(self._process):
            raise TargetError(self._shell.lost(self._text()))

    def close(self) -> None:
        """Removes the folder there and ends the connection. Whatever was lost before is left to the guard there."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._beats.join()
        self._write(b"end\n")
        with contextlib.suppress(TargetError):
            self._read_until("gone", END_TIMEOUT_S)
        self._stop()

    def _read_folder(self) -> str:
        line = self._read_until(("folder ", "failed "), START_TIMEOUT_S)
        kind, _, rest = line.partition(" ")
        if kind == "failed":
            raise TargetError(
                f"{self._shell.name}: {rest}. Free some space there, or set TMPDIR there to a folder of yours."
            )
        return rest

    def _read_until(self, beginnings: str | tuple[str, ...], timeout_s: float) -> str:
        """Returns the first line of the script that begins so."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:  # also where it never stops talking
                if not selector.select(left):
                    break
                received = os.read(descriptor, 4096)
                if not received:
                    raise TargetError(self._why_ended())
                self._output += received
                check_length(self._output, self._shell.name)
                lines = read_text(self._output.partition(f"{MARK}\n".encode())[2]).split("\n")[:-1]
                found = next((line for line in lines if line.startswith(beginnings)), None)
                if found is not None:
                    return found
        raise TargetError(
            f"{self._shell.name}: it was connected, but did not answer within {timeout_s:g} s. Check that its shell "
            "asks nothing when somebody logs in, and that it is not short of memory."
        )

    def _why_ended(self) -> str:
        self._reader.join(1)
        if MARK.encode() in self._output:
            return self._shell.lost(self._text())
        return self._shell.explain(self._text().strip() or read_text(self._output))

    def _write(self, text: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the connection is gone, which whoever reads will say
            self._process.stdin.write(text)
            self._process.stdin.flush()

    def _beat(self, beat_s: float) -> None:
        while not self._ended.wait(beat_s):
            self._write(b"beat\n")

    def _read_notes(self) -> None:
        """Reads stderr to its end, or to that of this object: what the local program started may keep it open."""
        assert self._process.stderr is not None
        with selectors.DefaultSelector() as selector:
            for source in (self._process.stderr, self._over):
                selector.register(source, selectors.EVENT_READ)
            while all(key.fd != self._over for key, _ in selector.select()):
                received = os.read(self._process.stderr.fileno(), 4096)
                if not received:
                    return
                self._notes += received
                del self._notes[:-MOST_NOTES]

    def _text(self) -> str:
        return read_text(bytes(self._notes))

    def _stop(self) -> None:
        """Ends the local process and what it started: by itself, once its input has ended, or else by force."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        end_group(self._process, PATIENCE_S)
        os.close(self._tell_over)
        self._reader.join()
        os.close(self._over)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
