"""The target "ssh" against a real sshd whose sessions land on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import ModelRunError, TargetError
from edgelstm.runtime.interpreters import PACKAGES
from edgelstm.targets.adb import AdbTarget
from edgelstm.targets.harness import measure_all
from edgelstm.targets.ssh import KIND, SshTarget
from edgelstm.targets.subjects import Settings, Subject
from tests.targets.ssh.helpers import LONG, SHORT, give_python, is_measuring, left_behind, wait_until, write_program

MEASURE = """
import sys
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.ssh import SshTarget
SshTarget(sys.argv[1]).measure(sys.argv[2], BenchPlan(warmup_s=0.01, max_s=60, max_runs=10**9))
"""


def test_a_model_is_measured_and_nothing_is_left_behind(board, target, model):
    measurement = target.measure(model, SHORT, Settings(threads=1, seed=3))
    assert (measurement.kind, measurement.target) == ("measured", board.target)
    assert measurement.artifact == model
    assert measurement.runtime == "ai-edge-litert"
    assert len(measurement.processes[0].samples_ns) >= SHORT.min_runs
    assert measurement.processes[0].conditions
    assert measurement.machine["num_cores"] >= 1
    assert left_behind(board) == []


def test_subjects_take_turns_over_one_connection_and_files_travel_once(board, target, model, tmp_path):
    other = tmp_path / "other" / "sum.tflite"
    other.parent.mkdir()
    other.write_bytes(model.read_bytes() + b"\0\0\0\0")
    subjects = [Subject.read(model), Subject.read(other)]
    with target.open() as session:
        runs = [session.run(subject, SHORT) for subject in [*subjects, *subjects]]
        place = session._place
        files = [path.name for path in (board.temporary / Path(place.folder).name).iterdir()]
    assert sorted(name.partition("-")[2] for name in files if "-" in name) == ["sum.tflite", "sum.tflite", "worker.pyz"]
    assert len({tuple(run["result"]["samples_ns"]) for run in runs}) == 4


def test_files_arrive_byte_for_byte(board, target, tmp_path):
    path = tmp_path / "a 'strange' näme\n.bin"
    path.write_bytes(np.random.default_rng(0).bytes(3_000_001))
    with target.connect() as place:
        there = place.send(path)
        assert Path(there).read_bytes() == path.read_bytes()
        assert Path(there).stat().st_mode & 0o077 == 0
        assert Path(there).parent.stat().st_mode & 0o077 == 0
        path.write_bytes(b"changed")
        assert Path(place.send(path)).read_bytes() == b"changed"
    assert left_behind(board) == []


def test_a_damaged_copy_is_seen(board, target, model):
    write_program(board.bin, "sha256sum", "echo 0123  -")
    with pytest.raises(TargetError, match=r"sum.tflite did not arrive as it was sent"), target.connect() as place:
        place.send(model)


def test_a_device_without_sha256sum_is_checked_by_its_python(board, target, model):
    tools = board.bin.parent / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "dd", "sed", "mktemp", "chmod", "rm", "df", "tail", "find", "sleep", "mv", "id"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    enter = board.bin.parent / "enter"
    enter.write_text(enter.read_text().replace(":/usr/bin:/bin", f":{tools}"))
    with target.connect() as place:
        _ = place.python
        assert Path(place.send(model)).read_bytes() == model.read_bytes()


def test_throttling_that_the_device_reports_marks_the_run(board, target, model):
    board.set_vcgencmd(get_throttled="throttled=0x50005")
    measurement = target.measure(model, SHORT)
    assert {entry["throttled"] for entry in measurement.processes[0].conditions} == {"throttled=0x50005"}
    assert any("throttled during the run" in text and "supply voltage" in text for text in measurement.warnings)
    board.set_vcgencmd(get_throttled="throttled=0x50000")  # before this run only
    assert not any("throttled" in text for text in target.measure(model, SHORT).warnings)


def test_two_boards_are_measured_side_by_side(start_board, model, tmp_path, monkeypatch):
    boards = [start_board("first"), start_board("second")]
    config = tmp_path / "both"
    texts = [board.ssh_config.read_text().replace("Host 127.0.0.1", f"Host {name}\n  HostName 127.0.0.1\n  Port "
             f"{board.port}\n  HostKeyAlias [127.0.0.1]:{board.port}\n  User {board.user}")
             for board, name in zip(boards, ("one", "two"), strict=True)]  # fmt: skip
    config.write_text("\n".join(texts))
    monkeypatch.setenv("EDGELSTM_SSH_CONFIG", str(config))
    results = {}

    def measure(name: str) -> None:
        results[name] = SshTarget(f"ssh://{name}").measure(model, SHORT)

    threads = [threading.Thread(target=measure, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: result.target for name, result in results.items()} == {"one": "ssh://one", "two": "ssh://two"}
    assert [left_behind(board) for board in boards] == [[], []]


class TestNoConnection:
    def test_a_stranger_is_not_trusted(self, board, target, model):
        board.known_hosts.write_text("")
        with pytest.raises(TargetError, match=r"host key is not known here. Connect once by: ssh -p \d+ \w+@127.0.0.1"):
            target.measure(model, SHORT)
        assert board.known_hosts.read_text() == ""

    def test_a_changed_host_key_is_refused(self, board, target, model):
        board.change_host_key()
        with pytest.raises(
            TargetError, match=r"another host key than before.*ssh-keygen .*-R .*127.0.0.1.*:\d+"
        ) as caught:
            target.measure(model, SHORT)
        assert str(board.known_hosts) in str(caught.value)

    def test_a_wrong_key_is_refused_and_no_password_is_asked(self, board, target, model):
        other = board.home / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
        other.replace(board.identity)
        with pytest.raises(TargetError, match=r"takes none of your keys; .*ssh-copy-id -p \d+ "):
            target.measure(model, SHORT)

    def test_no_server(self, board, target, model):
        board.stop()
        with pytest.raises(TargetError, match=r"no ssh server answers at port \d+"):
            target.measure(model, SHORT)

    def test_no_such_host(self, board, model):
        with pytest.raises(TargetError, match=r"^ssh://pi@no-such-host.invalid: there is no host no-such-host.invalid"):
            SshTarget("ssh://pi@no-such-host.invalid").measure(model, SHORT)

    def test_no_ssh_program(self, board, target, model, monkeypatch):
        monkeypatch.setenv("PATH", str(board.home))
        with pytest.raises(TargetError, match="there is no ssh program here: sudo apt install openssh-client"):
            target.measure(model, SHORT)
        assert [each.reachable for each in KIND.available()] == [False]

    def test_a_wrong_configuration(self, board, target, model):
        board.ssh_config.write_text("Host *\n  NoSuchOption yes\n")
        with pytest.raises(TargetError, match="ssh refuses its configuration: "):
            target.measure(model, SHORT)

    def test_an_account_without_a_shell(self, board, target, model):
        (board.bin.parent / "enter").write_text("#!/bin/sh\necho This account is for backups only.\n")
        with pytest.raises(TargetError, match=r"no shell that runs commands \(This account is for backups only\)"):
            target.measure(model, SHORT)

    def test_what_a_login_shell_says_is_not_taken_for_an_answer(self, board, target, model):
        enter = board.bin.parent / "enter"
        enter.write_text(enter.read_text().replace("#!/bin/sh", "#!/bin/sh\necho '{\"event\": 1}'\necho Hello >&2"))
        assert target.measure(model, SHORT).statistics.num_samples >= SHORT.min_runs


class TestPythonThere:
    def test_none(self, board, target, model):
        give_python(board, "exit 127")
        with pytest.raises(TargetError, match=r"3.9 or newer is needed there, but there is none.*apt install python3"):
            target.measure(model, SHORT)

    def test_too_old(self, board, target, model):
        told = {"version": [3, 7, 3], "bits": 64, "machine": "aarch64", "libc": ["glibc", "2.28"]}
        give_python(board, f"echo '{json.dumps({**told, 'packages': [], 'numpy': None})}'; exit 3")
        with pytest.raises(TargetError, match=r"but there is only Python 3.7.3\."):
            target.measure(model, SHORT)

    def test_without_a_runtime(self, board, target, model):
        give_python(board, f'exec {sys.executable} -S "$@"')
        with pytest.raises(
            TargetError, match=rf"has no runtime for models. Install one: edgelstm targets setup {board.target}"
        ):
            target.measure(model, SHORT)
        assert left_behind(board) == []

    def test_without_the_runtime_that_is_asked_for(self, board, target, model):
        with pytest.raises(
            ModelRunError,
            match=rf"^{model} on .* has no tflite-runtime. .*targets setup ssh://.* --runtime tflite-runtime, or leave",
        ):
            target.measure(model, SHORT, Settings(runtime="tflite-runtime"))

    def test_without_one_that_setup_does_not_offer(self, board, target, model, monkeypatch):
        monkeypatch.setitem(PACKAGES, "openvino", replace(PACKAGES["openvino"], module="not_there"))
        with pytest.raises(ModelRunError, match=r"has no openvino\. Install it in that Python yourself") as caught:
            target.measure(model, SHORT, Settings(runtime="openvino"))
        assert "--runtime openvino" not in str(caught.value)


class TestFailures:
    def test_a_damaged_model(self, board, target, model):
        model.write_bytes(b"TFL3" * 100)
        with pytest.raises(ModelRunError, match=rf"{model} on {board.target}: the runtime failed: .*Flatbuffer"):
            target.measure(model, SHORT)
        assert left_behind(board) == []

    def test_a_crash(self, board, target, model):
        give_python(board, f'case "$*" in *worker.pyz*) kill -SEGV $$;; esac; exec {sys.executable} "$@"')
        with pytest.raises(ModelRunError, match=rf"{model} on {board.target}: the runtime crashed \(SIGSEGV\)"):
            target.measure(model, SHORT)
        assert left_behind(board) == []

    def test_memory_that_runs_out(self, board, target, model):
        give_python(board, f'case "$*" in *worker.pyz*) kill -KILL $$;; esac; exec {sys.executable} "$@"')
        with pytest.raises(ModelRunError, match=r"killed there, as Linux does when memory runs out \(\d+ of \d+ MiB"):
            target.measure(model, SHORT)

    def test_a_hang_is_stopped_there_too(self, board, target, model):
        target.timeout_s = 3
        subject = Subject.read(model)
        with target.open() as session:
            with pytest.raises(ModelRunError, match=rf"{model} on {board.target}: the runtime was stopped after 3 s"):
                session.run(subject, LONG)
            assert not is_measuring(board)
            assert session.run(subject, SHORT)["result"]["samples_ns"]
        assert left_behind(board) == []

    def test_a_full_disk(self, start_board, tmp_path):
        board = start_board(disk_bytes=1_000_000)
        big = tmp_path / "big.tflite"
        big.write_bytes(bytes(2_000_000))
        text = (
            r"big.tflite \(2,000,000 bytes\) cannot be written to .*/\.edgelstm-run\.\w+, where \d+ KiB are free: "
            r".*space"
        )
        with SshTarget(board.target).connect() as place:
            with pytest.raises(TargetError, match=text):
                place.send(big)
            assert [path.name for path in (board.temporary / Path(place.folder).name).glob("*big*")] == []
        assert left_behind(board) == []

    def test_no_folder_to_work_in(self, board, target, model):
        write_program(board.bin, "mktemp", "exit 1")
        with pytest.raises(TargetError, match=r"no folder there can be written to and run from \(tried .*/tmp"):
            target.measure(model, SHORT)


class TestLostConnection:
    def test_a_killed_connection_ends_the_worker_and_removes_the_folder(self, board, target, model):
        def cut() -> None:
            wait_until(lambda: is_measuring(board))
            board.kill_connections()

        thread = threading.Thread(target=cut)
        thread.start()
        with pytest.raises(TargetError, match=rf"^{board.target}: the connection was lost.*run the same again\.$"):
            target.measure(model, LONG)
        thread.join()
        wait_until(lambda: left_behind(board) == [])

    def test_a_board_that_is_lost_between_runs_is_not_connected_anew_in_silence(self, board, target, model):
        subject = Subject.read(model)
        with target.open() as session:
            session.run(subject, SHORT)
            board.kill_connections()
            wait_until(lambda: left_behind(board) == [])
            with pytest.raises(TargetError, match="the connection was lost"):
                session.run(subject, SHORT)

    def test_a_network_that_falls_silent_makes_the_board_clean_up(self, board, model):
        target = SshTarget(board.target, beat_s=0.2, watch_s=1)
        with target.connect() as place:
            time.sleep(2.5)
            assert Path(place.folder).is_dir()
            ssh = place._guard._process
            os.kill(ssh.pid, signal.SIGSTOP)
            try:
                wait_until(lambda: left_behind(board) == [])
            finally:
                os.kill(ssh.pid, signal.SIGCONT)

    def test_a_killed_edgelstm_leaves_nothing_there(self, board, model):
        process = subprocess.Popen([sys.executable, "-c", MEASURE, board.target, str(model)])
        wait_until(lambda: is_measuring(board), 30)
        process.kill()
        process.wait()
        wait_until(lambda: left_behind(board) == [])

    def test_folders_of_dead_connections_are_removed_and_others_are_not(self, board, target):
        with target.connect() as place:
            where = " ".join(Path(place.folder, "guard").read_text().split()[2:])
        start = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
        guards = {"dead": f"4194305 12345 {where}", "alive": f"{os.getpid()} {start} {where}"}
        stale, living = (board.temporary / f".edgelstm-run.{name:x<10}" for name in guards)
        for folder, text in zip((stale, living), guards.values(), strict=True):
            folder.mkdir()
            (folder / "guard").write_text(f"{text}\n")
            (folder / "model.tflite").write_bytes(b"x")
        other = board.temporary / "edgelstm-run-output"
        other.mkdir()
        os.utime(other, (0, 0))
        with target.connect():
            pass
        assert sorted(board.temporary.iterdir()) == sorted([living, other])

    def test_a_process_that_took_the_number_of_a_dead_guard_keeps_nothing(self, board, target):
        with target.connect() as place:
            where = " ".join(Path(place.folder, "guard").read_text().split()[2:])
        stale = board.temporary / ".edgelstm-run.Stale12345"
        stale.mkdir()
        (stale / "guard").write_text(f"{os.getpid()} 1 {where}\n")
        (stale / "1.worker").write_text(f"{os.getpid()} 1\n")  # and is not killed for it
        with target.connect():
            pass
        assert not stale.exists()

    def test_the_folder_is_removed_after_an_error_here(self, board, target):
        with pytest.raises(KeyboardInterrupt), target.connect():
            raise KeyboardInterrupt
        assert left_behind(board) == []

    def test_nothing_of_the_connection_is_left_here(self, board, target, monkeypatch):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            monkeypatch.setattr("tempfile.tempdir", folder)
            with target.connect():
                assert [path.name[:9] for path in Path(folder).iterdir()] == ["edgelstm-"]
            assert list(Path(folder).iterdir()) == []

    @pytest.mark.parametrize("name", ["two words", "100%", "it's", 'a"b', "$HOME"])
    def test_the_folder_for_temporary_files_may_have_any_name(self, board, target, name, monkeypatch):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            (Path(folder) / name).mkdir()
            monkeypatch.setattr("tempfile.tempdir", str(Path(folder) / name))
            with target.connect() as place:
                assert place.run(["echo", "here"], timeout_s=30).output == "here\n"
            assert list((Path(folder) / name).iterdir()) == []


def test_targets_elsewhere_are_measured_at_the_same_time(model, monkeypatch):
    both = threading.Barrier(2, timeout=5)

    @contextlib.contextmanager
    def open_together(self, report=None):
        both.wait()
        raise TargetError(f"{self.name}: both were open.")
        yield

    for kind in (SshTarget, AdbTarget):
        monkeypatch.setattr(kind, "open", open_together)
    targets = [SshTarget("ssh://pi@board"), AdbTarget("adb:R5CT")]
    result = measure_all(targets, [Subject.read(model)], SHORT)
    assert [each.message for each in result.failures] == [f"{each.name}: both were open." for each in targets]
