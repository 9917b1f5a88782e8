"""Real Arm runtimes under the emulator."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import ModelRunError
from edgelstm.targets.emulated import comparison, target
from edgelstm.targets.emulated.emulator import Emulator
from edgelstm.targets.emulated.pins import ARCHITECTURES
from edgelstm.targets.emulated.target import EmulatedTarget
from edgelstm.targets.emulated.userland import find_userland, read_manifest, set_up
from edgelstm.targets.measurement import InstructionCount, Measurement
from edgelstm.targets.subjects import Settings

# The first one sets up the userlands.
pytestmark = [pytest.mark.arm, pytest.mark.xdist_group("emulated"), pytest.mark.timeout(900)]

Emulators = Callable[[str], Emulator]

STEPS, FEATURES = 12, 5
SMALL, LARGE = 16, 48


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Returns the file of a model of one LSTM, by its units."""

    @functools.cache
    def convert(units: int) -> Path:
        import keras

        import edgelstm

        network = keras.Sequential([keras.Input((STEPS, FEATURES)), keras.layers.LSTM(units), keras.layers.Dense(4)])
        rng = np.random.default_rng(units)
        network.set_weights([rng.normal(0, 0.4, weight.shape) for weight in network.get_weights()])
        path = tmp_path_factory.mktemp("models") / f"lstm{units}.tflite"
        edgelstm.convert(network, path)
        return path

    return convert


def measure(architecture: str, path: Path, board: str | None = None, **settings: Any) -> Measurement:
    return EmulatedTarget(architecture, board).measure(path, "quick", Settings(**settings))


def count_of(measurement: Measurement) -> InstructionCount:
    assert measurement.count is not None
    return measurement.count


def assert_answers_agree(measurement: Measurement) -> None:
    assert measurement.warnings == ()
    assert 0 <= measurement.machine["largest_difference"] <= comparison.FLOAT_TOLERANCE
    assert measurement.machine["compared_with"].startswith("ai-edge-litert")


def test_counts_repeat_and_answers_are_those_of_this_machine(
    emulator: Emulators, model: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator("arm64")
    first, second = (measure("arm64", model(SMALL)) for _ in range(2))
    for measurement in (first, second):
        assert_answers_agree(measurement)
        assert (measurement.runtime, measurement.count and measurement.count.cpu) == ("ai-edge-litert", "cortex-a72")
    one, other = count_of(first), count_of(second)
    assert other.instructions == pytest.approx(one.instructions, rel=1e-3)
    assert other.parts == pytest.approx(one.parts, rel=5e-3)


def test_more_units_cost_more_as_the_arithmetic_says(emulator: Emulators, model: Callable[[int], Path]) -> None:
    emulator("arm64")
    small, large = (measure("arm64", model(units), "pi5") for units in (SMALL, LARGE))
    assert_answers_agree(large)
    # Four gates, four lanes: all multiply-adds of the LSTM, and few beyond them for its activations.
    least = {units: STEPS * (FEATURES + units) * 4 * units / 4 for units in (SMALL, LARGE)}
    for units, measurement in ((SMALL, small), (LARGE, large)):
        count = count_of(measurement)
        assert least[units] <= count.parts["multiply_adds"] <= 2 * least[units] + 20_000
        assert count.parts["multiply_adds"] < count.parts["simd"] < count.instructions
        assert count.parts["loads"] > count.parts["stores"] > 0
        assert 1 < count.parts["load_bytes"] / count.parts["loads"] <= 8
    assert count_of(large).instructions > 2 * count_of(small).instructions
    assert count_of(large).parts["load_bytes"] > 4 * FEATURES * 4 * LARGE  # every weight at least once


def test_tflite_runtime_answers_on_32_bit_boards(emulator: Emulators, model: Callable[[int], Path]) -> None:
    emulator("armhf")
    measurement = measure("armhf", model(SMALL))
    assert_answers_agree(measurement)
    assert (measurement.runtime, measurement.runtime_version) == ("tflite-runtime", "2.14.0")
    count = count_of(measurement)
    assert count.cpu == "cortex-a7"
    assert 0 < count.parts["multiply_adds"] < count.parts["simd"] < count.instructions


def test_answers_that_are_wrong_are_seen(
    emulator: Emulators, model: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator("arm64")
    there = measure("arm64", model(SMALL), seed=1)
    run_worker = target.run_worker

    def run_with_another_input(plan: dict[str, Any]) -> list[dict[str, Any]]:
        return run_worker({**plan, "seed": 2})

    monkeypatch.setattr(target, "run_worker", run_with_another_input)
    wrong = measure("arm64", model(SMALL), seed=1)
    assert there.warnings == ()
    assert "'output" in wrong.warnings[0] or "The answers differ" in wrong.warnings[0]
    assert wrong.machine["largest_difference"] > 0.01


def test_a_damaged_model_is_one_sentence(emulator: Emulators, model: Callable[[int], Path], tmp_path: Path) -> None:
    emulator("arm64")
    path = tmp_path / "damaged.tflite"
    path.write_bytes(model(SMALL).read_bytes()[:2000])
    with pytest.raises(ModelRunError) as raised:
        measure("arm64", path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "qemu" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_worker_that_hangs_is_stopped(emulator: Emulators, model: Callable[[int], Path]) -> None:
    emulator("arm64")
    hurried = EmulatedTarget("arm64", timeout_s=0.5)
    with pytest.raises(ModelRunError, match=r"lstm16.tflite: the worker in emulated:arm64 was stopped after 0\.5 s"):
        hurried.measure(model(SMALL), "quick")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_programs_run_with_the_board_around_them(emulator: Emulators, architecture: str) -> None:
    code = (
        "import json, os, platform, sys; print(json.dumps([platform.machine(), os.cpu_count(), sys.stdin.read(), "
        "open('/proc/cpuinfo').read()[-60:], dict(os.environ), open('/proc/device-tree/model').read()])); sys.exit(7)"
    )
    done = emulator(architecture).run(["python3.11", "-c", code], stdin="text", environment={"X": "1"})
    machine, cores, stdin, cpuinfo, environment, device = json.loads(done.stdout)
    assert (done.status, machine, cores, stdin) == (7, ARCHITECTURES[architecture].machine, 4, "text")
    assert "Raspberry Pi" in cpuinfo
    assert "Raspberry Pi" in device
    assert environment["X"] == "1"
    assert environment["PYTHONHASHSEED"] == "0"
    assert not {"LD_LIBRARY_PATH", "EDGELSTM_HOME"} & set(environment)


def test_what_a_program_marks_is_counted(emulator: Emulators) -> None:
    code = "import ctypes; s = ctypes.CDLL(None).syscall\nfor k in (5, 6): s(9999, k)\nsum(range(100000))\ns(9999, 7)"
    done = emulator("arm64").run(["python3.11", "-c", code], counted=True)
    assert [number for number, _ in done.marks] == [5, 6, 7]
    counts = [counters["instructions"] for _, counters in done.marks]
    assert counts[2] - counts[1] > 100_000 + counts[1] - counts[0]


def test_a_program_that_crashes_tells_its_signal_and_leaves_no_memory_image(
    emulator: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = emulator("arm64").run(["python3.11", "-c", "import ctypes; ctypes.string_at(0)"])
    assert (done.status, done.stderr) == (-11, "")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_running_after_a_time_limit(emulator: Emulators) -> None:
    word = f"edgelstm-test-{os.getpid()}-{time.monotonic_ns()}"
    with pytest.raises(subprocess.TimeoutExpired):
        emulator("arm64").run(["python3.11", "-c", "import time; time.sleep(600)", word], timeout_s=2)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert word.encode() not in entry.read_bytes()
        except OSError:
            continue


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_manifest_says_what_is_in_it_and_it_is_not_built_twice(emulator: Emulators, architecture: str) -> None:
    emulator(architecture)
    folder = find_userland(architecture)
    before = folder.stat().st_mtime_ns
    assert set_up(architecture) == folder
    assert folder.stat().st_mtime_ns == before
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest["emulator"]["packages"]["qemu-user"]["version"].startswith("1:7.2")
    assert manifest["debian"]["packages"]["libc6"]["version"].startswith("2.36")
    assert {name: wheel["version"] for name, wheel in manifest["wheels"].items()} == {
        wheel.name: wheel.version for wheel in ARCHITECTURES[architecture].wheels
    }
    hashes = [package["sha256"] for package in manifest["debian"]["packages"].values()]
    assert all(len(each) == 64 for each in hashes)
