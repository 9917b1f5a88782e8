from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from edgelstm.errors import ModelRunError
from edgelstm.runtime.feeds import describe, fit_calls, read_ports
from edgelstm.runtime.tensors import TensorInfo
from tests.tiny_models import TinyModels

FLOAT = TensorInfo("x", (2,), "float32")
TOKENS = TensorInfo("t", (2,), "int32")
QUANTIZED = TensorInfo("q", (2,), "int8", 0.5, 3)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


def test_a_file_tells_its_inputs_and_outputs_by_their_names_in_the_signature(models):
    inputs, outputs = read_ports(models["two_by_two"])
    assert {info.name: info for info in inputs} == {
        "left": TensorInfo("left", (1, 2), "float32"),
        "right": TensorInfo("right", (1, 2), "float32"),
        "tokens": TensorInfo("tokens", (1, 2), "int32"),
    }
    assert {info.name for info in outputs} == {"difference", "looked_up"}


def test_a_file_tells_scales_and_free_sizes(models):
    (quantized,), _ = read_ports(models["affine_int8"])
    assert (quantized.dtype, quantized.shape) == ("int8", (2, 3))
    assert quantized.scale == pytest.approx(1 / 127.5)
    (free,), _ = read_ports(models["affine_free"])
    assert free.shape == (-1, 3)


def test_a_missing_and_a_damaged_file_are_one_sentence(models, tmp_path):
    with pytest.raises(ModelRunError, match=r"nowhere\.tflite' cannot be read: No such file or directory\.$"):
        read_ports(tmp_path / "nowhere.tflite")
    path = tmp_path / "short.tflite"
    path.write_bytes(models["affine"].read_bytes()[:200])
    with pytest.raises(ModelRunError, match=rf"^{re.escape(str(path))} is damaged: .*\. Export it again\.$"):
        read_ports(path)


@pytest.mark.parametrize(
    "info, given, fed",
    [
        (FLOAT, np.array([[1, 2]]), [[1, 2]]),
        (FLOAT, np.array([[0.5, 2]], np.float64), [[0.5, 2]]),
        (TOKENS, np.array([[1, 2**31 - 1]], np.int64), [[1, 2**31 - 1]]),
        (TOKENS, np.array([[True, False]]), [[1, 0]]),
        (QUANTIZED, np.array([[-1.0, 1000.0]]), [[1, 127]]),
        (QUANTIZED, np.array([[-5, 5]], np.int8), [[-5, 5]]),
    ],
)
def test_values_are_cast_where_none_changes_its_meaning(info, given, fed):
    arrays, count = fit_calls({info.name: given}, [info])
    assert count == 1
    assert arrays[info.name].dtype == info.dtype
    assert arrays[info.name].flags.c_contiguous
    np.testing.assert_array_equal(arrays[info.name], fed)


@pytest.mark.parametrize(
    "info, given, reason",
    [
        (TOKENS, np.array([[0.0, 1.0]]), "input 't' is float64, and its values do not fit into int32"),
        (TOKENS, np.array([[0, 2**31]]), "input 't' is int64, and its values do not fit into int32"),
        (QUANTIZED, np.array([[0, 1]]), "input 'q' is int64, and its values do not fit into int8"),
        (FLOAT, np.zeros((1, 3)), "input 'x' of one call has shape (3,), but the file takes (2,)"),
        (FLOAT, np.zeros(2), "input 'x' of one call has shape (), but the file takes (2,)"),
        (FLOAT, np.array(1.0), "input 'x' of one call has shape (), but the file takes (2,)"),
    ],
)
def test_what_does_not_fit_is_refused(info, given, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        fit_calls({info.name: given}, [info])


def test_all_inputs_are_needed_for_the_same_number_of_calls():
    with pytest.raises(ValueError, match=r"the inputs are \['x', 't'\], but \['x'\] were given"):
        fit_calls({"x": np.zeros((1, 2))}, [FLOAT, TOKENS])
    with pytest.raises(ValueError, match=r"the inputs have \[1, 3\] calls"):
        fit_calls({"x": np.zeros((1, 2)), "t": np.zeros((3, 2), int)}, [FLOAT, TOKENS])
    assert fit_calls({"s": np.arange(3.0)}, [replace(FLOAT, name="s", shape=())])[1] == 3


def test_tensors_are_described_as_the_worker_does():
    assert describe([QUANTIZED]) == [
        {"name": "q", "shape": [2], "shape_signature": [2], "dtype": "int8", "scale": 0.5, "zero_point": 3}
    ]
