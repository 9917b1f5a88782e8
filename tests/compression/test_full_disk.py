"""A disk that is full in the middle of a compression, a real one: a small file system in memory."""

from __future__ import annotations

import contextlib
import subprocess

import pytest

from edgelstm.compression.recipe import parse_recipe
from edgelstm.compression.runner import compress
from edgelstm.errors import OutputError

RECIPE = {"guard": {"max_drop": 100}, "stage": [{"kind": "spoil", "share": 0.0}, {"kind": "prune-units", "epochs": 1}]}


@pytest.fixture
def disk(tmp_path):
    """Mounts a disk; yields its folder and a function that gives it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    yield folder, resize
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.usefixtures("spoil")
def test_a_full_disk_is_told_and_costs_nothing_that_was_finished(model, data, disk, tmp_path):
    folder, resize = disk
    whole = compress(model, data, parse_recipe(RECIPE), tmp_path / "whole", latency=False)
    out = folder / "out"
    seen = []
    for size in ("16k", "32k", "64k", "128k"):
        resize(size)
        try:
            done = compress(model, data, parse_recipe(RECIPE), out, latency=False)
            break
        except OutputError as error:
            seen.append(str(error))
        assert not (out / "model.tflite").exists()
        assert not [path.name for path in out.rglob(".*") if path.is_file()]
    else:
        resize("8m")
        done = compress(model, data, parse_recipe(RECIPE), out, latency=False)
    assert seen
    assert seen
    assert all("No space left on device" in message or "the disk is full" in message for message in seen), seen
    assert done.artifact.path.read_bytes() == whole.artifact.path.read_bytes()
    assert [step.measures for step in done.tried] == [step.measures for step in whole.tried]
