"""What tests of searches share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning import fake

ROOT = Path(__file__).parents[2]


@pytest.fixture
def drawn():
    """Pictures are drawn in this test, which takes a second for each search."""


@pytest.fixture
def fast(monkeypatch, tmp_path, request):
    """Trainings of the task "fake" take no time; returns a function that returns the epochs that were trained."""
    fake.install(monkeypatch)
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("edgelstm.tuning.pictures.draw_study", lambda *_: [])
    log = tmp_path / "epochs.log"
    monkeypatch.setenv("FAKE_LOG", str(log))
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def start(tmp_path):
    """Starts `edgelstm` with the task "fake" in a process of its own; ends what still runs after the test."""
    started = []

    def start(*argv, epoch_s=0.0, log="epochs.log"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment |= {"FAKE_EPOCH_S": str(epoch_s), "FAKE_LOG": str(tmp_path / log)}
        command = [sys.executable, "-m", "tests.tuning.fake", *map(str, argv)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
