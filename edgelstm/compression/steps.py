"""What a compression did: the stages it kept, those it tried in vain, and what each is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.compression.measures import Measures

START, EXPORT = "start", "export"


@dataclasses.dataclass(frozen=True)
class Step:
    """One stage, as it was tried.

    Attributes:
        name: Of the stage; `START` for the model as it came, `EXPORT` for a way to export the result.
        settings: Of the stage.
        measures: Of the exported file; None where there is none.
        notes: What the stage left alone, and why.
        figures: What the stage did, in numbers.
        kept: Whether what follows builds on it.
        reason: Why it was not kept.
    """

    name: str
    settings: Mapping[str, Any]
    measures: Measures | None
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kept: bool = True
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "measures": self.measures.to_json() if self.measures else None,
            "notes": list(self.notes),
            "figures": dict(self.figures),
            "kept": self.kept,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Step:
        """Reads what `to_json` returned."""
        measures = Measures.from_json(document["measures"]) if document["measures"] else None
        return cls(**{**document, "measures": measures, "notes": tuple(document["notes"])})


@dataclasses.dataclass(frozen=True)
class Compression:
    """A finished compression.

    Attributes:
        folder: Where everything lies.
        artifact: The exported file.
        tried: Everything in the order in which it was tried: the model as it came, stages, ways to export.
        score: Name of the score.
        higher_is_better: Whether it should be high.
        target: Where latency was measured; empty if it was not.
        guard: What the guard allowed, and how many examples it had; None without one.
        notes: Sentences that the user should know.
    """

    folder: Path
    artifact: Artifact
    tried: tuple[Step, ...]
    score: str
    higher_is_better: bool
    target: str = ""
    guard: tuple[float, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The model as it came, what each kept stage made of it, and the file."""
        return tuple(step for step in self.tried if step.kept)

    @property
    def dropped(self) -> tuple[Step, ...]:
        """What was tried in vain."""
        return tuple(step for step in self.tried if not step.kept)

    @property
    def reference(self) -> Measures:
        """Of the model as it came, exported in float32."""
        return _measured(self.steps[0])

    @property
    def result(self) -> Measures:
        """Of the artifact."""
        return _measured(self.steps[-1])


def _measured(step: Step) -> Measures:
    assert step.measures is not None
    return step.measures
