from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest

from edgelstm.cli.compress import summary
from edgelstm.compression.auto import Goals
from edgelstm.compression.measures import Measures
from edgelstm.compression.report import report_text
from edgelstm.compression.steps import EXPORT, Compression, Step
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


def test_what_was_tried_in_vain_is_told_with_the_reason(done):
    dropped = Step("prune-units", {"fraction": 0.5, "epochs": 9}, END, kept=False, reason="it loses 3.00 points")
    refused = Step(EXPORT, {"quantize": "int8", "layers": {"lstm": "dynamic"}}, None, kept=False, reason="no.")
    tried = dataclasses.replace(done, tried=(*done.tried, dropped, refused), target="cpu", guard=(2.0, 63))
    lines = summary(tried).splitlines()
    assert "  - prune-units (fraction 0.5, epochs 9): it loses 3.00 points." in lines
    assert "  - export int8 with lstm in dynamic: no." in lines
    assert max(len(line) for line in lines if str(done.folder) not in line) <= 80
    assert "Tried" not in summary(done)
    assert "us: median time of a call on cpu, one thread." in " ".join(lines)
    assert "The guard allowed 2 points, judged by 63 other examples." in " ".join(lines)
    text = report_text(tried)
    assert "| shrink-embedding | 20.2 k | 81.6 | - | 148.0 k | 0.9821 | 0.97-0.99 | - |" in text.splitlines()
    assert "- prune-units (fraction 0.5, epochs 9): it loses 3.00 points." in text.splitlines()
    assert "- shrink-embedding: Layer 'a' was left alone." in text.splitlines()


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


@pytest.mark.parametrize(
    "flags, goals",
    [
        ([], None),
        (["--max-size", "100KB"], Goals(max_size_bytes=100_000)),
        (["--max-size", "1.5 MiB", "--time-budget", "1h"], Goals(max_size_bytes=1.5 * 2**20, time_budget_s=3600)),
        (["--max-latency", "2ms"], Goals(max_latency_us=2000)),
        (["--max-latency", "500us"], Goals(max_latency_us=500)),
    ],
)
def test_without_a_recipe_one_is_looked_for(run, replace, done, flags, goals):
    given = {}

    def compress(model, **options):
        given.update(options)
        return done

    replace("compression.runner", compress=compress)
    assert run("compress", "m.keras", "--data", "d", "-o", "out", "--max-drop", "1.5", *flags).code == 0
    assert given["recipe"] is None
    assert given["goals"] == goals
    assert (given["max_drop"], given["target"]) == (1.5, "cpu")


def test_goals_that_make_no_sense_end_with_2(run, tmp_path):
    (tmp_path / "r.toml").write_text("")
    recipe = ["--recipe", tmp_path / "r.toml"]
    for flags, words in [
        (["--max-size", "much"], "'much' is not a size such as 100KB"),
        (["--max-size", "0KB"], "is not a size"),
        (["--max-latency", "2 apples"], "is not a time such as 2ms or 30m"),
        (["--max-size", "1KB", *recipe], "are for finding a recipe"),
        (["--max-latency", "2ms", "--no-latency"], "needs latency to be measured"),
        (["--target", "gpuu"], "Target 'gpuu' is not known"),
        (["--max-drop", "-1", *recipe], "max_drop must be at least 0"),
    ]:
        out = run("compress", "m.keras", "--data", "d", "-o", "out", *flags)
        assert out.code == 2, flags
        assert words in " ".join(out.err.split())


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
