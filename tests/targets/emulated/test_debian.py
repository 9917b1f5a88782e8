from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.emulated import debian
from edgelstm.targets.emulated.debian import DEFAULT_MIRROR, Package, PrivateApt, find_mirror, require_programs, unpack

needs_debian = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not debian.KEYRING.exists(),
    reason="this machine has no packages of Debian",
)


@pytest.mark.parametrize(
    "file, text, mirror",
    [
        (
            "sources.list.d/debian.sources",
            "Types: deb\nURIs: http://deb.example/debian/\nSuites: trixie\nComponents: main\n",
            "http://deb.example/debian",
        ),
        ("sources.list", "# deb http://old.example/debian x main\ndeb https://m.example/debian bookworm main\n", None),
        ("sources.list", "deb [arch=amd64] https://m.example/debian bookworm main\n", None),
        ("sources.list", "deb http://m.example/debian-security bookworm-security main\n", DEFAULT_MIRROR),
        ("sources.list", "deb http://archive.ubuntu.example/ubuntu noble main\n", DEFAULT_MIRROR),
        ("sources.list.d/debian.sources.save", "URIs: http://saved.example/debian\n", DEFAULT_MIRROR),
    ],
)
def test_the_mirror_is_that_of_this_machine_or_the_public_one(
    tmp_path: Path, file: str, text: str, mirror: str | None
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / file).write_text(text)
    assert find_mirror(tmp_path) == (mirror or "https://m.example/debian")


def test_missing_programs_are_named_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name.startswith("no-") else f"/usr/bin/{name}")
    with pytest.raises(TargetError) as raised:
        require_programs({"no-a": "a b", "tar": "tar", "no-c": "c"}, "Setting up emulated:arm64")
    assert str(raised.value) == (
        "Setting up emulated:arm64 needs no-a and no-c, which this machine does not have. On Debian or Ubuntu: "
        "sudo apt-get install --no-install-recommends a b c. Other systems can use a container of Debian."
    )
    require_programs({"tar": "tar"}, "x")


def test_missing_keys_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "missing.gpg")
    with pytest.raises(TargetError, match=r"keys of Debian are missing, .*sudo apt-get install debian-archive-keyring"):
        PrivateApt("arm64", tmp_path)


@needs_debian
def test_a_mirror_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    apt = PrivateApt("arm64", tmp_path / "apt", f"file://{tmp_path}/none/debian")
    with pytest.raises(TargetError, match=r"\(arm64\) cannot be fetched from file://.*EDGELSTM_DEBIAN_MIRROR"):
        apt.fetch(["bash"])


@needs_debian
def test_a_network_that_is_not_there_is_the_reason_rather_than_what_follows_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    apt = PrivateApt("arm64", tmp_path / "apt", "http://mirror.invalid/debian")
    apt_conf = tmp_path / "apt/apt.conf"
    apt_conf.write_text(apt_conf.read_text().replace('Acquire::Retries "3"', 'Acquire::Retries "0"'))
    with pytest.raises(TargetError, match=r"from http://mirror\.invalid/debian: Failed to fetch .*connect"):
        apt.fetch(["bash"])


@needs_debian
def test_the_state_of_apt_is_its_own(tmp_path: Path) -> None:
    PrivateApt("armhf", tmp_path)
    dumped = subprocess.run(
        ["apt-config", "dump"],
        env={**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert 'APT::Architecture "armhf";' in dumped
    folders = {line.split()[0]: line.split()[1].strip('";') for line in dumped if line.startswith("Dir::")}
    for name in (
        "State",
        "State::lists",
        "State::status",
        "Cache",
        "Cache::archives",
        "Etc::sourceparts",
        "Etc::parts",
    ):
        assert folders[f"Dir::{name}"].startswith(str(tmp_path)), name


@needs_debian
def test_settings_that_may_hold_passwords_are_for_their_owner_only(tmp_path: Path) -> None:
    (tmp_path / "apt.conf").write_text("of before")
    (tmp_path / "apt.conf").chmod(0o644)
    mirror = "http://me:secret@m.example/debian"
    PrivateApt("arm64", tmp_path, mirror)
    for name, content in (("apt.conf", 'APT::Architecture "arm64"'), ("sources/debian.sources", mirror)):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert content in (tmp_path / name).read_text()


def build_package(folder: Path, name: str, files: dict[str, str]) -> Package:
    root = folder / name
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "DEBIAN").mkdir()
    control = f"Package: {name}\nVersion: 1\nArchitecture: armhf\nMaintainer: nobody <x@y>\nDescription: made up\n"
    (root / "DEBIAN/control").write_text(control)
    # A script that must not run.
    (root / "DEBIAN/postinst").write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
    (root / "DEBIAN/postinst").chmod(0o755)
    file = folder / f"{name}_1_armhf.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, file], check=True, capture_output=True)
    return Package(name, "1", "", file)


@needs_debian
def test_packages_are_unpacked_into_a_merged_usr_and_their_scripts_do_not_run(tmp_path: Path) -> None:
    first = build_package(tmp_path, "first", {"bin/tool": "1", "lib/a/x": "2"})
    second = build_package(tmp_path, "second", {"usr/bin/other": "3", "usr/lib/a/y": "4"})
    unpack([first, second], tmp_path / "root")
    root = tmp_path / "root"
    assert sorted(path.name for path in (root / "usr/bin").iterdir()) == ["other", "tool"]
    assert (root / "bin").is_symlink()
    assert (root / "lib/a/x").read_text() + (root / "lib/a/y").read_text() == "24"
    assert not (tmp_path / "ran").exists()


@needs_debian
def test_linear_algebra_is_linked_where_libraries_are_looked_for(tmp_path: Path) -> None:
    library = "usr/lib/arm-linux-gnueabihf/blas/libblas.so.3"
    unpack([build_package(tmp_path, "blas", {library: "blas"})], tmp_path / "root")
    assert (tmp_path / "root/usr/lib/arm-linux-gnueabihf/libblas.so.3").read_text() == "blas"


@needs_debian
def test_a_damaged_package_is_an_error(tmp_path: Path) -> None:
    package = build_package(tmp_path, "first", {"bin/tool": "1"})
    package.file.write_bytes(package.file.read_bytes()[:150])
    with pytest.raises(TargetError, match=r"first_1_armhf.deb cannot be unpacked into .*Delete the file"):
        unpack([package], tmp_path / "root")
