from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.errors import ModelRunError, SettingError
from edgelstm.targets.measurement import Measurement
from edgelstm.targets.profile import KIND, ProfileTarget
from edgelstm.targets.profile.calibration import read_calibration
from edgelstm.targets.profile.cost import estimate_cost
from edgelstm.targets.profile.device import device_names, find_device
from edgelstm.targets.profile.memory import MICRO_ARENA_SHARE, MICRO_CODE_BYTES, check_memory
from edgelstm.targets.profile.pieces import Piece
from edgelstm.targets.profile.work import Work, read_work
from edgelstm.targets.subjects import Settings
from tests.targets.profile.made import CALIBRATION, device
from tests.tiny_models import TinyModels

TIME, FEATURES, UNITS = 24, 5, 6


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Makes files of one small LSTM in any form and precision."""
    folder = tmp_path_factory.mktemp("converted")
    model = keras.Sequential([layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS), layers.Dense(2)])
    data = np.random.default_rng(0).normal(size=(8, TIME, FEATURES)).astype(np.float32)

    def convert(runtime, precision):
        path = folder / f"{runtime}-{precision}.tflite"
        if not path.exists():
            edgelstm.convert(model, path, quantize=precision, runtime=runtime, calibration=data, verify=False)
        return path

    return convert


def test_an_estimate_is_labelled_and_has_a_band_parts_and_sources(models):
    target = ProfileTarget("raspberry-pi-4")
    measured = target.measure(models["fused_lstm"], "quick")
    estimate = measured.estimate
    assert estimate is not None
    assert (measured.kind, measured.target, measured.runtime) == ("estimated", "profile:raspberry-pi-4", "none")
    assert (measured.statistics, measured.count, measured.processes) == (None, None, ())
    assert measured.machine["device"] == "Raspberry Pi 4 Model B"
    found = find_device("raspberry-pi-4")
    cost = estimate_cost(read_work(models["fused_lstm"]), found, read_calibration())
    assert estimate.parts == pytest.approx(cost.in_us(found))
    assert estimate.latency_us == pytest.approx(sum(estimate.parts.values())) == pytest.approx(cost.cycles / 1500)
    factor = read_calibration().factor
    assert estimate.low_us == estimate.latency_us / factor
    assert estimate.high_us == pytest.approx(estimate.latency_us * factor * found.upper_factor)
    assert "the upper end is 2 times farther: a judgement" in estimate.band
    assert estimate.band.startswith(read_calibration().band)
    assert estimate.sources == found.sources
    with pytest.raises(ValueError, match="was estimated, not timed"):
        measured.p50_us  # noqa: B018


def test_a_measurement_survives_json(models):
    measured = ProfileTarget("raspberry-pi-5").measure(models["fused_lstm"], "quick")
    assert Measurement.from_json(json.loads(json.dumps(measured.to_json()))) == measured


def test_a_session_answers_in_json_values_and_the_same_each_time(models):
    from edgelstm.targets.plans import PLANS
    from edgelstm.targets.subjects import Subject

    target, subject = ProfileTarget("raspberry-pi-3"), Subject.read(models["fused_lstm"])
    assert target.num_rounds(PLANS["full"]) == 1
    with target.open() as session:
        first, second = (session.run(subject, PLANS["full"]) for _ in range(2))
    assert first == second == json.loads(json.dumps(first))


def test_loops_and_unrolled_steps_multiply_as_often_as_the_fused_operator(converted):
    macs = {}
    for runtime in ("interpreter", "compiled", "mediapipe"):
        work = read_work(converted(runtime, "float32"))
        macs[runtime] = sum(piece.macs * piece.runs for piece in work.pieces)
        assert (work.turns > 0) == (runtime == "compiled")
    assert set(macs.values()) == {TIME * 4 * UNITS * (FEATURES + UNITS) + 2 * UNITS}


def test_float16_computes_as_float32_and_takes_more_memory(converted):
    full, half = (read_work(converted("interpreter", precision)) for precision in ("float32", "float16"))

    def computed(work):
        return sorted(
            (piece.operator, piece.kernel or "", piece.macs, piece.weight_bytes, piece.runs) for piece in work.pieces
        )

    assert computed(full) == computed(half)
    assert (full.expanded_bytes, half.expanded_bytes > 0) == (0, True)


def test_precisions_have_their_own_kernels(converted):
    kernels = {
        precision: {piece.kernel for piece in read_work(converted("interpreter", precision)).pieces if piece.steps}
        for precision in ("float32", "float16", "dynamic", "int8")
    }
    assert kernels == {
        "float32": {"lstm_float32"}, "float16": {"lstm_float32"}, "dynamic": {"lstm_dynamic"}, "int8": {"lstm_int8"},
    }  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_microcontroller_runs_what_is_converted_for_it(converted, precision):
    estimate = ProfileTarget("cortex-m7").measure(converted("micro", precision), "quick").estimate
    assert estimate is not None
    factor = read_calibration().micro_factor
    assert estimate.high_us / estimate.low_us == pytest.approx(factor**2)
    assert estimate.band == read_calibration().micro_band


@pytest.mark.parametrize("precision", ["dynamic", "float16"])
def test_a_microcontroller_refuses_the_rest_in_a_sentence(converted, precision):
    path = converted("interpreter", precision)
    with pytest.raises(ModelRunError, match="profile:cortex-m7 runs TensorFlow Lite Micro, which does not run this"):
        ProfileTarget("cortex-m7").measure(path, "quick")


@pytest.mark.parametrize("sizes", [{"batch": 2}, {"length": TIME + 1}, {"batch": 1, "length": FEATURES}])
def test_a_microcontroller_resizes_nothing(converted, sizes):
    with pytest.raises(ModelRunError, match="which resizes nothing"):
        ProfileTarget("cortex-m7").measure(converted("micro", "float32"), "quick", Settings(**sizes))


@pytest.mark.parametrize("name, runtime", [("raspberry-pi-4", "interpreter"), ("cortex-m7", "micro")])
def test_the_sizes_of_the_file_may_be_given(converted, name, runtime):
    path = converted(runtime, "float32")
    plain, sized = (
        ProfileTarget(name).measure(path, "quick", settings).estimate
        for settings in (Settings(), Settings(batch=1, length=TIME))
    )
    assert sized == plain


@pytest.mark.parametrize("name, settings, message", [
    ("raspberry-pi-4", Settings(runtime="onnxruntime"), "stock kernels of ai-edge-litert, .*, not onnxruntime"),
    ("cortex-m7", Settings(runtime="ai-edge-litert"), "stock kernels of tflite-micro, not ai-edge-litert"),
    ("raspberry-pi-4", Settings(delegate="d.so"), "not those of a delegate"),
    ("raspberry-pi-4", Settings(threads=5), "has 4 cores, not 5"),
    ("cortex-m7", Settings(threads=2), "has 1 core, not 2"),
    ("raspberry-pi-4", Settings(mode="jit"), "^profile:raspberry-pi-4 knows no mode 'jit': that is for Keras. Leave"),
    ("cortex-m7", Settings(dtype="float16"), "^profile:cortex-m7 knows no dtype 'float16': that is for Keras. Leave"),
])  # fmt: skip
def test_settings_that_the_method_does_not_know_are_refused(name, settings, message, models):
    with pytest.raises(SettingError, match=message):
        ProfileTarget(name).measure(models["fused_lstm"], "quick", settings)


def test_a_damaged_file_is_a_sentence(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    for name in ("raspberry-pi-4", "cortex-m7"):
        with pytest.raises(ModelRunError, match="truncated or damaged"):
            ProfileTarget(name).measure(path, "quick")


def test_the_kind_makes_targets_and_lists_each_profile():
    assert KIND.make("profile:raspberry-pi-zero-2").name == "profile:raspberry-pi-zero-2"
    listed = KIND.available()
    assert [entry.name for entry in listed] == [f"profile:{name}" for name in device_names()]
    assert all(entry.reachable and "not a measurement" in entry.text for entry in listed)
    assert "Raspberry Pi 4 Model B (Cortex-A72)" in " ".join(entry.text for entry in listed)
    with pytest.raises(SettingError, match="There is no profile 'nothing'"):
        KIND.make("profile:nothing")
    with pytest.raises(SettingError, match="needs the name of a profile: profile:cortex-m7"):
        KIND.make("profile:")


def test_a_model_that_does_not_fit_is_a_sentence(tmp_path):
    path = tmp_path / "m.tflite"
    micro = find_device("cortex-m7")
    fits = Work((), 0, micro.flash_bytes - MICRO_CODE_BYTES, 0, int(micro.ram_bytes / MICRO_ARENA_SHARE))
    check_memory(path, fits, micro)
    with pytest.raises(ModelRunError, match=r"needs about 2\.0 MiB of flash, but STM32H743 has 2\.0 MiB"):
        check_memory(path, dataclasses.replace(fits, file_bytes=fits.file_bytes + 1), micro)
    with pytest.raises(ModelRunError, match="needs about 650 KiB of RAM in one piece, but STM32H743 has 512 KiB"):
        check_memory(path, dataclasses.replace(fits, live_bytes=500 * 1024), micro)
    board = device(ram_bytes=100 * 2**20)
    check_memory(path, Work((), 0, 20 * 2**20, 20 * 2**20, 20 * 2**20), board)
    with pytest.raises(ModelRunError, match=r"needs about 101\.0 MiB of memory, but a made device has 100\.0 MiB"):
        check_memory(path, Work((), 0, 20 * 2**20, 21 * 2**20, 20 * 2**20), board)
    packed = Piece("FULLY_CONNECTED", kernel="float32", macs=1, weight_bytes=2**20, weights=(1,), operators=61, runs=61)
    with pytest.raises(ModelRunError, match=r"needs about 101\.0 MiB"):
        check_memory(path, Work((packed,), 0, 0, 0, 0), board)


def test_an_estimate_scales_with_the_clock(models):
    slow, fast = (
        ProfileTarget(device(clock_ghz=clock), CALIBRATION).measure(models["fused_lstm"], "quick").estimate
        for clock in (1.0, 4.0)
    )
    assert slow is not None
    assert fast is not None
    assert slow.latency_us == pytest.approx(4 * fast.latency_us)  # all in caches, which share the clock


@pytest.mark.cold
def test_importing_the_target_imports_no_runtime():
    code = (
        "import sys, edgelstm.targets.profile; "
        "print([name for name in ('tensorflow', 'keras', 'ai_edge_litert', 'flatbuffers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
