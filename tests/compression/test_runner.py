"""Recipes on a tiny model: what is written, what is reported, and what an interruption costs."""

from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.compression import workshop
from edgelstm.compression.learning import read_learning
from edgelstm.compression.recipe import Recipe, parse_recipe, read_recipe
from edgelstm.compression.runner import compress
from edgelstm.converters.stages.base import Outcome, Setting, Stage
from edgelstm.errors import EdgeLSTMError, OutputError

TIME, FEATURES, COUNT = 6, 3, 120


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    x = layers.Input((TIME, FEATURES), name="x")
    y = layers.Dense(2, activation="softmax", name="answer")(layers.LSTM(8, name="lstm")(x))
    return keras.Model(x, y, name="tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "d.npz"
    x = np.random.default_rng(0).normal(size=(COUNT, TIME, FEATURES)).astype(np.float32)
    np.savez(path, x=x, y=(x[:, :, 0].sum(axis=1) > 0).astype(int))
    return str(path)


class Learn(Stage):
    """Trains the model as it is."""

    name = "learn"
    title = "trains"
    settings: ClassVar = {"epochs": Setting(2, "epochs", low=0), "fail": Setting(False, "whether it fails")}
    calls: ClassVar[list[str]] = []

    def apply(self, model, workshop):
        self.calls.append(self.name)
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        workshop.finetune(copy, epochs=int(self.number("epochs")))
        if self.values["fail"]:
            raise EdgeLSTMError("The disk is on fire.")
        return Outcome(copy, ("nothing was left alone.",), {"trained": True})


@pytest.fixture(autouse=True)
def learn(monkeypatch):
    from edgelstm.converters import stages

    monkeypatch.setitem(stages.STAGES, "learn", f"{__name__}:Learn")
    Learn.calls.clear()
    return Learn


def recipe(*entries, quantize="float32"):
    return parse_recipe({"stage": list(entries), "export": {"quantize": quantize}})


def test_everything_is_written_and_reported(model, data, tmp_path):
    before = [value.copy() for value in model.get_weights()]
    done = compress(
        model, data, recipe({"kind": "learn"}, {"kind": "prune-units", "epochs": 1}, quantize="int8"), tmp_path / "out",
        latency=False,
    )  # fmt: skip
    assert [step.name for step in done.steps] == ["start", "learn", "prune-units", "export"]
    names = {"compress.json", "model.json", "model.keras", "model.tflite", "recipe.toml", "report.json", "report.md"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for value, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)

    # 8 units: 4 * 8 * (3 + 8) products in each of 6 steps, and 8 * 2 behind them; then 4 units.
    assert [step.measures.macs for step in done.steps] == [2128, 2128, 680, 680]
    assert [step.measures.parameters for step in done.steps][1:3] == [4 * 8 * 12 + 18, 4 * 4 * 8 + 10]
    assert done.result.size_bytes == (tmp_path / "out/model.tflite").stat().st_size
    assert done.steps[1].notes == ("nothing was left alone.",)
    answers = edgelstm.load(done.artifact.path).predict(read_learning(data, model).data.test.x["x"])
    right = answers.argmax(axis=1) == read_learning(data, model).data.test.y
    assert done.result.score == right.mean()
    assert done.result.interval[0] <= done.result.score <= done.result.interval[1]
    assert edgelstm.inspect(done.artifact.path).lstms[0].units == 4

    card = edgelstm.Artifact.open(done.artifact.path).card
    assert [entry["kind"] for entry in card["recipe"]] == ["learn", "prune-units"]
    assert card["accuracy"] == {"score": "accuracy", "value": done.result.score, "data": data}
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [entry["name"] for entry in report["steps"]] == [step.name for step in done.steps]
    assert report["examples"] == {"train": 84, "validation": 18, "test": 18}
    assert read_recipe(tmp_path / "out/recipe.toml").to_json()["stage"][1]["epochs"] == 1
    x = np.load(data)["x"][:9]
    again = edgelstm.load(tmp_path / "out/model.tflite").predict(x)
    np.testing.assert_allclose(again, keras.models.load_model(tmp_path / "out/model.keras").predict(x), atol=0.1)


def test_the_same_recipe_gives_the_same_bytes(model, data, tmp_path):
    stages = recipe({"kind": "learn"}, {"kind": "prune-units", "epochs": 1}, quantize="dynamic")
    files = [compress(model, data, stages, tmp_path / name, latency=False).artifact.path for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    other = compress(model, data, dataclasses.replace(stages, seed=1), tmp_path / "c", latency=False).artifact.path
    assert other.read_bytes() != files[0].read_bytes()


def test_a_failed_stage_costs_nothing_of_those_before(model, data, tmp_path, monkeypatch):
    first = {"kind": "learn", "epochs": 1}
    whole = compress(model, data, recipe(first, {"kind": "prune-units", "epochs": 1}), tmp_path / "a", latency=False)
    prune, calls = workshop.TrainingWorkshop.finetune, []

    def interrupted(workshop, model, *, epochs, **options):
        calls.append(epochs)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return prune(workshop, model, epochs=epochs, **options)

    Learn.calls.clear()
    arguments = (model, data, recipe(first, {"kind": "prune-units", "epochs": 1}), tmp_path / "b")
    with monkeypatch.context() as patch:
        patch.setattr(workshop.TrainingWorkshop, "finetune", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress(*arguments, latency=False)
    assert not (tmp_path / "b/model.tflite").exists()
    done = compress(*arguments, latency=False)
    assert Learn.calls == ["learn"]  # not again
    assert done.artifact.path.read_bytes() == whole.artifact.path.read_bytes()
    assert [step.measures for step in done.steps] == [step.measures for step in whole.steps]


def test_ranges_that_training_found_are_those_of_the_file(model, data, tmp_path, monkeypatch):
    seen = []
    convert = edgelstm.convert

    def spy(*arguments, **options):
        seen.append(dict(options.get("ranges") or {}))
        return convert(*arguments, **options)

    monkeypatch.setattr(edgelstm, "convert", spy)
    done = compress(model, data, recipe({"kind": "qat", "epochs": 1}, quantize="int8"), tmp_path / "a", latency=False)
    low, high = seen[-1]["lstm/input"]
    lstm = edgelstm.inspect(done.artifact.path).lstms[0]
    assert lstm.input_scale == pytest.approx((high - low) / 255, rel=1e-3)
    assert seen == [{}, seen[-1], seen[-1]]
    seen.clear()
    compress(model, data, recipe({"kind": "qat", "epochs": 1}, quantize="dynamic"), tmp_path / "b", latency=False)
    assert seen == [{}, {}, {}]


def test_an_error_in_a_stage_is_told_and_leaves_no_model(model, data, tmp_path):
    with pytest.raises(EdgeLSTMError, match="The disk is on fire"):
        compress(model, data, recipe({"kind": "learn", "fail": True, "epochs": 0}), tmp_path / "out", latency=False)
    assert not (tmp_path / "out/model.tflite").exists()


def test_a_folder_of_something_else_is_left_alone(model, data, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="is not empty and holds no compression"):
        compress(model, data, Recipe(), tmp_path / "other", latency=False)
    compress(model, data, Recipe(), tmp_path / "mine", latency=False)
    with pytest.raises(OutputError, match="holds another compression"):
        compress(model, data, recipe({"kind": "learn"}), tmp_path / "mine", latency=False)
    done = compress(model, data, recipe({"kind": "learn"}), tmp_path / "mine", latency=False, restart=True)
    assert [step.name for step in done.steps] == ["start", "learn", "export"]


def test_latency_is_measured_where_asked_for(model, data, tmp_path):
    done = compress(model, data, Recipe(), tmp_path / "out")
    assert 1 < done.result.latency_us < 100_000
