"""What rewriting a configuration works with: who wrote it, one layer of it, and one rewrite."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.errors import LoadError

_NUMBER = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")


@dataclass(frozen=True)
class Writer:
    """The Keras that wrote a file.

    Attributes:
        text: Its version as the file has it, e.g. "2.2.4-tf".
        number: The same as numbers, e.g. (2, 2, 4).
        backend: Its backend, e.g. "theano"; None if the file does not say.
    """

    text: str
    number: tuple[int, int, int]
    backend: str | None = None

    @classmethod
    def parse(cls, text: str, backend: str | None = None) -> Writer:
        """Reads a version; one without numbers counts as Keras 1, which did not always write its own."""
        found = _NUMBER.match(text)
        first, second, third = (int(part or 0) for part in found.groups()) if found else (1, 0, 0)
        return cls(text, (first, second, third), backend)

    @property
    def in_tensorflow(self) -> bool:
        """Whether this is the Keras inside TensorFlow: its versions end in -tf up to 2.3, and others ended at 2.3."""
        return "-tf" in self.text or self.number >= (2, 4, 0)

    def before(self, *number: int) -> bool:
        """Whether this version is older than the one given."""
        return self.number < number

    @property
    def title(self) -> str:
        """What to call it in a sentence."""
        return f"Keras {self.text}"


@dataclass
class Context:
    """What holds for a whole file, and what comes to light in it.

    Attributes:
        path: The file, for messages.
        writer: The Keras that wrote it.
        custom: The user's objects by the names that the file may call them.
        batch: Batch size in place of one that the file fixes; None keeps the file's.
        as_written: Names of the layers whose masks only a variant of the Keras 3 layer treats as the writer did; None
            makes a variant of every layer that has one.
        batches: The batch sizes that were replaced.
        hard_sigmoids: Names of the layers that use hard_sigmoid.
        training_only: What was left out because only training uses it.
        notes: Other things that the user should know.
    """

    path: Path
    writer: Writer
    custom: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    as_written: frozenset[str] | None = frozenset()
    batches: set[int] = field(default_factory=set)
    hard_sigmoids: list[str] = field(default_factory=list)
    training_only: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refusal(self, layer: str, why: str) -> LoadError:
        """Returns the error for a layer that has no exact counterpart in Keras 3."""
        return LoadError(f"Cannot load {self.path}: the layer {layer!r} {why}.")


@dataclass
class Layer:
    """One layer of a configuration, while it is rewritten.

    Attributes:
        class_name: Its class.
        name: Its name.
        settings: Its own configuration.
    """

    class_name: str
    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Rewrite:
    """One difference between old configurations and those of Keras 3.

    Attributes:
        classes: The classes whose configuration it concerns, by their Keras 3 names; empty for all of Keras' own.
        change: Changes the layer in place, or raises LoadError.
        why: What changed between the versions.
        until: The first version of Keras whose files do not need it any more; None if all old ones do.
    """

    classes: tuple[str, ...]
    change: Callable[[Layer, Context], None]
    why: str
    until: tuple[int, ...] | None = None

    def concerns(self, layer: Layer, writer: Writer) -> bool:
        """Whether it applies to a layer of a file."""
        return (not self.classes or layer.class_name in self.classes) and (
            self.until is None or writer.before(*self.until)
        )
