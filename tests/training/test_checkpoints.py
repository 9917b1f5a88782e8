from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from edgelstm.errors import LoadError, OutputError
from edgelstm.tasks.base import Data, Split
from edgelstm.training.checkpoints import Checkpoint, check_fit, fingerprint
from edgelstm.training.progress import Progress


@pytest.fixture
def checkpoint():
    progress = Progress(2, 3, [{"val_loss": 0.1 + 0.2}], 0, 0.1 + 0.2, 1, [1.5, 2.5], 7.25)
    generator = np.random.default_rng(0)
    variables = [generator.normal(size=(index % 3 + 1, 2)).astype(np.float32) for index in range(12)]
    return Checkpoint(progress, [*variables, np.array(7, np.int64)], [variables[1], np.uint32([1, 2])], "0a1b")


def test_what_is_loaded_is_what_was_saved(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "c.npz")
    loaded = Checkpoint.load(tmp_path / "c.npz")
    assert (loaded.progress, loaded.data) == (checkpoint.progress, "0a1b")
    for expected, found in ((checkpoint.variables, loaded.variables), (checkpoint.best, loaded.best)):
        assert [array.dtype for array in found] == [array.dtype for array in expected]
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, other)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_losses_that_are_no_numbers_survive(tmp_path):
    Checkpoint(Progress(history=[{"val_loss": math.nan}]), [], [], "").save(tmp_path / "c.npz")
    progress = Checkpoint.load(tmp_path / "c.npz").progress
    assert math.isnan(progress.history[0]["val_loss"])
    assert progress.best_loss == math.inf


def test_what_cannot_be_written_leaves_the_former_one(checkpoint, tmp_path, monkeypatch):
    path = tmp_path / "c.npz"
    checkpoint.save(path)
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"begin")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match=r"Cannot write the checkpoint .*c\.npz: No space left on device\."):
        checkpoint.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["c.npz"]


def damage_half(content):
    return content[: len(content) // 2]


def damage_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [damage_half, damage_bit, lambda _: b"", lambda _: b"no archive"])
def test_a_damaged_one_is_refused(checkpoint, tmp_path, damage):
    path = tmp_path / "c.npz"
    checkpoint = dataclasses.replace(checkpoint, variables=[np.arange(5000.0)])
    checkpoint.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LoadError, match=r"Cannot read the checkpoint .*c\.npz: .*Train anew with --restart\."):
        Checkpoint.load(path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "c.npz", x=np.zeros(3))
    with pytest.raises(LoadError, match="Cannot read the checkpoint"):
        Checkpoint.load(tmp_path / "c.npz")


@pytest.mark.parametrize("shapes", [[(2, 3)], [(2, 3), (3,), (1,)], [(3, 2), (3,)], []])
def test_values_must_fit_in_number_and_shape(shapes, tmp_path):
    variables = [np.zeros((2, 3)), np.zeros(3)]
    check_fit(variables, [np.ones((2, 3)), np.ones(3)], tmp_path)
    with pytest.raises(LoadError, match="is of another model"):
        check_fit(variables, [np.zeros(shape) for shape in shapes], tmp_path)


def test_the_fingerprint_sees_every_change_of_what_is_learnt_from():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)

    def data(train_x=x, train_y=(0, 1, 2), validation_x=x, test_x=x, name="x"):
        splits = [Split({name: each}, np.asarray(y)) for each, y in ((train_x, train_y), (validation_x, (1, 1, 0)))]
        return Data(*splits, Split({name: test_x}, np.zeros(3)))

    same = fingerprint(data())
    assert fingerprint(data(test_x=x + 1)) == fingerprint(data(train_x=np.asfortranarray(x))) == same
    changed = [
        data(train_x=x[::-1]),
        data(train_x=x.astype(np.float64)),
        data(train_x=x.reshape(3, 2, 2)),
        data(train_y=(0, 2, 1)),
        data(validation_x=x + 1),
        data(name="z"),
    ]
    assert len({same, *map(fingerprint, changed)}) == 7
