from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.targets.worker import system
from edgelstm.targets.worker.energy import find_meter

S = 1_000_000_000
RAPL, HWMON = "sys/class/powercap", "sys/class/hwmon"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Makes another system and returns what writes its files."""
    monkeypatch.setattr(system, "SYSTEM_ROOT", tmp_path)

    def write_files(files: dict[str, object]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")
        return tmp_path

    return write_files


def rapl(zone: str, name: str, energy_uj: int, range_uj: int = 1_000_000) -> dict[str, object]:
    folder = f"{RAPL}/intel-rapl:{zone}"
    return {f"{folder}/name": name, f"{folder}/energy_uj": energy_uj, f"{folder}/max_energy_range_uj": range_uj}


def ina(number: int, name: str, **inputs: int) -> dict[str, object]:
    folder = f"{HWMON}/hwmon{number}"
    return {f"{folder}/name": name, **{f"{folder}/{key}_input": value for key, value in inputs.items()}}


def test_nothing_measures_energy_on_most_machines(write):
    write({f"{HWMON}/hwmon0/name": "coretemp"})
    assert find_meter() is None


def test_the_counter_of_the_package_is_read_and_not_those_of_its_parts(write):
    write({**rapl("0", "package-0", 100_000), **rapl("0:0", "core", 7), **rapl("1", "psys", 9)})
    meter = find_meter()
    meter.start(10 * S)
    write(rapl("0", "package-0", 350_000))
    meter.update(11 * S)
    write(rapl("0", "package-0", 400_000))
    meter.update(12 * S)
    assert meter.result(40) == {
        "source": "rapl:package-0",
        "joules": pytest.approx(0.3),
        "seconds": 2.0,
        "calls": 40,
        "idle_watts": None,
    }


def test_counters_start_anew_at_their_maximum(write):
    write(rapl("0", "package-0", 900_000))
    meter = find_meter()
    meter.start(0)
    for energy_uj in (200_000, 800_000, 100_000):
        write(rapl("0", "package-0", energy_uj))
        meter.update(S)
    # 0.3 to the maximum and around it, 0.6, and 0.3 again.
    assert meter.result(1)["joules"] == pytest.approx(1.2)


def test_packages_are_added_up(write):
    write({**rapl("0", "package-0", 1000), **rapl("1", "package-1", 5000)})
    meter = find_meter()
    meter.start(0)
    write({**rapl("0", "package-0", 3000), **rapl("1", "package-1", 9000)})
    meter.update(S)
    assert meter.result(1)["source"] == "rapl:package-0+package-1"
    assert meter.result(1)["joules"] == pytest.approx(0.006)


def test_a_counter_that_cannot_be_read_is_none(write):
    root = write(rapl("0", "package-0", 1000))
    path = root / RAPL / "intel-rapl:0" / "energy_uj"
    path.unlink()
    path.mkdir()  # what reads as an error for root, too
    assert find_meter() is None


def test_a_counter_that_fails_on_the_way_tells_nothing(write):
    root = write(rapl("0", "package-0", 1000))
    meter = find_meter()
    meter.start(0)
    (root / RAPL / "intel-rapl:0" / "energy_uj").unlink()
    meter.update(S)
    assert meter.result(1) is None


def test_a_sensor_of_power_is_integrated(write):
    write({f"{HWMON}/hwmon0/name": "cpu_thermal", **ina(1, "ina226", power1=2_000_000, in1=5000, curr1=9999)})
    meter = find_meter()
    meter.start(0)
    for at_s, power_uw in ((1.0, 4_000_000), (1.5, 1_000_000)):
        write(ina(1, "ina226", power1=power_uw))
        meter.update(int(at_s * S))
    # Trapezoids: 1 s of 3 W on average, half a second of 2.5 W.
    assert meter.result(7) == {
        "source": "ina:ina226",
        "joules": pytest.approx(4.25),
        "seconds": 1.5,
        "calls": 7,
        "idle_watts": None,
    }


def test_a_sensor_of_voltage_and_current_is_multiplied(write):
    write(ina(0, "ina3221", in1=5000, curr1=400))
    meter = find_meter()
    meter.start(S)
    meter.update(3 * S)
    assert (meter.result(1)["source"], meter.result(1)["joules"]) == ("ina:ina3221", pytest.approx(4.0))


def test_the_counter_goes_before_the_sensor(write):
    write({**rapl("0", "package-0", 1), **ina(0, "ina226", power1=1)})
    assert find_meter().source == "rapl:package-0"
