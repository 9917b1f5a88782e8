"""Every form, from every kind of file, in every precision, on every runtime: the file answers as Keras does.

A file is run in a process of its own on five different calls and then the first again, without any reset.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import edgelstm
from edgelstm import Artifact, EdgeLSTMError
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.interpreters import available
from tests.converters.forms import BY_NAME, FORMS, Array, Form, call_model, inputs_for

pytestmark = [
    pytest.mark.matrix,
    # Keras copies its variables in a way that numpy 2 complains about when it saves them.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

CALLS = 5
RUNTIMES = ("ai-edge-litert", "tflite-runtime")
PRECISIONS = ("float16", "dynamic", "int8")
TWICE = ("lstm", "masked_stack", "translator", "inputs_and_outputs_by_name")
# Largest difference allowed, as a part of each output's range; for float16 of its greatest value, at least 1.
# float16: weights of about 1 have an error of 2^-12. Sums of ten of them over ten steps reach 1e-3, and 2.4e-3 where
#   a normalization behind them magnifies small values.
# dynamic: weights and inputs in steps of 1/127 of the greatest, over ten steps of a recurrence.
# int8: the same, the hidden state too, and gates that end at sigmoid(8); measured up to 0.07 on these random weights.
TOLERANCES = {"float16": 4e-3, "dynamic": 0.03, "int8": 0.08}


def cases(*pairs: tuple[Any, ...]) -> list[Any]:
    """Returns parameters that begin with a form; parallel runs keep each form, and its conversions, in one process."""
    return [
        pytest.param(form, *rest, id="-".join([form.name, *rest]), marks=pytest.mark.xdist_group(form.name))
        for form, *rest in pairs
    ]


every_form = pytest.mark.parametrize("form", cases(*((form,) for form in FORMS)))
every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)
every_precision = pytest.mark.parametrize(
    "form, precision", cases(*((form, name) for form in FORMS for name in PRECISIONS if name in form.precisions))
)


class Conversions:
    """Converts each form once per precision; a conversion that failed fails again at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: dict[str, keras.Model] = {}
        self.done: dict[tuple[str, str], Artifact | EdgeLSTMError] = {}
        self.answers: dict[str, list[Any]] = {}

    def model(self, form: Form) -> keras.Model:
        if form.name not in self.models:
            self.models[form.name] = form.build()
        return self.models[form.name]

    def artifact(self, form: Form, precision: str = "float32") -> Artifact:
        key = (form.name, precision)
        if key not in self.done:
            try:
                self.done[key] = self.convert(form, precision, self.folder / f"{form.name}-{precision}.tflite")
            except EdgeLSTMError as error:
                self.done[key] = error
        result = self.done[key]
        if isinstance(result, EdgeLSTMError):
            raise result
        return result

    def keras_answers(self, form: Form, names: list[str]) -> dict[str, Array]:
        """Returns the model's outputs for `calls_for`, by the file's output names, the calls along the first axis."""
        if form.name not in self.answers:
            model = self.model(form)
            inputs = calls_for(form, model)
            different = [call_model(form, model, [array[call] for array in inputs]) for call in range(CALLS)]
            self.answers[form.name] = [*different, different[0]]
        calls = self.answers[form.name]
        if isinstance(calls[0], dict):
            return {name: np.stack([call[name] for call in calls]) for name in calls[0]}
        return {name: np.stack(values) for name, values in zip(names, zip(*calls, strict=True), strict=True)}

    def convert(self, form: Form, precision: str, path: Path) -> Artifact:
        calibration = calibration_for(form, self.model(form)) if precision == "int8" else None
        return edgelstm.convert(self.model(form), path, quantize=precision, calibration=calibration, **form.options)


@pytest.fixture(scope="module")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Conversions:
    return Conversions(tmp_path_factory.mktemp("matrix"))


def feeds(form: Form, artifact: Artifact, inputs: list[Array]) -> dict[str, Array]:
    """Returns inputs, given in the model's order, by the file's names and in its dtypes.

    Tokens that Keras takes as floats are integers in a file.
    """
    dtypes = {tensor.name: tensor.dtype for tensor in edgelstm.inspect(artifact.path).inputs}
    return {name: array.astype(dtypes[name]) for name, array in zip(input_names(form, dtypes), inputs, strict=True)}


def input_names(form: Form, names: Collection[str]) -> list[str]:
    """Returns the signature's input names in the model's order."""
    if len(names) == 1:
        return list(names)
    unnamed = ("input", *(f"input_{number}" for number in range(2, 9)))
    expected = [re.sub(r"\W+", "_", each.name) if each.name else unnamed[k] for k, each in enumerate(form.inputs)]
    assert sorted(expected) == sorted(names)
    return expected


def calibration_for(form: Form, model: keras.Model) -> dict[str, Array] | Array:
    """Returns typical inputs, samples first, by name where there are several.

    Those that the file is tried with are among them: what lies outside of calibration saturates, in any file.
    """
    more = zip(inputs_for(form, model, calls=CALLS), inputs_for(form, model, calls=40, seed=1), strict=True)
    arrays = [array.reshape(-1, *array.shape[2:]) for array in map(np.concatenate, more)]
    if len(arrays) == 1:
        return arrays[0]
    return {each.name or ("input" if k == 0 else f"input_{k + 1}"): arrays[k] for k, each in enumerate(form.inputs)}


def calls_for(form: Form, model: keras.Model) -> list[Array]:
    """Returns inputs for CALLS different calls, and the first once more."""
    arrays = inputs_for(form, model, calls=CALLS)
    return [np.concatenate([array, array[:1]]) for array in arrays]


@functools.cache
def installed() -> set[str]:
    return {each.name for each in available()}


def file_answers(artifact: Artifact, inputs: dict[str, Array], runtime: str, folder: Path) -> dict[str, Array]:
    """Runs the calls one after the other, without a reset, in a process of its own."""
    if runtime not in installed():
        pytest.skip(f"{runtime} is not installed, and EDGELSTM_RUNTIMES names no Python that has it")
    np.savez(folder / "inputs.npz", **inputs)
    plan: dict[str, Any] = {
        "op": "run",
        "model": str(artifact.path),
        "runtime": runtime,
        "inputs": str(folder / "inputs.npz"),
        "outputs": str(folder / "outputs.npz"),
    }
    events = run_worker(plan)
    assert events[0]["runtime"] == runtime
    with np.load(folder / "outputs.npz") as outputs:
        return dict(outputs)


def answers(
    conversions: Conversions, form: Form, artifact: Artifact, runtime: str, folder: Path
) -> dict[str, tuple[Array, Array]]:
    """Returns (the file's, Keras') answers by output name."""
    model = conversions.model(form)
    inputs = calls_for(form, model)
    right = conversions.keras_answers(form, [output["name"] for output in artifact.card["outputs"]])
    found = file_answers(artifact, feeds(form, artifact, inputs), runtime, folder)
    assert set(found) == set(right)
    for name, array in found.items():
        assert array.shape == right[name].shape
        # The first call's inputs, after five others: not a bit may remember them.
        np.testing.assert_array_equal(array[-1], array[0], err_msg=f"{name} depends on the calls before")
    return {name: (found[name], right[name]) for name in right}


def check_range(pairs: dict[str, tuple[Array, Array]], form: Form, precision: str) -> None:
    for name, (found, right) in pairs.items():
        size = max(1.0, np.abs(right).max()) if precision == "float16" else np.ptp(right)
        worst = np.abs(found - right).max() / size
        assert worst <= form.slack * TOLERANCES[precision], f"{name}: off by {worst:.4f} of its range"


@every_runtime
@every_form
def test_float32_answers_as_keras(conversions, form, runtime, tmp_path):
    pairs = answers(conversions, form, conversions.artifact(form), runtime, tmp_path)
    for name, (found, right) in pairs.items():
        np.testing.assert_allclose(
            found, right, rtol=form.tolerance, atol=form.tolerance, equal_nan=False, err_msg=name
        )


@every_form
def test_the_file_holds_fused_operators_and_no_others(conversions, form):
    inspection = edgelstm.inspect(conversions.artifact(form).path)
    operators = {operator.name: operator.count for operator in inspection.operators}
    assert operators.get("UNIDIRECTIONAL_SEQUENCE_LSTM", 0) == form.fused
    assert form.loops or "WHILE" not in operators
    assert {operator.kind for operator in inspection.operators} == {"builtin"}
    assert {lstm.state for lstm in inspection.lstms} <= {"self-resetting"}
    assert all(lstm.cell_clip == 0 for lstm in inspection.lstms)


@pytest.mark.parametrize("form, suffix", cases(*((form, suffix) for form in FORMS for suffix in form.formats)))
def test_a_saved_model_becomes_the_file_that_the_live_one_became(conversions, form, suffix, tmp_path):
    live = conversions.artifact(form)
    saved = tmp_path / f"model{suffix}"
    conversions.model(form).save(saved)
    loaded = edgelstm.convert(saved, tmp_path / live.path.name, custom=form.custom, verify=False, **form.options)
    if loaded.path.read_bytes() != live.path.read_bytes():
        # Keras names some inner layers anew when it loads them, and tensors are called after layers.
        one, other = (answers(conversions, form, each, RUNTIMES[0], tmp_path) for each in (live, loaded))
        for name in one:
            np.testing.assert_array_equal(other[name][0], one[name][0])
        assert edgelstm.inspect(loaded.path).operators == edgelstm.inspect(live.path).operators


@every_runtime
@every_precision
def test_other_precisions_answer_nearly_as_keras(conversions, form, precision, runtime, tmp_path):
    artifact = conversions.artifact(form, precision)
    check_range(answers(conversions, form, artifact, runtime, tmp_path), form, precision)


@every_precision
def test_other_precisions_are_fused_and_of_that_precision(conversions, form, precision):
    inspection = edgelstm.inspect(conversions.artifact(form, precision).path)
    assert [lstm.precision for lstm in inspection.lstms] == [precision] * form.fused
    assert form.loops or not inspection.loops
    assert not inspection.uses_flex
    assert {lstm.state for lstm in inspection.lstms} <= {"self-resetting"}


@pytest.mark.parametrize(
    "form, precision", cases(*((form, name) for form in FORMS for name in PRECISIONS if name not in form.precisions))
)
def test_a_precision_beyond_a_form_is_refused_or_right(conversions, form, precision, tmp_path):
    try:
        artifact = conversions.artifact(form, precision)
    except EdgeLSTMError as error:
        refusal = str(error)
    else:
        refusal = None
        check_range(answers(conversions, form, artifact, RUNTIMES[0], tmp_path), form, precision)
    assert refusal is None or re.search("int8|integer", refusal)


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8"])
@pytest.mark.parametrize("form", cases(*((BY_NAME[name],) for name in TWICE)))
def test_converting_twice_gives_the_same_bytes(conversions, form, precision, tmp_path):
    one = conversions.artifact(form, precision)
    two = conversions.convert(form, precision, tmp_path / one.path.name)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.card_path.read_bytes() == two.card_path.read_bytes()
