"""Every variant of every task trains on offline data and converts in every precision, verified against Keras."""

from __future__ import annotations

import json

import pytest

import edgelstm
from edgelstm.errors import VerificationError
from edgelstm.tasks import TASKS, load_task
from edgelstm.training import train
from edgelstm.training.evaluation import evaluate
from tests.tasks.small import LENGTHS, SMALL

pytestmark = pytest.mark.matrix

PRECISIONS = ("float32", "float16", "dynamic", "int8")
REFUSED = {
    # 8 bits do not hold a spectrum before its logarithm is taken.
    ("speech", "raw", "int8"): "output 'word' differs from Keras'",
}
"""What cannot be exact enough, with the beginning of the reason that verification gives; docs/tasks.md tells of it."""

CASES = [(name, variant) for name in TASKS for variant in load_task(name).variants]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Trains each variant once."""
    done = {}

    def run_of(name, variant):
        if (name, variant) not in done:
            folder = tmp_path_factory.mktemp(f"{name}-{variant}") / "run"
            settings = {"epochs": 1, **SMALL[name]}
            done[name, variant] = train(name, folder, variant=variant, settings=settings)
        return done[name, variant]

    return run_of


def cases(*precisions):
    return [
        pytest.param(
            *case,
            *precision,
            id="-".join([*case, *precision]),
            marks=pytest.mark.xdist_group(f"task-{case[0]}-{case[1]}"),
        )
        for case in CASES
        for precision in precisions
    ]


@pytest.mark.parametrize("name, variant", cases(()))
def test_a_training_leaves_everything_in_its_folder(runs, name, variant):
    run = runs(name, variant)
    there = {path.name for path in run.folder.iterdir()}
    assert {"model.keras", "run.json", "metrics.json", "history.csv", "calibration.npz"} <= there
    assert {"curves.png", "architecture.png"} <= there
    assert "checkpoint.npz" not in there
    main = run.task.objective.main
    metrics = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["main"] == main
    assert main in metrics["test"]


@pytest.mark.parametrize("name, variant, precision", cases(*((precision,) for precision in PRECISIONS)))
def test_its_model_converts_in_every_precision(runs, name, variant, precision, tmp_path):
    run = runs(name, variant)
    if (name, variant, precision) in REFUSED:
        with pytest.raises(VerificationError, match=REFUSED[name, variant, precision]):
            edgelstm.convert(
                run.model_path, tmp_path / "m.tflite", quantize=precision, calibration=run.calibration_path
            )
        assert not (tmp_path / "m.tflite").exists()
        return
    artifact = edgelstm.convert(
        run.model_path,
        tmp_path / "m.tflite",
        quantize=precision,
        calibration=run.calibration_path,
        length=LENGTHS.get(f"{name}/{variant}"),
    )
    assert artifact.card["parity"]
    if precision == "float32":
        main = run.task.objective.main
        assert evaluate(run, artifact.path)[main] == pytest.approx(run.metrics["test"][main], abs=1e-3)
