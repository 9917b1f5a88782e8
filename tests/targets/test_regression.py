from __future__ import annotations

import pytest

from edgelstm.targets.regression import find_regressions
from edgelstm.targets.subjects import Settings
from tests.targets.made import emulated, estimated, measured


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


def test_the_tolerance_is_the_callers():
    assert not find_regressions([measured(100.0)], [measured(120.0, seed=1)], tolerance=0.5).has_regression
    with pytest.raises(ValueError, match=r"tolerance is -0\.1, but must not be negative"):
        find_regressions([], [], tolerance=-0.1)


def test_one_percent_more_instructions_is_a_regression():
    assert find_regressions([emulated(1_000_000)], [emulated(1_010_000)]).has_regression
    assert not find_regressions([emulated(1_000_000)], [emulated(1_001_000)]).has_regression
    assert find_regressions([estimated(100.0)], [estimated(110.0)]).has_regression


def test_models_are_matched_by_name_target_and_settings():
    old = [measured(100.0, name="a.tflite"), measured(100.0, name="b.tflite")]
    new = [
        measured(100.0, name="b.tflite", seed=1),
        measured(50.0, name="b.tflite", settings=Settings(threads=2)),
    ]
    report = find_regressions(old, new)
    assert [change.artifact for change in report.changes] == ["b.tflite"]
    assert report.missing == ("a.tflite on cpu (1 thread)",)
    assert report.added == ("b.tflite on cpu (2 threads)",)
    assert report.has_regression


def test_the_document_says_what_the_exit_code_says():
    document = find_regressions([measured(100.0)], [measured(150.0, seed=1)]).to_json()
    assert document["regression"] is True
    assert document["changes"][0]["verdict"] == "slower"
    assert document["changes"][0]["ratio"]["value"] == pytest.approx(1.5, rel=0.01)
