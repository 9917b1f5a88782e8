"""Files that the TensorFlow converter made, and edited copies of them."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection import Inspection, inspect

BATCH, TIME, WORDS, SEED = 2, 4, 50, 0
HIDDEN_STATE, CELL_STATE = 18, 19  # inputs of the fused operator


def _fused_lstm(features: int, units: int) -> Callable[[Any], Any]:
    """Returns a function of x, shape (batch, time, features), that the converter turns into the fused operator."""
    import tensorflow as tf

    rng = np.random.default_rng(SEED)
    shapes = (features, 4 * units), (units, 4 * units), (4 * units,)
    weights = [tf.constant(rng.normal(0, 0.5, shape).astype(np.float32)) for shape in shapes]

    def standard_lstm(x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[Any, ...]:
        outputs = []
        for t in range(x.shape[1]):
            h, c = _lstm_step(x[:, t] @ kernel + h @ recurrent_kernel + bias, c)
            outputs.append(h)
        return h, tf.stack(outputs, axis=1), h, c, tf.constant(1.0)

    attributes = {
        "api_implements": f"lstm_{uuid.UUID(int=features)}",
        "api_preferred_device": "CPU",
        "time_major": False,
        "go_backwards": False,
    }
    fused = tf.function(standard_lstm, autograph=False, experimental_attributes=attributes)
    return lambda x: fused(x, tf.zeros((BATCH, units)), tf.zeros((BATCH, units)), *weights)[1]


def _lstm_step(gates: Any, c: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    i, f, g, o = tf.split(gates, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def _text_model(tokens: Any) -> dict[str, Any]:
    """Embedding(50, 40) -> LSTM(32) -> Dense(1, sigmoid)."""
    import tensorflow as tf

    rng = np.random.default_rng(SEED)
    table, kernel = rng.normal(size=(WORDS, 40)).astype(np.float32), rng.normal(size=(32, 1)).astype(np.float32)
    hidden = _fused_lstm(features=40, units=32)(tf.gather(table, tokens))[:, -1]
    return {"probability": tf.sigmoid(hidden @ kernel + 0.5)}


def _sequence_model(x: Any) -> dict[str, Any]:
    return {"y": _fused_lstm(features=3, units=5)(x)}


def _two_directions(x: Any) -> dict[str, Any]:
    import tensorflow as tf

    backward = tf.reverse(_fused_lstm(features=3, units=5)(tf.reverse(x, [1])), [1])
    return {"y": tf.concat([_fused_lstm(features=3, units=5)(x), backward], axis=2)}


def _narrow_lstm_and_wide_dense(x: Any) -> dict[str, Any]:
    import tensorflow as tf

    kernel = np.random.default_rng(SEED).normal(size=(5, 400)).astype(np.float32)
    return {"y": tf.matmul(_fused_lstm(features=3, units=5)(x)[:, -1], kernel)}


def _loop_model(x: Any) -> dict[str, Any]:
    import tensorflow as tf

    kernel = tf.constant(np.random.default_rng(SEED).normal(size=(8, 20)).astype(np.float32))

    def body(t: Any, h: Any, c: Any, outputs: Any) -> tuple[Any, ...]:
        h, c = _lstm_step(tf.concat([x[:, t], h], axis=1) @ kernel, c)
        return t + 1, h, c, outputs.write(t, h)

    outputs = tf.TensorArray(tf.float32, TIME, element_shape=(BATCH, 5))
    start = (0, tf.zeros((BATCH, 5)), tf.zeros((BATCH, 5)), outputs)
    return {"y": tf.while_loop(lambda t, *_: t < TIME, body, start)[3].stack()}


def _counting_loop(x: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {"y": tf.while_loop(lambda t, _: t < TIME, lambda t, y: (t + 1, tf.sigmoid(y)), (0, x))[1]}


def _dense_model(x: Any) -> dict[str, Any]:
    import tensorflow as tf

    return {"y": tf.nn.relu(x @ np.random.default_rng(SEED).normal(size=(3, 7)).astype(np.float32))}


def _convert(function: Callable[[Any], Any], name: str, spec: Any, **settings: Any) -> bytes:
    """Converts a function of one tensor; settings are attributes of the converter."""
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(lambda **inputs: function(inputs[name]), autograph=False)
    concrete = module.call.get_concrete_function(**{name: tf.TensorSpec(spec.shape, spec.dtype, name=name)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter uses what TensorFlow itself deprecates
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
        for setting, value in settings.items():
            setattr(converter, setting, value)
        return bytes(converter.convert())


def _samples(name: str, spec: Any) -> Callable[[], Iterator[dict[str, Any]]]:
    rng = np.random.default_rng(SEED)
    draw = (
        (lambda: rng.integers(0, WORDS, spec.shape)) if spec.dtype.is_integer else (lambda: rng.normal(size=spec.shape))
    )
    samples = [{name: draw().astype(spec.dtype.as_numpy_dtype)} for _ in range(8)]
    return lambda: iter(samples)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of the converted files by name."""
    import tensorflow as tf

    tokens, sequence = tf.TensorSpec((BATCH, TIME), tf.int32), tf.TensorSpec((BATCH, TIME, 3), tf.float32)
    quantize = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    half = {**quantize, "target_spec": tf.lite.TargetSpec(supported_types=[tf.float16])}
    flex = {
        "target_spec": tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.SELECT_TF_OPS, tf.lite.OpsSet.TFLITE_BUILTINS])
    }
    contents = {
        "float32": _convert(_text_model, "tokens", tokens),
        "float16": _convert(_text_model, "tokens", tokens, **half),
        "dynamic": _convert(_text_model, "tokens", tokens, **quantize),
        "int8": _convert(_text_model, "tokens", tokens, **quantize, representative_dataset=_samples("tokens", tokens)),
        "sequence_int8": _convert(
            _sequence_model,
            "x",
            sequence,
            **quantize,
            representative_dataset=_samples("x", sequence),
            inference_input_type=tf.int8,
            inference_output_type=tf.int8,
        ),
        "two_directions": _convert(_two_directions, "x", sequence),
        "half_dynamic": _convert(_narrow_lstm_and_wide_dense, "x", sequence, **quantize),
        "loop": _convert(_loop_model, "x", sequence),
        "counting_loop": _convert(_counting_loop, "x", sequence),
        "tensor_list": _convert(_loop_model, "x", sequence, **flex, _experimental_lower_tensor_list_ops=False),
        "dense": _convert(_dense_model, "x", tf.TensorSpec((1, 3), tf.float32)),
    }
    folder = tmp_path_factory.mktemp("inspection")
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return {name: folder / f"{name}.tflite" for name in contents}


class ModelEditor:
    """Edits the object tree of a file; operators and tensors are those of the first subgraph."""

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromPackedBuf(content, 0)
        self.graph = self.model.subgraphs[0]

    @property
    def lstm(self) -> Any:
        """The first operator with the inputs of a fused LSTM."""
        return next(o for o in self.graph.operators if o.inputs is not None and len(o.inputs) >= 24)

    def pack(self) -> bytes:
        builder = flatbuffers.Builder(0)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def quantization(self, tensor: int) -> Any:
        return self.graph.tensors[int(tensor)].quantization

    def operator_code(self, name: str) -> int:
        """Adds the code of a built-in operator and returns its index."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def add_tensor(self, shape: list[int], dtype: str, data: bytes | None = None) -> int:
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = None if data is None else np.frombuffer(data, np.uint8)
        self.model.buffers.append(buffer)
        tensor.name, tensor.buffer = b"added", len(self.model.buffers) - 1
        tensor.shape, tensor.type = np.array(shape, np.int32), getattr(schema.TensorType, dtype)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def insert(self, name: str, inputs: list[int], outputs: list[int]) -> None:
        """Puts an operator without options in front of all others."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.operator_code(name)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        self.graph.operators.insert(0, operator)

    def add_reset(self, states: tuple[int, ...] = (HIDDEN_STATE, CELL_STATE), index_from: str = "ARG_MAX") -> None:
        """Puts operators in front that set states: an index made from the input picks a row of a constant."""
        row, index = self.add_tensor([1, 32], "FLOAT32", bytes(128)), self.add_tensor([BATCH], "INT32")
        for state in states:
            self.insert("GATHER", [row, index], [self.lstm.inputs[state]])
        self.insert(index_from, [self.graph.inputs[0]], [index])


@pytest.fixture
def edited(models: dict[str, Path], tmp_path: Path) -> Callable[[str, Callable[[ModelEditor], None]], Inspection]:
    """Inspects a copy of a converted file after an edit."""

    def apply(name: str, edit: Callable[[ModelEditor], None]) -> Inspection:
        editor = ModelEditor(models[name].read_bytes())
        edit(editor)
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(editor.pack())
        return inspect(path)

    return apply
