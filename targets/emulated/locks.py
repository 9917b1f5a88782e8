"""Locks among processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Holds a lock among processes and threads, by a file that stays; its folder is made if it is not there.

    Args:
        path: The file.
        shared: Whether others may hold it as well, shared like this one.
        waiting: Called before it waits for others.

    Raises:
        OSError: If the file cannot be made, or its file system knows no locks.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    # Those who may not write there can share it all the same; NFS locks for one alone only what can be written.
    file = os.open(path, (os.O_RDONLY if shared else os.O_RDWR) | os.O_CREAT, 0o644)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                waiting()
            fcntl.flock(file, kind)
        yield
    finally:
        os.close(file)
