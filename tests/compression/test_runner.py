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
from edgelstm.errors import EdgeLSTMError, OutputError, SettingError
from tests.compression.words import words_model

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
    (tmp_path / "mine/vocabulary.txt").write_text("mine")
    (tmp_path / "mine/.123-compress.json").write_text("half")
    done = compress(model, data, recipe({"kind": "learn"}), tmp_path / "mine", latency=False, restart=True)
    assert [step.name for step in done.steps] == ["start", "learn", "export"]
    assert (tmp_path / "mine/vocabulary.txt").read_text() == "mine"  # of no compression
    assert not (tmp_path / "mine/.123-compress.json").exists()


def test_other_examples_under_the_same_name_are_another_compression(model, data, tmp_path):
    mine = tmp_path / "d.npz"
    with np.load(data) as archive:
        arrays = dict(archive)
    np.savez(mine, **arrays)
    with pytest.raises(EdgeLSTMError, match="on fire"):
        compress(model, str(mine), recipe({"kind": "learn", "fail": True}), tmp_path / "out", latency=False)
    arrays["y"] = 1 - arrays["y"]
    np.savez(mine, **arrays)
    with pytest.raises(OutputError, match="holds another compression"):
        compress(model, str(mine), recipe({"kind": "learn", "fail": True}), tmp_path / "out", latency=False)


def test_a_layer_that_is_not_there_is_refused_at_once(model, data, tmp_path):
    given = parse_recipe({"stage": [{"kind": "learn"}], "export": {"layers": {"lstn": "float16"}}})
    with pytest.raises(SettingError, match=r"Model 'tiny' has no layer 'lstn' .* Did you mean 'lstm'"):
        compress(model, data, given, tmp_path / "out", latency=False)
    assert not (tmp_path / "out").exists()
    assert Learn.calls == []


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A model of words that never sees every third of them, and its data."""
    model = words_model(6, 4)
    path = tmp_path_factory.mktemp("data") / "w.npz"
    x = np.random.default_rng(0).integers(0, 30, (90, 7))
    x -= x % 3 == 1
    np.savez(path, ids=x, y=x[:, 0] % 2)
    return model, str(path), x


def test_new_ids_of_words_are_written_for_the_app(words, tmp_path):
    model, data, x = words
    twice = [{"kind": "shrink-embedding", "min_count": count, "epochs": 0} for count in (1, 18)]
    done = compress(model, data, recipe(*twice), tmp_path / "out", latency=False)
    tables = json.loads((tmp_path / "out/new_ids.json").read_text())
    new = np.array(tables["ids"])[x]
    assert any("new_ids.json has the new id of each old one" in note for note in done.notes)
    small = keras.models.load_model(tmp_path / "out/model.keras")
    assert small.get_layer("words").input_dim < 21
    file = edgelstm.load(tmp_path / "out/model.tflite")
    np.testing.assert_allclose(file.predict(new), small.predict(new, verbose=0), atol=1e-5)
    # Words that stay are read as before, wherever they stand now.
    rows, small_rows = (each.get_layer("words").get_weights()[0] for each in (model, small))
    often = np.flatnonzero(np.bincount(x.ravel(), minlength=30) >= 38)
    np.testing.assert_array_equal(small_rows[np.array(tables["ids"])[often]], rows[often])
    assert len(often)


def test_the_guard_sees_new_ids(words, tmp_path):
    model, data, _ = words
    stages = [{"kind": "shrink-embedding", "min_count": 1, "epochs": 0}]
    done = compress(
        model, data, parse_recipe({"stage": stages, "guard": {"max_drop": 0}}), tmp_path / "out", latency=False
    )
    assert [step.kept for step in done.tried] == [True, True, True]
    assert done.result.guard == done.reference.guard
    assert done.result.score == done.reference.score


def test_latency_is_measured_where_asked_for(model, data, tmp_path):
    done = compress(model, data, Recipe(), tmp_path / "out")
    assert 1 < done.result.latency_us < 100_000
