"""Recipes under a guard: what loses too much is tried weaker, or not kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

import edgelstm
from edgelstm.compression.guard import Guard
from edgelstm.compression.recipe import Export, parse_recipe, read_recipe
from edgelstm.compression.runner import compress
from edgelstm.errors import OutputError, StageError, VerificationError
from tests.compression.spoiling import Spoil

pytestmark = pytest.mark.usefixtures("spoil")


def recipe(*shares, max_drop=2.0, quantize="float32", **guard):
    stages = [
        {"kind": "spoil", "share": share} if isinstance(share, float) else {"kind": "spoil", "trouble": share}
        for share in shares
    ]
    return parse_recipe({"stage": stages, "guard": {"max_drop": max_drop, **guard}, "export": {"quantize": quantize}})


def test_a_stage_that_loses_too_much_is_tried_weaker(model, data, tmp_path):
    done = compress(model, data, recipe(0.2), tmp_path / "out", latency=False)
    assert [(step.name, step.settings.get("share"), step.kept) for step in done.tried] == [
        ("start", None, True),
        ("spoil", 0.2, False),
        ("spoil", 0.02, True),
        ("export", None, True),
    ]
    assert done.reference.score == done.reference.guard == 1.0
    lost = done.tried[1].measures.guard
    assert 0.7 < lost < 0.9
    assert done.tried[1].reason == f"it loses {100 * (1 - lost):.2f} points, and 2 are allowed"
    assert [step.name for step in done.steps] == ["start", "spoil", "export"]
    found = read_recipe(tmp_path / "out/recipe.toml")
    assert [stage.values["share"] for stage in found.stages] == [0.02]
    assert (found.max_drop, found.judged_in) == (2.0, Export("float32"))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["examples"] == {"train": 280, "validation": 30, "test": 60}
    assert report["guard"] == {"examples": 30, "max_drop": 2.0}
    assert any("The guard has 30 examples" in note for note in done.notes)
    text = (tmp_path / "out/report.md").read_text()
    assert f"- spoil: {done.tried[1].reason}." in text


def test_what_stays_too_bad_is_left_out_and_the_next_stage_has_its_model_and_seed(model, data, tmp_path):
    done = compress(model, data, recipe(0.9, 0.0, max_drop=0.0), tmp_path / "a", latency=False)
    assert [step.kept for step in done.tried] == [True, False, False, False, True, True]
    assert done.result.score == 1.0
    # The second stage is the first one that was kept, so its random numbers are those of the first place.
    seeds = list(Spoil.seeds)
    again = compress(model, data, read_recipe(tmp_path / "a/recipe.toml"), tmp_path / "b", latency=False)
    assert [step.kept for step in again.tried] == [True, True, True]
    assert seeds[-1] == Spoil.seeds[-1]
    assert again.artifact.path.read_bytes() == done.artifact.path.read_bytes()


def test_a_training_that_fails_is_left_out(model, data, tmp_path):
    done = compress(model, data, recipe("nan", 0.0), tmp_path / "out", latency=False)
    assert [step.kept for step in done.tried] == [True, False, False, False, True, True]
    assert done.tried[1].reason == "The loss became nan in epoch 1."
    assert done.tried[1].measures is None


def test_a_weaker_stage_that_would_change_nothing_ends_the_tries(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(Spoil, "weaker", lambda stage: stage.but(trouble="fit"))
    done = compress(model, data, recipe(0.9, 0.0), tmp_path / "out", latency=False)
    assert [step.kept for step in done.tried] == [True, False, False, True, True]
    assert done.tried[2].reason == "Model 'tiny' has nothing to spoil."


def test_a_failed_training_is_not_tried_again_after_an_interruption(model, data, tmp_path, monkeypatch):
    apply, calls = Spoil.apply, []

    def interrupted(stage, *arguments):
        calls.append(stage.values["trouble"])
        if stage.values["trouble"] == "":
            raise KeyboardInterrupt
        return apply(stage, *arguments)

    monkeypatch.setattr(Spoil, "weaker", lambda stage: None)
    with monkeypatch.context() as patch:
        patch.setattr(Spoil, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress(model, data, recipe("nan", 0.0), tmp_path / "out", latency=False)
        assert calls == ["nan", ""]
        with pytest.raises(KeyboardInterrupt):
            compress(model, data, recipe("nan", 0.0), tmp_path / "out", latency=False)
        assert calls == ["nan", "", ""]


def test_a_disk_error_is_no_bad_stage(model, data, tmp_path, monkeypatch):
    def full(*_):
        raise OutputError("Cannot write x: No space left on device.")

    monkeypatch.setattr(Spoil, "apply", full)
    with pytest.raises(OutputError, match="No space left"):
        compress(model, data, recipe(0.1), tmp_path / "out", latency=False)


def test_layers_of_the_export_are_judged_and_replayed(model, data, tmp_path):
    given = parse_recipe(
        {
            "stage": [{"kind": "prune-units", "fraction": 0.2, "epochs": 2}],
            "guard": {"max_drop": 50},
            "export": {"quantize": "int8", "layers": {"lstm": "float32"}},
        }
    )
    done = compress(model, data, given, tmp_path / "a", latency=False)
    found = read_recipe(tmp_path / "a/recipe.toml")
    assert found.judged_in == found.export == Export("int8", {"lstm": "float32"})
    assert edgelstm.inspect(done.artifact.path).lstms[0].precision == "float32"
    again = compress(model, data, found, tmp_path / "b", latency=False)
    assert again.artifact.path.read_bytes() == done.artifact.path.read_bytes()
    assert [step.to_json() for step in again.tried] == [step.to_json() for step in done.tried]


def test_no_passing_file_is_told_with_all_reasons(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(Guard, "allows", lambda *_: False)
    with pytest.raises(VerificationError, match=r"No file of the model passes the guard \(float16: it loses 0.00"):
        compress(model, data, recipe(quantize="float16"), tmp_path / "out", latency=False)


def test_a_stage_that_does_not_fit_is_an_error(model, data, tmp_path):
    with pytest.raises(StageError, match="has nothing to spoil"):
        compress(model, data, recipe("fit"), tmp_path / "out", latency=False)


def test_an_interruption_costs_no_finished_stage(model, data, tmp_path, monkeypatch):
    whole = compress(model, data, recipe(0.2, 0.0), tmp_path / "a", latency=False)
    Spoil.seeds.clear()
    apply, calls = Spoil.apply, []

    def interrupted(stage, *arguments):
        calls.append(stage.values["share"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return apply(stage, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Spoil, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress(model, data, recipe(0.2, 0.0), tmp_path / "b", latency=False)
    done = compress(model, data, recipe(0.2, 0.0), tmp_path / "b", latency=False)
    assert len(Spoil.seeds) == 3  # the first two not again
    assert [step.to_json() for step in done.tried] == [step.to_json() for step in whole.tried]
    assert done.artifact.path.read_bytes() == whole.artifact.path.read_bytes()


def test_a_finished_compression_is_not_done_again(model, data, tmp_path):
    compress(model, data, recipe(0.0), tmp_path / "out", latency=False)
    with pytest.raises(OutputError, match="is finished"):
        compress(model, data, recipe(0.0), tmp_path / "out", latency=False)


def test_a_precision_that_loses_too_much_gives_way_to_a_finer_one(model, data, tmp_path, monkeypatch):
    """The int8 file is made to answer nonsense, so that only finer precisions pass."""
    from edgelstm.compression import measures, precision

    predict = measures.file_predict

    def nonsense(path):
        answers, is_int8 = predict(path), edgelstm.inspect(path).lstms[0].precision == "int8"
        return lambda x: answers(x)[:, ::-1] if is_int8 else answers(x)

    monkeypatch.setattr(measures, "file_predict", nonsense)
    monkeypatch.setattr(precision, "mixed", lambda session, export: iter(()))
    done = compress(model, data, recipe(0.0, quantize="int8"), tmp_path / "out", latency=False)
    assert any("is refused: it loses" in note for note in done.notes)
    exports = [(step.settings["quantize"], step.kept) for step in done.tried if step.name == "export"]
    assert exports == [("int8", False), ("dynamic", True)]
    assert edgelstm.Artifact.open(done.artifact.path).card["precision"] == "dynamic"
    found = read_recipe(tmp_path / "out/recipe.toml")
    assert (found.export.quantize, found.judged_in) == ("dynamic", Export("float32"))
    assert np.isclose(done.result.score, 1.0, atol=0.04)
