"""All engines keep one promise: arrays by name in, arrays by name out, and sequences of calls with states."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime import interpreters
from edgelstm.runtime.engines import ENGINES, find_engine, run_on, run_sequences_on
from edgelstm.runtime.interpreters import CLASSIC, PACKAGES, VARIABLE
from tests.one_operator import accumulator

TIMEOUT_S = 120.0


@pytest.fixture(params=[name for name in PACKAGES if name in ENGINES])
def engine(request):
    found = find_engine(request.param)
    if not found.is_here():
        pytest.skip(f"{found.name} is not installed: {found.requirement}")
    return found


@pytest.fixture(scope="module")
def accumulate(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "m.tflite"
    path.write_bytes(accumulator())
    return path


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_the_table_has_what_the_worker_drives():
    driven = [name for name in ENGINES if name in PACKAGES]
    assert driven == ["ai-edge-litert", "tflite-runtime", "litert-compiled", "tflite-micro"]
    assert all(".tflite" in PACKAGES[name].endings for name in driven)
    assert set(CLASSIC) <= set(driven)
    assert all(name == each.name and each.title and each.requirement for name, each in ENGINES.items())


def test_an_engine_answers_every_call_and_says_what_it_is(engine, accumulate):
    x, state = floats(3, 2, 3), floats(3, 2, 3, seed=1)
    outputs, result = run_on(engine.name, accumulate, {"x": x, "state": state}, timeout_s=TIMEOUT_S)
    assert list(outputs) == ["total"]
    np.testing.assert_array_equal(outputs["total"], x + state)
    assert (result["runtime"], result["runtime_version"]) == (engine.name, engine.version())
    (told,) = result["outputs"]
    assert (told["name"], told["dtype"], told["scale"]) == ("total", "float32", None)


def test_states_live_as_long_as_a_sequence(engine, accumulate):
    x = floats(6, 2, 3)
    outputs, _ = run_sequences_on(
        engine.name, accumulate, {"x": x}, sequence=3, carry={"state": "total"}, timeout_s=TIMEOUT_S
    )
    np.testing.assert_allclose(outputs["total"], x.reshape(2, 3, 2, 3).cumsum(axis=1).reshape(6, 2, 3), atol=1e-6)


def test_an_engine_for_which_no_states_live_refuses_them(monkeypatch, accumulate):
    stateless = dataclasses.replace(find_engine("ai-edge-litert"), run_sequences=None)
    monkeypatch.setitem(ENGINES, "ai-edge-litert", stateless)
    with pytest.raises(ModelRunError, match=r"m\.tflite: LiteRT Interpreter cannot run a streaming file"):
        run_sequences_on("ai-edge-litert", accumulate, {"x": floats(2, 2, 3)}, sequence=2, carry={}, timeout_s=1.0)


def test_a_refusal_names_file_and_engine(engine, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"this is not a flatbuffer at all")
    with pytest.raises(ModelRunError, match=rf"m\.tflite: {engine.name} (failed|crashed)"):
        run_on(engine.name, path, {"x": floats(1, 2, 3)}, timeout_s=TIMEOUT_S)


def test_an_unknown_engine_lists_the_known():
    with pytest.raises(ModelRunError, match=r"'abacus' is not known\. Known are ai-edge-litert, tflite-runtime, "):
        run_on("abacus", "m.tflite", {}, timeout_s=TIMEOUT_S)


def test_a_missing_engine_says_how_to_get_it(monkeypatch, accumulate):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(interpreters, "_is_here", lambda name: False)
    assert not find_engine("tflite-micro").is_here()
    with pytest.raises(MissingExtraError, match="pip install 'tflite-micro'"):
        run_on("tflite-micro", accumulate, {"x": floats(1, 2, 3), "state": floats(1, 2, 3)}, timeout_s=TIMEOUT_S)
