from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.targets.emulated.boards import BOARDS, DEFAULT_BOARDS, core_of, describe_board

CPU = "sys/devices/system/cpu"


@pytest.mark.parametrize("architecture", ["arm64", "armhf"])
@pytest.mark.parametrize("name", BOARDS)
def test_cpuinfo_names_four_arm_cores_and_the_board(tmp_path: Path, name: str, architecture: str) -> None:
    describe_board(BOARDS[name], architecture, tmp_path)
    lines = (tmp_path / "proc/cpuinfo").read_text().splitlines()
    fields = [line.split(":") for line in lines if line]
    assert [value.strip() for key, value in fields if key.strip() == "processor"] == ["0", "1", "2", "3"]
    assert {value.strip() for key, value in fields if key.strip() == "CPU part"} == {f"{BOARDS[name].part:#x}"}
    assert lines[-1] == f"Model\t\t: {BOARDS[name].model}"
    features = next(value for key, value in fields if key.strip() == "Features").split()
    assert ("asimd" if architecture == "arm64" else "neon") in features
    assert (tmp_path / "proc/device-tree/model").read_bytes() == BOARDS[name].model.encode() + b"\0"


@pytest.mark.parametrize("name", BOARDS)
def test_caches_have_the_size_that_their_geometry_makes(tmp_path: Path, name: str) -> None:
    describe_board(BOARDS[name], "arm64", tmp_path)
    caches = sorted((tmp_path / CPU / "cpu3/cache").iterdir())
    assert len(caches) == len(BOARDS[name].caches)
    for folder in caches:
        values = {path.name: path.read_text().strip() for path in folder.iterdir()}
        lines = int(values["number_of_sets"]) * int(values["ways_of_associativity"])
        assert values["size"] == f"{lines * int(values['coherency_line_size']) // 1024}K"


def test_shared_things_are_shared_and_others_not(tmp_path: Path) -> None:
    describe_board(BOARDS["pi4"], "arm64", tmp_path)

    def read(name: str) -> str:
        return (tmp_path / CPU / "cpu2" / name).read_text().strip()

    assert (read("cache/index0/shared_cpu_list"), read("cache/index0/shared_cpu_map")) == ("2", "4")
    assert (read("cache/index2/shared_cpu_list"), read("cache/index2/shared_cpu_map")) == ("0-3", "f")
    assert (read("topology/core_id"), read("topology/thread_siblings"), read("topology/core_siblings_list")) == (
        *("2", "4", "0-3"),
    )
    assert read("cpufreq/cpuinfo_max_freq") == "1500000"
    assert (tmp_path / CPU / "present").read_text() == "0-3\n"


def test_64_bit_programs_run_on_the_cores_of_the_board_and_32_bit_ones_on_one_that_all_can_be() -> None:
    assert core_of(BOARDS["pi5"], "arm64") == "cortex-a76"
    assert {core_of(board, "armhf") for board in BOARDS.values()} == {"cortex-a7"}
    assert set(DEFAULT_BOARDS.values()) <= set(BOARDS)
