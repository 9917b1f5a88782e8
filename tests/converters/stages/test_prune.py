from __future__ import annotations

import itertools
import math
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.stages import prune as module
from edgelstm.converters.stages.prune import Prune, block_zeros, pattern_zeros
from edgelstm.errors import MissingExtraError, SettingError, StageError
from tests.converters.forms import TwoReaders
from tests.converters.stages.weights import (
    CLASSES,
    FEATURES,
    TIME,
    Around,
    Subclassed,
    check_resumed,
    check_seeds,
    constants,
    many,
    one_lstm,
    watching,
    workshop,
)
from tests.converters.stages.workshop import TinyWorkshop
from tests.converters.tiny import floats, functional, sequential, with_random_weights


def test_half_of_the_smallest_become_zero():
    magnitudes = np.array([[[5.0, 1.0], [2.0, 4.0], [3.0, 6.0]]])
    expected = np.array([[[False, True], [True, False], [True, False]]])
    np.testing.assert_array_equal(block_zeros(magnitudes, 0.5, (1, 1)), expected)


@pytest.mark.parametrize("shape", [(1, 8, 12), (4, 7, 5), (1, 3, 2), (3, 1, 9)])
@pytest.mark.parametrize("block", [(1, 1), (1, 4), (4, 4), (2, 3), (16, 16)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 0.999])
def test_blocks_are_those_of_a_plain_loop(shape, block, share):
    magnitudes = np.random.default_rng(0).random(shape)
    blocks = [
        (piece, slice(row, row + block[0]), slice(column, column + block[1]))
        for piece in range(shape[0])
        for row in range(0, shape[1], block[0])
        for column in range(0, shape[2], block[1])
    ]
    expected = np.zeros(shape, bool)
    count = min(round(share * len(blocks)), len(blocks) - 1)
    for each in sorted(blocks, key=lambda index: magnitudes[index].mean())[:count]:
        expected[each] = True
    np.testing.assert_array_equal(block_zeros(magnitudes, share, block), expected)


def test_of_equal_blocks_the_first_become_zero():
    expected = np.arange(12).reshape(1, 3, 4) < 6
    np.testing.assert_array_equal(block_zeros(np.ones((1, 3, 4)), 0.5, (1, 1)), expected)
    np.testing.assert_array_equal(pattern_zeros(np.ones((1, 4, 1)), 1, 2, 4).ravel(), [True, True, False, False])


@pytest.mark.parametrize("shape", [(1, 8, 3), (4, 7, 5), (2, 9, 1), (1, 2, 4)])
@pytest.mark.parametrize("kept, group", [(2, 4), (1, 4), (3, 4), (1, 2)])
def test_patterns_are_those_of_a_plain_loop(shape, kept, group):
    magnitudes = np.random.default_rng(0).random(shape)
    expected = np.ones(shape, bool)
    for piece, row, column in itertools.product(range(shape[0]), range(0, shape[1], group), range(shape[2])):
        largest = np.argsort(magnitudes[piece, row : row + group, column])[::-1][:kept]
        expected[piece, row + largest, column] = False
    found = pattern_zeros(magnitudes, 1, kept, group)
    np.testing.assert_array_equal(found, expected)
    half = pattern_zeros(magnitudes, 0.5, kept, group)
    assert half.sum() == round(0.5 * expected.sum())
    assert not (half & ~expected).any()
    if half.any():
        assert magnitudes[half].max() <= magnitudes[expected & ~half].min()


@pytest.mark.parametrize("power", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("initial, final", [(0.0, 0.8), (0.3, 0.5), (0.5, 0.5)])
def test_the_share_follows_zhu_and_gupta(power, initial, final):
    stage = Prune(sparsity=final, initial=initial, power=power)
    for step in range(41):
        expected = final + (initial - final) * (1 - step / 40) ** power
        # The schedule computes in float32.
        assert stage._share(module._schedules(), final, step, 40) == pytest.approx(expected, abs=1e-6)
    assert stage._share(module._schedules(), final, 40, 40) == final
    constant = Prune(sparsity=final, schedule="constant")
    assert constant._share(module._schedules(), final, 0, 40) == pytest.approx(final, abs=1e-7)


def test_zeros_grow_by_the_schedule_and_stay_zero_bit_for_bit():
    shop, model = watching(), one_lstm()
    outcome = Prune(sparsity=0.75, initial=0.1, every=2, ramp_epochs=3, epochs=2).apply(model, shop)
    ramp, fixed = ([each[0] for each in shop.steps[name]] for name in ("ramp", "fixed zeros"))
    assert len(ramp) == 10
    assert len(fixed) == 7
    size = ramp[0].size
    for step, weights in enumerate(ramp):
        updated = step if step == 9 else step - step % 2
        share = 0.75 + (0.1 - 0.75) * (1 - updated / 9) ** 3
        assert np.count_nonzero(weights == 0) == round(share * size), step
    for before, after in itertools.pairwise([*ramp, *fixed]):
        assert (after[before == 0].view(np.uint32) == 0).all()  # zeros, and no minus zeros
        assert (after != before).any() or after is fixed[0]
    kernel = outcome.model.layers[0].cell.kernel.numpy()
    np.testing.assert_array_equal(kernel == 0, ramp[-1] == 0)
    assert any(np.array_equal(kernel, each) for each in fixed)


def test_training_would_bring_zeros_back():
    """Without what holds zeros, the training of the tests above moves every one of them."""
    model = Prune(ramp_epochs=0, epochs=0).apply(one_lstm(), workshop()).model
    before = model.layers[0].cell.kernel.numpy()
    workshop().finetune(model, epochs=1)
    assert (model.layers[0].cell.kernel.numpy()[before == 0] != 0).all()
    assert (before == 0).sum() == round(0.8 * before.size)


@pytest.mark.parametrize("settings", [{}, {"block": "1x4"}, {"block": "2x2", "sparsity": 0.5}])
def test_every_matrix_reaches_its_sparsity_exactly(settings):
    model = many()
    outcome = Prune(ramp_epochs=0, epochs=0, **settings).apply(model, workshop())
    rows, columns = (int(each) for each in settings.get("block", "1x1").split("x"))
    share = settings.get("sparsity", 0.8)
    for matrix, _ in module.choose(outcome.model, ("", ""), "all", share, {}):
        pieces = matrix.view.split(matrix.read())
        blocks = [
            piece[row : row + rows, column : column + columns]
            for piece in pieces
            for row in range(0, piece.shape[0], rows)
            for column in range(0, piece.shape[1], columns)
        ]
        count = min(round(share * len(blocks)), len(blocks) - 1)
        assert sum(not block.any() for block in blocks) == count, matrix.name
        assert sum(bool((block == 0).all() or (block != 0).all()) for block in blocks) == len(blocks), matrix.name
        assert outcome.figures["layers"][matrix.name] == np.mean(pieces == 0)
    assert len(outcome.figures["layers"]) == 14
    kept = [each for each in outcome.model.trainable_variables if each.name in ("bias", "gamma", "beta")]
    assert len(kept) == 10
    assert all(each.numpy().all() for each in kept)


@pytest.mark.parametrize("pattern, kept, group", [("2:4", 2, 4), ("1:2", 1, 2), ("1:4", 1, 4)])
def test_patterns_keep_n_of_m_along_the_inputs_of_every_gate(pattern, kept, group):
    model = sequential(
        layers.Input((TIME, 8), name="x"),
        layers.LSTM(12, name="lstm"),
        layers.Dense(CLASSES, activation="softmax", name="answer"),
    )
    shop = TinyWorkshop({"x": floats(60, TIME, 8)}, np.arange(60) % 3)
    outcome = Prune(pattern=pattern, ramp_epochs=1, epochs=1, every=2).apply(model, shop)
    for weights in (outcome.model.layers[0].cell.kernel.numpy(), outcome.model.layers[0].cell.recurrent_kernel.numpy()):
        groups = weights.reshape(-1, group, weights.shape[1])
        assert (np.count_nonzero(groups, axis=1) == kept).all()
    assert outcome.figures["sparsity"] == 1 - kept / group


def test_layers_keep_their_own_sparsity():
    settings = {"layers": "lstm", "overrides": "recurrent_kernel=0, answer=0.5", "ramp_epochs": 1, "epochs": 1}
    outcome = Prune(sparsity=0.7, **settings).apply(one_lstm(), workshop())
    assert outcome.figures["layers"] == {"lstm/kernel": 84 / 120, "answer/kernel": 9 / 18}
    assert outcome.figures["weights"] == 138
    assert outcome.model.layers[0].cell.recurrent_kernel.numpy().all()


def test_the_largest_weights_stay():
    model = one_lstm()
    before = model.layers[0].cell.kernel.numpy()
    kernel = Prune(ramp_epochs=0, epochs=0).apply(model, workshop()).model.layers[0].cell.kernel.numpy()
    kept = kernel != 0
    np.testing.assert_array_equal(kernel[kept], before[kept])
    assert np.abs(before[kept]).min() > np.abs(before[~kept]).max()


def test_what_is_too_small_is_left_alone_and_told():
    outcome = Prune(block="64x64", ramp_epochs=0, epochs=0, layers="all").apply(one_lstm(), workshop())
    assert outcome.figures["layers"]["answer/kernel"] == 0
    assert "answer/kernel has too few weights or blocks to prune any of them." in outcome.notes
    assert outcome.figures["layers"]["lstm/kernel"] == 0.75  # three of four gates: a block each


def assert_untouched(model: Any, before: list[Any], config: Any, flags: list[bool]) -> None:
    for one, other in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    assert model.get_config() == config
    assert [layer.trainable for layer in model._flatten_layers()] == flags
    assert not model.compiled
    assert all(each.constraint is None and each.regularizer is None for each in model.variables)


def test_the_model_that_goes_in_stays_as_it_was_and_shares_nothing():
    model = many()
    model.get_layer("shared").trainable = False
    before, config = [each.numpy() for each in model.variables], model.get_config()
    flags = [layer.trainable for layer in model._flatten_layers()]
    result = Prune(ramp_epochs=1, epochs=0).apply(model, workshop()).model
    assert_untouched(model, before, config, flags)
    assert not {id(each) for each in model.variables} & {id(each) for each in result.variables}
    assert result.get_config() == config
    assert [layer.trainable for layer in result._flatten_layers()] == flags
    assert not result.compiled
    assert all(each.constraint is None and each.regularizer is None for each in result.variables)
    frozen = result.get_layer("shared").cell
    assert np.mean(frozen.kernel.numpy() == 0) == 0.8
    np.testing.assert_array_equal(frozen.bias.numpy(), model.get_layer("shared").cell.bias.numpy())


def test_constraints_and_regularizers_of_the_model_hold_meanwhile():
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.LSTM(6, kernel_constraint=keras.constraints.MaxNorm(0.5), recurrent_regularizer="l2")(x)
    model = functional(x, layers.Dense(CLASSES, activation="softmax")(y))
    shop = watching()
    result = Prune(sparsity=0.5, ramp_epochs=1, epochs=2).apply(model, shop).model
    norms = np.linalg.norm(result.layers[1].cell.kernel.numpy(), axis=0)
    assert (norms <= 0.5 + 1e-6).all()
    assert np.linalg.norm(model.layers[1].cell.kernel.numpy(), axis=0).max() > 0.6
    assert np.mean(result.layers[1].cell.kernel.numpy() == 0) == 0.5
    free = functional(x, layers.Dense(CLASSES, activation="softmax")(layers.LSTM(6)(x)))
    free.set_weights(model.get_weights())
    other = Prune(sparsity=0.5, ramp_epochs=1, epochs=2, layers="LSTM").apply(free, watching()).model
    size, free_size = (np.abs(each.layers[1].cell.recurrent_kernel.numpy()).sum() for each in (result, other))
    assert size < 0.99 * free_size


def test_a_seed_gives_the_same_model():
    check_seeds(Prune(ramp_epochs=1, epochs=1))


@pytest.mark.parametrize("stop", [("ramp", 1), ("ramp", 3), ("ramp", 4), ("fixed zeros", 2)])
def test_an_interrupted_training_goes_on_with_the_same_zeros(stop):
    check_resumed(Prune(every=3, ramp_epochs=2, epochs=1), stop)


def test_subclassed_models_are_pruned_where_they_can_be_copied():
    model = TwoReaders()
    model(floats(1, TIME, FEATURES))
    with_random_weights(model)
    before = model.get_weights()
    shop = Subclassed({"x": floats(40, TIME, FEATURES)}, floats(40, 3), loss_name="mse")
    outcome = Prune(ramp_epochs=1, epochs=1).apply(model, shop)
    assert [len(outcome.figures["layers"]), round(outcome.figures["sparsity"], 2)] == [5, 0.8]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert [layer.name for layer in outcome.model.layers] == [layer.name for layer in model.layers]


def test_a_subclassed_model_without_get_config_is_refused():
    model = Around(layers.LSTM(3))
    model(floats(1, TIME, FEATURES))
    with pytest.raises(StageError, match=r"\(Around\) cannot be copied: its class does not tell Keras"):
        Prune().apply(model, workshop())


@pytest.mark.parametrize("make", [one_lstm, many], ids=["one_lstm", "many"])
def test_results_are_saved_and_loaded_by_keras_alone(make, tmp_path):
    result = Prune(ramp_epochs=int(make is one_lstm), epochs=0).apply(make(), workshop()).model
    result.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for one, other in zip(result.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert [tensor.name for tensor in loaded.inputs] == [tensor.name for tensor in result.inputs]
    assert [layer.name for layer in loaded._flatten_layers()] == [layer.name for layer in result._flatten_layers()]


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8"])
def test_files_are_verified_and_keep_the_zeros(precision, tmp_path):
    model = sequential(
        layers.Input((TIME, 32), name="x"),
        layers.Bidirectional(layers.LSTM(32)),
        layers.Dense(CLASSES, activation="softmax", name="answer"),
    )
    shop = TinyWorkshop({"x": floats(64, TIME, 32)}, np.arange(64) % 3)
    result = Prune(ramp_epochs=1, epochs=0, sparsity=0.75).apply(model, shop).model
    edgelstm.convert(result, tmp_path / "m.tflite", quantize=precision, calibration=shop.train.x)
    found = [each.values for each in constants(tmp_path / "m.tflite")]
    assert len(found) == 17
    weights = sum(each.size for each in found)
    assert weights == sum(math.prod(each.shape) for each in result.weights if each.name != "bias")
    exact = sum(np.count_nonzero(each.numpy() == 0) for each in result.weights if each.name != "bias")
    zeros = sum(np.count_nonzero(each == 0) for each in found)
    # A weight below half a step of its scale becomes zero, too.
    assert zeros == exact if precision == "float32" else exact <= zeros <= 1.05 * exact


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8"])
def test_nested_and_wrapped_models_convert(precision, tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    inner = keras.Sequential([keras.Input((TIME, FEATURES)), layers.LSTM(6, return_sequences=True)], name="inner")
    y = layers.Bidirectional(layers.LSTM(4))(layers.TimeDistributed(layers.Dense(5))(inner(x)))
    model = functional(x, [layers.Dense(2, name="one")(y), layers.Dense(3, name="two")(y)])
    shop = TinyWorkshop({"x": floats(40, TIME, FEATURES)}, np.zeros(40))
    result = Prune(ramp_epochs=0, epochs=0).apply(model, shop).model
    edgelstm.convert(result, tmp_path / "m.tflite", quantize=precision, calibration=shop.train.x)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sparsity": 1.0}, "'sparsity' of stage 'prune' must be more than 0 and less than 1, not 1.0"),
        ({"sparsity": -0.1}, "'sparsity' of stage 'prune' must be more than 0 and less than 1, not -0.1"),
        ({"sparsity": float("nan")}, "'sparsity' of stage 'prune' must be more than 0"),
        ({"initial": -0.1}, "'initial' of stage 'prune' must be at least 0"),
        ({"initial": 0.9}, "'initial' of stage 'prune' must be at most the final sparsity 0.8, not 0.9"),
        ({"initial": 0.6, "pattern": "2:4"}, "must be at most the final sparsity 0.5"),
        ({"schedule": "linear"}, "'schedule' of stage 'prune' must be one of polynomial, constant"),
        ({"power": 0.0}, "'power' of stage 'prune' must be more than 0"),
        ({"every": 0}, "'every' of stage 'prune' must be at least 1"),
        ({"block": "0x3"}, "'block' of stage 'prune' must be two numbers from 1 on .* not '0x3'"),
        ({"block": "4"}, "must be two numbers from 1 on"),
        ({"block": "1x-4"}, "must be two numbers from 1 on"),
        ({"pattern": "5:4"}, "'pattern' of stage 'prune' must be N:M .* not '5:4'"),
        ({"pattern": "4:4"}, "must be N:M with N from 1 on and less than M"),
        ({"pattern": "0:4"}, "must be N:M with N from 1 on and less than M"),
        ({"pattern": "2:4", "block": "1x4"}, "'pattern' of stage 'prune' has blocks of its own: leave out"),
        ({"pattern": "2:4", "overrides": "lstm=0.5"}, "for 'lstm' must be 0 where a pattern is set, not 0.5"),
        ({"overrides": "lstm=1"}, "'overrides' of stage 'prune' for 'lstm' must be at least 0 and less than 1, not 1"),
        ({"overrides": "lstm=-0.1"}, "must be at least 0 and less than 1"),
        ({"overrides": "lstm"}, "'overrides' of stage 'prune' must be written as 'layer=number, other=number'"),
        ({"sparsty": 0.5}, "has no setting 'sparsty'. Did you mean 'sparsity'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Prune(**settings)


def test_unknown_layers_are_refused():
    with pytest.raises(SettingError, match=r"'overrides' of stage 'prune' names 'lstn', .* Did you mean 'lstm'"):
        Prune(overrides="lstn=0.5").apply(one_lstm(), workshop())
    with pytest.raises(StageError, match="the settings leave every layer alone"):
        Prune(layers="lstm", overrides="lstm=0").apply(one_lstm(), workshop())


def test_without_tensorflow_model_optimization_its_command_is_told(monkeypatch):
    monkeypatch.delitem(module.sys.modules, "edgelstm.converters.stages._tfmot_schedules", raising=False)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'not installed. .* pip install "edgelstm\[convert\]"'):
        Prune().apply(one_lstm(), workshop())


_ALONE = """
import os, sys, pathlib
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import edgelstm, keras
from edgelstm.converters.stages.prune import _schedules
keras.layers.Dense(2)
before, modules = dict(os.environ), set(sys.modules)
schedules = _schedules()
assert schedules is _schedules()
assert dict(os.environ) == before
assert not {name.partition(".")[0] for name in sys.modules} & {"tf_keras", "tensorflow_model_optimization"}
import tensorflow
assert tensorflow.keras.__version__ == keras.__version__
model = keras.Sequential([keras.Input((4, 3), name="x"), keras.layers.LSTM(5)])
edgelstm.convert(model, pathlib.Path("m.tflite"))
ours = schedules.PolynomialDecay(0.1, 0.8, 2, 30, 3.0), schedules.ConstantSparsity(0.8, 0)
import warnings
warnings.simplefilter("ignore")
import tensorflow_model_optimization as tfmot
theirs = tfmot.sparsity.keras.PolynomialDecay(0.1, 0.8, 2, 30, 3.0), tfmot.sparsity.keras.ConstantSparsity(0.8, 0)
assert dict(os.environ) != before  # what importing the package does
for one, other in zip(ours, theirs):
    assert all(float(one(step)[1]) == float(other(step)[1]) for step in range(40))
print("done")
"""


def test_schedules_are_those_of_the_package_without_its_side_effects(run_python):
    process = run_python(_ALONE)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip().endswith("done")
