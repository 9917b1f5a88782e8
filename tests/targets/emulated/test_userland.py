from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.base import SetupOptions
from edgelstm.targets.emulated import userland
from edgelstm.targets.emulated.pins import Architecture


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"EDGELSTM_HOME": "/somewhere", "XDG_CACHE_HOME": "/cache"}, "/somewhere"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/edgelstm"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/edgelstm"),
        ({}, "/home/me/.cache/edgelstm"),
    ],
)
def test_the_folder_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("EDGELSTM_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    assert userland.home() == Path(expected)


def fake_build(folder: Path, architecture: Architecture, options: SetupOptions, report: object) -> dict[str, object]:
    (folder / "content").write_text("new")
    return {"format": userland.FORMAT, "recipe": userland.recipe(architecture.name)}


def failing_build(folder: Path, architecture: Architecture, options: SetupOptions, report: object) -> dict[str, object]:
    (folder / "content").write_text("half")
    raise TargetError("no network")


def test_what_is_not_set_up_says_how_to(empty_home: Path) -> None:
    with pytest.raises(TargetError) as raised:
        userland.find_userland("arm64")
    assert str(raised.value) == "emulated:arm64: not set up yet: edgelstm targets setup emulated:arm64"


def test_it_is_built_once_and_again_when_asked_to(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "_build", fake_build)
    monkeypatch.setattr(userland, "_check_machine", lambda _: None)
    place = userland.set_up("arm64")
    assert place == empty_home / "userlands/arm64" == userland.find_userland("arm64")
    (place / "content").write_text("old")
    userland.set_up("arm64")
    assert (place / "content").read_text() == "old"
    userland.set_up("arm64", SetupOptions(again=True))
    assert (place / "content").read_text() == "new"
    assert {path.name for path in place.parent.iterdir()} == {"arm64", ".arm64.lock"}


def test_a_failure_leaves_what_was_there(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "_check_machine", lambda _: None)
    monkeypatch.setattr(userland, "_build", failing_build)
    with pytest.raises(TargetError, match="no network"):
        userland.set_up("arm64")
    assert {path.name for path in (empty_home / "userlands").iterdir()} == {".arm64.lock"}
    monkeypatch.setattr(userland, "_build", fake_build)
    userland.set_up("arm64")
    monkeypatch.setattr(userland, "_build", failing_build)
    with pytest.raises(TargetError, match="no network"):
        userland.set_up("arm64", SetupOptions(again=True))
    assert (userland.find_userland("arm64") / "content").read_text() == "new"


def test_what_a_killed_build_left_goes_away_with_the_next(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "_build", fake_build)
    monkeypatch.setattr(userland, "_check_machine", lambda _: None)
    (empty_home / "userlands/.arm64-abc/new").mkdir(parents=True)
    userland.set_up("arm64")
    assert {path.name for path in (empty_home / "userlands").iterdir()} == {"arm64", ".arm64.lock"}


def test_one_of_another_recipe_has_to_be_built_again(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "_build", fake_build)
    monkeypatch.setattr(userland, "_check_machine", lambda _: None)
    manifest = userland.set_up("arm64") / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "recipe": "another"}))
    with pytest.raises(
        TargetError, match=r"another version of edgelstm: edgelstm targets setup emulated:arm64 --again"
    ):
        userland.find_userland("arm64")
    userland.set_up("arm64")
    assert userland.why_not_usable("arm64") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "other"}'])
def test_another_file_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert userland.read_manifest(tmp_path) is None


@pytest.mark.parametrize("missing", ["apt-get", "dpkg-deb", "gcc"])
def test_a_machine_without_a_program_is_told_so(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")
    with pytest.raises(
        TargetError, match=f"Setting up emulated:armhf needs {missing}, which this machine does not have"
    ):
        userland.set_up("armhf")
    assert not empty_home.exists()


def test_another_system_is_told_so(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(TargetError, match="emulated:arm64 needs Linux"):
        userland.set_up("arm64")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELSTM_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(userland, "_check_machine", lambda _: None)
    with pytest.raises(TargetError, match=r"cannot be built in .*: not a directory\. Free about 1 GB .*EDGELSTM_HOME"):
        userland.set_up("arm64")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_a_compiler_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "PLUGIN_SOURCE", tmp_path / "insn.c")
    (tmp_path / "insn.c").write_text("#include <missing.h>\n")
    with pytest.raises(TargetError, match=r"gcc cannot compile insn\.c: .*missing\.h.*libc6-dev"):
        userland.compile_plugin(tmp_path / "x.so")
