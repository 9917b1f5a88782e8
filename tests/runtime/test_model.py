from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgelstm
from edgelstm.artifact import write_artifact
from edgelstm.errors import LoadError, ModelRunError
from edgelstm.runtime import model as model_module
from edgelstm.runtime.interpreters import PACKAGES, import_runtime
from edgelstm.runtime.model import TensorInfo, load
from tests.lstm_reference import lstm_reference
from tests.tiny_models import BATCH, FEATURES, TIME, TinyModels, lstm_weights

# Values of about 1 in float32, over five to ten steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture
def streaming(models, tmp_path):
    card = {"state": {"semantics": "streaming"}}
    return load(write_artifact(tmp_path / "stream.tflite", models["fused_lstm"].read_bytes(), card).path)


def sequences(rows: int = BATCH, time: int = TIME) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, time, FEATURES)).astype(np.float32)


def test_it_is_what_the_package_calls_load():
    assert edgelstm.load is load


def test_inputs_and_outputs_are_described(models):
    model = load(models["two_by_two"])
    assert model.inputs == [
        TensorInfo("left", (1, 2), "float32"),
        TensorInfo("tokens", (1, 2), "int32"),
        TensorInfo("right", (1, 2), "float32"),
    ]
    assert [info.name for info in model.outputs] == ["looked_up", "difference"]
    assert (model.card, model.streaming) == ({}, False)


def test_free_dimensions_are_minus_one(models):
    assert load(models["affine_free"]).inputs == [TensorInfo("x", (-1, 3), "float32")]


def test_quantization_is_described(models):
    (info,) = load(models["affine_int8"]).inputs
    assert (info.dtype, info.zero_point) == ("int8", -1)
    assert info.scale == pytest.approx(2 / 255)


def test_the_card_is_read(models, tmp_path):
    artifact = write_artifact(tmp_path / "m.tflite", models["affine"].read_bytes(), {"precision": "float32"})
    assert load(artifact.path).card == artifact.card
    assert artifact.card["precision"] == "float32"


@pytest.mark.parametrize("call", [lambda m, **x: m(**x), lambda m, **x: m(x), lambda m, **x: m.predict(x)])
def test_inputs_go_in_by_name(models, call):
    left, right, tokens = [[1.0, 2.0]], [[0.5, 5.0]], [[3, 0]]
    answer = call(load(models["two_by_two"]), tokens=tokens, right=right, left=left)
    np.testing.assert_array_equal(answer["difference"], [[0.5, -3.0]])
    np.testing.assert_array_equal(answer["looked_up"], [[8.0, 5.0]])


def test_one_input_needs_no_name(models):
    answer = load(models["affine"])(np.arange(6.0).reshape(2, 3))
    assert list(answer) == ["y"]
    assert answer["y"].dtype == np.float32
    np.testing.assert_array_equal(answer["y"], [[1, 3, 5], [7, 9, 11]])


def test_every_call_starts_from_the_initial_state(models):
    x, model = sequences(), load(models["fused_lstm"])
    expected = lstm_reference(x, lstm_weights()).outputs
    for _ in range(3):
        np.testing.assert_allclose(model(x)["y"], expected, atol=TOLERANCE, rtol=0)


def test_a_streaming_model_keeps_its_state_until_reset(streaming):
    x = sequences(time=2 * TIME)
    expected = lstm_reference(x, lstm_weights()).outputs
    first, second = x[:, :TIME], x[:, TIME:]
    for _ in range(2):
        np.testing.assert_allclose(streaming(first)["y"], expected[:, :TIME], atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(streaming.predict(second), expected[:, TIME:], atol=TOLERANCE, rtol=0)
        streaming.reset()
    assert np.abs(lstm_reference(second, lstm_weights()).outputs - expected[:, TIME:]).max() > 1000 * TOLERANCE


@pytest.mark.parametrize("rows", [1, 2, 3, 6])
def test_predict_takes_any_number_of_rows(models, rows):
    x = sequences(rows)
    answer = load(models["fused_lstm"]).predict(x)
    np.testing.assert_allclose(answer, lstm_reference(x, lstm_weights()).outputs, atol=TOLERANCE, rtol=0)


def test_predict_with_a_free_batch_is_one_call(models, monkeypatch):
    model = load(models["affine_free"])
    calls: list[Any] = []
    invoke = model._invoke
    monkeypatch.setattr(model, "_invoke", lambda arrays: calls.append(arrays) or invoke(arrays))
    for rows in (5, 2):
        x = np.arange(3.0 * rows).reshape(rows, 3)
        np.testing.assert_array_equal(model.predict(x), 2 * x + 1)
    assert len(calls) == 2


def test_a_streaming_model_refuses_rows_that_would_share_a_state(streaming):
    with pytest.raises(
        ValueError, match=r"streaming and keeps one state for each of its 2 rows, so it cannot take 4 rows"
    ):
        streaming.predict(sequences(4))


def test_floats_for_a_quantized_input_are_quantized_and_the_output_is_raw(models):
    model = load(models["affine_int8"])
    x = np.array([[-1.0, 0.0, 0.5], [0.25, 1.0, 7.0]])
    answer = model(x)["y"]
    assert answer.dtype == np.int8
    (info,) = model.outputs
    # Two roundings of half a step each; 7 saturates at 1.
    np.testing.assert_allclose(info.dequantize(answer), 2 * np.minimum(x, 1) + 1, atol=1.5 * info.scale)
    np.testing.assert_array_equal(model(model.inputs[0].quantize(x))["y"], answer)


def test_quantize_rounds_and_saturates():
    info = TensorInfo("x", (1,), "int8", 0.5, 10)
    np.testing.assert_array_equal(info.quantize([-1000, -0.3, 0, 0.3, 1000]), np.array([-128, 9, 10, 11, 127], np.int8))
    np.testing.assert_array_equal(info.dequantize(np.array([-128, 10, 11], np.int8)), [-69.0, 0.0, 0.5])


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda: TensorInfo("x", (1,), "int8", 0.5, 0).quantize([np.nan]), "'x': the values hold a NaN, which int8"),
        (lambda: TensorInfo("x", (1,), "int32").quantize([1.0]), "'x' is int32 and not quantized"),
        (lambda: TensorInfo("x", (1,), "float32").dequantize([1.0]), "'x' is float32 and not quantized"),
    ],
)
def test_what_cannot_be_quantized_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()


ROW = np.ones((1, 2))


@pytest.mark.parametrize(
    "name, call, message",
    [
        ("affine", lambda m: m(np.ones((2, 4))), r"Input 'x' has shape \(2, 4\), but the model takes \(2, 3\)\.$"),
        ("affine", lambda m: m(np.ones((5, 3))), r"\(5, 3\), but .* \(2, 3\)\. predict\(\) takes any number of rows"),
        ("affine", lambda m: m(np.ones(3)), r"Input 'x' has shape \(3,\), but the model takes \(2, 3\)"),
        ("affine", lambda m: m(), r"The model has the inputs \['x'\], but \[\] were given"),
        ("affine", lambda m: m(z=ROW), r"The model has the inputs \['x'\], but \['z'\] were given"),
        ("affine", lambda m: m(ROW, x=ROW), "both by position and by name"),
        ("affine", lambda m: m([["a", "b", "c"]] * 2), "Input 'x' is str32, and its values do not fit into float32"),
        ("affine", lambda m: m.predict(np.ones((0, 3))), "The first axis must be the batch"),
        ("affine", lambda m: m.predict(3.0), "The first axis must be the batch"),
        ("two_by_two", lambda m: m(ROW), r"has the inputs \['left', 'tokens', 'right'\]: give a dict with these names"),
        ("two_by_two", lambda m: m(left=ROW, right=ROW), r"but \['left', 'right'\] were given"),
        ("two_by_two", lambda m: m(left=ROW, right=ROW, tokens=ROW), "'tokens' is float64, and its values do not fit"),
        (
            "two_by_two",
            lambda m: m(left=ROW, right=ROW, tokens=[[0, 2**40]]),
            "'tokens' is int64, and its values do not",
        ),
        (
            "two_by_two",
            lambda m: m.predict({"left": np.ones((2, 2)), "right": ROW, "tokens": np.ones((1, 2), int)}),
            "the same for all inputs and not empty, but has {'left': 2, 'right': 1, 'tokens': 1}",
        ),
        (
            "affine_int8",
            lambda m: m(np.ones((2, 3), int)),
            "'x' is int64, but the model takes quantized int8, or floats",
        ),
        ("affine_int8", lambda m: m(np.full((2, 3), np.nan)), "'x': the values hold a NaN"),
    ],
)
def test_wrong_input_says_what_came_and_what_is_allowed(models, name, call, message):
    model = load(models[name])
    with pytest.raises(ValueError, match=message):
        call(model)


def test_after_wrong_input_the_model_still_answers(models):
    model = load(models["affine"])
    with pytest.raises(ValueError, match="shape"):
        model(np.ones((9, 9)))
    np.testing.assert_array_equal(model(np.zeros((2, 3)))["y"], np.ones((2, 3)))


def test_a_failure_of_the_runtime_is_a_sentence(models):
    model = load(models["affine"])

    class FailingInterpreter:
        def __getattr__(self, name: str) -> Any:
            return getattr(interpreter, name)

        def invoke(self) -> None:
            raise RuntimeError("gather index out of bounds\nNode number 1 failed to invoke.")

    interpreter, model._interpreter = model._interpreter, FailingInterpreter()
    with pytest.raises(ModelRunError, match=r"failed while running the model: gather index out of bounds\.$"):
        model(np.zeros((2, 3)))


def test_a_missing_file_is_a_load_error(tmp_path):
    with pytest.raises(LoadError, match=r"none\.tflite"):
        load(tmp_path / "none.tflite")


@pytest.mark.parametrize("content", [b"", b"this is not a model, but long enough to be one"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(ModelRunError, match=r"m\.tflite: ai-edge-litert refused the file: .* Export it again"):
        load(tmp_path / "m.tflite")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_refused(models, tmp_path, share):
    content = models["fused_lstm"].read_bytes()
    (tmp_path / "m.tflite").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelRunError, match="refused the file"):
        load(tmp_path / "m.tflite")


def test_zero_threads_are_refused(models):
    with pytest.raises(ValueError, match="threads is 0, but a runtime needs at least 1"):
        load(models["affine"], threads=0)


def test_a_runtime_that_verifies_nothing_loads_the_file_in_a_child_first(models, monkeypatch):
    plans: list[Any] = []
    _, module = import_runtime("ai-edge-litert")
    monkeypatch.setattr(model_module, "import_runtime", lambda name: (PACKAGES["tflite-runtime"], module))
    monkeypatch.setattr(model_module, "run_worker", lambda plan, *, python: plans.append((plan, python)))
    load(models["affine"], check=False)
    assert plans == []
    load(models["affine"], threads=2)
    plan = {"op": "load", "model": str(models["affine"]), "runtime": "tflite-runtime", "threads": 2}
    assert plans == [(plan, sys.executable)]


def test_loading_and_running_need_neither_tensorflow_nor_more_than_a_runtime(models, run_python):
    code = (
        "import sys, edgelstm, numpy; print(edgelstm.load(sys.argv[1])(numpy.zeros((2, 3)))['y'].tolist());"
        "print({'tensorflow', 'keras', 'flatbuffers'} & set(sys.modules))"
    )
    done = run_python(code, models["affine"])
    assert done.stdout == "[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]\nset()\n", done.stderr


def test_a_card_that_is_damaged_is_a_load_error(models, tmp_path):
    path: Path = tmp_path / "m.tflite"
    path.write_bytes(models["affine"].read_bytes())
    path.with_suffix(".json").write_text(json.dumps({"format": "edgelstm-card-1", "sha256": "0"}))
    with pytest.raises(LoadError, match="was written for another model"):
        load(path)
