"""Talks to local programs that carry a connection, and ends them."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time

from edgelstm.errors import TargetError

MARK = "edgelstm-begins"
"""Printed before all else, since the files that a login shell reads may print something, too."""

MOST_BEFORE = 1 << 20
"""Bytes that a device may print before the mark."""

MOST_AFTER = 100 << 20
"""Bytes that it may answer. A worker's samples take some hundred KiB."""

MOST_NOTES = 1 << 20
"""Bytes of stderr that are kept, the last ones."""

_LONGEST_WAIT_S = 3600.0  # a system takes no more than some weeks at once
_PIECE = 1 << 16
_PIPE_PIECE = 512  # what POSIX lets a pipe that is ready always take


def exchange(process: subprocess.Popen[bytes], content: bytes, *, name: str, timeout_s: float) -> tuple[bytes, bytes]:
    """Writes to a process, and reads what it writes until it ends.

    Args:
        process: With pipes for all three. It is left as it is after an error.
        content: What it reads from stdin.
        name: Of the target, for errors.
        timeout_s: Seconds that it may take.

    Returns:
        What it wrote to stdout, and the end of what it wrote to stderr.

    Raises:
        TargetError: If it writes more than a device may.
        subprocess.TimeoutExpired: If it takes longer.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output, notes, rest = bytearray(), bytearray(), memoryview(content)
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        for stream, events in (
            (process.stdin, selectors.EVENT_WRITE),
            (process.stdout, selectors.EVENT_READ),
            (process.stderr, selectors.EVENT_READ),
        ):
            selector.register(stream, events)
        while process.stdout in selector.get_map() or process.stderr in selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout_s)
            for key, _ in selector.select(min(left, _LONGEST_WAIT_S)):
                if key.fileobj is process.stdin:
                    rest = _write_piece(key.fd, rest)
                    if not rest:
                        selector.unregister(key.fileobj)
                        process.stdin.close()
                    continue
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += piece
                    check_length(output, name)
                else:
                    notes += piece
                    del notes[:-MOST_NOTES]
    process.wait(max(0.0, deadline - time.monotonic()))
    return bytes(output), bytes(notes)


def _write_piece(descriptor: int, rest: memoryview) -> memoryview:
    """Returns what is left to write: nothing if nobody reads any more."""
    try:
        return rest[os.write(descriptor, rest[:_PIPE_PIECE]) :]
    except BrokenPipeError:
        return rest[:0]


def check_length(output: bytes | bytearray, name: str) -> None:
    """Checks that a device has not written too much to stdout.

    Raises:
        TargetError: If it has.
    """
    if len(output) > MOST_AFTER:
        raise TargetError(f"{name}: it answered more than {MOST_AFTER:,} bytes. Check what its Python prints at start.")
    if len(output) > MOST_BEFORE and MARK.encode() not in output[: MOST_BEFORE + len(MARK)]:
        raise TargetError(
            f"{name}: it printed more than {MOST_BEFORE:,} bytes before it ran anything. Check what its shell prints "
            "when somebody logs in."
        )


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Says whether a process has ended, and keeps its number from being given to another."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_group(process: subprocess.Popen[bytes], patience_s: float = 0.0) -> None:
    """Ends a process that leads a session, and all that it started.

    Args:
        process: The process.
        patience_s: Seconds in which it may end by itself.
    """
    if process.returncode is not None:
        return
    deadline = time.monotonic() + patience_s
    while not has_ended(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
