from __future__ import annotations

import tomllib

import pytest

from edgelstm.errors import SettingError, TargetError
from edgelstm.targets.profile.device import FOLDER, NUMBERS, device_names, find_device, read_device
from tests.targets.profile.made import device

ALL = (
    "cortex-m7",
    "mid-range-phone",
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2",
)


def test_these_profiles_exist():
    assert device_names() == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_number_of_every_profile_has_a_source(name):
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    numbers = {key: entry for key, entry in document.items() if not isinstance(entry, str)}
    assert set(numbers) == set(NUMBERS)
    for key, entry in numbers.items():
        assert len(entry["source"].split()) >= 3, key
    assert find_device(name).sources == {key: entry["source"] for key, entry in numbers.items()}


@pytest.mark.parametrize("name", ALL)
def test_memories_grow_and_slow_down_with_their_distance(name):
    found = find_device(name)
    sizes = [size for size in (found.l1_bytes, found.l2_bytes, found.l3_bytes, found.ram_bytes) if size]
    assert sizes == sorted(sizes)
    rates = [found.read_bytes_per_cycle(size, 1.3) for size in (*sizes[:-1], 2**29)]
    assert rates == sorted(rates, reverse=True)
    assert found.wide_float32_macs_per_cycle >= found.float32_macs_per_cycle
    assert found.wide_int8_macs_per_cycle >= found.int8_macs_per_cycle


def test_an_unknown_profile_is_answered_with_those_there_are():
    with pytest.raises(SettingError, match=r"^There is no profile 'raspberry-pi-9'\. There are cortex-m7, .*zero-2\.$"):
        find_device("raspberry-pi-9")
    with pytest.raises(SettingError, match="There is no profile"):
        find_device("../profiles/raspberry-pi-4")


@pytest.mark.parametrize("old, new, message", [
    ("[clock_ghz]\n", "[clock]\n", "clock_ghz needs a value and a source"),
    ('source = "Raspberry Pi documentation, BCM2711: 1.5', 'origin = "Raspberry Pi documentation, BCM2711: 1.5',
     "clock_ghz needs a value and a source"),
    ("value = 1.5\n", "value = -1.5\n", "clock_ghz is -1.5, but must be a number that is not negative"),
    ("value = 1.5\n", "value = true\n", "clock_ghz is True, but must be a number"),
    ("value = 1.5\n", "value = 0\n", "clock_ghz is 0, but must be more"),
    ("value = 1048576\n", "value = 1048576.5\n", "l2_bytes is 1048576.5, but must be a number"),
    ('architecture = "arm"', 'architecture = "mips"', "architecture 'mips' is not arm, cortex-m or x86"),
    ('title = "Raspberry Pi 4 Model B"', 'title = ""', "title is missing"),
    ('title = "Raspberry', 'colour = "red"\ntitle = "Raspberry', "colour is nothing that a profile has"),
    ("[clock_ghz]", "[clock_ghz", "is no profile"),
])  # fmt: skip
def test_a_damaged_profile_says_where(old, new, message, tmp_path):
    text = (FOLDER / "raspberry-pi-4.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "p.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(TargetError, match=message):
        read_device(path)


def test_a_number_without_words_for_its_source_is_refused(tmp_path):
    text = (FOLDER / "raspberry-pi-4.toml").read_text(encoding="utf-8")
    start = text.index("source = ", text.index("[cores]"))
    end = text.index("\n", start)
    path = tmp_path / "p.toml"
    path.write_text(text[:start] + 'source = " "' + text[end:], encoding="utf-8")
    with pytest.raises(TargetError, match="cores has no source; say where the number comes from"):
        read_device(path)


@pytest.mark.parametrize("working_set, rate", [
    (1000, 16), (1001, 8), (10_000, 8), (10_001, 4), (100_000, 4), (100_001, 2.0 / 2.0 * 1.5),
])  # fmt: skip
def test_data_are_read_from_the_smallest_memory_that_holds_them(working_set, rate):
    assert device().read_bytes_per_cycle(working_set, 1.5) == rate
