from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from edgelstm.errors import EdgeLSTMError, LoadError
from edgelstm.training import fitting
from edgelstm.training.checkpoints import Checkpoint
from edgelstm.training.fitting import Trainer, TrainingInterruptedError, fit
from edgelstm.training.progress import Progress
from tests.training.tiny_task import fit_tiny, prepare, without_seconds

keras = pytest.importorskip("keras")


def interrupt_after(count):
    """Returns a report that sends SIGINT when it is called for the count-th time."""
    calls = iter(range(1, 1_000_000))

    def report(_):
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGINT)

    return report


# 3 batches an epoch, the last one of 8 examples instead of 16.
VARIATIONS = {
    "plain": {},
    "plateau": {"schedule": "plateau", "patience": 2, "learning_rate": 0.3, "epochs": 5},
    "cosine, adamw, clipnorm": {"schedule": "cosine", "optimizer": "adamw", "clipnorm": 0.05},
    "clipvalue, class weights, l2": {"clipvalue": 0.01, "class_weights": True, "l2": 0.01},
    "mixed precision": {"mixed_precision": True},
    "LSTM": {"variant": "lstm"},
}


@pytest.mark.parametrize("settings", VARIATIONS.values(), ids=VARIATIONS)
def test_interrupted_trainings_come_to_the_same_weights_and_figures(settings, tmp_path):
    whole, done = fit_tiny(**settings)
    path = tmp_path / "checkpoint.npz"
    messages = []
    # In the middle of the first epoch, after its last batch, and after the first batch of the next one.
    for count in (1, 2, 1):
        with pytest.raises(TrainingInterruptedError) as interrupted:
            fit_tiny(path, interrupt_after(count), **settings)
        messages.append(str(interrupted.value))
    again, done_again = fit_tiny(path, **settings)
    assert [message.partition(":")[0] for message in messages] == [
        "interrupted in epoch 1, after batch 1 of 3",
        "interrupted in epoch 1, after batch 3 of 3",
        "interrupted in epoch 2, after batch 1 of 3",
    ]
    assert len(whole) == len(again) >= 5
    for expected, found in zip(whole, again, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert without_seconds(done_again.history) == without_seconds(done.history)
    assert (done_again.best_epoch, done_again.best_loss) == (done.best_epoch, done.best_loss)


def test_another_seed_or_no_dropout_gives_other_weights():
    """Without this, equal weights above would prove nothing."""
    whole, _ = fit_tiny(epochs=1)
    other, _ = fit_tiny(epochs=1, noise=0.2)
    assert any((a != b).any() for a, b in zip(whole, other, strict=True))


def test_a_checkpoint_without_the_state_of_dropout_would_be_seen(tmp_path, monkeypatch):
    whole, _ = fit_tiny(epochs=1)
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(TrainingInterruptedError):
        fit_tiny(path, interrupt_after(1), epochs=1)
    assign = fitting.assign

    def forget(variables, values):
        pairs = [pair for pair in zip(variables, values, strict=True) if "seed" not in pair[0].path]
        assert len(pairs) < len(variables)
        assign(*zip(*pairs, strict=True))

    monkeypatch.setattr(fitting, "assign", forget)
    again, _ = fit_tiny(path, epochs=1)
    assert any((a != b).any() for a, b in zip(whole, again, strict=True) if a.dtype == np.float32)


def test_an_interruption_while_validating_ends_after_the_epoch(tmp_path, monkeypatch):
    whole, _ = fit_tiny()
    path, validate = tmp_path / "checkpoint.npz", Trainer._validate

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGINT)
        return validate(self)

    monkeypatch.setattr(Trainer, "_validate", interrupted)
    with pytest.raises(TrainingInterruptedError, match=r"interrupted after epoch 1 of 3: give the same command again"):
        fit_tiny(path)
    monkeypatch.undo()
    again, _ = fit_tiny(path)
    for expected, found in zip(whole, again, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_second_interruption_ends_at_once(tmp_path):
    def report(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        fit_tiny(tmp_path / "checkpoint.npz", report)
    assert not isinstance(interrupted.value, TrainingInterruptedError)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_of_the_caller_is_back_after_a_training():
    before = signal.getsignal(signal.SIGINT)
    fit_tiny(epochs=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_checkpoint_of_another_model_is_refused_and_stays(tmp_path):
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(TrainingInterruptedError):
        fit_tiny(path, interrupt_after(1))
    content = path.read_bytes()
    with pytest.raises(LoadError, match=r"checkpoint\.npz is of another model\. Train anew with --restart\."):
        fit_tiny(path, units=4)
    assert path.read_bytes() == content


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    model, task, data, setup = prepare()
    with pytest.raises(TrainingInterruptedError):
        fit(model, task, data, setup, checkpoint=path, report=interrupt_after(1))
    data.train.x["wave"][5, 2, 1] += 1e-3
    with pytest.raises(LoadError, match=r"The data has changed since the checkpoint .*checkpoint\.npz was written"):
        fit(model, task, data, setup, checkpoint=path)


class TestFigures:
    """Figures of an epoch against those that plain Keras and numpy come to."""

    def test_loss_and_gradient_norm_of_a_step(self):
        # One batch an epoch, no dropout, no noise: the first epoch is one step from the initial weights.
        settings = {"epochs": 1, "batch_size": 64, "noise": 0.0, "l2": 0.02, "class_weights": True}
        model, task, data, setup = prepare(**settings)
        _remove_dropout(model)
        expected, norm = _loss_and_norm(model, data.train, l2=0.02, weights=task.objective.class_weights(data.train.y))
        (figures,) = fit(model, task, data, setup).history
        assert figures["loss"] == pytest.approx(expected, rel=1e-5)
        assert figures["gradient_norm"] == pytest.approx(norm, rel=1e-4)
        assert figures["gradient_norm_max"] == figures["gradient_norm"]

    def test_median_and_maximum_of_the_norms(self, monkeypatch):
        norms = iter([3.0, 1.0, 8.0])
        monkeypatch.setattr(fitting, "own_optimizer", lambda _: _FakeOptimizer(norms))
        _, done = fit_tiny(epochs=1)
        assert (done.history[0]["gradient_norm"], done.history[0]["gradient_norm_max"]) == (3.0, 8.0)

    @pytest.mark.parametrize("l2", [0.0, 0.05])
    def test_validation_is_that_of_all_examples_without_dropout(self, l2):
        model, task, data, setup = prepare(epochs=1, l2=l2)  # 18 examples in batches of 16
        (figures,) = fit(model, task, data, setup).history
        answers = model.predict(data.validation.x["wave"], verbose=0)
        rows = np.arange(len(answers))
        expected = -np.log(answers[rows, data.validation.y]).mean() + l2 * _squares(model)
        assert figures["val_loss"] == pytest.approx(expected, rel=1e-5)
        assert figures["val_accuracy"] == pytest.approx((answers.argmax(1) == data.validation.y).mean())

    def test_l2_alone_counts_kernels_and_not_biases(self):
        model, task, data, setup = prepare(epochs=1, l2=0.05)
        assert not [v.path for v in model.trainable_variables if v.regularizer is not None]
        Trainer(model, task, data, setup)
        regularized = {v.path for v in model.trainable_variables if v.regularizer is not None}
        assert regularized == {"hidden/kernel", "speed/kernel"}

    def test_l2_is_added_once_to_what_a_variable_has_of_its_own(self):
        model, *rest = prepare(l2=0.5)
        kernel = model.get_layer("hidden").kernel
        kernel.regularizer = keras.regularizers.L1(0.25)
        for _ in range(2):
            Trainer(model, *rest)
        value = kernel.numpy().astype(np.float64)
        expected = 0.5 * (value**2).sum() + 0.25 * np.abs(value).sum()
        assert float(kernel.regularizer(kernel)) == pytest.approx(expected, rel=1e-5)
        model, *rest = prepare()
        Trainer(model, *rest)
        assert model.get_layer("hidden").kernel.regularizer is None

    def test_class_weights_let_all_classes_count_alike(self):
        _, task, data, _ = prepare(num_train=200)
        y = data.train.y
        weights = task.objective.class_weights(y)
        counts = np.bincount(y)
        assert counts[0] > 2 * counts[1]
        np.testing.assert_allclose([weights[y == label].sum() for label in range(3)], len(y) / 3, rtol=1e-5)
        assert weights.mean() == pytest.approx(1)


class TestSchedules:
    def test_cosine_follows_its_formula(self):
        _, done = fit_tiny(schedule="cosine", learning_rate=0.02, epochs=4, patience=0)
        expected = [0.02 * 0.5 * (1 + np.cos(np.pi * epoch / 4)) for epoch in (1, 2, 3, 4)]
        np.testing.assert_allclose([figures["learning_rate"] for figures in done.history], expected, atol=1e-8)

    def test_plateau_halves_the_rate_where_the_loss_stands_still(self, monkeypatch):
        losses = iter([1.0, 0.9, 0.95, 0.9, 0.8, 0.8, 0.8, 0.8])
        monkeypatch.setattr(Trainer, "_validate", lambda _: {"loss": next(losses)})
        _, done = fit_tiny(schedule="plateau", learning_rate=0.08, epochs=8, patience=4)
        rates = [figures["learning_rate"] for figures in done.history]
        # Of each epoch, before the reduction that follows it; epochs 3, 4 and 6, 7 stood still, then 8 counts anew.
        np.testing.assert_allclose(rates, [0.08, 0.08, 0.08, 0.08, 0.04, 0.04, 0.04, 0.02], rtol=1e-6)

    def test_constant_stays(self):
        _, done = fit_tiny(learning_rate=0.08, epochs=2)
        np.testing.assert_allclose([figures["learning_rate"] for figures in done.history], 0.08, rtol=1e-6)


class TestTheEnd:
    @pytest.fixture
    def losses(self, monkeypatch):
        def give(*losses):
            each = iter(losses)
            monkeypatch.setattr(Trainer, "_validate", lambda _: {"loss": next(each)})

        return give

    def test_early_stopping_gives_back_the_weights_of_the_best_epoch(self, losses):
        losses(0.9, 0.5)
        best, _ = fit_tiny(epochs=2)
        losses(0.9, 0.5, 0.6, 0.5, 0.7, 0.1)
        found, done = fit_tiny(epochs=6, patience=3)
        assert (done.epoch, done.best_epoch, done.best_loss) == (5, 1, 0.5)
        for one, other in zip(best, found, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_without_patience_all_epochs_are_run(self, losses):
        losses(0.1, *[0.5] * 5)
        _, done = fit_tiny(epochs=6, patience=0)
        assert (done.epoch, done.best_epoch) == (6, 0)

    def test_a_loss_that_is_no_number_ends_the_training(self, tmp_path):
        with pytest.raises(EdgeLSTMError, match=r"The loss became nan in epoch \d, .*lower the learning_rate or set"):
            fit_tiny(tmp_path / "checkpoint.npz", learning_rate=1e38, epochs=5)

    def test_a_validation_loss_that_never_was_a_number_is_an_error(self, losses):
        losses(*[float("nan")] * 3)
        with pytest.raises(EdgeLSTMError, match="The validation loss was never a number"):
            fit_tiny()

    def test_the_weights_of_the_last_epoch_are_kept_where_asked_for(self, losses):
        losses(0.9, 0.5, 0.7)
        model, *rest = prepare(epochs=3)
        seen = []

        def after_epoch(*_):
            seen.append([variable.numpy() for variable in model.variables])

        done = fit(model, *rest, keep="last", after_epoch=after_epoch)
        assert done.best_epoch == 1
        assert any((one != other).any() for one, other in zip(seen[1], seen[2], strict=True))
        for one, other in zip(seen[2], model.variables, strict=True):
            np.testing.assert_array_equal(one, other.numpy())

    def test_after_each_step_weights_may_be_changed(self):
        model, *rest = prepare(epochs=2)
        kernel = model.get_layer("hidden").kernel
        steps, mask = [], np.arange(kernel.shape[1]) % 2

        def after_step(step, count):
            steps.append((step, count))
            kernel.assign(kernel.numpy() * mask)

        fit(model, *rest, after_step=after_step)
        assert steps == [(step, 6) for step in range(1, 7)]
        assert (kernel.numpy()[:, 0] == 0).all()
        assert (kernel.numpy()[:, 1] != 0).all()

    def test_an_interrupted_training_goes_on_counting_steps(self, tmp_path):
        path, steps = tmp_path / "checkpoint.npz", []
        model, *rest = prepare(epochs=2)
        with pytest.raises(TrainingInterruptedError):
            fit(model, *rest, checkpoint=path, report=interrupt_after(4), after_step=lambda step, _: steps.append(step))
        model, *rest = prepare(epochs=2)
        fit(model, *rest, checkpoint=path, after_step=lambda step, _: steps.append(step))
        assert steps == [1, 2, 3, 4, 5, 6]

    def test_after_a_loss_that_is_no_number_the_best_weights_are_back(self, losses):
        losses(0.5, 0.4)
        best, _ = fit_tiny(epochs=1)
        losses(0.5, 0.4)
        model, *rest = prepare(epochs=2)
        kernel = model.get_layer("hidden").kernel

        def spoil(step, _):
            if step == 4:
                kernel.assign(kernel.numpy() * np.nan)

        with pytest.raises(EdgeLSTMError, match="The loss became nan in epoch 2"):
            fit(model, *rest, after_step=spoil)
        for one, other in zip(best, model.variables, strict=True):
            np.testing.assert_array_equal(one, other.numpy())

    def test_an_error_after_an_epoch_ends_the_training(self):
        model, *rest = prepare()
        seen = []

        def after_epoch(epoch, figures):
            seen.append((epoch, figures["val_loss"]))
            if epoch == 1:
                raise StopIteration

        with pytest.raises(StopIteration):
            fit(model, *rest, after_epoch=after_epoch)
        assert [epoch for epoch, _ in seen] == [0, 1]


def test_progress_is_told_for_each_batch():
    lines = []
    fit_tiny(report=lines.append, epochs=2)
    assert len(lines) == 6
    assert lines[0].startswith("epoch 1/2 [======              ] loss ")
    assert "validation" not in lines[2]
    assert lines[5].startswith("epoch 2/2 [====================] loss ")
    assert ", validation loss " in lines[5]


def test_a_checkpoint_is_written_now_and_then_within_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_SAVING_INTERVAL_S", -1.0)
    path, seen = tmp_path / "checkpoint.npz", []

    def report(_):
        seen.append((Checkpoint.load(path).progress.epoch, Checkpoint.load(path).progress.batch) if seen else None)

    with pytest.raises(LoadError, match=r"No such file"):  # nothing is written before the first batch
        Checkpoint.load(path)
    fit_tiny(path, lambda line: report(line) if path.exists() else seen.append(None), epochs=2)
    assert seen == [None, (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize(
    "losses, patience, over_after",
    [([3, 2, 1, 1, 1, 1], 2, 5), ([1, 2, 3], 1, 2), ([float("nan")] * 4, 2, 2), ([1, 2, 0.5, 2, 2, 2], 3, 6)],
)
def test_patience_counts_epochs_without_a_lower_loss(losses, patience, over_after):
    progress = Progress()
    for epoch, loss in enumerate(losses):
        progress.close_epoch({"val_loss": loss})
        if progress.is_over(100, patience):
            assert epoch + 1 == over_after
            return
    raise AssertionError("it was never over")


def test_the_only_limit_without_patience_is_the_number_of_epochs():
    progress = Progress()
    for _ in range(7):
        assert not progress.is_over(7, 0)
        progress.close_epoch({"val_loss": 1.0})
    assert progress.is_over(7, 0)


class _FakeOptimizer:
    learning_rate = 0.5

    def __init__(self, norms):
        self._norms = norms

    @property
    def gradient_norm(self):
        norm = next(self._norms)
        return SimpleNamespace(numpy=lambda: norm)


def _remove_dropout(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def _squares(model):
    return sum(float((v.numpy() ** 2).sum()) for v in model.trainable_variables if "kernel" in v.name)


def _loss_and_norm(model, split, l2, weights):
    """The weighted loss and the norm of its gradient, from central differences in float64 of the model's answers."""
    variables = model.trainable_variables
    x, rows = split.x["wave"], np.arange(len(split))

    def loss_of():
        answers = np.asarray(model(x)).astype(np.float64)
        return (-np.log(answers[rows, split.y]) * weights).mean() + l2 * _squares(model)

    loss, total = loss_of(), 0.0
    for variable in variables:
        values = variable.numpy()
        for index in np.ndindex(values.shape):
            ends = []
            for sign in (1, -1):
                moved = values.copy()
                moved[index] += sign * 1e-2
                variable.assign(moved)
                ends.append(loss_of())
            total += ((ends[0] - ends[1]) / 2e-2) ** 2
        variable.assign(values)
    return loss, total**0.5
