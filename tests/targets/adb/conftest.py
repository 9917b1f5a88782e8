from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.one_operator import accumulator

FAKE = Path(__file__).with_name("fake_adb.py")
SCRIPTS = {
    "getprop": "case $1 in ro.product.model) echo Pixel 6;; ro.product.manufacturer) echo Google;; ro.soc.model) echo "
    "Tensor;; ro.board.platform) echo gs101;; ro.build.version.release) echo 14;; esac",
    "dumpsys": "echo 'IsStatusOverride: false'; echo 'Thermal Status: 0'; echo 'Cached temperatures:'",
    "python3": f'exec {sys.executable} "$@"',
}


class FakePhone:
    """What the fake adb sees; see `fake_adb.py`."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.temporary = folder / "phone-bin", folder / "data-local-tmp"
        self.state, self.log = folder / "state.json", folder / "log"
        for place in (self.bin, self.temporary):
            place.mkdir()
        for name, text in SCRIPTS.items():
            self.give(name, text)
        self.set()

    def set(self, **changes: Any) -> None:
        """Writes the state: one phone that can be used, but for these changes."""
        state = {
            "devices": [["R5CT", "device", "usb:1-1 product:oriole model:Pixel_6 device:oriole transport_id:1"]],
            "temporary": str(self.temporary),
            "path": f"{self.bin}:/usr/bin:/bin",
            "push_error": None,
            "log": str(self.log),
        }
        self.state.write_text(json.dumps({**state, **changes}), encoding="utf-8")

    def give(self, name: str, text: str) -> Path:
        """Puts a program on the phone's PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def calls(self) -> list[list[str]]:
        """Returns how adb was called."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePhone:
    phone = FakePhone(tmp_path)
    folder = tmp_path / "host-bin"
    folder.mkdir()
    adb = folder / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} -I {FAKE} "$@"\n', encoding="utf-8")
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_ADB", str(phone.state))
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT", "EDGELSTM_ANDROID_BENCHMARK", "EDGELSTM_ANDROID_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return phone


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "sum.tflite"
    path.write_bytes(accumulator())
    return path
