"""Models of the Keras inside TensorFlow 2, live and in every kind of file, compared with tf_keras: it is that Keras."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.converters.legacy_functions import hard_sigmoid_of_keras_2
from edgelstm.converters.loading import load_model
from edgelstm.errors import LoadError
from edgelstm.source import open_source
from tests.converters.loading import legacy_files as files
from tests.converters.loading import legacy_reference as reference

h5py = pytest.importorskip("h5py")
old = pytest.importorskip("tf_keras")
tf = pytest.importorskip("tensorflow")

# Which format to prefer, told by the library that wrote the old one.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")

layers = old.layers
TIME, FEATURES, UNITS = 6, 3, 4
# Both run TensorFlow on the same weights; only the order of summation may differ, on answers of at most 10.
TOLERANCE = 5e-6


def sequential(*stack: Any, shape: Any = (TIME, FEATURES)) -> Any:
    return old.Sequential([old.Input(shape), *stack])


def inputs(*shapes: Any) -> list[Any]:
    return [old.Input(shape) for shape in shapes or [(TIME, FEATURES)]]


def lstm(units: int = UNITS, **settings: Any) -> Any:
    return layers.LSTM(units, return_sequences=True, **settings)


def encoder_decoder() -> Any:
    x, y = inputs((TIME, FEATURES), (5, 2))
    _, h, c = layers.LSTM(UNITS, return_state=True)(x)
    decoded, _, _ = layers.LSTM(UNITS, return_sequences=True, return_state=True)(y, initial_state=[h, c])
    return old.Model([x, y], layers.Dense(3, activation="softmax")(decoded))


def bidirectional_states() -> Any:
    (x,) = inputs()
    first = layers.Bidirectional(layers.LSTM(UNITS, return_state=True, return_sequences=True))
    sequence, *states = first(x)
    return old.Model(x, layers.Bidirectional(layers.LSTM(UNITS))(sequence, initial_state=states))


def given_state() -> Any:
    x, h = inputs((TIME, FEATURES), (UNITS,))
    return old.Model({"x": x, "state": h}, layers.GRU(UNITS)(x, initial_state=h))


def nested() -> Any:
    x, y = inputs((TIME, FEATURES), (TIME, FEATURES))
    chain = old.Sequential([old.Input((TIME, FEATURES)), lstm(), layers.Dense(FEATURES)], name="chain")
    (z,) = inputs()
    graph = old.Model(z, layers.BatchNormalization()(lstm(FEATURES)(layers.Dropout(0.5)(z))), name="graph>inner")
    return old.Model([x, y], layers.Concatenate()([graph(chain(x)), chain(y), graph(y)]))


def frozen() -> Any:
    inner = sequential(layers.Dense(4, trainable=False), layers.BatchNormalization(), layers.Dense(4))
    frozen_model = sequential(layers.Dense(4), layers.BatchNormalization(), layers.Dense(4), shape=(TIME, 4))
    frozen_model.trainable = False
    return sequential(inner, frozen_model, layers.BatchNormalization(trainable=False), layers.LSTM(UNITS))


def frames() -> Any:
    stack = [layers.Conv1D(4, 3, input_shape=(5, 3)), layers.BatchNormalization(), layers.Flatten()]
    return sequential(layers.TimeDistributed(old.Sequential(stack)), layers.LSTM(UNITS), shape=(TIME, 5, 3))


def images() -> Any:
    stack = [layers.Conv2D(3, 2), layers.MaxPooling2D(), layers.Conv2DTranspose(2, 2), layers.SeparableConv2D(3, 2)]
    rest = [layers.DepthwiseConv2D(2), layers.SpatialDropout2D(0.2), layers.Reshape((2, -1)), layers.LSTM(UNITS)]
    return sequential(*stack, *rest, shape=(12, 12, 2))


def attention(kind: Any, **settings: Any) -> Any:
    x, y = inputs((TIME, FEATURES), (TIME, FEATURES))
    queries, values = lstm()(layers.Masking()(x)), lstm()(layers.Masking()(y))
    return old.Model([x, y], kind(**settings)([queries, values]))


def heads() -> Any:
    x, y = inputs((TIME, FEATURES), (TIME, FEATURES))
    return old.Model([x, y], layers.MultiHeadAttention(2, 3)(lstm()(x), lstm()(y)))


def merged(kind: str, masked: int) -> Any:
    """A layer that merges two sequences of which one or both have masks, and an LSTM that goes by the result."""
    x, y = inputs((TIME, FEATURES), (TIME, FEATURES))
    second = layers.Masking()(y) if masked > 1 else y
    both = [lstm()(layers.Masking()(x)), lstm()(second)]
    return old.Model([x, y], layers.LSTM(UNITS)(getattr(layers, kind)()(both)))


FORMS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: sequential(layers.LSTM(UNITS, dropout=0.1, recurrent_dropout=0.1), layers.Dense(2)),
    "hard_sigmoid": lambda: sequential(lstm(recurrent_activation="hard_sigmoid"), layers.Dense(2, "hard_sigmoid")),
    "GRU": lambda: sequential(layers.GRU(UNITS, return_sequences=True), layers.GRU(UNITS, reset_after=False)),
    "SimpleRNN": lambda: sequential(layers.SimpleRNN(UNITS, go_backwards=True, unroll=True)),
    "cells": lambda: sequential(layers.RNN([layers.LSTMCell(3), layers.GRUCell(4), layers.SimpleRNNCell(2)])),
    "Bidirectional": lambda: sequential(
        layers.Bidirectional(lstm()), layers.Bidirectional(layers.GRU(3), merge_mode="ave")
    ),
    "two directions": lambda: sequential(
        layers.Bidirectional(lstm(), backward_layer=lstm(go_backwards=True, activation="relu"))
    ),
    "masks": lambda: sequential(layers.Masking(), lstm(), layers.Bidirectional(lstm()), layers.LSTM(UNITS)),
    "ConvLSTM": lambda: sequential(layers.ConvLSTM2D(3, 2), layers.Flatten(), shape=(4, 5, 5, 2)),
    "encoder and decoder": encoder_decoder,
    "states of both directions": bidirectional_states,
    "given state": given_state,
    "nested": nested,
    "frozen": frozen,
    "frames": frames,
    "images": images,
    "convolutions": lambda: sequential(
        layers.SeparableConv1D(4, 2),
        layers.DepthwiseConv1D(2),
        layers.Conv1D(3, 2, padding="causal", dilation_rate=2),
        layers.Conv1DTranspose(3, 2),
        layers.GlobalAveragePooling1D(),
    ),
    "activations": lambda: sequential(
        layers.LeakyReLU(0.1),
        layers.PReLU(),
        layers.ELU(0.5),
        layers.ThresholdedReLU(0.2),
        layers.Softmax(1),
        layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.1),
        layers.LSTM(UNITS, activation=layers.LeakyReLU(0.2)),
    ),
    "normalization": lambda: sequential(
        layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 2.0, 4.0]),
        layers.LayerNormalization(),
        layers.UnitNormalization(),
        layers.GroupNormalization(3),
        layers.LSTM(UNITS),
    ),
    "Attention": lambda: attention(layers.Attention, use_scale=True),
    "AdditiveAttention": lambda: attention(layers.AdditiveAttention),
    "MultiHeadAttention": heads,
    **{
        f"{kind} of {count} masks": lambda kind=kind, count=count: merged(kind, count)  # type: ignore[misc]
        for kind in ("Add", "Multiply", "Concatenate")
        for count in (1, 2)
    },
}
KINDS = (".h5", ".keras", ".keras of 2.12", "JSON and .h5", "JSON and .weights.h5")


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    """Layers get the same names in every test, whichever ran before."""
    old.backend.clear_session()


def randomized(model: Any) -> Any:
    """Gives every weight random values of its own; variances stay positive."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        values = rng.normal(0, 0.6, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)
    return model


def data(model: Any) -> Any:
    """Two rows for each input, with steps that Masking takes for masked."""
    rng = np.random.default_rng(1)

    def rows(shape: Any) -> Any:
        values = rng.normal(0, 1, (2, *shape[1:])).astype(np.float32)
        if values.ndim == 3:
            values[0, :2] = values[1, rng.integers(0, values.shape[1])] = 0
        return values

    return tf.nest.map_structure(lambda tensor: rows(tensor.shape), model.input)


def written(model: Any, kind: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model in one kind of file, and what else `load_model` needs to open it."""
    path = folder / ("model.keras" if "keras" in kind else "model.h5")
    model.save(path)
    if kind == ".keras of 2.12":
        return in_layout_of_2_12(path), {}
    if not kind.startswith("JSON"):
        return path, {}
    architecture = folder / "model.json"
    architecture.write_text(model.to_json())
    weights = folder / kind.rpartition(" ")[2].replace(".", "only.", 1)
    model.save_weights(weights)
    return architecture, {"weights": weights}


def in_layout_of_2_12(path: Path) -> Path:
    """The same archive with other groups: their name, and numbers that leave places free."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(contents["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        rename(file)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, buffer.getvalue() if name == "model.weights.h5" else content)
    return path


def rename(group: Any) -> None:
    for name in list(group):
        if isinstance(group[name], h5py.Group):
            rename(group[name])
    if "layers" in group:
        inner = group["layers"]
        names = [name for name in inner if not name.startswith("input_layer")]
        for position, name in sorted(enumerate(names), reverse=True):
            stem, _, number = name.rpartition("_") if name.rpartition("_")[2].isdigit() else (name, "", "0")
            inner.move(name, f"moved_{position}")
            inner.move(f"moved_{position}", f"{stem}_{2 * int(number) + 2}")
        group.move("layers", "_layer_checkpoint_dependencies")


def assert_same(loaded: Any, model: Any) -> None:
    batch = data(model)
    expected, found = model(batch, training=False), loaded(batch, training=False)
    pairs = list(zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True))
    for right, answer in pairs:
        assert np.ptp(right) > 1e-3
        np.testing.assert_allclose(answer, right, rtol=0, atol=TOLERANCE, equal_nan=False)


@pytest.mark.parametrize("form", FORMS)
def test_live_model_answers_the_same(form: str) -> None:
    model = randomized(FORMS[form]())
    source = open_source(model, ())
    assert_same(source.model, model)
    assert all("hard_sigmoid" in note for note in source.notes)
    assert bool(source.notes) is (form in ("hard_sigmoid", "ConvLSTM"))


@pytest.mark.matrix
@pytest.mark.parametrize("form", ["hard_sigmoid", "cells", "nested", "frozen", "MultiHeadAttention"])
def test_every_kind_of_file_answers_the_same(form: str, tmp_path: Path) -> None:
    model = randomized(FORMS[form]())
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        path, options = written(model, kind, folder)
        assert_same(load_model(path, **options).model, model)


def test_activations_mean_the_same() -> None:
    names = ("elu", "selu", "gelu", "swish", "softplus", "softsign", "exponential", "linear", "mish", "softmax")
    (x,) = inputs()
    model = randomized(old.Model(x, [layers.Dense(3, name)(lstm()(x)) for name in names]))
    assert_same(open_source(model, ()).model, model)


OPERATIONS: dict[str, Callable[[Any, Any], list[Any]]] = {
    "arithmetic": lambda x, y: [
        x + y,
        1.5 - (x - y),
        2.0 * x * y,
        x / (y * y + 1.0),
        -(x**2),
        tf.add(x, [1.0, 2.0, 3.0]),
    ],
    "reductions": lambda x, y: [
        tf.reduce_mean(x, axis=1),
        tf.reduce_sum(x, axis=[1, 2], keepdims=True),
        tf.reduce_max(x, axis=-1) - tf.reduce_min(y, axis=-1),
    ],
    "shapes": lambda x, y: [
        tf.concat([x, y], axis=-1),
        tf.stack([x, y], axis=1),
        tf.squeeze(tf.expand_dims(x, 1), 1),
        tf.transpose(x, [0, 2, 1]),
        tf.reshape(x, [-1, TIME * FEATURES]),
        tf.split(x, 3, axis=-1)[1],
        tf.cumsum(x, axis=1) + tf.reverse(x, axis=[1]),
    ],
    "slices": lambda x, y: [x[:, -1], x[:, 1:5:2, ..., 0]],
    "products": lambda x, y: [tf.matmul(x, tf.transpose(y, [0, 2, 1])), x @ tf.transpose(y, [0, 2, 1])],
    "functions": lambda x, y: [
        tf.tanh(x) + tf.sigmoid(x) + tf.nn.relu(x),
        tf.nn.softmax(x) + tf.nn.softmax(y, axis=1),
        tf.cast(x > y, tf.float32),
        tf.clip_by_value(x, -0.5, 0.5),
        tf.sqrt(tf.abs(x)) + tf.exp(y) + tf.square(x) + tf.maximum(y, 0.0),
    ],
}


class TestOperations:
    @pytest.mark.parametrize("group", OPERATIONS)
    def test_arithmetic_becomes_operations_of_keras(self, group: str, tmp_path: Path) -> None:
        x, y = inputs((TIME, FEATURES), (TIME, FEATURES))
        model = randomized(old.Model([x, y], OPERATIONS[group](lstm(FEATURES)(x), y)))
        model.save(tmp_path / "model.h5")
        assert_same(load_model(tmp_path / "model.h5").model, model)

    def test_mask_ends_at_an_operation(self) -> None:
        x, y = inputs((TIME, FEATURES), (TIME, FEATURES))
        model = randomized(old.Model([x, y], layers.LSTM(UNITS)(lstm(FEATURES)(layers.Masking()(x)) * 2.0 + y)))
        assert_same(open_source(model, ()).model, model)

    @pytest.mark.parametrize(
        "operate, message",
        [
            (
                tf.math.erf,
                r"is the TensorFlow function tf\.math\.erf, which has no operation",
            ),
            (lambda x: tf.matmul(x, x, transpose_b=True), r"calls tf\.linalg\.matmul with transpose_b=True"),
            (lambda x: tf.cumsum(x, axis=1, reverse=True), r"calls tf\.math\.cumsum with reverse=True"),
        ],
    )
    def test_others_are_refused_by_name(self, operate: Any, message: str) -> None:
        (x,) = inputs()
        with pytest.raises(LoadError, match=rf"the layer 'tf\..*' {message}"):
            open_source(old.Model(x, operate(x)), ())


class TestArchives:
    def config(self, **settings: Any) -> files.Config:
        lstm = files.keras_2_recurrent("LSTM", "lstm", UNITS, recurrent_activation="hard_sigmoid", time_major=False)
        lstm["config"] |= settings
        first = files.input_layer("lstm_input", [None, TIME, FEATURES], ragged=False)
        dense = files.keras_2_dense("dense", 2, dtype={"class_name": "Policy", "config": {"name": "float32"}})
        modules = ("keras.layers", "keras.layers.rnn.lstm", "keras.layers")
        stack = [
            entry | {"module": module, "registered_name": None, "build_config": {"input_shape": [None, 9]}}
            for entry, module in zip((first, lstm, dense), modules, strict=True)
        ]
        whole = files.named_sequential("sequential", *stack) | {"module": "keras", "registered_name": None}
        return whole | {"compile_config": {"optimizer": {"class_name": "Own>Optimizer"}}}

    def arrays(self, container: str) -> dict[str, Any]:
        cell = reference.random_cell("LSTM", FEATURES, UNITS, 1)
        values = [array for _, array in cell.keras_2("lstm")]
        kernel = np.random.default_rng(2).normal(0, 1, (UNITS, 2))
        arrays = {f"{container}/lstm/cell/vars/{i}": array for i, array in enumerate(values)}
        return arrays | {f"{container}/dense/vars/0": kernel, f"{container}/dense/vars/1": np.array([0.5, -0.5])}

    @pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
    def test_by_hand(self, container: str, tmp_path: Path) -> None:
        path = files.write_archive(tmp_path / "model.keras", self.config(), self.arrays(container), "2.12.0")
        loaded = load_model(path)
        x = np.random.default_rng(3).normal(0, 1, (2, TIME, FEATURES))
        cell = reference.random_cell("LSTM", FEATURES, UNITS, 1)
        kernel = np.random.default_rng(2).normal(0, 1, (UNITS, 2))
        expected = reference.recurrent(cell, x)[0][:, -1] @ kernel + [0.5, -0.5]
        np.testing.assert_allclose(loaded.model(np.float32(x)), expected, rtol=0, atol=TOLERANCE)
        assert loaded.model.layers[0].cell.recurrent_activation is hard_sigmoid_of_keras_2
        assert not loaded.model.compiled

    def test_unzipped(self, tmp_path: Path) -> None:
        path = files.write_archive(tmp_path / "model.keras", self.config(), self.arrays("layers"), "2.15.0")
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "folder")
        x = np.random.default_rng(3).normal(0, 1, (2, TIME, FEATURES)).astype(np.float32)
        np.testing.assert_array_equal(load_model(tmp_path / "folder").model(x), load_model(path).model(x))

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda arrays: arrays.pop("layers/dense/vars/1"), r"the layer 'dense' has the weights kernel"),
            (lambda arrays: [arrays.pop(f"layers/dense/vars/{i}") for i in (0, 1)], r"holds no values for the weight"),
            (
                lambda arrays: arrays.update({"layers/gru/vars/0": np.zeros(2)}),
                r"the weight 'layers/gru/vars/0' in the file has no place in the model",
            ),
            (lambda arrays: arrays.update({"layers/dense/vars/0": np.zeros((2, UNITS))}), "the layer 'dense' has"),
            (lambda arrays: arrays.update({"layers/dense/vars/2": np.zeros(2)}), "the layer 'dense' has"),
        ],
    )
    def test_weights_that_do_not_fit(self, change: Any, message: str, tmp_path: Path) -> None:
        arrays = self.arrays("layers")
        change(arrays)
        with pytest.raises(LoadError, match=message):
            load_model(files.write_archive(tmp_path / "model.keras", self.config(), arrays, "2.13.1"))

    def test_files_of_layers_are_refused(self, tmp_path: Path) -> None:
        path = files.write_archive(tmp_path / "model.keras", self.config(), self.arrays("layers"), "2.13.1")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("assets/_layer_checkpoint_dependencies/lookup/vocabulary.txt", "one\ntwo\n")
        with pytest.raises(LoadError, match="a layer in it keeps files of its own"):
            load_model(path)

    @pytest.mark.parametrize("module", ["os", "keras_hub.layers", "shop"])
    def test_modules_are_not_imported(self, module: str, tmp_path: Path) -> None:
        config = self.config()
        config["config"]["layers"][2] |= {"module": module, "class_name": "Bird", "registered_name": "Bird"}
        path = files.write_archive(tmp_path / "model.keras", config, self.arrays("layers"), "2.13.1")
        with pytest.raises(LoadError, match=r"the layer 'dense' is of the class Bird, which is not a part of Keras"):
            load_model(path)

    def test_functions_that_are_no_activations_are_not_called(self, tmp_path: Path) -> None:
        function = {"module": "keras.utils", "class_name": "function", "config": "plot_model", "registered_name": None}
        path = tmp_path / "model.keras"
        files.write_archive(path, self.config(activation=function), self.arrays("layers"), "2.13.1")
        with pytest.raises(LoadError, match=r"the layer 'lstm' uses the function .*plot_model, which is not a part"):
            load_model(path)


class TestLiveModels:
    def test_fixed_batch_is_replaced(self) -> None:
        model = randomized(old.Sequential([lstm(stateful=True, batch_input_shape=(2, TIME, FEATURES)), layers.LSTM(3)]))
        source = open_source(model, (), batch=2)
        assert_same(source.model, model)
        other = open_source(model, (), batch=5)
        assert other.model.input_shape == (5, TIME, FEATURES)
        assert other.notes == ("The batch size is fixed at 5 in place of 2.",)
        assert other.sha256 == source.sha256

    def test_words_are_whole_numbers(self) -> None:
        stack = [layers.Embedding(9, FEATURES, mask_zero=True, input_length=TIME), lstm(), layers.LSTM(UNITS)]
        model = randomized(old.Sequential(stack))
        loaded = open_source(model, ()).model
        words = np.random.default_rng(0).integers(0, 4, (2, TIME))
        assert loaded.inputs[0].dtype == "int32"
        np.testing.assert_allclose(loaded(words), model(words), rtol=0, atol=TOLERANCE)

    def test_mixed_precision_keeps_its_policy(self) -> None:
        model = old.Sequential([layers.LSTM(UNITS, dtype="mixed_float16", input_shape=(TIME, FEATURES))])
        assert open_source(model, ()).model.layers[0].dtype_policy.name == "mixed_float16"

    def test_subclassed_model_is_refused(self) -> None:
        class Own(old.Model):  # type: ignore[misc]
            def call(self, x: Any) -> Any:
                return x

        model = Own(name="own")
        model.build((None, FEATURES))
        with pytest.raises(LoadError, match=r"the layer 'own' is of the class Own, which is not a part of Keras"):
            open_source(model, ())

    def test_model_without_weights_is_refused(self) -> None:
        with pytest.raises(LoadError, match="has no weights yet: call it once on data"):
            open_source(old.Sequential([layers.LSTM(UNITS)]), ())

    def test_own_layer_needs_its_twin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Scale(old.layers.Layer):  # type: ignore[misc]
            def __init__(self, factor: float = 2.0, **settings: Any) -> None:
                super().__init__(**settings)
                self.factor = factor

            def build(self, shape: Any) -> None:
                self.offset = self.add_weight("offset", (shape[-1],))

            def call(self, x: Any) -> Any:
                return self.factor * x + self.offset

            def get_config(self) -> Any:
                return super().get_config() | {"factor": self.factor}

        model = randomized(sequential(layers.LSTM(UNITS), Scale(3.0, name="stretch")))
        with pytest.raises(LoadError, match=r"the layer 'stretch' is of the class .*Scale.*--custom module:Scale"):
            open_source(model, ())
        (tmp_path / "twins.py").write_text(
            "import keras\n"
            "class Scale(keras.layers.Layer):\n"
            "    def __init__(self, factor=2.0, **settings):\n"
            "        super().__init__(**settings)\n"
            "        self.factor = factor\n"
            "    def build(self, shape):\n"
            "        self.offset = self.add_weight(shape=(shape[-1],), name='offset')\n"
            "    def call(self, x):\n"
            "        return self.factor * x + self.offset\n"
        )
        monkeypatch.chdir(tmp_path)
        try:
            assert_same(open_source(model, ("twins:Scale",)).model, model)
        finally:
            sys.modules.pop("twins", None)

    def test_keras_stays_what_it_is(self, run_python: Any) -> None:
        code = (
            "import os, tf_keras, keras\nfrom edgelstm.source import open_source\n"
            "model = tf_keras.Sequential([tf_keras.layers.LSTM(2, input_shape=(3, 1))])\n"
            "print(type(open_source(model, ()).model).__module__, keras.__version__[0], "
            "os.environ.get('TF_USE_LEGACY_KERAS'))"
        )
        assert run_python(code).stdout == "keras.src.models.sequential 3 None\n"

    def test_weights_in_a_file_are_refused(self) -> None:
        with pytest.raises(
            LoadError, match="A file of weights belongs to an architecture in a JSON file, not to a tf_keras"
        ):
            open_source(sequential(layers.LSTM(2)), (), weights="model.weights.h5")
