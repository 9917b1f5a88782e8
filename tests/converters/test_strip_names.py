"""Files whose inner tensors have no names: smaller, the same answers everywhere, and everything still finds its way."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.graph import Graph
from edgelstm.runtime.engines import ENGINES, run_on
from tests.converters.tiny import floats, functional, sequential

# Keras copies its variables in a way that numpy 2 complains about when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

STEPS, FEATURES, WORDS = 5, 3, 20
TIMEOUT_S = 120
ON_ENGINES = (
    ("interpreter", "ai-edge-litert", "dynamic"),
    ("interpreter", "tflite-runtime", "int8"),
    ("compiled", "litert-compiled", "int8"),
    ("web", "litertjs", "dynamic"),
    ("mediapipe", "mediapipe", "float32"),
    ("micro", "tflite-micro", "int8"),
)


def text_model() -> keras.Model:
    x = keras.Input((STEPS,), dtype="int32", name="tokens")
    y = layers.LSTM(6, return_sequences=True, name="lower")(layers.Embedding(WORDS, 4)(x))
    return functional(x, layers.Dense(2, activation="softmax", name="answer")(layers.LSTM(3, name="upper")(y)))


def tokens(calls: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, WORDS, (calls, STEPS)).astype(np.int32)


def stream_model() -> keras.Model:
    return sequential(
        layers.Input((STEPS, FEATURES), name="x"), layers.LSTM(4, return_sequences=True, name="lstm"), layers.Dense(2)
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same file with all names, and without those that nobody needs."""
    folder = tmp_path_factory.mktemp("names")
    return [
        edgelstm.convert(
            text_model(), folder / f"{stripped}.tflite", quantize="int8", calibration=tokens(50), strip_names=stripped
        )
        for stripped in (False, True)
    ]


def test_a_stripped_file_names_its_inputs_and_outputs_only_and_is_otherwise_the_same(pair):
    kept, stripped = (artifact.path.read_bytes() for artifact in pair)
    graph = Graph.from_bytes(stripped)
    assert {tensor.name for tensor in graph.subgraph.tensors} == {None, b"tokens", b"answer"}
    assert None not in {tensor.name for tensor in Graph.from_bytes(kept).subgraph.tensors}
    named = Graph.from_bytes(kept)
    named.strip_names()
    assert named.to_bytes() == stripped
    assert len(stripped) < 0.8 * len(kept)


def test_the_card_says_so_and_parity_is_the_same(pair):
    kept, stripped = (artifact.card for artifact in pair)
    assert (kept["names"], stripped["names"]) == ("kept", "stripped")
    assert stripped["parity"] == kept["parity"]
    assert stripped["parity"]
    assert stripped["lstms"] == kept["lstms"]


def test_an_inspection_finds_the_same_and_numbers_the_lstms(pair):
    kept, stripped = (edgelstm.inspect(artifact.path) for artifact in pair)
    assert [lstm.name for lstm in stripped.lstms] == ["lstm 0", "lstm 1"]
    assert not {lstm.name for lstm in kept.lstms} & {"lstm 0", "lstm 1", ""}
    assert stripped.size_bytes == stripped.path.stat().st_size
    assert sum(vars(stripped.sizes).values()) == stripped.size_bytes
    assert [dataclasses.replace(lstm, name="") for lstm in stripped.lstms] == [
        dataclasses.replace(lstm, name="") for lstm in kept.lstms
    ]
    for field in ("signatures", "operators", "loops", "parameters", "weight_bytes", "macs", "warnings"):
        assert getattr(stripped, field) == getattr(kept, field)


def test_a_stripped_file_is_loaded_and_verified_by_itself(pair):
    kept, stripped = (edgelstm.load(artifact.path) for artifact in pair)
    x = tokens(20, seed=1)
    assert len(np.unique(kept.predict(x))) > 2
    np.testing.assert_array_equal(stripped.predict(x), kept.predict(x))
    report = edgelstm.verify(text_model(), pair[1].path, data=tokens(50))
    assert report.passed


@pytest.mark.parametrize("runtime, engine, precision", ON_ENGINES, ids=[engine for _, engine, _ in ON_ENGINES])
def test_a_stripped_file_answers_the_same_bits_on_the_runtime_it_is_made_for(runtime, engine, precision, tmp_path):
    if not ENGINES[engine].is_here():
        pytest.skip(f"no {ENGINES[engine].title}: {ENGINES[engine].requirement}")
    kept, stripped = tmp_path / "kept.tflite", tmp_path / "stripped.tflite"
    edgelstm.convert(text_model(), kept, runtime=runtime, quantize=precision, calibration=tokens(50), verify=False)
    graph = Graph.from_bytes(kept.read_bytes())
    graph.strip_names()
    stripped.write_bytes(graph.to_bytes())
    calls = {"tokens": tokens(4, seed=1)[:, None]}
    expected, got = (run_on(engine, path, calls, timeout_s=TIMEOUT_S)[0] for path in (kept, stripped))
    assert set(got) == set(expected) == {"answer"}
    assert len(np.unique(expected["answer"])) > 2
    np.testing.assert_array_equal(got["answer"], expected["answer"])


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_states_of_a_streaming_file_keep_their_names(runtime, tmp_path):
    runs = []
    for stripped in (False, True):
        path = tmp_path / f"{stripped}.tflite"
        edgelstm.convert(stream_model(), path, runtime=runtime, streaming=True, strip_names=stripped)
        runs.append(streamed(edgelstm.load(path)))
    kept, stripped = runs
    assert kept["lstm/hidden_state"].shape == kept["lstm/cell_state"].shape == (1, 4)
    assert len({value.tobytes() for value in kept.values()}) == len(kept)
    assert stripped.keys() == kept.keys()
    for name, value in kept.items():
        np.testing.assert_array_equal(stripped[name], value)


def streamed(model: Any) -> dict[str, Any]:
    """Answers of some calls and of one after a state was set, and the states in between."""
    x = floats(1, STEPS, FEATURES)
    answers = [model(x[:, step : step + 1]) for step in range(STEPS)]
    states = model.states
    model.set_states({"lstm/cell_state": np.full((1, 4), 0.5, np.float32)})
    answers.append(model(x[:, :1]))
    return {**{f"answer {call}": next(iter(answer.values())) for call, answer in enumerate(answers)}, **states}
