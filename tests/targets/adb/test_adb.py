"""The target "adb" against a program that answers as adb does and runs the commands on this machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgelstm.errors import ModelRunError, SettingError, TargetError
from edgelstm.targets.adb import KIND, AdbTarget
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Settings

SHORT = BenchPlan(warmup_s=0.01, max_s=0.02, min_runs=40, max_runs=2000)
LONG = BenchPlan(warmup_s=0.01, max_s=60, min_runs=40, max_runs=10**9)
NATIVE = """\
echo "$@" > {arguments}
echo 'INFO: STARTING!'
echo 'INFO: Loaded model'
echo 'INFO: count=9 first=91020 curr=55300 min=54900 max=91020 avg=60125.5 std=11800 p5=1 median=2 p95=3' >&2
echo 'INFO: count=64 first=310 curr=308 min=301 max=420 avg=311.25 std=8 p5=303 median=309 p95=330' >&2
echo 'INFO: Inference timings in us: Init: 21432, First inference: 91020, Warmup (avg): 6e4, Inference (avg): 311.25'
"""


class TestNames:
    def test_a_serial_is_read(self):
        assert AdbTarget("adb:R5CT").serial == "R5CT"
        assert AdbTarget("adb:192.168.1.5:5555").serial == "192.168.1.5:5555"
        assert AdbTarget("adb:").serial == ""

    @pytest.mark.parametrize("name", ["adb:-x", "adb:a b", "adb:$(reboot)", "adb:a;b", "adb:a\n"])
    def test_what_cannot_be_one_is_refused(self, name):
        with pytest.raises(SettingError, match=r"cannot be a serial number\. Give adb:SERIAL"):
            AdbTarget(name)


class TestByPython:
    def test_a_model_is_measured_and_nothing_is_left_behind(self, phone, model):
        measurement = AdbTarget("adb:").measure(model, SHORT)
        assert len(measurement.processes[0].samples_ns) >= SHORT.min_runs
        assert (measurement.kind, measurement.target, measurement.runtime) == ("measured", "adb:", "ai-edge-litert")
        assert measurement.machine["device"] == "Google Pixel 6"
        assert measurement.machine["cpu"] == "Tensor"
        assert measurement.machine["system"] == "Android 14"
        assert list(phone.temporary.iterdir()) == []
        assert {call[1] for call in phone.calls() if call[0] == "-s"} == {"R5CT"}
        assert [call[2] for call in phone.calls() if call[2:3] == ["push"]] == ["push", "push"]

    def test_a_python_may_be_named(self, phone, model, monkeypatch):
        phone.give("python3", "exit 127")
        monkeypatch.setenv("EDGELSTM_ANDROID_PYTHON", str(phone.give("a python", f'exec {sys.executable} "$@"')))
        assert AdbTarget("adb:R5CT").measure(model, SHORT).statistics.num_samples >= SHORT.min_runs

    def test_run_as_is_not_tried(self, phone, model):
        phone.give("python3", "exit 127")
        phone.give("run-as", f"touch {phone.temporary}/run-as-was-tried; exit 1")
        with pytest.raises(TargetError, match="there is none"):
            AdbTarget("adb:").measure(model, SHORT)
        assert list(phone.temporary.iterdir()) == []

    def test_a_runtime_that_is_not_there_costs_the_model(self, phone, model):
        with pytest.raises(ModelRunError, match=r"there has no tflite-runtime\. Name a Python there") as caught:
            AdbTarget("adb:").measure(model, SHORT, Settings(runtime="tflite-runtime"))
        assert "setup" not in str(caught.value)

    def test_names_that_look_like_options_are_pushed(self, phone, model, monkeypatch):
        model.rename(model.with_name("-p.tflite"))
        monkeypatch.chdir(model.parent)
        AdbTarget("adb:").measure("-p.tflite", SHORT)
        pushed = [call[3] for call in phone.calls() if call[2:3] == ["push"]]
        assert str(model.with_name("-p.tflite")) in pushed
        assert all(path.startswith("/") for path in pushed)

    @pytest.mark.parametrize("text", ["Thermal Status: hot", "Thermal Status: 99999999999999999999"])
    def test_nonsense_is_told(self, phone, model, text):
        phone.give("dumpsys", f"echo '{text}'")
        with pytest.raises(TargetError, match=r"^adb:: it told nonsense of itself \(thermal_status is '.*'\)\."):
            AdbTarget("adb:").measure(model, SHORT)

    def test_a_phone_that_throttles_marks_the_run(self, phone, model):
        phone.give("dumpsys", "echo 'Thermal Status: 2'")
        warnings = AdbTarget("adb:").measure(model, SHORT).warnings
        assert any("its thermal status was 'moderate'" in text for text in warnings)

    def test_no_python(self, phone, model):
        phone.give("python3", "exit 127")
        with pytest.raises(TargetError, match=r"Python 3.9 or newer is needed there|has no runtime for models"):
            AdbTarget("adb:").measure(model, SHORT)

    def test_a_python_without_a_runtime(self, phone, model):
        phone.give("python3", f'exec {sys.executable} -S "$@"')
        with pytest.raises(
            TargetError, match=r"no runtime for models. Name the native tool by EDGELSTM_ANDROID_BENCHMARK="
        ):
            AdbTarget("adb:").measure(model, SHORT)
        assert list(phone.temporary.iterdir()) == []

    def test_a_hang_is_stopped_there_too(self, phone, model):
        with pytest.raises(ModelRunError, match=rf"{model} on adb:: the runtime was stopped after 4 s"):
            AdbTarget("adb:", timeout_s=4).measure(model, LONG)
        assert list(phone.temporary.iterdir()) == []
        running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert str(phone.temporary) not in running

    def test_a_full_disk(self, phone, model):
        phone.set(push_error="remote write failed: No space left on device")
        with pytest.raises(
            TargetError, match=r"sum.tflite \(\d+ bytes\) cannot be written to .*No space left on device"
        ):
            AdbTarget("adb:").measure(model, SHORT)
        assert list(phone.temporary.iterdir()) == []


class TestByTheNativeTool:
    @pytest.fixture
    def tool(self, phone, tmp_path, monkeypatch):
        path = tmp_path / "benchmark_model"
        path.write_text("#!/bin/sh\n" + NATIVE.format(arguments=tmp_path / "arguments"))
        monkeypatch.setenv("EDGELSTM_ANDROID_BENCHMARK", str(path))
        return path

    def test_its_summary_becomes_a_measurement_that_says_so(self, phone, tool, model, tmp_path):
        measurement = AdbTarget("adb:").measure(model, SHORT, Settings(threads=4))
        told = measurement.statistics
        assert (told.num_samples, told.min_us, told.p50_us, told.p90_us, told.p99_us) == (64, 301, 309, 330, 420)
        assert not told.stable
        assert any("tells no single durations" in text for text in measurement.warnings)
        assert (measurement.runtime, measurement.machine["device"]) == ("benchmark_model", "Google Pixel 6")
        assert (measurement.processes[0].load_us, measurement.processes[0].first_invoke_us) == (21432, 91020)
        assert [entry["at"] for entry in measurement.processes[0].conditions] == ["before", "after"]
        arguments = (tmp_path / "arguments").read_text().split()
        assert "--num_threads=4" in arguments
        assert "--num_runs=40" in arguments
        assert any(word.startswith("--graph=") and word.endswith("sum.tflite") for word in arguments)
        assert list(phone.temporary.iterdir()) == []

    def test_nonsense_of_the_tool_costs_the_target(self, phone, tool, model):
        tool.write_text(tool.read_text().replace("count=64", "count=0"))
        with pytest.raises(TargetError, match=r"sum.tflite on adb:: benchmark_model told nonsense \(count=0 "):
            AdbTarget("adb:").measure(model, SHORT)

    def test_the_measurement_can_be_kept(self, phone, tool, model):
        measurement = AdbTarget("adb:").measure(model, SHORT)
        assert type(measurement).from_json(measurement.to_json()) == measurement

    @pytest.mark.parametrize(
        "script, text",
        [
            ("echo 'ERROR: Failed to load model'; exit 1", r"failed there \(status 1\): Failed to load model"),
            ("exit 0", r"failed there \(status 0\): it said nothing"),
            ("kill -SEGV $$", r"crashed there \(signal 11\)"),
            ("kill -KILL $$", r"was killed there, as Android does when memory runs out"),
        ],
    )
    def test_a_tool_that_fails(self, phone, tool, model, script, text):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        with pytest.raises(ModelRunError, match=text):
            AdbTarget("adb:").measure(model, SHORT)
        assert list(phone.temporary.iterdir()) == []

    @pytest.mark.parametrize(
        "settings, text",
        [
            (Settings(batch=8), "takes no batch"),
            (Settings(length=8), "takes no length"),
            (Settings(runtime="tflite-runtime"), "runs nothing by tflite-runtime"),
        ],
    )
    def test_what_it_cannot_do_is_refused(self, phone, tool, model, settings, text):
        with pytest.raises(ModelRunError, match=text):
            AdbTarget("adb:").measure(model, SHORT, settings)

    def test_a_tool_that_is_not_there(self, phone, tool, model):
        tool.unlink()
        with pytest.raises(TargetError, match=r"is no file. EDGELSTM_ANDROID_BENCHMARK must name the native tool"):
            AdbTarget("adb:").measure(model, SHORT)


class TestWhichDevice:
    @pytest.mark.parametrize(
        "devices, name, text",
        [
            ([], "adb:", "adb sees no device. Plug one in with USB debugging"),
            ([["A", "device", ""]], "adb:B", "adb sees no such device, only A"),
            ([["A", "device", ""], ["B", "device", ""]], "adb:", "there are 2 devices. Name one: adb:A, adb:B"),
            ([["A", "unauthorized", "usb:1-1"]], "adb:", "device A: it does not trust this computer yet"),
            ([["A", "offline", ""]], "adb:A", "device A: adb calls it offline"),
            (
                [["A", "no permissions (user in plugdev group; are your udev rules wrong?); see [http://x.y]", ""]],
                "adb:A",
                "device A: this user may not use it. Install the udev rules",
            ),
            ([["A", "recovery", ""]], "adb:", "device A: it is in recovery mode"),
            ([["A", "host", ""]], "adb:", "device A: adb calls it 'host'"),
        ],
    )
    def test_why_it_cannot_be_used(self, phone, model, devices, name, text):
        phone.set(devices=devices)
        with pytest.raises(TargetError) as caught:
            AdbTarget(name).measure(model, SHORT)
        assert str(caught.value).startswith(f"{name}: ")
        assert text in str(caught.value)

    def test_the_only_one_that_can_be_used_is_taken(self, phone, model):
        phone.set(devices=[["A", "offline", ""], ["B", "device", "model:Two"]])
        assert AdbTarget("adb:").measure(model, SHORT).statistics.num_samples >= SHORT.min_runs
        assert {call[1] for call in phone.calls() if call[0] == "-s"} == {"B"}

    def test_all_are_listed(self, phone):
        phone.set(devices=[["A", "unauthorized", "usb:1-1"], ["B", "device", "usb:1-2 product:p model:Two device:d"]])
        first, second = KIND.available()
        assert (first.name, first.reachable) == ("adb:A", False)
        assert "confirm 'Allow USB debugging'" in first.text
        assert (second.name, second.reachable, second.text) == ("adb:B", True, "Two.")

    def test_no_adb(self, phone, model, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
        with pytest.raises(TargetError, match="there is no adb program here; install it: sudo apt install adb"):
            AdbTarget("adb:").measure(model, SHORT)
        assert [each.reachable for each in KIND.available()] == [False]

    def test_adb_of_the_sdk_is_found(self, phone, monkeypatch, tmp_path):
        tools = tmp_path / "sdk" / "platform-tools"
        tools.mkdir(parents=True)
        (tmp_path / "host-bin" / "adb").rename(tools / "adb")
        monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
        assert [each.name for each in KIND.available()] == ["adb:R5CT"]

    def test_adb_that_does_not_work(self, phone, tmp_path):
        adb = tmp_path / "host-bin" / "adb"
        adb.write_text("#!/bin/sh\necho 'adb: cannot bind to 127.0.0.1:5037' >&2\nexit 1\n")
        (listed,) = KIND.available()
        assert not listed.reachable
        assert "cannot be listed: adb: cannot bind to 127.0.0.1:5037" in listed.text
