from __future__ import annotations

import platform

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.profile import host
from edgelstm.targets.profile.device import NUMBERS


def test_elsewhere_than_on_x86_there_is_no_profile_of_this_machine(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(TargetError, match="can be made on x86 under Linux only"):
        host.host_device(2.0, "told")


@pytest.mark.skipif(platform.machine() != "x86_64" or not host.CPU_INFO.exists(), reason="no x86 machine under Linux")
def test_the_profile_of_this_machine_has_every_number_and_its_source(monkeypatch):
    monkeypatch.setattr(host, "COPY_BYTES", 2**16)
    monkeypatch.setattr(host, "L3_READ_BYTES", 2**16)
    device = host.host_device(2.5, "told by a test")
    assert (device.clock_ghz, device.sources["clock_ghz"]) == (2.5, "told by a test")
    assert set(device.sources) == set(NUMBERS)
    assert all(device.sources.values())
    assert device.architecture == "x86"
    assert 2**13 <= device.l1_bytes <= 2**18
    assert device.copy_gb_per_s > 0.1


@pytest.mark.parametrize("flags, wide, wide_int8", [
    ("sse4_2", 4, 8),
    ("avx2 fma", 16, 32),
    ("avx2 fma avx_vnni", 16, 64),
    ("avx2 fma avx512f", 32, 64),
    ("avx2 fma avx512f avx512_vnni", 32, 128),
])  # fmt: skip
def test_wide_instructions_follow_from_the_flags(flags, wide, wide_int8, monkeypatch, tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text(f"model name\t: Made CPU\nflags\t\t: fpu {flags}\n\nmodel name\t: another\n", encoding="ascii")
    caches = tmp_path / "caches"
    for number, (level, kind, size) in enumerate(
        ((1, "Data", "32K"), (1, "Instruction", "64K"), (2, "Unified", "512K"), (3, "Unified", "32M"))
    ):
        folder = caches / f"index{number}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name, value in (("CPU_INFO", info), ("CACHES", caches), ("COPY_BYTES", 2**16), ("L3_READ_BYTES", 2**16)):
        monkeypatch.setattr(host, name, value)
    device = host.host_device(2.5, "told by a test")
    assert (device.wide_float32_macs_per_cycle, device.wide_int8_macs_per_cycle) == (wide, wide_int8)
    assert (device.l1_bytes, device.l2_bytes, device.l3_bytes) == (2**15, 2**19, 2**25)
    assert device.cpu == "Made CPU"
