"""The worker on OpenVINO and PyTorch, against Keras; both are left out where no Python has them (make peers)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import models
from benchmarks.peers.models import MODELS, PeerModel, build_keras, dense, embedding, lstm
from edgelstm.runtime.interpreters import python_for
from tests.targets.worker.running import refuse, require, run_calls, work

BATCH, TIME = 3, 7
SCRIPT = Path(models.__file__).with_name("torch_files.py")
TOKENS = PeerModel("tokens", (TIME,), (embedding(20, 5), lstm(6, both_ways=True), dense(3, "softmax")))
SERIES = PeerModel("series", (TIME, 4), (lstm(5, sequences=True), lstm(6), dense(2, "sigmoid")))
# Probabilities in float32: a few roundings.
TOLERANCE = 2e-6


@pytest.fixture(scope="module", params=[TOKENS, SERIES], ids=lambda model: model.name)
def built(request):
    return request.param, build_keras(request.param)


def check(folder: Path, model: PeerModel, keras_model: object, file: Path, runtime: str) -> None:
    """Two calls of a batch each, then the first again: nothing is kept."""
    x = model.inputs(2 * BATCH).reshape(2, BATCH, *model.shape)
    (y,) = run_calls(folder, file, {"x": np.concatenate([x, x[:1]])}, runtime).values()
    for call, answer in zip((0, 1, 0), y, strict=True):
        np.testing.assert_allclose(answer, np.asarray(keras_model(x[call])), atol=TOLERANCE, rtol=0)  # type: ignore[operator]


def test_openvino_answers_as_keras_does(built, tmp_path):
    import edgelstm

    require("openvino")
    model, keras_model = built
    path = tmp_path / "m.onnx"
    edgelstm.convert(keras_model, path)
    check(tmp_path, model, keras_model, path, "openvino")
    *_, result = work(
        {"op": "bench", "model": path, "batch": 2, "plan": {"max_s": 0.01, "min_runs": 3, "max_runs": 9}}, "openvino"
    )
    assert len(result["samples_ns"]) >= 3
    assert result["inputs"][0]["shape"][0] == 2


def test_pytorch_answers_as_keras_does(built, tmp_path):
    require("pytorch")
    model, keras_model = built
    files = {form: tmp_path / f"{form}.pt" for form in ("float32", "int8")}
    np.savez(tmp_path / "w.npz", *[np.asarray(weight, np.float32) for weight in keras_model.get_weights()])
    job = {
        "shape": model.shape,
        "dtype": "int32" if model.is_text else "float32",
        "layers": model.layers,
        "weights": str(tmp_path / "w.npz"),
        **{form: str(path) for form, path in files.items()},
    }
    subprocess.run([python_for("pytorch"), str(SCRIPT)], input=json.dumps(job), text=True, check=True)
    check(tmp_path, model, keras_model, files["float32"], "pytorch")


@pytest.mark.parametrize("runtime, ending", [("openvino", ".onnx"), ("pytorch", ".pt")])
def test_a_damaged_file_is_one_sentence(runtime, ending, tmp_path):
    require(runtime)
    path = tmp_path / f"m{ending}"
    path.write_bytes(b"this is no model at all")
    assert refuse({"op": "load", "model": path}, runtime).startswith(f"{runtime} refuses the file: ")


def test_the_models_are_those_that_people_train():
    assert [model.name for model in MODELS] == [
        "text", "long text", "bidirectional", "stacked", "rows", "video", "forecast", "pixels",
    ]  # fmt: skip
