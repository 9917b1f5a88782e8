"""Converted files on the very runtimes of the web and of MediaPipe: they answer as Keras does, call after call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgelstm
from edgelstm.runtime.engines import ENGINES, run_on
from tests.converters.forms import BY_NAME, Array, Form, call_model, inputs_for

pytestmark = [
    pytest.mark.matrix,
    # Keras copies its variables in a way that numpy 2 complains about when it saves them.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

TIMEOUT_S = 120
# Largest difference allowed, as a part of each output's range; reasons in test_matrix.py.
TOLERANCES = {"float16": 4e-3, "dynamic": 0.03, "int8": 0.08}

ON_THE_WEB = (
    ("lstm_sequences", "float32"),
    ("lstm_backwards_states", "float32"),
    ("bidirectional_concat", "float32"),
    ("stack_of_two", "float32"),
    ("inputs_and_outputs_by_name", "float32"),
    ("translator", "float32"),
    ("attention_multi_head", "float32"),
    ("time_distributed_cnn", "float32"),
    ("masked_stack", "float32"),
    ("hard_sigmoid_gates", "float32"),
    ("batch_of_3_masked", "float32"),
    ("masked_functional", "float16"),
    ("masked_functional", "dynamic"),
    ("masked_functional", "int8"),
)
IN_MEDIAPIPE = (
    ("masked_functional", "float32"),
    ("masked_functional", "float16"),
    ("masked_functional", "dynamic"),
    ("masked_functional", "int8"),
    ("masked_bidirectional", "float32"),
    ("embedding", "float32"),
)


def cases(runtime: str, engine: str, pairs: tuple[tuple[str, str], ...]) -> list[Any]:
    return [pytest.param(runtime, engine, *pair, id="-".join((engine, *pair))) for pair in pairs]


@pytest.mark.parametrize(
    "runtime, engine, name, precision",
    cases("web", "litertjs", ON_THE_WEB) + cases("mediapipe", "mediapipe", IN_MEDIAPIPE),
)
def test_a_file_answers_like_keras_on_the_runtime_it_is_made_for(runtime, engine, name, precision, tmp_path):
    if not ENGINES[engine].is_here():
        pytest.skip(f"no {ENGINES[engine].title}: {ENGINES[engine].requirement}")
    form = BY_NAME[name]
    model = form.build()
    inputs = [np.concatenate([array, array[:1]]) for array in inputs_for(form, model)]
    artifact = edgelstm.convert(
        model,
        tmp_path / "m.tflite",
        runtime=runtime,
        quantize=precision,
        calibration=calibration_for(form, model) if precision == "int8" else None,
        verify=False,
        **form.options,
    )
    answers, _ = run_on(engine, artifact.path, fed(form, inputs), timeout_s=TIMEOUT_S)
    expected = keras_answers(form, model, inputs, [output["name"] for output in artifact.card["outputs"]])
    assert set(answers) == set(expected)
    for output, wanted in expected.items():
        tolerance = form.tolerance if precision == "float32" else TOLERANCES[precision] * form.slack * np.ptp(wanted)
        np.testing.assert_allclose(answers[output], wanted, rtol=0, atol=tolerance, equal_nan=False)
        np.testing.assert_array_equal(answers[output][-1], answers[output][0])


def calibration_for(form: Form, model: Any) -> Array:
    """Returns typical samples of a form with one input, those among them that the file is tried with."""
    both = (*inputs_for(form, model), *inputs_for(form, model, calls=40, seed=1))
    samples: Array = np.concatenate([array.reshape(-1, *array.shape[2:]) for array in both])
    return samples


def fed(form: Form, inputs: list[Array]) -> dict[str, Array]:
    return {str(each.name): array for each, array in zip(form.inputs, inputs, strict=True)}


def keras_answers(form: Form, model: Any, inputs: list[Array], names: list[str]) -> dict[str, Array]:
    """Returns the model's outputs by the file's output names, the calls along the first axis."""
    calls = [call_model(form, model, [array[index] for array in inputs]) for index in range(len(inputs[0]))]
    by_name = [call if isinstance(call, dict) else dict(zip(names, call, strict=True)) for call in calls]
    return {name: np.stack([call[name] for call in by_name]) for name in by_name[0]}
