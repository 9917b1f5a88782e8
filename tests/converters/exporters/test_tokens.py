"""Token inputs of any dtype become what runtimes take and apps have at hand: int32."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.errors import LoweringError
from edgelstm.runtime.engines import find_engine, run_on
from tests.converters.tiny import Array, with_random_weights

LENGTH, WORDS = 6, 9
TOKENS = np.random.default_rng(0).integers(0, WORDS, (4, 1, LENGTH))
TOKENS[0] = 0
TOKENS[1, :, 3:] = 0


def classifier(dtype: str) -> keras.Model:
    tokens = keras.Input((LENGTH,), dtype=dtype, name="tokens")
    x = layers.LSTM(4)(layers.Embedding(WORDS, 3, mask_zero=True)(tokens))
    return with_random_weights(keras.Model(tokens, layers.Dense(2, activation="softmax", name="answer")(x)))


def answers(engine: str, path: Path, dtype: str) -> Array:
    if not find_engine(engine).is_here():
        pytest.skip(f"{engine} is not installed")
    return run_on(engine, path, {"tokens": TOKENS.astype(dtype)}, timeout_s=60)[0]["answer"][:, 0]


@pytest.mark.parametrize(
    "runtime, engine", [("compiled", "litert-compiled"), ("mediapipe", "ai-edge-litert"), ("micro", "tflite-micro")]
)
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_tokens_are_int32_where_the_runtime_takes_nothing_wider(runtime, engine, dtype, tmp_path):
    model = classifier(dtype)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", runtime=runtime, verify=False)
    assert [entry["dtype"] for entry in artifact.card["inputs"]] == ["int32"]
    wanted = np.asarray(model(TOKENS[:, 0].astype(dtype)))
    np.testing.assert_allclose(answers(engine, artifact.path, "int32"), wanted, rtol=0, atol=1e-5)


def test_the_interpreter_is_given_the_dtype_of_the_model(tmp_path):
    model = classifier("int64")
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", verify=False)
    assert [entry["dtype"] for entry in artifact.card["inputs"]] == ["int64"]
    wanted = np.asarray(model(TOKENS[:, 0]))
    np.testing.assert_allclose(answers("ai-edge-litert", artifact.path, "int64"), wanted, rtol=0, atol=1e-5)


def test_wide_integers_that_are_computed_with_are_refused_instead_of_cut_off(tmp_path):
    """Milliseconds since 1970 do not fit into int32."""
    x = keras.Input((LENGTH, 1), dtype="int64", name="clock")
    model = keras.Model(x, layers.LSTM(4)(layers.Rescaling(1e-12)(x)))
    with pytest.raises(LoweringError, match="LiteRT CompiledModel takes no input of int64, and 'clock' is one"):
        edgelstm.convert(model, tmp_path / "m.tflite", runtime="compiled")
    assert list(tmp_path.iterdir()) == []
