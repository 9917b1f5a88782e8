"""States of streaming models: read, set, saved, restored, reset, in every way in which files keep them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.artifact import Artifact, write_artifact
from edgelstm.errors import LoadError, ModelRunError, OutputError
from edgelstm.runtime.interpreters import available
from edgelstm.runtime.model import Model, TensorInfo, load
from tests.converters.forms import set_random_weights
from tests.lstm_reference import LstmWeights, lstm_reference
from tests.tiny_models import TinyModels

BATCH, CHUNK, CHUNKS, FEATURES = 2, 3, 5, 4
REPOSITORY = Path(__file__).parents[2]
# Values of about 1 in float32 over fifteen steps.
TOLERANCE = 2e-6
# int8: hidden states in steps of 1/127, and what that does to cell states over fifteen steps.
COARSE = 0.05

FLOAT, INTEGER, EXCHANGED, MIXED = "fused float32", "fused int8", "loop float32", "fused and loop"
KINDS = {
    FLOAT: {"runtime": "interpreter"},
    INTEGER: {"runtime": "interpreter", "quantize": "int8"},
    EXCHANGED: {"runtime": "compiled"},
    MIXED: {"runtime": "interpreter"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def stack(**second: Any) -> keras.Model:
    """Returns two LSTMs and a Dense, whose inputs and layers do not stand in alphabetical order."""
    x, y = keras.Input((None, FEATURES), name="x"), keras.Input((None, 1), name="again")
    joined = layers.Concatenate()([x, y])
    hidden = layers.LSTM(5, return_sequences=True, name="upper")(joined)
    last = layers.LSTM(6, name="lower", **second)(hidden)
    model = keras.Model([x, y], [layers.Dense(3, name="scores")(last), layers.Activation("linear", name="all")(hidden)])
    set_random_weights(model, np.random.default_rng(3), 0.5)
    return model


@pytest.fixture(scope="module")
def keras_model() -> keras.Model:
    return stack()


def sequence(seed: int = 0, rows: int = BATCH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = rows, CHUNK * CHUNKS
    return {name: rng.normal(size=(*shape, size)).astype(np.float32) for name, size in (("x", FEATURES), ("again", 1))}


class Files:
    """The file of each kind, converted when it is asked for."""

    def __init__(self, folder: Path, model: keras.Model) -> None:
        self._folder = folder
        self._model = model

    def __getitem__(self, kind: str) -> Path:
        path = self._folder / f"{kind}.tflite"
        if not path.exists():
            model = stack(activation="sigmoid") if kind == MIXED else self._model
            data = sequence(1, rows=20) if kind == INTEGER else None
            edgelstm.convert(
                model,
                path,
                streaming=True,
                length=CHUNK,
                batch=BATCH,
                calibration=data,
                verify=False,
                **KINDS[kind],
            )
        return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, keras_model: keras.Model) -> Files:
    return Files(tmp_path_factory.mktemp("streaming"), keras_model)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return TinyModels(tmp_path_factory.mktemp("models"))


def chunks(data: dict[str, np.ndarray], first: int = 0, last: int = CHUNKS) -> list[dict[str, np.ndarray]]:
    return [{name: array[:, CHUNK * k : CHUNK * (k + 1)] for name, array in data.items()} for k in range(first, last)]


def answers(model: Model, calls: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the answers to calls in a row, by output name, the calls along the first axis."""
    given = [model(call) for call in calls]
    return {name: np.stack([answer[name] for answer in given]) for name in given[0]}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert set(one) == set(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def expected_states(model: keras.Model, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what the scalar LSTM ends in."""
    x, states = np.concatenate([data["x"], data["again"]], axis=-1), {}
    for name in ("upper", "lower"):
        cell = model.get_layer(name).cell
        weights = LstmWeights(*(np.asarray(w, np.float64) for w in (cell.kernel, cell.recurrent_kernel, cell.bias)))
        result = lstm_reference(x, weights)
        states |= {f"{name}/hidden_state": result.h, f"{name}/cell_state": result.c}
        x = result.outputs
    return states


def real(model: Model) -> dict[str, np.ndarray]:
    """Returns the states as real values."""
    infos, states = {info.name: info for info in model.state_infos}, model.states
    return {
        name: value if infos[name].scale is None else infos[name].dequantize(value) for name, value in states.items()
    }


NAMES = ["lower/cell_state", "lower/hidden_state", "upper/cell_state", "upper/hidden_state"]


@every_kind
def test_states_have_names_shapes_and_dtypes_and_begin_at_zero(files, kind):
    model = load(files[kind])
    assert model.streaming
    assert sorted(model.states) == sorted(info.name for info in model.state_infos) == NAMES
    told = {entry["name"]: entry for entry in model.card["state"]["states"]}
    for info in model.state_infos:
        state = model.states[info.name]
        assert (list(state.shape), state.dtype.name) == (told[info.name]["shape"], told[info.name]["dtype"])
        assert info.scale == (told[info.name]["scale"] and pytest.approx(told[info.name]["scale"]))
        assert not state.any()
    dtypes = {name: state.dtype.name for name, state in model.states.items()}
    assert dtypes["upper/hidden_state"] == ("int8" if kind == INTEGER else "float32")
    assert dtypes["upper/cell_state"] == ("int16" if kind == INTEGER else "float32")


@every_kind
def test_inputs_and_outputs_stand_in_the_order_of_the_model_without_states(files, kind):
    model = load(files[kind])
    assert [info.name for info in model.inputs] == ["x", "again"]
    assert [info.name for info in model.outputs] == ["scores", "all"]
    assert list(model(chunks(sequence())[0])) == ["scores", "all"]
    storages = {entry["storage"] for entry in model.card["state"]["states"]}
    assert storages == {FLOAT: {"variable"}, INTEGER: {"variable"}, EXCHANGED: {"input"}}.get(
        kind, {"variable", "input"}
    )


@pytest.mark.parametrize("kind, tolerance", [(FLOAT, TOLERANCE), (EXCHANGED, TOLERANCE), (INTEGER, COARSE)])
def test_states_are_those_of_the_lstm(files, keras_model, kind, tolerance):
    model, data = load(files[kind]), sequence()
    answers(model, chunks(data))
    expected = expected_states(keras_model, data)
    for layer in ("upper", "lower"):
        assert np.abs(expected[f"{layer}/hidden_state"] - expected[f"{layer}/cell_state"]).max() > 4 * tolerance
    for name, wanted in expected.items():
        np.testing.assert_allclose(real(model)[name], wanted, atol=tolerance, rtol=0, err_msg=name)


@pytest.mark.parametrize("kind", [FLOAT, EXCHANGED, INTEGER])
def test_a_stream_answers_as_keras_over_the_whole_sequence(files, keras_model, kind):
    model, data = load(files[kind]), sequence()
    found = answers(model, chunks(data))
    scores, every_step = (np.asarray(output) for output in keras_model([data["x"], data["again"]]))
    tolerance = COARSE * np.ptp(scores) if kind == INTEGER else TOLERANCE
    np.testing.assert_allclose(found["scores"][-1], scores, atol=tolerance, rtol=0)
    np.testing.assert_allclose(np.concatenate(found["all"], axis=1), every_step, atol=tolerance, rtol=0)


@every_kind
def test_predict_goes_on_with_the_stream(files, kind):
    one, other = load(files[kind]), load(files[kind])
    calls = chunks(sequence())
    expected = answers(one, calls)
    for k, call in enumerate(calls):
        assert_same(other.predict(call), {name: array[k] for name, array in expected.items()})


@every_kind
def test_reset_is_a_fresh_model(files, kind):
    model, calls = load(files[kind]), chunks(sequence())
    fresh = answers(model, calls)
    model.reset()
    assert not any(state.any() for state in model.states.values())
    assert_same(answers(model, calls), fresh)
    assert np.abs(answers(model, calls)["scores"][0].astype(float) - fresh["scores"][0]).max() > 0


@every_kind
@pytest.mark.parametrize("layer", ["upper", "lower"])
def test_exchanged_hidden_and_cell_states_are_seen(files, kind, layer):
    model, calls = load(files[kind]), chunks(sequence())
    answers(model, calls[:2])
    kept = real(model)
    right = answers(model, calls[2:3])
    model.set_states(kept)
    names = f"{layer}/hidden_state", f"{layer}/cell_state"
    model.set_states({names[0]: kept[names[1]], names[1]: kept[names[0]]})
    difference = np.abs(answers(model, calls[2:3])["scores"].astype(float) - right["scores"]).max()
    # A file answers the same question with the same bits, so any difference comes from the exchange.
    assert difference > 1000 * TOLERANCE


@every_kind
def test_set_states_goes_on_where_another_model_was(files, kind):
    one, other, calls = load(files[kind]), load(files[kind]), chunks(sequence())
    answers(one, calls[:2])
    answers(other, chunks(sequence(7))[:3])
    other.set_states(one.states)
    assert_same(other.states, one.states)
    assert_same(answers(other, calls[2:]), answers(one, calls[2:]))


@every_kind
def test_set_states_leaves_those_that_are_not_named(files, kind):
    model = load(files[kind])
    answers(model, chunks(sequence()))
    before = model.states
    model.set_states({"lower/hidden_state": np.zeros((BATCH, 6))})
    assert not model.states["lower/hidden_state"].any()
    for name in set(NAMES) - {"lower/hidden_state"}:
        np.testing.assert_array_equal(model.states[name], before[name])
        assert before[name].any()


@every_kind
def test_states_are_copies(files, kind):
    model = load(files[kind])
    given = {name: np.ones_like(state) for name, state in model.states.items()}
    model.set_states(given)
    for arrays in (model.states, given):
        for array in arrays.values():
            array[...] = 0
    assert all((state == 1).all() for state in model.states.values())


def test_floats_for_integer_states_are_quantized(files):
    model = load(files[INTEGER])
    infos = {info.name: info for info in model.state_infos}
    for name in ("upper/hidden_state", "upper/cell_state"):
        values = np.linspace(-0.4, 0.5, 10).reshape(2, 5)
        model.set_states({name: values})
        np.testing.assert_array_equal(model.states[name], np.rint(values / infos[name].scale))


@pytest.mark.parametrize(
    "kind, states, message",
    [
        (FLOAT, {"upper": 0}, r"has the states \['upper/hidden_state', .*\], but \['upper'\] were given"),
        (FLOAT, {NAMES[0]: np.zeros((1, 6))}, r"State 'lower/cell_state' has shape \(1, 6\), but .* \(2, 6\)\.$"),
        (EXCHANGED, {NAMES[0]: np.zeros((2, 5))}, r"State 'lower/cell_state' has shape \(2, 5\), but .* \(2, 6\)\.$"),
        (EXCHANGED, {NAMES[0]: np.full((2, 6), "a")}, "State 'lower/cell_state' is str32, and its values do not fit"),
        (INTEGER, {NAMES[0]: np.zeros((2, 6), int)}, "State 'lower/cell_state' is int64, but .* quantized int16"),
        (INTEGER, {NAMES[0]: np.full((2, 6), np.nan)}, "'lower/cell_state': the values hold a NaN"),
    ],
)
def test_wrong_states_are_refused_and_none_is_set(files, kind, states, message):
    model = load(files[kind])
    with pytest.raises(ValueError, match=message):
        model.set_states({"upper/hidden_state": np.full((2, 5), 0.5), **states})
    assert not any(state.any() for state in model.states.values())


@every_kind
def test_a_saved_stream_goes_on_bit_for_bit(files, kind, tmp_path):
    model, calls = load(files[kind]), chunks(sequence())
    answers(model, calls[:2])
    model.save_states(tmp_path / "states.npz")
    uninterrupted = answers(model, calls[2:])
    model.reset()
    model.restore_states(str(tmp_path / "states.npz"))
    assert_same(answers(model, calls[2:]), uninterrupted)
    other = load(files[kind])
    other.restore_states(tmp_path / "states.npz")
    assert_same(answers(other, calls[2:]), uninterrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["states.npz"]


GO_ON = """
import sys, numpy, edgelstm
path, runtime, states, calls, output = sys.argv[1:]
model = edgelstm.load(path, runtime=runtime, check=False)
if states:
    model.restore_states(states)
with numpy.load(calls) as arrays:
    given = [model(x=x, again=again) for x, again in zip(arrays["x"], arrays["again"])]
model.save_states(output + "-states.npz")
numpy.savez(output, **{name: [each[name] for each in given] for name in given[0]})
"""


@every_kind
@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime"])
def test_a_stream_goes_on_in_another_process(files, kind, runtime, tmp_path):
    """Two processes with a half each answer as one with the whole."""
    python = next((each.python for each in available() if each.name == runtime), None)
    if python is None:
        pytest.skip(f"{runtime} is not installed, and EDGELSTM_RUNTIMES names no Python that has it")
    environment = os.environ if python == sys.executable else {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def go_on(calls: list[dict[str, np.ndarray]], states: str, name: str) -> dict[str, np.ndarray]:
        np.savez(tmp_path / "calls.npz", **{key: np.stack([call[key] for call in calls]) for key in calls[0]})
        arguments = [files[kind], runtime, states, tmp_path / "calls.npz", tmp_path / name]
        command = [python, "-c", GO_ON, *map(str, arguments)]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
        with np.load(tmp_path / f"{name}.npz") as arrays:
            return dict(arrays)

    calls = chunks(sequence())
    whole = go_on(calls, "", "whole")
    first = go_on(calls[:2], "", "first")
    second = go_on(calls[2:], str(tmp_path / "first-states.npz"), "second")
    assert_same({name: np.concatenate([first[name], second[name]]) for name in first}, whole)


def save_of(files: Files, kind: str, path: Path) -> Path:
    model = load(files[kind])
    answers(model, chunks(sequence()))
    model.save_states(path)
    return path


def test_states_of_another_file_are_refused(files, tmp_path):
    saved = save_of(files, FLOAT, tmp_path / "states.npz")
    for kind, message in (
        (EXCHANGED, r"states\.npz holds the states of another model file. Restore it into the file that it was saved"),
        (MIXED, "another model file"),
        (INTEGER, r"the state 'upper/hidden_state' is float32 \(2, 5\) there, and int8 \(2, 5\) in the model"),
    ):
        model = load(files[kind])
        with pytest.raises(LoadError, match=message):
            model.restore_states(saved)
        assert not any(state.any() for state in model.states.values())


def _rewritten(path: Path, change: Any) -> Path:
    """Writes a file of states again, its arrays changed."""
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda a: a.pop("upper/cell_state"),
            r"does not fit the model: it holds \['lower/cell_state', 'lower/hidden_s",
        ),
        (lambda a: a.update(more=np.zeros(2)), "does not fit the model: it holds .*'more'"),
        (lambda a: a.pop("format"), r"states\.npz is no file of states\. Save one with save_states"),
        (lambda a: a.update(format=np.array("edgelstm-states-9")), "written by another version of edgelstm"),
        (lambda a: a.update(model_sha256=np.array("0" * 64)), "holds the states of another model file"),
        (lambda a: a.update({NAMES[0]: np.zeros((2, 6))}), r"is float64 \(2, 6\) there, and float32 \(2, 6\) in the"),
        (
            lambda a: a.update({NAMES[0]: np.zeros((2, 7), np.float32)}),
            r"is float32 \(2, 7\) there, and float32 \(2, 6\)",
        ),
        (lambda a: a.update({NAMES[0]: np.zeros(10**6, np.float32)}), "'lower/cell_state' is too large"),
        (lambda a: a.update({NAMES[0]: np.array([{}] * 12)}), "cannot be read: Object arrays cannot be loaded"),
        (lambda a: a.update(model_sha256=np.array([{}])), "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_no_state_is_set(files, tmp_path, change, message):
    saved = _rewritten(save_of(files, FLOAT, tmp_path / "states.npz"), change)
    model = load(files[FLOAT])
    with pytest.raises(LoadError, match=message):
        model.restore_states(saved)
    assert not any(state.any() for state in model.states.values())


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _overwrite(path: Path) -> None:
    content = path.read_bytes()
    position = content.index(b"\x93NUMPY") + 8
    path.write_bytes(content[:position] + b"\xff" * 16 + content[position + 16 :])


def _write_header(path: Path) -> None:
    """A header that promises more than memory holds."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,)}".ljust(117) + b"\n"
    entries["lower/cell_state.npy"] = b"\x93NUMPY\x01\x00\x76\x00" + header
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "damage",
    [_truncate, _overwrite, _write_header, Path.unlink, lambda p: p.write_bytes(b""), lambda p: p.write_text("states")],
)
def test_a_damaged_file_is_refused(files, tmp_path, damage):
    saved = save_of(files, FLOAT, tmp_path / "states.npz")
    damage(saved)
    with pytest.raises(LoadError, match=r"states\.npz cannot be read: .* Save them again"):
        load(files[FLOAT]).restore_states(saved)


def test_states_that_cannot_be_written_leave_nothing_behind(files, tmp_path):
    model = load(files[FLOAT])
    with pytest.raises(OutputError, match=r"Cannot write the states to .*none/states\.npz: no such file"):
        model.save_states(tmp_path / "none" / "states.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="Cannot write the states to"):
        model.save_states(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    "call",
    [lambda m: m.states, lambda m: m.set_states({}), lambda m: m.save_states("s"), lambda m: m.restore_states("s")],
)
def test_a_model_that_is_not_streaming_has_no_states(models, call):
    model = load(models["fused_lstm"])
    model.reset()
    assert model.state_infos == []
    with pytest.raises(ValueError, match=r"not streaming, so it keeps no states .* streaming=True \(--streaming\)"):
        call(model)


def _edited(files: Files, kind: str, folder: Path, change: Any) -> Path:
    """Writes the file with a card whose states are changed."""
    artifact = Artifact.open(files[kind])
    card = json.loads(json.dumps(artifact.card))
    change(card["state"])
    return write_artifact(folder / "m.tflite", artifact.path.read_bytes(), card).path


@pytest.mark.parametrize(
    "kind, change, message",
    [
        (FLOAT, lambda s: s["states"][0].update(name="x/y"), "the state 'x/y' is the name of 0 tensors in the file"),
        (FLOAT, lambda s: s["states"].append(s["states"][0]), "the state 'upper/hidden_state' is in it twice"),
        (FLOAT, lambda s: s["states"][0].update(name=3), "list of states is damaged: 'name' is 3. Export"),
        (FLOAT, lambda s: s.update(states={}), "list of states is damaged. Export the model again"),
        (FLOAT, lambda s: s.update(states=[1]), "list of states is damaged. Export the model again"),
        (
            EXCHANGED,
            lambda s: s["states"][0].update(input="z"),
            "has no input 'z' and output 'next_upper_hidden_state'",
        ),
        (EXCHANGED, lambda s: s["states"][0].update(output=None), "'output' is None"),
        (
            EXCHANGED,
            lambda s: s["states"][0].update(output="scores"),
            "has an output 'scores' of another shape or type",
        ),
    ],
)
def test_a_card_that_does_not_fit_the_file_is_refused(files, tmp_path, kind, change, message):
    path = _edited(files, kind, tmp_path, change)
    with pytest.raises(LoadError, match=rf"m\.json: The card.*{message}"):
        load(path)


@pytest.mark.parametrize("state", [None, [], "streaming", {}, {"semantics": "self-resetting"}])
def test_a_card_that_tells_of_no_stream_is_no_error(models, tmp_path, state):
    path = write_artifact(tmp_path / "m.tflite", models["affine"].read_bytes(), {"state": state}).path
    assert not load(path).streaming


def test_without_its_card_a_file_with_exchanged_states_shows_them(files, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(files[EXCHANGED].read_bytes())
    model = load(path)
    assert [info.name for info in model.inputs[2:]] == [name.replace("/", "_") for name in reversed(NAMES)]
    assert model.inputs[2] == TensorInfo("upper_hidden_state", (2, 5), "float32")
    assert len(model.outputs) == 6


@pytest.mark.parametrize("kind", [FLOAT, EXCHANGED])
def test_a_chunk_of_another_length_is_refused_and_the_stream_goes_on(files, kind):
    model, other, calls = load(files[kind]), load(files[kind]), chunks(sequence())
    answers(model, calls[:2]), answers(other, calls[:2])
    with pytest.raises(ValueError, match=r"Input 'x' has shape \(2, 15, 4\), but the model takes \(2, 3, 4\)"):
        model(sequence())
    assert_same(answers(model, calls[2:]), answers(other, calls[2:]))


def test_a_call_that_fails_leaves_exchanged_states_as_they_were(files):
    model, other, calls = load(files[EXCHANGED]), load(files[EXCHANGED]), chunks(sequence())
    answers(model, calls[:2]), answers(other, calls[:2])

    class FailingInterpreter:
        def __getattr__(self, name: str) -> Any:
            return getattr(interpreter, name)

        def invoke(self) -> None:
            raise RuntimeError("out of memory")

    interpreter, model._interpreter = model._interpreter, FailingInterpreter()
    with pytest.raises(ModelRunError, match="out of memory"):
        model(calls[2])
    model._interpreter = interpreter
    assert_same(answers(model, calls[2:]), answers(other, calls[2:]))
