from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.emulated.pins import ARCHITECTURES, Wheel
from edgelstm.targets.emulated.wheels import download_line, fetch_wheel, unpack_wheel

ALL = [wheel for architecture in ARCHITECTURES.values() for wheel in architecture.wheels]


def make_wheel(folder: Path, content: bytes = b"x = 1\n") -> Wheel:
    folder.mkdir(exist_ok=True)
    tag = "cp311-cp311-manylinux_2_17_aarch64"
    path = folder / f"some_thing-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some_thing/__init__.py", content)
    return Wheel("some-thing", "1.0", tag, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("wheel", ALL, ids=lambda wheel: wheel.file)
def test_pinned_wheels_have_a_hash_and_a_platform(wheel: Wheel) -> None:
    assert len(wheel.sha256) == 64
    assert all(platform.endswith(("_aarch64", "_armv7l")) for platform in wheel.platforms)
    assert f"{wheel.name}=={wheel.version}" in download_line(wheel)


def test_a_wheel_of_a_folder_is_taken_from_there_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path / "offline")
    monkeypatch.setattr(subprocess, "run", None)
    path = fetch_wheel(wheel, tmp_path / "cache", tmp_path / "offline")
    unpack_wheel(path, tmp_path / "site")
    assert (tmp_path / "site/some_thing/__init__.py").read_bytes() == b"x = 1\n"


def test_a_missing_wheel_is_an_error_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as raised:
        fetch_wheel(ALL[0], tmp_path, tmp_path)
    assert str(raised.value) == (
        f"{tmp_path} has no {ALL[0].file}. Fetch it on a machine with network: python3 -m pip download --no-deps "
        "--only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --platform manylinux_2_17_aarch64 "
        "--platform manylinux2014_aarch64 -d . numpy==1.26.4."
    )


def test_another_content_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    make_wheel(tmp_path, b"x = 2\n")
    with pytest.raises(TargetError, match=r"has another content than some-thing 1\.0 has"):
        fetch_wheel(wheel, tmp_path)


def test_a_download_is_kept_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, commands = make_wheel(tmp_path / "index"), []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        target = Path(command[command.index("-d") + 1]) / wheel.file
        target.write_bytes((tmp_path / "index" / wheel.file).read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        assert fetch_wheel(wheel, tmp_path / "cache") == tmp_path / "cache" / wheel.file
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [wheel.file]
    assert [command[:3] for command in commands] == [[sys.executable, "-m", "pip"]]


def test_a_python_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = str(tmp_path / "bare/bin/python")
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(TargetError) as raised:
        fetch_wheel(ALL[0], tmp_path / "cache")
    assert str(raised.value) == (
        f"{ALL[0].file} cannot be fetched: {python} has no pip. Install it ({python} -m ensurepip), or fetch the wheel "
        f"elsewhere ({download_line(ALL[0])}) and name its folder with --wheels."
    )
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_pip_says_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(TargetError, match=r"cannot be fetched by pip: No matching distribution found\. Check"):
        fetch_wheel(ALL[0], tmp_path)
    assert list(tmp_path.iterdir()) == []
