from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.targets.worker import conditions, system
from edgelstm.targets.worker.conditions import Conditions

S = 1_000_000_000


class FakeClock:
    def __init__(self) -> None:
        self.now = 5 * S

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Makes another system and returns what writes its files."""
    monkeypatch.setattr(system, "SYSTEM_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def write_files(files: dict[str, object]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")
        return tmp_path

    return write_files


def vcgencmd(root: Path) -> Path:
    """Makes a vcgencmd that counts how often it is started."""
    program = root / "bin" / "vcgencmd"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\necho "$1" >> "${0%/*}/log"\necho throttled=0x5000$(/usr/bin/wc -l < "${0%/*}/log")\n'
    )
    program.chmod(0o755)
    return root / "bin" / "log"


def zone(number: int, kind: str, temperature: object) -> dict[str, object]:
    folder = f"sys/class/thermal/thermal_zone{number}"
    return {f"{folder}/type": kind, f"{folder}/temp": temperature}


def test_a_reading_tells_governor_clock_and_temperature(write):
    cpufreq = "sys/devices/system/cpu/cpu{}/cpufreq"
    write(
        {
            f"{cpufreq.format(0)}/scaling_governor": "powersave",
            f"{cpufreq.format(0)}/scaling_cur_freq": 600_000,
            f"{cpufreq.format(3)}/scaling_governor": "performance",
            f"{cpufreq.format(3)}/scaling_cur_freq": 1_800_000,
            **zone(0, "acpitz", 90_000),
            **zone(1, "cpu-thermal", 45_500),
            **zone(2, "cpu1-thermal", 51_250),
            **zone(3, "battery", 99_000),
        }
    )
    clock = FakeClock()
    pinned, whole = Conditions(3, clock), Conditions(0, clock)
    clock.now += S // 4
    for state in (pinned, whole):
        state.read("before")
    assert pinned.entries == [
        {
            "at": "before",
            "elapsed_s": 0.25,
            "governor": "performance",
            "clock_khz": 1_800_000,
            "temperature_c": 51.25,
            "throttled": None,
        }
    ]
    assert (whole.entries[0]["governor"], whole.entries[0]["clock_khz"]) == ("powersave", 600_000)


@pytest.mark.parametrize("files", [{}, zone(0, "acpitz", 90_000), zone(0, "cpu-thermal", "broken")])
def test_what_is_unknown_is_null(write, files):
    write(files)
    state = Conditions(0, FakeClock())
    state.read("after")
    unknown = {"governor": None, "clock_khz": None, "temperature_c": None, "throttled": None}
    assert state.entries == [{"at": "after", "elapsed_s": 0.0, **unknown}]


@pytest.mark.parametrize("kind", ["x86_pkg_temp", "cpu_thermal", "CPU-therm", "soc_thermal", "cpu-0-1-usr", "mtktscpu"])
def test_zones_of_the_processor_are_known_by_their_type(kind):
    assert conditions.PROCESSOR.search(kind)


@pytest.mark.parametrize("kind", ["acpitz", "battery", "gpu-thermal", "iwlwifi_1", "ddr", "nvme"])
def test_other_zones_are_not(kind):
    assert not conditions.PROCESSOR.search(kind)


def test_throttling_is_asked_for_every_two_seconds_at_most(write):
    log = vcgencmd(write({}))
    clock = FakeClock()
    state = Conditions(0, clock)
    for at_s in (0.0, 1.0, 1.9, 2.0, 3.0, 4.5):
        clock.now = 5 * S + int(at_s * S)
        state.read("during")
    told = [entry["throttled"] for entry in state.entries]
    assert told == [f"throttled=0x5000{k}" for k in (1, 1, 1, 2, 2, 3)]
    assert log.read_text().split() == ["get_throttled"] * 3


def test_before_and_after_the_calls_it_is_asked_anew_however_soon(write):
    vcgencmd(write({}))
    clock = FakeClock()
    state = Conditions(0, clock)
    for at in ("before", "during", "after", "before", "during", "after"):
        state.read(at)
        clock.now += S // 10
    told = [entry["throttled"] for entry in state.entries]
    assert told == [f"throttled=0x5000{k}" for k in (1, 1, 2, 3, 3, 4)]


def test_a_vcgencmd_that_fails_tells_nothing(write):
    log = vcgencmd(write({}))
    log.with_name("vcgencmd").write_text("#!/bin/sh\necho no; exit 1\n")
    state = Conditions(0, FakeClock())
    state.read("before")
    assert state.entries[0]["throttled"] is None
