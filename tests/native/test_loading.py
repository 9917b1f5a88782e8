"""`edgelstm.load` with the delegate, with another one, and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgelstm
from edgelstm.errors import EdgeLSTMError, ModelRunError
from tests.native.operators import Lstm, lstm_file
from tests.test_native import compile_library

CASE = Lstm("float32", time=9, batch=2, features=5, units=8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "m.tflite").write_bytes(lstm_file(CASE))
    return tmp_path / "m.tflite"


def num_delegated(model: Any) -> int:
    return sum(operator["op_name"] == "DELEGATE" for operator in model._interpreter._get_ops_details())


def test_lstms_run_in_the_delegate_and_answer_as_without(file):
    x = np.random.default_rng(0).normal(0, 1, CASE.input_shape).astype(np.float32)
    ours, stock = edgelstm.load(file), edgelstm.load(file, delegate=None)
    assert (num_delegated(ours), num_delegated(stock)) == (1, 0)
    np.testing.assert_allclose(ours(x)["output"], stock(x)["output"], rtol=0, atol=5e-6)


def test_a_processor_without_kernels_has_the_runtime_s_own(file, tmp_path, monkeypatch):
    library = tmp_path / "none.so"
    code = """
    extern "C" void* tflite_plugin_create_delegate(char**, char**, unsigned long, void (*report)(const char*)) {
      report("no kernels");
      return nullptr;
    }
    extern "C" void tflite_plugin_destroy_delegate(void*) {}
    """
    compile_library(code, library)
    monkeypatch.setattr("edgelstm.runtime.model.library_path", lambda: library)
    assert num_delegated(edgelstm.load(file)) == 0
    with pytest.raises(ModelRunError, match=r"none\.so cannot be loaded: .*no kernels"):
        edgelstm.load(file, delegate=library)


def test_without_a_built_library_the_runtime_has_its_own(file, monkeypatch):
    def fail() -> None:
        raise EdgeLSTMError("The native library is missing.")

    monkeypatch.setattr("edgelstm.runtime.model.library_path", fail)
    assert num_delegated(edgelstm.load(file)) == 0


def test_kernels_that_were_asked_for_are_not_left_out_silently(file, monkeypatch):
    monkeypatch.setenv("EDGELSTM_KERNELS", "sse9")
    with pytest.raises(ModelRunError, match=r"The delegate of edgelstm cannot be loaded: .*EDGELSTM_KERNELS names"):
        edgelstm.load(file)


def test_a_delegate_that_is_none_is_a_sentence(file, tmp_path):
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(ModelRunError, match=r"The delegate .*text\.so cannot be loaded: .*"):
        edgelstm.load(file, delegate=tmp_path / "text.so")
    with pytest.raises(ModelRunError, match=r"The delegate .*none\.so cannot be loaded: .*"):
        edgelstm.load(file, delegate=tmp_path / "none.so")
