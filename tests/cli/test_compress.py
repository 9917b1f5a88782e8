from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from edgelstm.cli.compress import summary
from edgelstm.compression.measures import Measures
from edgelstm.compression.runner import Compression, Step
from edgelstm.converters.stages import STAGES
from edgelstm.errors import SettingError

START = Measures(1_330_194, 5_327_004, 4_812_345, 9_870_000, 0.98734, (0.98012, 0.99234), 1_234.5)
END = Measures(20_194, 81_604, None, 148_000, 0.98211, (0.97, 0.99), None)


@pytest.fixture
def done(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("model.tflite", "model.json", "report.json"):
        (folder / name).touch()
    steps = (Step("start", {}, START), Step("shrink-embedding", {"rank": 8}, END, ("Layer 'a' was left alone.",)))
    return Compression(folder, SimpleNamespace(path=folder / "model.tflite"), steps, "accuracy", True)


def test_the_summary_fits_a_terminal(done):
    lines = summary(done).splitlines()
    assert lines[:3] == [
        "                  weights     kB  gzip kB     MACs  accuracy        95 %     us",
        "start              1.33 M  5,327    4,812   9.87 M    0.9873  0.98-0.992  1,234",
        "shrink-embedding   20.2 k   81.6        -  148.0 k    0.9821   0.97-0.99      -",
    ]
    assert "65.3 times smaller than the float32 file, 66.7 times fewer MACs." in lines
    assert "  model.json, model.tflite, report.json" in lines


def test_a_recipe_is_run_and_notes_are_warnings(run, replace, done, tmp_path):
    given = {}

    def compress(model, **options):
        given.update(options, model=model)
        return done

    replace("compression.runner", compress=compress)
    (tmp_path / "r.toml").write_text("")
    out = run(
        "compress", "m.keras", "--data", "task:rows", "--recipe", tmp_path / "r.toml", "-o", "out", "--no-latency"
    )
    assert out.code == 0
    assert out.out == summary(done) + "\n"
    assert "edgelstm: warning: shrink-embedding: Layer 'a' was left alone." in out.err
    assert (str(given["model"]), given["data"], str(given["output"])) == ("m.keras", "task:rows", "out")
    assert (given["latency"], given["restart"]) == (False, False)
    out = run("compress", "m.keras", "--data", "d", "--recipe", tmp_path / "r.toml", "-o", "out", "--json")
    assert [step["name"] for step in json.loads(out.out)["steps"]] == ["start", "shrink-embedding"]


def test_wrong_usage_ends_with_2(run, replace, tmp_path):
    (tmp_path / "r.toml").write_text('[[stage]]\nkind = "prone"')
    out = run("compress", "m.keras", "--data", "d", "--recipe", tmp_path / "r.toml", "-o", "out")
    assert out.code == 2
    assert "Did you mean 'prune'?" in out.err
    out = run("compress", "m.keras", "--data", "d", "--recipe", tmp_path / "none.toml", "-o", "out")
    assert out.code == 1
    assert run("compress", "m.keras", "-o", "out").code == 2

    def compress(model, **options):
        raise SettingError("Stage 1: no.")

    replace("compression.runner", compress=compress)
    (tmp_path / "r.toml").write_text("")
    assert run("compress", "m.keras", "--data", "d", "--recipe", tmp_path / "r.toml", "-o", "out").code == 2


def test_an_interruption_says_how_to_go_on(run, replace, tmp_path):
    def compress(model, **options):
        raise KeyboardInterrupt

    replace("compression.runner", compress=compress)
    (tmp_path / "r.toml").write_text("")
    out = run("compress", "m.keras", "--data", "d", "--recipe", tmp_path / "r.toml", "-o", "out")
    assert out.code == 130
    assert "give the same command again to go on" in out.err


def test_stages_are_listed_and_explained(run):
    lines = run("stages").out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == list(STAGES)
    assert max(map(len, lines)) <= 80
    for name in STAGES:
        text = run("stages", name).out
        assert text.startswith(f"{name}: ")
        assert max(map(len, text.splitlines())) <= 80
    assert {entry["name"] for entry in json.loads(run("stages", "--json").out)} == set(STAGES)
    out = run("stages", "prone")
    assert out.code == 2
    assert "Did you mean 'prune'?" in out.err
