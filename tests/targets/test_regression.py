from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgelstm.errors import LoadError
from edgelstm.targets.regression import find_regressions
from edgelstm.targets.subjects import Settings
from tests.targets.made import emulated, estimated, measured, processes


@pytest.mark.parametrize(
    "new_us, verdict", [(120.0, "slower"), (80.0, "faster"), (101.0, "same"), (105.0, "unsure"), (95.3, "unsure")]
)
def test_a_change_counts_when_its_whole_interval_is_beyond_the_tolerance(new_us, verdict):
    report = find_regressions([measured(100.0)], [measured(new_us, seed=1)])
    assert [change.verdict for change in report.changes] == [verdict]
    assert report.has_regression is (verdict == "slower")


def test_noise_is_no_regression():
    noisy = [measured(100.0 + 20 * shift, seed=shift).processes[0] for shift in range(3)]
    report = find_regressions([measured(processes=tuple(noisy))], [measured(118.0, seed=7)])
    assert not report.has_regression


@pytest.mark.parametrize("new_us, verdict", [(106.0, "unsure"), (115.0, "unsure"), (150.0, "slower"), (60.0, "faster")])
def test_one_process_on_each_side_does_not_know_the_noise(new_us, verdict):
    old, new = (measured(value, processes=processes(value, count=1)) for value in (100.0, new_us))
    assert find_regressions([old], [new]).changes[0].verdict == verdict


def test_the_tolerance_is_the_callers():
    assert not find_regressions([measured(100.0)], [measured(120.0, seed=1)], tolerance=0.5).has_regression
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must not be negative"):
            find_regressions([], [], tolerance=wrong)


def test_one_percent_more_instructions_is_a_regression():
    assert find_regressions([emulated(1_000_000)], [emulated(1_010_000)]).has_regression
    assert not find_regressions([emulated(1_000_000)], [emulated(1_001_000)]).has_regression
    assert find_regressions([estimated(100.0)], [estimated(110.0)]).has_regression


def test_models_are_matched_by_name_target_runtime_and_settings():
    old = [measured(100.0, name="a.tflite"), measured(100.0, name="b.tflite")]
    new = [
        measured(100.0, name="b.tflite", seed=1),
        measured(50.0, name="b.tflite", settings=Settings(threads=2)),
        measured(50.0, name="b.tflite", runtime="tflite-runtime"),
    ]
    report = find_regressions(old, new)
    assert [(change.artifact, change.runtime) for change in report.changes] == [("b.tflite", "ai-edge-litert")]
    assert report.missing == ("a.tflite on cpu (ai-edge-litert, 1 thread)",)
    assert report.added == (
        "b.tflite on cpu (ai-edge-litert, 2 threads)",
        "b.tflite on cpu (tflite-runtime, 1 thread)",
    )
    assert report.has_regression


def test_files_of_one_name_are_told_apart_by_their_folders():
    old = [measured(100.0, name=f"{folder}/model.tflite") for folder in "ab"]
    new = [measured(value, name=f"{folder}/model.tflite", seed=1) for folder, value in (("a", 300.0), ("b", 100.0))]
    report = find_regressions(old, new)
    assert [change.verdict for change in report.changes] == ["slower", "same"]
    with pytest.raises(LoadError, match="is in one output twice"):
        find_regressions([old[0], old[0]], new)


def test_a_delegate_of_another_folder_is_the_same_delegate():
    old, new = (measured(100.0, settings=Settings(delegate=f"/build-{n}/lib.so"), seed=n) for n in (1, 2))
    assert len(find_regressions([old], [new]).changes) == 1


def test_outputs_with_nothing_in_common_are_refused():
    with pytest.raises(LoadError, match="no model in common"):
        find_regressions([measured(name="a")], [measured(name="b")])


def test_what_else_differs_is_said():
    old = measured(100.0)
    new = replace(measured(100.0, seed=1), runtime_version="10", machine={**old.machine, "cpu": "Loom"})
    assert find_regressions([old], [new]).notes == (
        "The processor of cpu differs: Abacus, then Loom.",
        "The version of ai-edge-litert differs: 9.8, then 10.",
    )


def test_the_document_says_what_the_exit_code_says():
    document = find_regressions([measured(100.0)], [measured(150.0, seed=1)]).to_json()
    assert document["regression"] is True
    assert document["changes"][0]["verdict"] == "slower"
    assert document["changes"][0]["ratio"]["value"] == pytest.approx(1.5, rel=0.01)
    assert str(Path(document["changes"][0]["artifact"])) == "m.tflite"
