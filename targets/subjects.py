"""What is measured: a model file, and how it is run."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError

MODES = ("jit", "graph", "eager")
DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Settings:
    """How a model is run.

    Attributes:
        runtime: Name of a runtime, or "auto".
        threads: Threads of the runtime.
        batch: First dimension of every input; None as in the file.
        length: Time steps, where the file leaves them free; None as in the file.
        delegate: Path of an external delegate; only for runtimes with the class Interpreter.
        mode: How Keras runs a model, one of `MODES`; None for the runtime's own choice.
        dtype: What Keras computes in, one of `DTYPES`; None as in the file.
        seed: Of the random input. Integers are 0 or 1: valid whatever they stand for.
    """

    runtime: str = "auto"
    threads: int = 1
    batch: int | None = None
    length: int | None = None
    delegate: str | None = None
    mode: str | None = None
    dtype: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("threads", "batch", "length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1.")
        for name, known in (("mode", MODES), ("dtype", DTYPES)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(f"{name} {value!r} is not known, only {', '.join(known)}.")

    def describe(self) -> str:
        """Returns what differs from the defaults, for people: "2 threads, batch 8"."""
        parts = [f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        parts += [f"{name} {value}" for name in ("batch", "length") if (value := getattr(self, name)) is not None]
        parts += [value for value in (self.mode, self.dtype) if value]
        parts += [f"delegate {Path(self.delegate).name}"] if self.delegate else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Subject:
    """A model file and how it is run.

    Attributes:
        path: The file.
        settings: How it is run.
        size_bytes: Size of the file.
        sha256: Its hash.
    """

    path: Path
    settings: Settings = field(default_factory=Settings)
    size_bytes: int = 0
    sha256: str = ""

    @classmethod
    def read(cls, path: str | Path, settings: Settings | None = None) -> Subject:
        """Makes a subject of a file.

        Raises:
            ModelRunError: If the file cannot be read.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelRunError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}.") from error
        return cls(path, settings or Settings(), len(content), hashlib.sha256(content).hexdigest())

    def identity(self) -> dict[str, Any]:
        """Returns what tells one subject from another, wherever its file lies."""
        return {"sha256": self.sha256, **asdict(self.settings)}
