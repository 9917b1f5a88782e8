"""Whole ONNX files: names, types, weights, metadata, free batches, and models that are unlike others."""

from __future__ import annotations

import itertools
import json
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from keras import layers, ops

from edgelstm.converters.exporters.base import Job
from edgelstm.converters.exporters.onnx import OPSET, ExportedOnnx, export_onnx, serialize
from edgelstm.converters.lowering.onnx_lstm import ONNX
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.errors import ConversionError, LoweringError, MissingExtraError
from tests.converters.exporters.onnx.flatbuffers import Array, run_model
from tests.converters.exporters.onnx.models import answers, assert_close, constants, export, nodes
from tests.converters.forms import set_random_weights
from tests.converters.tiny import FEATURES, TIME, UNITS, Constant, classifier, floats, functional, sequential

pytestmark = pytest.mark.usefixtures("conversion_in_this_process")

# Weights for exchanged gates change answers by far more than rounding does.
TOLERANCE = 1e-5


class Compute(layers.Layer):
    """Any function of tensors."""

    def __init__(self, function: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function

    def call(self, *tensors: Any) -> Any:
        return self.function(*tensors)


def sequence(name: str = "x", dtype: str = "float32") -> Any:
    return keras.Input((TIME, FEATURES), name=name, dtype=dtype)


def then(function: Any, **settings: Any) -> keras.Model:
    """Returns a model that computes a function of an LSTM's output."""
    x = sequence()
    return functional(x, Compute(function)(layers.LSTM(UNITS, **settings)(x)))


def check(model: keras.Model, *arrays: Array, **options: Any) -> ExportedOnnx:
    exported = export(model, **options)
    right = model(list(arrays) if len(arrays) > 1 else arrays[0])
    assert_close(answers(exported, *arrays), keras.tree.flatten(right), TOLERANCE)
    return exported


def names(values: Any) -> list[str]:
    return [value.name for value in values]


def sizes(port: Any) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim]


# -- the file


def test_a_file_says_what_it_is():
    exported = check(classifier(), floats(1, TIME, FEATURES))
    model = exported.model
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert (model.producer_name, model.producer_version) == ("edgelstm", version("edgelstm"))
    properties = {each.key: each.value for each in model.metadata_props}
    assert properties["edgelstm"] == version("edgelstm")
    assert json.loads(properties["edgelstm.layers"]) == names(nodes(exported, "LSTM"))
    assert exported.notes == []
    assert names(model.graph.input) == ["x"]
    assert names(model.graph.output) == exported.outputs == ["answer"]


def test_recurrent_nodes_are_named_after_their_layers():
    x = sequence()
    inner = keras.Sequential([layers.LSTM(UNITS, return_sequences=True, name="reader")], name="tower")
    both = layers.Bidirectional(layers.LSTM(3), name="both")
    exported = export(functional(x, layers.Dense(1)(both(inner(x)))))
    assert names(nodes(exported, "LSTM")) == ["tower/reader", "both"]
    assert {"tower/reader/W:0", "tower/reader/R:0", "tower/reader/B:0"} <= set(constants(exported))


def test_converting_twice_gives_the_same_bytes():
    model = sequential(
        keras.Input((TIME,), dtype="int32", name="tokens"),
        layers.Embedding(9, FEATURES, mask_zero=True),
        layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)),
        layers.Dense(2),
    )
    one, two = export(model), export(model)
    assert one.model.SerializeToString() == two.model.SerializeToString()


def test_shared_layers_have_their_weights_once():
    x, y = sequence("x"), sequence("y")
    lstm, dense = layers.LSTM(UNITS), layers.Dense(3)
    model = functional([x, y], [dense(lstm(x)), dense(lstm(y))])
    exported = check(model, floats(1, TIME, FEATURES), floats(1, TIME, FEATURES, seed=1))
    assert len(nodes(exported, "LSTM")) == 2
    shapes = [tuple(each.dims) for each in constants(exported).values() if len(each.dims) > 1]
    assert sorted(shapes) == sorted([(1, 4 * UNITS, FEATURES), (1, 4 * UNITS, UNITS), (1, 8 * UNITS), (3, UNITS)])


def test_stacked_layers_hand_over_without_transposing():
    stack = [layers.LSTM(UNITS, return_sequences=True) for _ in range(3)]
    exported = check(sequential(keras.Input((TIME, FEATURES)), *stack), floats(1, TIME, FEATURES))
    assert len(nodes(exported, "Transpose")) == 2


def test_convolutions_in_a_row_are_transposed_once():
    model = sequential(
        keras.Input((12, 12, 3)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Conv2D(2, 3, activation="swish"),
        layers.AveragePooling2D(2),
    )
    exported = check(model, floats(1, 12, 12, 3))
    assert len(nodes(exported, "Transpose")) == 2


# -- gates


@pytest.mark.parametrize("kind", ["W", "R", "B"])
def test_swapped_gates_are_seen(kind):
    x = sequence()
    exported = export(functional(x, layers.LSTM(UNITS, return_sequences=True, name="lstm")(x)))
    calls = floats(2, TIME, FEATURES)
    right = answers(exported, calls)[0]
    weight = constants(exported)[f"lstm/{kind}:0"]
    kept = onnx.numpy_helper.to_array(weight).copy()
    for a, b in itertools.combinations(range(4), 2):
        swapped = kept.copy()
        blocks = [slice(gate * UNITS, (gate + 1) * UNITS) for gate in (a, b)]
        swapped[:, blocks[0]], swapped[:, blocks[1]] = kept[:, blocks[1]], kept[:, blocks[0]]
        weight.CopyFrom(onnx.numpy_helper.from_array(swapped, weight.name))
        wrong = run_model(exported.model, [calls])[0]
        assert np.abs(wrong - right).max() > 100 * TOLERANCE, (kind, a, b)


# -- batches


def test_a_free_batch_is_free_in_the_file():
    model = classifier()
    exported = export(model)
    assert exported.free_batch
    assert sizes(exported.model.graph.input[0]) == ["batch", TIME, FEATURES]
    assert sizes(exported.model.graph.output[0]) == ["batch", 3]
    for batch in (1, 2, 7, 11, 13, 32):
        x = floats(batch, TIME, FEATURES, seed=batch)
        assert_close(answers(exported, x), [model(x)])


def test_a_batch_can_be_fixed():
    exported = check(classifier(), floats(3, TIME, FEATURES), batch=3, free_batch=False)
    assert not exported.free_batch
    assert sizes(exported.model.graph.input[0]) == [3, TIME, FEATURES]


@pytest.mark.parametrize(
    "function",
    [
        lambda v: ops.reshape(v, (v.shape[0] or -1, 2, 2)),
        lambda v: v - ops.mean(v, axis=0, keepdims=True),
        lambda v: ops.concatenate([v, ops.zeros((v.shape[0] or 1, 2)) + 3], axis=-1),
        lambda v: ops.concatenate([v, ops.broadcast_to([[1.0, 2.0]], (v.shape[0] or 1, 2))], axis=-1),
        lambda v: ops.flip(v, axis=0),
        lambda v: ops.reshape(v, (-1,)),
        ops.sum,
        lambda v: ops.tile(v, (2, 1)),
    ],
    ids=["reshape", "mean", "constant", "broadcast", "flip", "flat", "scalar", "tile"],
)
def test_any_batch_size_answers_as_keras(function):
    model = then(function)
    exported = export(model)
    assert exported.free_batch
    for batch in (1, 5):
        x = floats(batch, TIME, FEATURES)
        # Not the symbolic model, which has seen a batch of None, but its layers on this batch.
        assert_close(answers(exported, x), [function(model.layers[1](x))])


@pytest.mark.parametrize(
    "function",
    [
        lambda v: v[-1:],
        lambda v: v / ops.cast(ops.shape(v)[0], "float32"),
        lambda v: v + ops.cast(ops.arange(ops.shape(v)[0]), "float32")[:, None],
    ],
    ids=["last_row", "divided", "numbered"],
)
def test_a_model_that_depends_on_its_batch_size_keeps_it(function):
    model = then(function)
    exported = check(model, floats(4, TIME, FEATURES), batch=4)
    assert not exported.free_batch
    assert exported.notes == ["The file takes a batch of 4 only: the model depends on its size."]


def test_a_model_that_fails_at_other_batch_sizes_keeps_its_own():
    def only_two(v: Any) -> Any:
        if v.shape[0] not in (None, 2):
            raise ValueError("two rows, please")
        return v

    assert not check(then(only_two), floats(2, TIME, FEATURES), batch=2).free_batch


# -- types and names


def test_an_output_may_be_an_input():
    x = sequence()
    exported = check(functional(x, [x, layers.LSTM(UNITS)(x)]), floats(1, TIME, FEATURES))
    assert exported.outputs == ["x_2", "output_2"]
    assert exported.notes == ["Output 'x' is called 'x_2' in the file, because an input has its name."]


def test_outputs_may_have_the_names_of_inputs():
    x = sequence("signal")
    outputs = {"signal": layers.LSTM(FEATURES, return_sequences=True)(x), "label": layers.LSTM(2)(x)}
    model = functional({"signal": x}, outputs)
    exported = export(model)
    assert names(exported.model.graph.output) == ["label", "signal_2"]
    array = floats(1, TIME, FEATURES)
    right = model({"signal": array})
    assert_close(answers(exported, array), [right["label"], right["signal"]])


def test_an_output_may_be_constant():
    x = sequence()
    check(functional(x, [Constant([[1.0, 2.0]])(x), layers.LSTM(UNITS)(x)]), floats(1, TIME, FEATURES))


def test_outputs_may_be_one_tensor():
    x = sequence()
    y = layers.LSTM(UNITS)(x)
    exported = check(functional(x, [y, y, y]), floats(1, TIME, FEATURES))
    assert exported.outputs == ["output", "output_2", "output_3"]


def test_outputs_may_be_integers_and_booleans():
    def compute(v: Any) -> Any:
        return tf.argmax(v, axis=-1), tf.argmax(v, axis=-1, output_type="int32"), v > 0

    found = answers(export(then(compute)), floats(2, TIME, FEATURES))
    assert [array.dtype for array in found] == [np.int64, np.int32, np.bool_]


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_inputs_may_have_any_type(dtype):
    x = sequence(dtype=dtype)
    model = functional(x, layers.LSTM(UNITS)(Compute(lambda v: ops.cast(v, "float32") - 0.5)(x)))
    array = (np.abs(floats(1, TIME, FEATURES)) * 2).astype(dtype)
    exported = check(model, array)
    assert onnx.helper.tensor_dtype_to_np_dtype(exported.model.graph.input[0].type.tensor_type.elem_type) == dtype


def test_an_input_may_be_unused():
    x, y = sequence("x"), sequence("y")
    exported = check(functional([x, y], layers.LSTM(UNITS)(x)), floats(1, TIME, FEATURES), floats(1, TIME, FEATURES))
    assert names(exported.model.graph.input) == ["x", "y"]


def test_names_may_be_odd():
    a, b = sequence("file"), sequence("from é→")
    read = [layers.LSTM(UNITS, name="Gather")(a), layers.LSTM(UNITS, name="мой lstm (1)")(b)]
    model = functional([a, b], layers.Dense(2, name="1 naïve out")(layers.Add(name="self")(read)))
    exported = export(model)
    assert [names(side) for side in (exported.model.graph.input, exported.model.graph.output)] == [
        ["file", "from"],
        ["x_1_na_ve_out"],
    ]
    assert sorted(names(nodes(exported, "LSTM"))) == ["Gather", "мой lstm (1)"]
    arrays = [floats(1, TIME, FEATURES), floats(1, TIME, FEATURES, seed=1)]
    assert_close(answers(exported, *arrays), [model(arrays)])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_precisions_become_float32(policy):
    x = sequence()
    y = layers.LSTM(UNITS, dtype=policy)(layers.LayerNormalization(dtype=policy)(x))
    model = functional(x, layers.Dense(2, dtype="float32")(y))
    twin = keras.models.clone_model(model, clone_function=_in_float32)
    twin.set_weights([np.asarray(weight, np.float32) for weight in model.get_weights()])
    exported = export(model)
    assert "computes in another precision" in exported.notes[0]
    array = floats(1, TIME, FEATURES)
    assert_close(answers(exported, array), [twin(array)])
    assert model.layers[2].compute_dtype == policy.removeprefix("mixed_")


def _in_float32(layer: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), "dtype": "float32"})


# -- layers around LSTMs


def test_layers_of_all_kinds_answer_as_keras():
    x = sequence()
    y = layers.Dense(8)(x)
    for layer in (
        layers.PReLU(shared_axes=[1]),
        layers.LeakyReLU(),
        *(layers.Activation(name) for name in ("gelu", "selu", "swish", "softplus", "mish", "hard_silu", "elu")),
        layers.UnitNormalization(),
        layers.GroupNormalization(2),
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.Conv1D(6, 3, padding="causal", dilation_rate=2),
        layers.DepthwiseConv1D(2, padding="same"),
        layers.SeparableConv1D(4, 2),
        layers.UpSampling1D(2),
        layers.ZeroPadding1D((1, 2)),
        layers.Cropping1D((0, 1)),
        layers.AveragePooling1D(2),
    ):
        y = layer(y)
    y = layers.LSTM(UNITS, return_sequences=True)(y)
    y = layers.MultiHeadAttention(2, 3)(y, y, use_causal_mask=True)
    outputs = [layers.Flatten()(y), layers.GlobalMaxPooling1D()(y), layers.Softmax()(y)]
    model = functional(x, outputs)
    exported = check(model, floats(1, TIME, FEATURES))
    assert exported.free_batch
    batch = floats(5, TIME, FEATURES)
    assert_close(answers(exported, batch), model(batch))


def test_a_model_without_recurrent_layers_is_exported():
    model = sequential(
        keras.Input((8, 8, 3)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.Conv2DTranspose(3, 3, strides=2, padding="same"),
        layers.UpSampling2D(interpolation="bilinear"),
        layers.GlobalAveragePooling2D(),
    )
    exported = check(model, floats(2, 8, 8, 3), batch=2)
    assert exported.free_batch
    assert not nodes(exported, "LSTM")


def test_einsum_answers_as_keras():
    check(then(lambda v: ops.einsum("btu,bsu->bts", v, v), return_sequences=True), floats(2, TIME, FEATURES), batch=2)


# -- refusals


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda v: tf.math.segment_sum(v, tf.constant([0] * v.shape[0])), "uses SEGMENT_SUM, which edgelstm does not"),
        (lambda v: tf.where(v > 0)[:1], "uses WHERE, which edgelstm does not export to ONNX"),
        (
            lambda v: tf.while_loop(lambda i, s: tf.reduce_sum(s) > 1, lambda i, s: (i + 1, s / 2), [0, v])[1],
            r"holds control flow \(WHILE\), which is not exported to ONNX: write the loop as Python code",
        ),
        (lambda v: tf.linalg.inv(v[:, :, None] * v[:, None]), "uses MatrixInverse, which TensorFlow Lite has no"),
        (
            lambda v: tf.reverse_sequence(v[None], [1], seq_axis=2, batch_axis=0),
            "REVERSE_SEQUENCE.*ONNX takes axes 0 and 1",
        ),
    ],
    ids=["operator", "dynamic", "loop", "flex", "unusual"],
)
def test_what_has_no_counterpart_is_refused(function, message):
    x = keras.Input(batch_shape=(1, TIME, FEATURES), name="x")
    y = layers.LSTM(UNITS)(x)
    model = functional(x, Compute(function)(y))
    with pytest.raises(ConversionError, match=message):
        export(model)


def test_computed_weights_are_refused():
    class Scaled(layers.Layer):
        def build(self, shape: Any) -> None:
            self.inner = layers.LSTM(UNITS)
            self.inner.build(shape)

        def call(self, x: Any) -> Any:
            kernel = self.inner.cell.kernel
            object.__setattr__(self.inner.cell, "kernel", kernel * ops.mean(x))
            try:
                return self.inner(x)
            finally:
                object.__setattr__(self.inner.cell, "kernel", kernel)

    x = sequence()
    with pytest.raises(LoweringError, match="its weights are computed while the model runs"):
        export(functional(x, Scaled()(x)))


def test_weights_beyond_two_gigabytes_are_refused(monkeypatch):
    monkeypatch.setattr(serialize, "MAX_BYTES", 1000)
    with pytest.raises(ConversionError, match="an ONNX file holds at most 2 GB"):
        export(classifier(units=20), free_batch=False)


def test_a_missing_onnx_is_named_with_the_pip_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgelstm\[convert\]'"):
        export(classifier())


def test_a_traced_model_can_be_exported(tmp_path):
    model = classifier()
    signature = model_signature(model)
    trace = trace_model(model, signature, tmp_path / "saved", lowering=ONNX)
    exported = export_onnx(Job(tmp_path / "saved", signature, trace))
    x = floats(1, TIME, FEATURES)
    assert_close(answers(exported, x), [model(x)])


def test_a_model_stays_as_it_was():
    model = classifier()
    set_random_weights(model, np.random.default_rng(3), 0.5)
    x = floats(2, TIME, FEATURES)
    before = np.asarray(model(x))
    export(model)
    np.testing.assert_array_equal(np.asarray(model(x)), before)
