from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.base import SetupOptions
from edgelstm.targets.emulated import userland
from edgelstm.targets.emulated.locks import locked
from edgelstm.targets.emulated.pins import Architecture
from edgelstm.targets.emulated.target import EmulatedTarget

LOCKS = {".arm64.lock", ".arm64.use.lock"}
WAIT_S = 20


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
    assert {path.name for path in place.parent.iterdir()} == {"arm64", *LOCKS}


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
    assert {path.name for path in (empty_home / "userlands").iterdir()} == {"arm64", *LOCKS}


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


@pytest.fixture
def buildable(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets userlands be built that hold next to nothing."""
    monkeypatch.setattr(userland, "_build", fake_build)
    monkeypatch.setattr(userland, "_check_machine", lambda _: None)
    return userland.place_of("arm64")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("manifest", [None, "{", '{"format": "other"}'])
def test_what_is_no_userland_is_not_replaced(buildable: Path, again: bool, manifest: str | None) -> None:
    buildable.mkdir(parents=True)
    (buildable / "thesis.txt").write_text("years of work")
    if manifest is not None:
        (buildable / "manifest.json").write_text(manifest)
    with pytest.raises(TargetError, match=r"userlands/arm64 is no userland that edgelstm made, .*Move or delete it"):
        userland.set_up("arm64", SetupOptions(again=again))
    assert (buildable / "thesis.txt").read_text() == "years of work"


def test_a_file_in_its_place_is_not_replaced(buildable: Path) -> None:
    buildable.parent.mkdir(parents=True)
    buildable.write_text("a file")
    with pytest.raises(TargetError, match="is no userland that edgelstm made"):
        userland.set_up("arm64")
    assert buildable.read_text() == "a file"


def test_an_empty_folder_and_a_userland_of_another_format_are_replaced(buildable: Path) -> None:
    buildable.mkdir(parents=True)
    userland.set_up("arm64")
    (buildable / "manifest.json").write_text('{"format": "edgelstm-userland-0"}')
    (buildable / "content").write_text("old")
    assert str(userland.why_not_usable("arm64")).startswith("not set up yet")
    userland.set_up("arm64")
    assert (buildable / "content").read_text() == "new"


def test_a_userland_is_not_replaced_while_programs_run_in_it(buildable: Path) -> None:
    userland.set_up("arm64")
    (buildable / "content").write_text("old")
    reports: list[str] = []
    waits = threading.Event()

    def report(text: str) -> None:
        reports.append(text)
        waits.set()

    options = SetupOptions(again=True)
    builder = threading.Thread(target=userland.set_up, args=("arm64", options, report), daemon=True)
    with userland.in_use("arm64") as first, userland.in_use("arm64") as second:
        assert first == second == buildable
        builder.start()
        assert waits.wait(WAIT_S)
        builder.join(0.2)
        assert builder.is_alive()
        assert (buildable / "content").read_text() == "old"
    builder.join(WAIT_S)
    assert not builder.is_alive()
    assert reports == [f"waiting for programs that run in {buildable}"]
    assert (buildable / "content").read_text() == "new"


def test_an_open_emulator_keeps_its_userland(buildable: Path) -> None:
    def fail() -> None:
        raise BlockingIOError

    userland.set_up("arm64")
    lock = buildable.parent / ".arm64.use.lock"
    with EmulatedTarget("arm64").open(), pytest.raises(BlockingIOError), locked(lock, waiting=fail):
        pass
    with locked(lock, waiting=fail):
        pass


def test_looking_for_what_is_not_set_up_makes_no_folder(empty_home: Path) -> None:
    with pytest.raises(TargetError, match="not set up yet"), userland.in_use("arm64"):
        pass
    assert not empty_home.exists()


def test_packages_of_an_architecture_are_fetched_one_process_at_a_time(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most, together = set[int](), [0], threading.Barrier(3)

    class Apt:
        mirror = "http://m.example/debian"

        def __init__(self, architecture: str, folder: Path, mirror: str | None) -> None:
            at_work.add(threading.get_ident())
            most.append(len(at_work))

        def fetch(self, names: list[str]) -> list[str]:
            threading.Event().wait(0.1)
            at_work.remove(threading.get_ident())
            return names

    monkeypatch.setattr(userland, "PrivateApt", Apt)

    def fetch() -> None:
        together.wait(WAIT_S)
        assert userland.fetch_packages("arm64", ["bash"]) == (["bash"], Apt.mirror)

    threads = [threading.Thread(target=fetch, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert most == [0, 1, 1, 1]


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
