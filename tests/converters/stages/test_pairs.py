"""Every stage, alone and in pairs, leaves a model that converts and verifies in float32, dynamic and int8."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

import edgelstm
from edgelstm.converters.stages import STAGES, make_stage
from tests.converters.stages.workshop import TinyWorkshop

# Keras copies its variables in a way that numpy 2 complains about when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

Array = NDArray[Any]
WORDS, STEPS, EXAMPLES = 30, 7, 200
PRECISIONS = ("float32", "dynamic", "int8")
# What makes each stage do something to the model below, in no time.
SETTINGS: dict[str, dict[str, Any]] = {
    "prune": {"sparsity": 0.5, "ramp_epochs": 0, "epochs": 0},
    "prune-units": {"fraction": 0.4, "epochs": 0},
    "factorize": {"rank": 2, "epochs": 0},
    "shrink-embedding": {"vocabulary": 20, "rank": 5, "epochs": 0},
    "cluster": {"clusters": 16, "epochs": 0},
    "distill": {"fraction": 0.4, "epochs": 1},
    "qat": {"epochs": 0},  # measures ranges
}
# And again: with the same settings a stage finds nothing left to do.
AGAIN: dict[str, dict[str, Any]] = {
    "prune": {"sparsity": 0.7},
    "factorize": {"rank": 1},
    "shrink-embedding": {"vocabulary": 10, "rank": 3},
    "cluster": {"clusters": 8},
}
LAST = ("qat",)  # what it learns holds for the very model that leaves it


@dataclasses.dataclass(frozen=True)
class State:
    """A model on its way through stages, and what belongs to it."""

    model: keras.Model
    workshop: TinyWorkshop
    ranges: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def examples() -> TinyWorkshop:
    """Texts whose label is which half of the vocabulary has more words in them; ids 0 to 2 are special."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, WORDS, (EXAMPLES, STEPS)).astype(np.int32)
    return TinyWorkshop({"tokens": tokens}, (np.median(tokens, axis=1) > WORDS / 2).astype(np.int32))


@functools.cache
def untouched() -> State:
    """A trained model: its answers differ from text to text."""
    keras.utils.set_random_seed(0)
    x = keras.Input((STEPS,), name="tokens", dtype="int32")
    h = layers.Embedding(WORDS, 12, name="embedding")(x)
    h = layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="both")(h)
    h = layers.LSTM(8, name="lstm")(h)
    model = keras.Model(x, layers.Dense(2, activation="softmax", name="answer")(h))
    workshop = examples()
    workshop.finetune(model, epochs=4)
    return State(model, workshop)


@functools.cache
def after(*names: str) -> State:
    """What stages make of the model, one after the other; a first stage is applied once for all that follow it."""
    if not names:
        return untouched()
    *earlier, name = names
    before = after(*earlier)
    weights = before.model.get_weights()
    settings = {**SETTINGS[name], **(AGAIN.get(name, {}) if name in earlier else {})}
    outcome = make_stage(name, settings).apply(before.model, before.workshop)
    assert_same(before.model.get_weights(), weights)
    workshop = before.workshop.with_tokens(outcome.tokens) if outcome.tokens else before.workshop
    return State(outcome.model, workshop, outcome.ranges)


def assert_same(some: list[Array], others: list[Array]) -> None:
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


def answers(state: State) -> Array:
    answered: Array = state.model.predict(state.workshop.train.x["tokens"], verbose=0)
    return answered


def assert_converts(state: State, folder: Path) -> None:
    assert np.ptp(answers(state)[:, 0]) > 0.05, "a model that always answers the same shows no mistake"
    for precision in PRECISIONS:
        artifact = edgelstm.convert(
            state.model,
            folder / f"{precision}.tflite",
            quantize=precision,
            calibration=state.workshop.train.x,
            ranges=state.ranges if precision == "int8" else None,
            verify=True,
        )
        assert artifact.card["parity"]
        assert all(parity["passed"] for parity in artifact.card["parity"])
        assert artifact.card["operators"]["UNIDIRECTIONAL_SEQUENCE_LSTM"] >= 1
        assert not [warning for warning in artifact.card["warnings"] if "given range" in warning]


def test_every_stage_has_settings_here():
    assert set(SETTINGS) == set(STAGES)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in SETTINGS])
def test_a_stage_changes_the_model_and_leaves_one_that_converts(name, tmp_path):
    state = after(name)
    before, now = after().model.get_weights(), state.model.get_weights()
    unchanged = [one.shape == other.shape and (one == other).all() for one, other in zip(before, now, strict=False)]
    assert len(before) != len(now) or not all(unchanged) or state.ranges
    assert_converts(state, tmp_path)


@pytest.mark.matrix
@pytest.mark.parametrize(
    "first, second",
    [
        pytest.param(*pair, id=" ".join(pair), marks=pytest.mark.xdist_group(pair[0]))
        for pair in itertools.product(SETTINGS, repeat=2)
        if pair[0] not in LAST
    ],
)
def test_a_stage_behind_a_stage_leaves_a_model_that_converts(first, second, tmp_path):
    assert_converts(after(first, second), tmp_path)
