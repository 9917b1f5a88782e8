"""Verification of ONNX files: what passes, what is seen, and how runs fail."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from edgelstm.converters.calibration import generate_data
from edgelstm.converters.exporters.onnx import to_onnx, verify, verify_onnx
from edgelstm.converters.exporters.onnx.verify import choose_runtime, run_onnx
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.converters.verification import VerificationReport
from edgelstm.errors import ModelRunError
from tests.converters.tiny import FEATURES, TIME, Constant, classifier, floats, functional, sequential


def exported(model: keras.Model, folder: Path, **options: Any) -> Path:
    result = to_onnx(model, model_signature(model), folder, **options)
    file = folder / "model.onnx"
    file.write_bytes(result.model.SerializeToString())
    return file


def verified(model: keras.Model, file: Path, **options: Any) -> VerificationReport:
    signature = model_signature(model)
    return verify_onnx(model, signature, file, generate_data(model, signature.inputs, padding="auto"), **options)


def masked() -> keras.Model:
    return sequential(
        keras.Input((TIME,), dtype="int32", name="tokens"),
        layers.Embedding(9, FEATURES, mask_zero=True),
        layers.Bidirectional(layers.LSTM(4)),
        layers.Dense(2),
    )


def edited(file: Path, change: Any) -> Path:
    model = onnx.load(file)
    change(model.graph)
    onnx.save(model, file)
    return file


def without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(verify.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))


def test_a_right_file_passes_as_it_is_and_in_a_batch(tmp_path):
    model = masked()
    report = verified(model, exported(model, tmp_path))
    assert report.passed
    assert report.problems == []
    assert [parity.runtime.split()[0] for parity in report.parities] == ["onnxruntime", "onnxruntime"]
    assert report.parities[1].runtime.endswith(", batch 3")
    assert report.parities[0].invokes >= 4
    assert all(parity.max_abs_difference < 1e-6 for parity in report.parities)


@pytest.mark.usefixtures("conversion_in_this_process")
def test_a_fixed_batch_is_not_tried_in_another(tmp_path):
    model = classifier()
    assert len(verified(model, exported(model, tmp_path, free_batch=False)).parities) == 1


@pytest.mark.usefixtures("conversion_in_this_process")
def test_swapped_gates_are_seen(tmp_path):
    def swap(graph: Any) -> None:
        weight = next(each for each in graph.initializer if each.name.endswith("/R:0"))
        value = onnx.numpy_helper.to_array(weight)
        blocks = np.split(value, 4, axis=1)
        weight.CopyFrom(
            onnx.numpy_helper.from_array(np.concatenate([blocks[k] for k in (0, 2, 1, 3)], axis=1), weight.name)
        )

    model = masked()
    report = verified(model, edited(exported(model, tmp_path), swap))
    assert not report.passed
    assert "differs from Keras' by up to" in report.problems[0]


@pytest.mark.usefixtures("conversion_in_this_process")
def test_a_fixed_batch_in_the_graph_is_seen(tmp_path):
    """The file says that any batch size is fine, and one of its shapes says one."""

    def fix(graph: Any) -> None:
        node = next(each for each in graph.node if each.op_type == "Squeeze")
        shape = onnx.numpy_helper.from_array(np.asarray([1, 4], np.int64), "fixed")
        graph.initializer.append(shape)
        node.op_type, node.input[1] = "Reshape", "fixed"

    model = classifier()
    report = verified(model, edited(exported(model, tmp_path), fix))
    assert not report.passed


@pytest.mark.usefixtures("conversion_in_this_process")
def test_constant_outputs_and_odd_names_pass(tmp_path):
    x = keras.Input((TIME, FEATURES), name="file")
    y = layers.LSTM(3)(x)
    model = functional(x, {"arr_0": y, "file": x, "fixed": Constant([[1.0, 2.0], [3.0, 4.0]])(x)})
    assert verified(model, exported(model, tmp_path)).passed


@pytest.mark.usefixtures("conversion_in_this_process")
def test_mixed_precision_is_compared_in_float32(tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    model = functional(x, layers.LSTM(3, dtype="mixed_float16")(x))
    assert verified(model, exported(model, tmp_path)).passed


@pytest.mark.usefixtures("conversion_in_this_process")
def test_without_onnxruntime_the_reference_is_asked(tmp_path, monkeypatch):
    without_onnxruntime(monkeypatch)
    model = classifier()
    report = verified(model, exported(model, tmp_path))
    assert report.passed
    assert report.parities[0].runtime == f"onnx.reference {onnx.__version__}"


@pytest.mark.usefixtures("conversion_in_this_process")
def test_without_onnxruntime_lengths_are_not_verified(tmp_path, monkeypatch):
    without_onnxruntime(monkeypatch)
    model = masked()
    report = verified(model, exported(model, tmp_path))
    assert not report.passed
    assert report.problems == ["ONNX Runtime is not installed, so nothing was verified: pip install onnxruntime."]


def test_the_reference_is_not_asked_what_it_ignores(monkeypatch):
    without_onnxruntime(monkeypatch)

    def model(op: str, *inputs: str, **attributes: Any) -> Any:
        graph = onnx.helper.make_graph([onnx.helper.make_node(op, inputs, ["y"], **attributes)], "g", [], [])
        return onnx.helper.make_model(graph)

    assert choose_runtime(model("LSTM", "x", "w", "r", "", "", "h")) == "onnx.reference"
    assert choose_runtime(model("LSTM", "x", "w", "r", "", "lengths")) is None
    assert choose_runtime(model("LSTM", "x", "w", "r", activations=["Relu"] * 3)) is None
    assert choose_runtime(model("GRU", "x", "w", "r")) is None


def test_a_file_that_is_none_is_a_sentence(tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(ModelRunError, match=r"broken.onnx: onnxruntime failed: .*"):
        run_onnx(file, [[floats(1, 2)]])


def test_a_run_that_takes_too_long_is_stopped(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(verify, "WORKER", worker)
    with pytest.raises(ModelRunError, match=r"was stopped after 0.2 s"):
        run_onnx(tmp_path / "any.onnx", [[floats(1, 2)]], timeout_s=0.2)


def test_a_crash_is_a_sentence(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(verify, "WORKER", worker)
    with pytest.raises(ModelRunError, match=r"onnxruntime crashed \(SIGSEGV\)"):
        run_onnx(tmp_path / "any.onnx", [[floats(1, 2)]])
