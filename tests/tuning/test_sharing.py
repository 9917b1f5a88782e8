"""Processes that share a study, and processes that end in the middle of one."""

from __future__ import annotations

import csv
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pytest

from edgelstm.errors import LoadError, MissingExtraError
from edgelstm.tuning import storage, tune

RANGE = "units=16:64:1"


def epochs_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_epochs(path, count, process, timeout_s=120):
    end = time.monotonic() + timeout_s
    while len(epochs_of(path)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the worker trains nothing"
        time.sleep(0.05)


def found_by(process):
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def check_shared(start, url, log):
    """Two processes with six trials between them: six trials in all, of different settings, from both."""
    argv = ["tune", "fake", "--trials", 6, "--range", RANGE, "--storage", url, "--no-prune", "--json"]
    workers = [start(*argv, "-o", name, epoch_s=0.3) for name in ("a", "b")]
    found = [found_by(worker) for worker in workers]
    epochs = epochs_of(log)
    assert max(each["num_complete"] for each in found) == 6
    assert all(each["num_trials"] == 6 and each["num_failed"] == 0 for each in found)
    assert len({each["units"] for each in epochs}) == 6
    assert len(epochs) == 6 * 4
    assert len({each["pid"] for each in epochs}) == 2


def test_two_processes_share_a_study_in_a_file(start, tmp_path):
    check_shared(start, f"sqlite:///{tmp_path}/shared.db", tmp_path / "epochs.log")


@pytest.fixture
def postgresql():
    """Starts a PostgreSQL server of this test; returns the URL of its database."""
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), *filter(None, [shutil.which("initdb")])]
    if not found:
        pytest.skip("there is no PostgreSQL server here (Debian package postgresql)")
    # Outside of tmp_path, which is closed to the user that runs the server.
    programs, folder = Path(found[-1]).resolve().parent, Path(tempfile.mkdtemp(prefix="edgelstm-server-"))
    secret, data = folder / "secret", folder / "data"
    secret.write_text("s3cret/word\n")
    user = getpass.getuser()
    prefix: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        user, runuser = "nobody", shutil.which("runuser")
        if runuser is None:
            pytest.skip("the PostgreSQL server does not run as root, and there is no runuser")
        prefix = [runuser, "-u", user, "--"]
        for path in (folder, secret):
            shutil.chown(path, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def call(*command):
        done = subprocess.run([*prefix, *map(str, command)], capture_output=True, text=True, cwd="/", check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    call(programs / "initdb", "-D", data, "-U", "edge", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    yield f"postgresql+psycopg://edge:s3cret%2Fword@127.0.0.1:{port}/postgres"
    call(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_two_processes_share_a_study_in_a_database_server(start, postgresql, tmp_path):
    check_shared(start, postgresql, tmp_path / "epochs.log")
    for path in [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]:
        assert b"s3cret" not in path.read_bytes()
    with pytest.raises(LoadError, match="password authentication failed") as raised:
        tune("rows", tmp_path / "c", storage=postgresql.replace("s3cret", "wr0ng"))
    assert "wr0ng" not in str(raised.value)


class TestEnds:
    ARGV = ("tune", "fake", "-o", "search", "--trials", 3, "--range", RANGE, "--no-prune", "--json")

    @pytest.mark.parametrize("mark", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
    def test_a_search_that_was_ended_goes_on_where_it_was(self, start, tmp_path, mark):
        log = tmp_path / "epochs.log"
        process = start(*self.ARGV, epoch_s=0.5)
        wait_for_epochs(log, 7, process)  # in the third epoch of the second trial
        process.send_signal(mark)
        _, err = process.communicate(timeout=60)
        if mark == signal.SIGINT:
            assert process.returncode == 130
            assert err == "edgelstm: error: interrupted in trial 2 of 3: give the same command again to go on.\n"
        else:
            assert process.returncode == -mark
        found = found_by(start(*self.ARGV))
        assert (found["num_trials"], found["num_complete"], found["num_running"]) == (3, 3, 0)
        assert len(epochs_of(log)) == 3 * 4 + 1  # the epoch that was ended is trained again, no other one
        assert [path.name for path in (tmp_path / "search").iterdir() if path.name.startswith(".")] == []

    def test_a_trial_that_ends_its_process_twice_counts_as_failed(self, start, tmp_path):
        log = tmp_path / "epochs.log"
        for count in (1, 2):
            process = start(*self.ARGV, epoch_s=30)
            wait_for_epochs(log, count, process)
            process.kill()
            process.communicate()
        out, err = start(*self.ARGV).communicate(timeout=100)
        found = json.loads(out)
        assert (found["num_trials"], found["num_complete"], found["num_failed"]) == (3, 2, 1)
        assert "its process ended without a word, perhaps for want of memory" in " ".join(err.split())

    def test_a_trial_of_a_lost_machine_is_taken_over_when_it_is_silent(self, start, tmp_path, fast, monkeypatch):
        url, log = f"sqlite:///{tmp_path}/shared.db", tmp_path / "epochs.log"
        process = start("tune", "fake", "-o", "there", "--trials", 2, "--range", RANGE, "--storage", url, epoch_s=30)
        wait_for_epochs(log, 1, process)
        process.kill()
        process.communicate()
        found = tune("fake", tmp_path / "here", trials=2, ranges={"units": "16:64:1"}, storage=url)
        assert (found.num_complete, found.num_running) == (1, 1)
        monkeypatch.setattr(storage, "GRACE_S", 1)
        time.sleep(2.5)
        # Silent trials are looked for when a trial begins.
        found = tune("fake", tmp_path / "here", trials=3, ranges={"units": "16:64:1"}, storage=url)
        assert (found.num_trials, found.num_complete, found.num_running) == (3, 3, 0)


class TestDatabases:
    @pytest.mark.parametrize(
        "url, shown",
        [
            ("postgresql://me:s3cret@h/db", "postgresql://me:***@h/db"),
            ("mysql+pymysql://me:s3%40cret@h/db", "mysql+pymysql://me:***@h/db"),
            ("postgresql://h/db?user=me&Password=s3cret", "postgresql://h/db?Password=***&user=me"),
            ("sqlite:///a.db", "sqlite:///a.db"),
            ("nonsense", "nonsense"),
        ],
    )
    def test_a_url_is_shown_without_its_password(self, url, shown):
        assert storage.without_password(url) == shown

    @pytest.mark.parametrize("text", ["s3@cret", "s3%40cret", "postgresql://me:s3%40cret@h/db"])
    def test_a_reason_holds_no_password_however_it_is_written(self, text):
        reason = storage.reason_of(ValueError(f"cannot reach {text}!"), "postgresql://me:s3%40cret@h/db")
        assert reason == "cannot reach ***!."

    def test_a_driver_that_is_missing_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "psycopg2", None)
        with pytest.raises(MissingExtraError, match=r"postgresql\+psycopg2://me:\*\*\*@h/db .*'psycopg2-binary'"):
            tune("rows", tmp_path, storage="postgresql+psycopg2://me:s3cret@h/db")

    @pytest.mark.parametrize(
        "url, message",
        [
            ("study.db", "Could not parse SQLAlchemy URL"),
            ("redis://me:s3cret@h", "redis"),
            ("sqlite://", "in memory"),
            ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ],
    )
    def test_a_database_that_cannot_be_opened_is_one_sentence(self, tmp_path, url, message):
        with pytest.raises(LoadError, match=r"^Cannot open the database ") as raised:
            tune("rows", tmp_path, storage=url)
        assert message in str(raised.value)
        assert "s3cret" not in str(raised.value)

    def test_a_file_that_is_no_database_is_one_sentence(self, tmp_path):
        (tmp_path / "study.db").write_text("x" * 5000)
        with pytest.raises(LoadError, match=r"Cannot open the database .*study\.db: file is not a database"):
            tune("rows", tmp_path)


def test_the_study_can_be_opened_with_optuna(tmp_path, fast):
    tune("fake", tmp_path / "search", trials=2, ranges={"units": "16,48"})
    study = optuna.load_study(study_name="fake-one-offline", storage=f"sqlite:///{tmp_path}/search/study.db")
    with (tmp_path / "search" / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [trial.value for trial in study.trials] == [float(row["validation_loss"]) for row in rows]
