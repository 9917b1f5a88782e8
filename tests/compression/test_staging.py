"""Stages as options of a conversion: what they make of a model without a folder of their own."""

from __future__ import annotations

import numpy as np
import pytest

import edgelstm
from edgelstm.compression.staging import FLAGS, NoData, entries_of
from edgelstm.converters.stages import STAGES, make_stage
from edgelstm.errors import SettingError, StageError
from tests.compression.words import words_model


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A model of words, and data for it."""
    model = words_model(8, 6)
    path = tmp_path_factory.mktemp("data") / "d.npz"
    x = np.random.default_rng(0).integers(0, 30, (60, 7))
    np.savez(path, ids=x, y=x[:, 0] % 2)
    return model, str(path)


def test_every_stage_has_a_flag_and_settings_that_it_knows():
    assert set(FLAGS) == set(STAGES)
    for kind, flag in FLAGS.items():
        for values in (flag.trained, flag.untrained or {}):
            assert flag.setting in make_stage(kind, values).settings


def test_flags_become_stages_in_a_fixed_order():
    flags = {"qat": 2, "prune-units": 0.4, "cluster": None}
    assert entries_of(flags, trained=True) == [
        {"kind": "prune-units", "fraction": 0.4},
        {"kind": "qat", "epochs": 2},
    ]
    assert entries_of({"prune-units": 0.4, "factorize": 0.9}, trained=False) == [
        {"kind": "prune-units", "epochs": 0, "fraction": 0.4},
        {"kind": "factorize", "epochs": 0, "data_aware": False, "energy": 0.9},
    ]
    with pytest.raises(SettingError, match="--distill needs data to learn from: add --data"):
        entries_of({"distill": 0.5}, trained=False)


def test_units_go_without_data(text, tmp_path):
    model, _ = text
    before = [value.copy() for value in model.get_weights()]
    stages = entries_of({"prune-units": 0.5, "prune": 0.5, "cluster": 4}, trained=False)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", stages=stages, quantize="dynamic")
    for value, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)
    assert edgelstm.inspect(artifact.path).lstms[0].units == 3
    assert [stage["kind"] for stage in artifact.card["recipe"]] == ["prune-units", "prune", "cluster"]
    assert artifact.card["recipe"][0]["importance"] == "norm"
    assert artifact.card["source"]["name"] == "texts"
    assert (
        "Stages changed the model before it was converted (prune-units, prune, cluster): parity is with the model that "
        "they made." in artifact.card["warnings"]
    )


def test_data_trains_and_calibrates(text, tmp_path):
    model, data = text
    stages = [
        {"kind": "shrink-embedding", "rank": 3, "min_count": 0, "epochs": 1},
        {"kind": "prune-units", "fraction": 0.5, "epochs": 1},
        {"kind": "qat", "epochs": 1},
    ]
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", stages=stages, data=data, quantize="int8")
    assert artifact.card["precision"] == "int8"
    assert artifact.card["parameters"] < model.count_params() / 2
    assert artifact.card["parity"]


def test_words_with_new_ids_need_a_vocabulary(text, tmp_path):
    model, data = text
    with pytest.raises(StageError, match="gives words new ids, which the app must know: use edgelstm compress"):
        edgelstm.convert(
            model,
            tmp_path / "m.tflite",
            stages=[{"kind": "shrink-embedding", "vocabulary": 10, "epochs": 0}],
            data=data,
        )
    assert not (tmp_path / "m.tflite").exists()


def test_a_stage_that_learns_is_refused_without_data(text, tmp_path):
    model, _ = text
    with pytest.raises(StageError, match="needs data to learn from"):
        edgelstm.convert(model, tmp_path / "m.tflite", stages=[{"kind": "qat"}], quantize="int8")
    with pytest.raises(SettingError, match="has no setting 'fractoin'"):
        edgelstm.convert(model, tmp_path / "m.tflite", stages=[{"kind": "prune-units", "fractoin": 0.5}])


def test_a_workshop_without_data_refuses_everything_but_nothing(text):
    nothing = NoData(lambda _: None)
    nothing.finetune(None, epochs=0)
    assert nothing.with_tokens({}) is nothing
    for ask in (
        lambda: nothing.train,
        lambda: nothing.validation,
        lambda: nothing.loss(None),
        lambda: nothing.score(None),
        lambda: nothing.finetune(None, epochs=1),
    ):
        with pytest.raises(StageError, match="add --data"):
            ask()
