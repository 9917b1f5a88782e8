from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import SettingError, TargetError
from edgelstm.targets.base import SetupOptions
from edgelstm.targets.emulated import KIND, userland
from edgelstm.targets.emulated.comparison import Comparison
from edgelstm.targets.emulated.counts import NAMES
from edgelstm.targets.emulated.emulator import Emulator
from edgelstm.targets.emulated.target import EmulatedTarget
from edgelstm.targets.measurement import Measurement
from edgelstm.targets.plans import PLANS
from edgelstm.targets.subjects import Settings, Subject

AGREES = Comparison("ai-edge-litert 2.3.0", 1e-7, 0.5)


def made_run(instructions: list[int], comparison: Comparison | None = AGREES) -> dict[str, Any]:
    ready = {"runtime": "tflite-runtime", "runtime_version": "2.14.0", "python": "3.11.2", "numpy": "1.26.4"}
    run = {
        "ready": ready,
        "core": "cortex-a72",
        "inferences": [dict.fromkeys(NAMES, number) for number in instructions],
        "comparison": comparison and comparison.to_json(),
        "not_compared": None if comparison else "there is no runtime.",
    }
    return dict(json.loads(json.dumps(run)))  # as it is kept until an interrupted run goes on


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "m.tflite").write_bytes(b"model")
    return Subject.read(tmp_path / "m.tflite")


@pytest.mark.parametrize(
    "name, architecture, board",
    [
        ("emulated:arm64", "arm64", "pi4"),
        ("emulated:armhf", "armhf", "pi3"),
        ("emulated:arm64/pi5", "arm64", "pi5"),
        ("emulated:armhf/zero-2", "armhf", "zero-2"),
    ],
)
def test_names_say_architecture_and_board(name: str, architecture: str, board: str) -> None:
    target = KIND.make(name)
    assert isinstance(target, EmulatedTarget)
    assert (target.name, target.architecture.name, target.board.name) == (name, architecture, board)
    assert (target.kind, target.num_rounds(PLANS["full"])) == ("emulated", 1)


@pytest.mark.parametrize(
    "name", ["emulated:", "emulated:x86", "emulated:arm64/", "emulated:arm64/pi1", "emulated:/pi4"]
)
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(SettingError, match=r"is not known.*(emulated:armhf|zero-2, pi3, pi4, pi5)"):
        KIND.make(name)
    assert KIND.setup is not None
    with pytest.raises(SettingError, match="is not known"):
        KIND.setup(name, SetupOptions(), None)


def test_several_threads_are_refused_with_the_reason(subject: Subject) -> None:
    with pytest.raises(SettingError, match="counts one thread only: threads wait for each other"):
        EmulatedTarget().check(Settings(threads=2))


@pytest.mark.parametrize("architecture, runtime", [("armhf", "ai-edge-litert"), ("arm64", "onnxruntime")])
def test_runtimes_that_are_not_there_are_refused(architecture: str, runtime: str) -> None:
    with pytest.raises(
        SettingError, match=f"emulated:{architecture} has no runtime '{runtime}', only .*tflite-runtime"
    ):
        EmulatedTarget(architecture).check(Settings(runtime=runtime))
    EmulatedTarget(architecture).check(Settings(runtime="tflite-runtime"))


def test_nothing_set_up_is_said_in_lists_and_when_opened(empty_home: Path) -> None:
    assert [(each.name, each.reachable, each.text) for each in KIND.available()] == [
        (f"emulated:{name}", False, f"not set up yet: edgelstm targets setup emulated:{name}.")
        for name in ("arm64", "armhf")
    ]
    with pytest.raises(TargetError, match="emulated:armhf: not set up yet"), EmulatedTarget("armhf").open():
        pass


def test_what_is_set_up_is_listed_with_its_boards(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "why_not_usable", lambda name: None if name == "armhf" else "not set up yet")
    assert [each.reachable for each in KIND.available()] == [False, True]
    assert KIND.available()[1].text == (
        "Raspberry Pi 3 Model B emulated by QEMU 7.2, with tflite-runtime: instruction counts, no latency. "
        "Other boards: emulated:armhf/zero-2, /pi4, /pi5."
    )


def test_a_damaged_userland_is_told(tmp_path: Path) -> None:
    target = EmulatedTarget()
    (tmp_path / "arm64").mkdir()
    emulator = Emulator(tmp_path / "arm64", "arm64", target.board)
    with pytest.raises(TargetError, match=r"is damaged: it has no emulator\. .*setup emulated:arm64 --again"):
        emulator.run(["python3.11"])


def test_setup_says_what_is_there(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = userland.place_of("arm64")
    folder.mkdir(parents=True)
    (folder / "content").write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(userland, "set_up", lambda architecture, options, report: folder)
    assert KIND.setup is not None
    assert KIND.setup("emulated:arm64/pi5", SetupOptions(), None) == (
        f"emulated:arm64/pi5 is ready: numpy 1.26.4, ai-edge-litert 2.3.0, tflite-runtime 2.14.0, in {folder} (3 MiB)."
    )
    with pytest.raises(SettingError, match="There is no onnxruntime for emulated:arm64, only ai-edge-litert, tflite"):
        KIND.setup("emulated:arm64", SetupOptions(runtime="onnxruntime"), None)


def test_options_of_other_targets_are_refused(empty_home: Path) -> None:
    assert KIND.setup is not None
    with pytest.raises(SettingError, match=r"emulated:arm64 takes no --download: .*Leave it out"):
        KIND.setup("emulated:arm64", SetupOptions(options={"download": "yes"}), None)
    assert not empty_home.exists()


def test_a_measurement_is_of_counts_and_never_of_times(subject: Subject) -> None:
    measurement = EmulatedTarget().conclude(subject, PLANS["quick"], [made_run([105, 100, 101])])
    assert (measurement.kind, measurement.statistics, measurement.processes) == ("emulated", None, ())
    assert measurement.count is not None
    assert (measurement.count.instructions, measurement.count.least, measurement.count.most) == (101, 100, 105)
    assert measurement.count.cpu == "cortex-a72"
    assert (measurement.runtime, measurement.runtime_version) == ("tflite-runtime", "2.14.0")
    assert measurement.machine["device"] == "Raspberry Pi 4 Model B Rev 1.4, emulated by QEMU 7.2"
    assert (measurement.machine["largest_difference"], measurement.machine["compared_with"]) == (
        *(1e-7, "ai-edge-litert 2.3.0"),
    )
    assert measurement.warnings == ()
    with pytest.raises(ValueError, match="was emulated, not timed"):
        _ = measurement.p50_us
    assert Measurement.from_json(json.loads(json.dumps(measurement.to_json()))) == measurement


@pytest.mark.parametrize(
    "comparison, warning",
    [
        (Comparison("x", 0.5, 0.0, "The answers differ by 0.5."), "The answers differ by 0.5."),
        (None, "The answers were not compared with those of this machine: there is no runtime."),
    ],
)
def test_answers_that_differ_are_a_warning(subject: Subject, comparison: Comparison | None, warning: str) -> None:
    measurement = EmulatedTarget().conclude(subject, PLANS["quick"], [made_run([5], comparison)])
    assert measurement.warnings == (warning,)
    assert measurement.machine["largest_difference"] == (0.5 if comparison else None)
