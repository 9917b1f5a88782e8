"""The search for a recipe, on a session that only pretends: which stages it tries, and when it stops."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgelstm.compression import auto
from edgelstm.compression.auto import Goals, search
from edgelstm.compression.measures import Measures
from edgelstm.compression.recipe import Export
from edgelstm.compression.steps import EXPORT, START, Step
from edgelstm.errors import StageError


def measures(size: int, latency: float | None = None) -> Measures:
    return Measures(10, size, size, 100, 0.9, (0.8, 1.0), latency, 0.9)


TABLES = ["shrink-embedding"] * 3


class Pretended:
    """A model of `size` bytes in float32; each kept stage takes away a share of it.

    Args:
        allowed: How often each stage is kept; "no" where it does not fit the model.
        precisions: Size of the file in each precision that the guard allows, against float32.
        seconds: What each attempt takes.
    """

    def __init__(self, allowed, precisions=None, *, size=1000, seconds=1.0, latency=None):
        self.allowed, self.precisions = allowed, precisions or {"int8": 0.25, "dynamic": 0.3, "float32": 1.0}
        self.size, self.latency, self.each = size, latency, seconds
        self.seconds, self.asked, self.judged = 0.0, [], []
        self.no = set()
        self.tried = [Step(START, {}, measures(size, latency))]
        train = range(640)
        self.learning = SimpleNamespace(
            data=SimpleNamespace(train=train), setup=SimpleNamespace(int=lambda name: {"batch_size": 32}[name])
        )

    def judge(self, export):
        share = self.precisions.get(export.quantize)
        self.judged.append(export.quantize)
        if share is None:
            return Step(EXPORT, export.to_json(), None, kept=False, reason="no")
        return Step(EXPORT, export.to_json(), measures(int(self.size * share), self._latency(export)))

    def attempt(self, stage, export):
        left = self.allowed.get(stage.name, 0)
        self.asked.append((stage.name, stage.values.get("fraction"), export.quantize))
        self.seconds += self.each
        if left == "no" or (stage.name, stage.values.get("min_count")) in self.no:
            raise StageError(f"{stage.name} does not fit.")
        self.allowed[stage.name] = left - 1
        kept = left > 0
        if kept:
            self.size //= 2
        size = int(self.size * self.precisions.get(export.quantize, 1))
        self.tried.append(Step(stage.name, stage.values, measures(size, self._latency(export)), kept=kept))
        return kept

    def refuse(self, stage, reason):
        self.tried.append(Step(stage.name, stage.values, None, kept=False, reason=reason))

    def _latency(self, export):
        return (
            self.latency and self.latency * {"int8": 1.0, "dynamic": 0.5}.get(export.quantize, 2.0) * self.size / 1000
        )


def names(session):
    return [name for name, _, _ in session.asked]


def test_units_go_by_half_then_by_quarters_and_then_students_are_taught():
    session = Pretended({"prune-units": 2, "distill": 1, "shrink-embedding": "no", "factorize": "no"})
    judged, exports = search(session, Goals())
    assert session.asked == [
        *[("shrink-embedding", None, "int8")] * 3,
        ("prune-units", 0.5, "int8"),
        ("prune-units", 0.5, "int8"),
        ("prune-units", 0.5, "int8"),
        ("prune-units", 0.25, "int8"),
        ("factorize", None, "int8"),
        ("distill", 0.5, "int8"),
        ("distill", 0.5, "int8"),
        ("distill", 0.25, "int8"),
    ]
    assert judged.quantize == "int8"
    assert judged.strip_names
    assert [export.quantize for export in exports] == ["int8", "dynamic", "float32"]
    assert "shrink-embedding does not fit." in [step.reason for step in session.tried]


def test_weaker_stages_follow_where_one_loses_too_much():
    session = Pretended({"shrink-embedding": 1, "prune-units": "no", "distill": "no"})
    search(session, Goals())
    energies = [step.settings["energy"] for step in session.tried if step.name == "factorize"]
    np.testing.assert_allclose(energies, [0.9, 0.95, 0.975, 0.9875, 0.99375])


def test_nothing_more_is_tried_once_the_goals_are_met():
    session = Pretended({"shrink-embedding": "no", "prune-units": 9}, latency=1000.0)
    search(session, Goals(max_size_bytes=130))
    assert names(session) == [*TABLES, "prune-units"]
    session = Pretended({"shrink-embedding": "no", "prune-units": 9}, latency=1000.0)
    _, exports = search(session, Goals(max_latency_us=130))
    assert names(session) == [*TABLES, "prune-units", "prune-units"]
    assert exports[0].quantize == "dynamic"  # the fastest
    session = Pretended({"prune-units": 9})
    search(session, Goals(max_size_bytes=250))
    assert names(session) == []  # int8 alone is small enough


def test_no_stage_begins_that_would_not_end_in_time():
    session = Pretended({"shrink-embedding": "no", "prune-units": 9}, seconds=10.0)
    search(session, Goals(time_budget_s=55))
    assert names(session) == [*TABLES, "prune-units", "prune-units"]
    assert session.seconds == 50


def test_rows_become_narrower_where_every_word_occurs():
    session = Pretended({"shrink-embedding": 1, "prune-units": "no", "factorize": "no", "distill": "no"})
    session.no = {("shrink-embedding", 1), ("shrink-embedding", 3)}
    search(session, Goals())
    kept = [step.settings for step in session.tried if step.name == "shrink-embedding" and step.kept]
    assert [settings["energy"] for settings in kept] == [0.8]


def test_an_int8_file_with_spared_layers_comes_first_where_the_plain_one_is_refused(monkeypatch):
    spared = [Export("int8", {"a": "dynamic"}, strip_names=True), Export("int8", {"a": "dynamic", "b": "dynamic"})]
    monkeypatch.setattr(auto, "mixed", lambda session, export: iter(spared))
    session = Pretended({}, {"dynamic": 0.3, "float32": 1.0})
    judge = session.judge
    session.judge = lambda export: judge(Export("float32") if export == spared[1] else export)
    _, exports = search(session, Goals())
    assert exports == [spared[1], *(Export(precision, strip_names=True) for precision in ("dynamic", "float32"))]


def test_a_precision_that_the_guard_refuses_is_trained_for(monkeypatch):
    monkeypatch.setattr(auto, "mixed", lambda session, export: iter(()))
    session = Pretended({"qat": 1}, {"dynamic": 0.3, "float32": 1.0})
    judged, _ = search(session, Goals())
    assert judged.quantize == "dynamic"
    assert session.asked[-1] == ("qat", None, "int8")
    session = Pretended({})
    search(session, Goals())
    assert "qat" not in names(session)


def test_small_data_is_seen_more_often():
    session = Pretended({"shrink-embedding": "no", "factorize": "no"})
    search(session, Goals())
    epochs = {step.name: step.settings["epochs"] for step in session.tried if step.name in ("prune-units", "distill")}
    assert epochs == {"prune-units": 100, "distill": 100}  # 20 batches: 2000 and 5000 steps, at most 100 epochs
    session = Pretended({"shrink-embedding": "no", "factorize": "no"})
    session.learning.data.train = range(32 * 500)
    search(session, Goals())
    epochs = {step.name: step.settings["epochs"] for step in session.tried if step.name in ("prune-units", "distill")}
    assert epochs == {"prune-units": 4, "distill": 10}


@pytest.mark.parametrize(
    "goals, figures, missed",
    [
        (Goals(max_size_bytes=100), measures(99), []),
        (Goals(max_size_bytes=100), measures(1000), ["1,000 bytes instead of 100"]),
        (Goals(max_latency_us=20), measures(1, 30.0), ["30 us instead of 20"]),
        (Goals(max_latency_us=20), measures(1), ["unknown us instead of 20"]),
        (Goals(), measures(1), []),
    ],
)
def test_goals_tell_what_they_miss(goals, figures, missed):
    assert goals.missed_by(figures) == missed
    assert goals.met_by(figures) == (not missed and goals != Goals())
