from __future__ import annotations

import gzip
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.cluster import KMeans

import edgelstm
from edgelstm.converters.stages.cluster import Cluster, kmeans
from edgelstm.converters.stages.matrices import matrices_of
from edgelstm.converters.stages.prune import Prune
from edgelstm.errors import SettingError, StageError
from tests.converters.forms import TwoReaders
from tests.converters.stages.weights import (
    CLASSES,
    FEATURES,
    TIME,
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

INITS = ("linear", "density", "kmeans++")


def distinct(model: Any) -> dict[str, int]:
    return {matrix.name: len(np.unique(matrix.read())) for matrix in matrices_of(model)}


def values(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=count)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("count, clusters", [(50, 4), (1000, 16), (3000, 15), (5000, 255), (300, 2)])
def test_kmeans_settles(init, count, clusters):
    points = values(count)
    centres, groups = kmeans(points, clusters, init, np.random.default_rng(0))
    assert len(centres) == clusters
    assert groups.dtype == np.int32
    assert (np.diff(centres) > 0).all()
    np.testing.assert_array_equal(groups, np.abs(points[:, None] - centres).argmin(axis=1))
    # Of a mean over at most 5,000 values of size 1, float64.
    np.testing.assert_allclose(centres, [points[groups == each].mean() for each in range(clusters)], atol=1e-12)


@pytest.mark.parametrize("init", INITS[:2])
@pytest.mark.parametrize("count, clusters", [(50, 4), (3000, 15), (300, 2)])
def test_kmeans_is_that_of_scikit_learn(init, count, clusters):
    points = values(count)
    begin = (np.arange(clusters) + 0.5) / clusters
    first = np.linspace(points.min(), points.max(), clusters) if init == "linear" else np.quantile(points, begin)
    reference = KMeans(clusters, init=first[:, None], n_init=1, tol=0, max_iter=1000).fit(points[:, None])
    centres, _ = kmeans(points, clusters, init, np.random.default_rng(0))
    np.testing.assert_allclose(centres, np.sort(reference.cluster_centers_.ravel()), atol=1e-12)


def test_kmeans_gives_centres_without_values_others():
    points = np.concatenate([np.linspace(-1.1, -1, 20), np.linspace(1, 1.1, 20)])
    centres, groups = kmeans(points, 9, "linear", np.random.default_rng(0))
    assert len(centres) == 9
    assert len(np.unique(groups)) == 9


@pytest.mark.parametrize("init", INITS)
def test_few_distinct_values_stay_as_they_are(init):
    points = np.array([3.0, -1.0, 3.0, 0.5])
    centres, groups = kmeans(points, 4, init, np.random.default_rng(0))
    np.testing.assert_array_equal(centres[groups], points)


def test_kmeans_plus_plus_is_drawn_from_the_seed():
    first, second, other = (kmeans(values(500), 8, "kmeans++", np.random.default_rng(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("clusters", [2, 5, 16])
def test_every_matrix_has_at_most_so_many_values(init, clusters):
    outcome = Cluster(clusters=clusters, init=init, epochs=0).apply(many(), workshop())
    counts = distinct(outcome.model)
    assert len(counts) == 14
    assert outcome.figures["layers"] == counts
    assert outcome.figures["distinct_values"] == max(counts.values()) == clusters
    others = [each for each in outcome.model.trainable_variables if each.name in ("bias", "gamma", "beta")]
    for one, other in zip(
        others, [v for v in many().trainable_variables if v.name in ("bias", "gamma", "beta")], strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_each_weight_becomes_the_mean_of_its_group():
    model = one_lstm()
    before = model.layers[0].cell.kernel.numpy().astype(np.float64)
    after = Cluster(clusters=5, epochs=0).apply(model, workshop()).model.layers[0].cell.kernel.numpy()
    for value in np.unique(after):
        assert value == np.float32(before[after == value].mean())
    order = np.argsort(before.ravel())
    assert (np.diff(after.ravel()[order]) >= 0).all()


def test_values_are_trained_and_stay_shared_after_every_step():
    shop, model = watching(), one_lstm()
    outcome = Cluster(clusters=5, epochs=2).apply(model, shop)
    steps = [weights[0] for weights in shop.steps[""]]
    assert len(steps) == 7
    _, groups = np.unique(steps[0], return_inverse=True)
    for step in steps:
        assert len(np.unique(step)) == 5
        shared = {tuple(np.unique(step.ravel()[groups.ravel() == each])) for each in range(5)}
        assert all(len(each) == 1 for each in shared)
    moved = np.abs(np.unique(steps[-1]) - np.unique(steps[0]))
    assert (moved > 1e-4).all()
    assert any(np.array_equal(outcome.model.layers[0].cell.kernel.numpy(), step) for step in steps)


def test_training_would_part_the_values():
    """Without what holds them together, the training of the test above leaves hardly two weights alike."""
    model = Cluster(clusters=5, epochs=0).apply(one_lstm(), workshop()).model
    workshop().finetune(model, epochs=1)
    kernel = model.layers[0].cell.kernel.numpy()
    assert len(np.unique(kernel)) > 0.9 * kernel.size


def test_a_step_moves_a_value_by_the_mean_of_the_gradients():
    class OneStep(TinyWorkshop):
        def finetune(self, model: Any, **_: Any) -> None:
            before, x, y = model.layers[-1].kernel.numpy(), self.train.x["x"], self.train.y
            model.compile(keras.optimizers.SGD(0.5), loss=self.loss_name)
            free = keras.models.clone_model(model)
            free.set_weights(model.get_weights())
            free.compile(keras.optimizers.SGD(0.5), loss=self.loss_name)
            model.train_on_batch(x, y)
            free.train_on_batch(x, y)
            self.result = before, free.layers[-1].kernel.numpy(), model.layers[-1].kernel.numpy()

    plain = workshop()
    shop = OneStep(plain.train.x, plain.train.y)
    Cluster(clusters=4).apply(one_lstm(), shop)
    before, free, shared = shop.result
    for value in np.unique(before):
        group = before == value
        assert np.ptp(shared[group]) == 0
        np.testing.assert_allclose(shared[group][0] - value, (free[group] - value).mean(), atol=1e-6)
        assert np.ptp(free[group]) > 1e-3 or group.sum() == 1


@pytest.mark.parametrize("keep", [True, False])
def test_zeros_of_a_pruned_model_stay(keep):
    pruned = Prune(ramp_epochs=0, epochs=0, sparsity=0.5).apply(one_lstm(), workshop()).model
    shop = watching()
    result = Cluster(clusters=6, epochs=1, keep_zeros=keep).apply(pruned, shop).model
    before, after = pruned.layers[0].cell.kernel.numpy(), result.layers[0].cell.kernel.numpy()
    assert len(np.unique(after)) == 6
    if keep:
        np.testing.assert_array_equal(after == 0, before == 0)
        assert (after[before == 0].view(np.uint32) == 0).all()
        assert len(np.unique(shop.steps[""][-1][0])) == 6
    else:
        assert after.all()


def test_a_matrix_of_zeros_stays_so():
    model = one_lstm()
    model.layers[0].cell.kernel.assign(np.zeros((FEATURES, 24)))
    result = Cluster(epochs=1).apply(model, workshop()).model
    assert not result.layers[0].cell.kernel.numpy().any()


def test_layers_have_their_own_numbers():
    stage = Cluster(clusters=8, layers="lstm", overrides="recurrent_kernel=3, answer=2", epochs=0)
    assert stage.apply(one_lstm(), workshop()).figures["layers"] == {
        "lstm/kernel": 8,
        "lstm/recurrent_kernel": 3,
        "answer/kernel": 2,
    }
    figures = Cluster(overrides="lstm=0", epochs=0).apply(one_lstm(), workshop()).figures
    assert figures["layers"] == {"answer/kernel": 16}


def test_the_model_that_goes_in_stays_as_it_was_and_shares_nothing():
    model = many()
    model.get_layer("shared").trainable = False
    before, config = [each.numpy() for each in model.variables], model.get_config()
    flags = [layer.trainable for layer in model._flatten_layers()]
    result = Cluster(epochs=1).apply(model, workshop()).model
    assert all(np.array_equal(one, other.numpy()) for one, other in zip(before, model.variables, strict=True))
    assert not {id(each) for each in model.variables} & {id(each) for each in result.variables}
    for each in (model, result):
        assert each.get_config() == config
        assert [layer.trainable for layer in each._flatten_layers()] == flags
        assert not each.compiled
        assert all(variable.constraint is None and variable.regularizer is None for variable in each.variables)
    assert max(distinct(result).values()) == 16
    np.testing.assert_array_equal(
        result.get_layer("shared").cell.bias.numpy(), model.get_layer("shared").cell.bias.numpy()
    )


def test_a_seed_gives_the_same_model():
    check_seeds(Cluster(clusters=4, init="kmeans++", epochs=1))


def test_an_interrupted_training_goes_on_with_the_same_groups():
    check_resumed(Cluster(clusters=4, init="kmeans++", epochs=2), ("", 4))


def test_subclassed_models_are_clustered_where_they_can_be_copied():
    model = TwoReaders()
    model(floats(1, TIME, FEATURES))
    with_random_weights(model)
    shop = Subclassed({"x": floats(40, TIME, FEATURES)}, floats(40, 3), loss_name="mse")
    figures = Cluster(epochs=0).apply(model, shop).figures
    assert (len(figures["layers"]), figures["distinct_values"]) == (5, 16)


@pytest.mark.parametrize("make", [one_lstm, many], ids=["one_lstm", "many"])
def test_results_are_saved_and_loaded_by_keras_alone(make, tmp_path):
    result = Cluster(epochs=int(make is one_lstm)).apply(make(), workshop()).model
    result.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for one, other in zip(result.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.fixture(scope="module")
def wide() -> tuple[Any, Any, Any]:
    """A model with matrices that are large enough to pack, its 8 clusters, and examples."""
    model = sequential(
        layers.Input((TIME, 32), name="x"),
        layers.LSTM(64),
        layers.Dense(64, activation="relu"),
        layers.Dense(CLASSES, activation="softmax", name="answer"),
    )
    shop = TinyWorkshop({"x": floats(64, TIME, 32)}, np.arange(64) % 3)
    return model, Cluster(clusters=8, epochs=1).apply(model, shop).model, shop.train.x


@pytest.mark.parametrize(
    "precision, most",
    # 3 bits of a weight's 32 are 9 %, of 16 are 19 %, of 8 are 38 %; gzip comes close to twice that.
    [("float32", 0.25), ("float16", 0.45), ("dynamic", 0.65), ("int8", 0.7)],
)
def test_files_keep_the_values_shared_and_pack_better(wide, precision, most, tmp_path):
    packed = []
    for number, model in enumerate(wide[:2]):
        path = tmp_path / f"{number}.tflite"
        edgelstm.convert(model, path, quantize=precision, calibration=wide[2])
        packed.append(len(gzip.compress(path.read_bytes(), 9)))
        found = constants(path)
        assert sum(each.values.size for each in found) == 64 * 4 * (32 + 64) + 64 * 64 + 64 * CLASSES
        # A file has one scale for a matrix of a gate, but an int8 one has a scale for each output of a Dense layer.
        rows = [row for each in found for row in (each.values if each.num_scales > 1 else [each.values])]
        counts = [len(np.unique(row)) for row in rows]
        assert max(counts) <= 8 if number else max(counts) > 50
    assert packed[1] < most * packed[0]


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8"])
def test_nested_and_wrapped_models_convert(precision, tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    inner = keras.Sequential([keras.Input((TIME, FEATURES)), layers.LSTM(6, return_sequences=True)], name="inner")
    y = layers.Bidirectional(layers.LSTM(4))(layers.TimeDistributed(layers.Dense(5))(inner(x)))
    model = functional(x, [layers.Dense(2, name="one")(y), layers.Dense(3, name="two")(y)])
    shop = TinyWorkshop({"x": floats(40, TIME, FEATURES)}, np.zeros(40))
    result = Cluster(epochs=0).apply(model, shop).model
    edgelstm.convert(result, tmp_path / "m.tflite", quantize=precision, calibration=shop.train.x)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"clusters": 1}, "'clusters' of stage 'cluster' must be at least 2 and at most 256, not 1"),
        ({"clusters": 257}, "must be at least 2 and at most 256, not 257"),
        ({"clusters": 16.0}, "'clusters' of stage 'cluster' must be a whole number"),
        ({"init": "random"}, "'init' of stage 'cluster' must be one of linear"),
        ({"overrides": "lstm=1"}, "for 'lstm' must be 0 or a whole number from 2 to 256, not 1"),
        ({"overrides": "lstm=2.5"}, "must be 0 or a whole number from 2 to 256, not 2.5"),
        ({"overrides": "lstm=-2"}, "must be 0 or a whole number from 2 to 256, not -2"),
        ({"overrides": "lstm:2"}, "'overrides' of stage 'cluster' must be written as"),
        ({"learning_rate": -1.0}, "'learning_rate' of stage 'cluster' must be at least 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Cluster(**settings)


def test_unknown_layers_are_refused():
    with pytest.raises(SettingError, match=r"'layers' of stage 'cluster' names 'answr', .* Did you mean 'answer'"):
        Cluster(layers="answr").apply(one_lstm(), workshop())
    with pytest.raises(StageError, match="the settings leave every layer alone"):
        Cluster(layers="lstm", overrides="lstm=0").apply(one_lstm(), workshop())
