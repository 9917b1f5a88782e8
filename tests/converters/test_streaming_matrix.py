"""Every form that can be streamed, chunk by chunk, answers as Keras and as its own file over the whole sequence do.

A file is run in a process of its own on two sequences and then the first again; states begin anew with each.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import edgelstm
from edgelstm import Artifact
from edgelstm.converters.parity import compare
from edgelstm.converters.policies import any_length
from edgelstm.runtime.engines import find_engine, run_on, run_sequences_on
from tests.converters.forms import BY_NAME, Array, Form, call_model, inputs_for
from tests.converters.test_matrix import feeds, input_names

pytestmark = pytest.mark.matrix

CHUNKS = {1: 9, 3: 4, 16: 2}
"""Chunks in a sequence, by their length: 9, 12 and 32 steps."""

SEQUENCES = {"float32": 2}
"""How many, by precision. Mean errors of the others are held against the greatest answer, so they get more."""
MORE_SEQUENCES = 6
TIMEOUT_S = 60.0
# Of float32 answers, whose greatest values are about 1: the same sums in another order, some ten of them.
TOLERANCE = 1e-6

# Everything that LSTMs do forwards and without a mask.
PLAIN = (
    "lstm", "lstm_sequences", "lstm_dropout", "lstm_no_bias", "lstm_states", "lstm_sequences_states", "lstm_only_h",
    "lstm_only_c", "lstm_unrolled", "lstm_implementation_1", "lstm_one_feature", "lstm_one_unit", "lstm_stateful",
    "lstm_cell", "lstm_cells", "lstm_counter", "lstm_whisper", "stack_of_two", "stack_of_three", "nested_model",
    "nested_twice", "submodel_called_twice", "siamese", "siamese_unnamed", "outputs_in_a_list",
    "inputs_and_outputs_by_name", "subclassed", "sequential", "sequential_without_input", "names_with_signs",
    "names_with_spaces", "time_distributed_cnn", "time_distributed_dense", "layer_normalization",
    "batch_normalization", "residual", "sequence_as_output", "embedding", "embedding_of_float_tokens",
    "relu_sequences", "relu_states", "relu6", "hard_tanh", "sigmoid", "linear", "hard_sigmoid_gates", "batch_of_3",
    "fixed_batch", "free_time",
)  # fmt: skip
# With a mask, and the promise that nothing is masked.
PROMISED = (
    "masked_functional", "masked_sequences", "masked_states", "masked_floats_sequences", "hard_sigmoid_masked",
)  # fmt: skip
# In every chunk length, precision and runtime: one or more LSTMs, all steps or the last, tokens, several inputs, loops.
CORE = ("stack_of_three", "sequence_as_output", "inputs_and_outputs_by_name", "fixed_batch", "linear")
# Of those that know how long a sequence is only from their inputs: files for the whole sequence.
TWINS = ("lstm_sequences_states", "stack_of_three", "embedding", "relu_states", "hard_sigmoid_gates")


@dataclass(frozen=True)
class Case:
    """One streaming file.

    Attributes:
        form: What is streamed.
        chunk: Steps in a call.
        precision: Of the file.
        runtime: What it is for.
    """

    form: str
    chunk: int
    precision: str = "float32"
    runtime: str = "interpreter"

    def __str__(self) -> str:
        return f"{self.form}-{self.chunk}-{self.precision}-{self.runtime}"

    @property
    def sequences(self) -> int:
        return SEQUENCES.get(self.precision, MORE_SEQUENCES)


def parameters(*cases: Case) -> Any:
    """Parallel runs keep the cases of a form in one process."""
    return pytest.mark.parametrize("case", [_parameter(case) for case in dict.fromkeys(cases)])


def on_engines(*pairs: tuple[Case, str]) -> Any:
    """The same for pairs of a case and an engine."""
    return pytest.mark.parametrize("case, engine", [_parameter(*pair) for pair in dict.fromkeys(pairs)])


def _parameter(case: Case, *engine: str) -> Any:
    marks = pytest.mark.xdist_group(f"streaming-{case.form}")
    return pytest.param(case, *engine, id="-".join([str(case), *engine]), marks=marks)


def rotating(names: tuple[str, ...]) -> list[Case]:
    """Gives each form one chunk length, in turn."""
    return [Case(name, chunk) for name, chunk in zip(names, itertools.cycle(CHUNKS), strict=False)]


EVERY_FORM = [*rotating(PLAIN), *rotating(PROMISED), *(Case(name, chunk) for name in CORE for chunk in CHUNKS)]
EVERY_PRECISION = [
    *(
        Case(name, chunk, precision)
        for name, (chunk, precision) in itertools.product(CORE, [(3, "float16"), (16, "dynamic"), (3, "int8")])
        if precision in BY_NAME[name].precisions or precision == "dynamic"
    ),
    Case("stack_of_three", 1, "int8"),
    Case("stack_of_three", 16, "int8"),
]
OTHER_RUNTIMES = [
    *(Case(name, 3, runtime="compiled") for name in (*CORE, "masked_functional")),
    Case("linear", 3, "dynamic", "compiled"),
    Case("stack_of_three", 3, "dynamic", "compiled"),
    Case("stack_of_three", 3, "int8", "compiled"),
    Case("stack_of_three", 3, "float32", "mediapipe"),
    Case("stack_of_three", 3, "float32", "web"),
    *(Case(name, 3, runtime="micro") for name in ("stack_of_three", "sequence_as_output", "lstm_states", "embedding")),
    Case("stack_of_three", 3, "int8", "micro"),
]
ENGINES = {
    "interpreter": ("ai-edge-litert", "tflite-runtime"),
    "compiled": ("litert-compiled", "ai-edge-litert"),
    "web": ("litertjs",),
    "mediapipe": ("ai-edge-litert",),
    "micro": ("tflite-micro",),
}


class Streams:
    """Converts each case once, and asks Keras once about each form and length."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[str, keras.Model] = {}
        self._artifacts: dict[Case, Artifact] = {}
        self._expected: dict[tuple[str, int, int], list[list[Array]]] = {}

    def form(self, case: Case) -> Form:
        """The form with sequences of as many steps as the case has, and nothing masked."""
        steps = case.chunk * CHUNKS[case.chunk]
        form = BY_NAME[case.form]
        inputs = tuple(
            replace(each, shape=(steps, *each.shape[1:]), kind=each.kind.removeprefix("masked "))
            for each in form.inputs
        )
        return replace(form, inputs=inputs, patterns=("none",))

    def model(self, case: Case) -> keras.Model:
        if case.form not in self._models:
            self._models[case.form] = BY_NAME[case.form].build()
        return self._models[case.form]

    def data(self, case: Case, sequences: int | None = None, seed: int = 0) -> list[Array]:
        """Arrays of shape (sequences, batch, steps, …), in the model's order. Tokens are nowhere 0."""
        form = self.form(case)
        arrays = inputs_for(form, self.model(case), calls=sequences or case.sequences, seed=seed)
        return [
            np.where(a == 0, 1, a).astype(a.dtype) if "token" in each.kind else a
            for a, each in zip(arrays, form.inputs, strict=True)
        ]

    def artifact(self, case: Case) -> Artifact:
        if case not in self._artifacts:
            form = BY_NAME[case.form]
            options = {**form.options, "length": case.chunk}
            if case.form in PROMISED or "masked" in case.form:
                options["padding"] = "none"
            if case.precision == "int8":
                options["calibration"] = self.calibration(case)
            self._artifacts[case] = edgelstm.convert(
                self.model(case),
                self.folder / f"{case}.tflite",
                streaming=True,
                quantize=case.precision,
                runtime=case.runtime,
                custom=form.custom,
                verify=False,
                **options,
            )
        return self._artifacts[case]

    def calibration(self, case: Case) -> dict[str, Array]:
        """Those that the file is tried with are among them: what lies outside of calibration saturates."""
        both = zip(self.data(case), self.data(case, sequences=12, seed=1), strict=True)
        arrays = [array.reshape(-1, *array.shape[2:]) for array in map(np.concatenate, both)]
        if len(arrays) == 1:
            return {"": arrays[0]}
        return {
            each.name or f"input_{k + 1}": array
            for k, (each, array) in enumerate(zip(self.form(case).inputs, arrays, strict=True))
        }

    def expected(self, case: Case) -> list[list[Array]]:
        """Keras' outputs for each sequence up to the end of each chunk: by sequence and chunk, then by output."""
        key = case.form, case.chunk, case.sequences
        if key not in self._expected:
            ends = range(case.chunk, case.chunk * CHUNKS[case.chunk] + 1, case.chunk)
            by_end = [self._answers(case, steps) for steps in ends]
            self._expected[key] = [answers[sequence] for sequence in range(case.sequences) for answers in by_end]
        return self._expected[key]

    def _answers(self, case: Case, steps: int) -> list[list[Array]]:
        """Keras' outputs for the first steps of each sequence, all sequences in one batch where the model takes it."""
        form, model, data = self.form(case), self.model(case), self.data(case)
        beginnings = [array[:, :, :steps] for array in data]
        with any_length(model):
            if any(tensor.shape[0] is not None for tensor in getattr(model, "inputs", None) or []):
                calls = range(case.sequences)
                return [in_order(call_model(form, model, [array[call] for array in beginnings])) for call in calls]
            outputs = in_order(call_model(form, model, [array.reshape(-1, *array.shape[2:]) for array in beginnings]))
        split = [np.split(output, case.sequences) for output in outputs]
        return [list(answers) for answers in zip(*split, strict=True)]


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Streams:
    return Streams(tmp_path_factory.mktemp("streaming"))


def in_order(outputs: dict[str, Array] | list[Array]) -> list[Array]:
    """Outputs as files order them: those of a dict by name."""
    return [outputs[name] for name in sorted(outputs)] if isinstance(outputs, dict) else outputs


def states_of(artifact: Artifact) -> tuple[dict[str, str], set[str]]:
    """Returns outputs by the inputs that take them, and all names of such inputs and outputs."""
    carry = {
        entry["input"]: entry["output"] for entry in artifact.card["state"]["states"] if entry["storage"] == "input"
    }
    return carry, {*carry, *carry.values()}


def run(streams: Streams, case: Case, engine: str) -> dict[str, Array]:
    """Runs the sequences and the first one again.

    Returns:
        By output name in the model's order, shape (sequences * chunks, *output shape).
    """
    if not find_engine(engine).is_here():
        pytest.skip(f"{engine} is not installed, and EDGELSTM_RUNTIMES names no Python that has it")
    artifact, count = streams.artifact(case), CHUNKS[case.chunk]
    carry, hidden = states_of(artifact)
    dtypes = {entry["name"]: entry["dtype"] for entry in artifact.card["inputs"] if entry["name"] not in hidden}
    calls = {}
    for name, array in zip(input_names(streams.form(case), dtypes), streams.data(case), strict=True):
        chunks = np.stack(np.split(array, count, axis=2), axis=1).reshape(
            -1, *array.shape[1:2], case.chunk, *array.shape[3:]
        )
        calls[name] = np.concatenate([chunks, chunks[:count]]).astype(dtypes[name])
    found, result = run_sequences_on(engine, artifact.path, calls, sequence=count, carry=carry, timeout_s=TIMEOUT_S)
    assert result["runtime_version"]
    return {entry["name"]: found[entry["name"]] for entry in artifact.card["outputs"] if entry["name"] not in hidden}


def of_last_chunk(answer: Array, shape: tuple[int, ...]) -> Array:
    """The part of an answer to a sequence that a file gives for its last chunk."""
    return answer if answer.shape == shape else answer[:, -shape[1] :]


def pairs(streams: Streams, case: Case, engine: str) -> dict[str, tuple[Array, Array]]:
    """Returns (the file's, Keras') answers by output name."""
    found, count = run(streams, case, engine), CHUNKS[case.chunk]
    expected = streams.expected(case)
    result = {}
    for position, (name, array) in enumerate(found.items()):
        # The first sequence again, after another one: not a bit may remember that.
        np.testing.assert_array_equal(array[-count:], array[:count], err_msg=f"{name} depends on the sequences before")
        right = np.stack([of_last_chunk(each[position], array.shape[1:]) for each in expected])
        result[name] = array[:-count], right
    assert len(result) == len(expected[0])
    return result


def assert_close(found: Array, right: Array, name: str) -> None:
    tolerance = TOLERANCE * max(1.0, float(np.abs(right).max()))
    np.testing.assert_allclose(found, right, rtol=0, atol=tolerance, equal_nan=False, err_msg=name)


@on_engines(
    *((case, "ai-edge-litert") for case in EVERY_FORM),
    *((case, "tflite-runtime") for case in EVERY_FORM if case.form in (*CORE, *PROMISED)),
)
def test_float32_chunks_answer_as_keras_over_the_whole_sequence(streams, case, engine):
    for name, (found, right) in pairs(streams, case, engine).items():
        assert_close(found, right, name)


@parameters(*(Case(name, 3) for name in (*CORE, *TWINS)))
def test_the_data_sees_states_that_are_lost_or_exchanged(streams, case):
    """Answers of Keras to each chunk alone, and to chunks with hidden and cell states exchanged, are far off."""
    model, form, data = streams.model(case), streams.form(case), streams.data(case)
    with any_length(model):
        alone = in_order(call_model(form, model, [array[0, :, -case.chunk :] for array in data]))
    last = streams.expected(case)[CHUNKS[case.chunk] - 1]
    assert any(
        np.abs(of_last_chunk(right, fresh.shape) - fresh).max() > 1000 * TOLERANCE
        for fresh, right in zip(alone, last, strict=True)
    )
    loaded = edgelstm.load(streams.artifact(case).path)
    calls = [
        [array[0, :, k : k + case.chunk] for array in data]
        for k in range(0, case.chunk * CHUNKS[case.chunk], case.chunk)
    ]
    names = input_names(form, [info.name for info in loaded.inputs])
    for call in calls[:-1]:
        loaded(dict(zip(names, call, strict=True)))
    states = loaded.states
    right = loaded(dict(zip(names, calls[-1], strict=True)))
    for layer in {name.rpartition("/")[0] for name in states}:
        hidden, cell = f"{layer}/hidden_state", f"{layer}/cell_state"
        loaded.set_states({**states, hidden: states[cell], cell: states[hidden]})
        wrong = loaded(dict(zip(names, calls[-1], strict=True)))
        assert any(np.abs(wrong[name] - right[name]).max() > 100 * TOLERANCE for name in right), layer


@parameters(*rotating(TWINS), *(Case("stack_of_three", chunk) for chunk in CHUNKS))
def test_chunks_answer_as_the_file_for_the_whole_sequence_does(streams, case, tmp_path):
    steps = case.chunk * CHUNKS[case.chunk]
    form = streams.form(case)
    options = {**form.options, "verify": False}
    twin = edgelstm.convert(form.build(), tmp_path / "whole.tflite", **options)
    whole, _ = run_on("ai-edge-litert", twin.path, feeds(form, twin, streams.data(case)), timeout_s=TIMEOUT_S)
    found = run(streams, case, "ai-edge-litert")
    assert set(found) == set(whole)
    count = CHUNKS[case.chunk]
    for name, array in found.items():
        by_sequence = array[:-count].reshape(case.sequences, count, *array.shape[1:])
        if whole[name].shape[2:3] == (steps,) and array.ndim > 3:
            joined = np.concatenate(list(by_sequence.swapaxes(0, 1)), axis=2)
        else:
            joined = by_sequence[:, -1]
        assert_close(joined, whole[name], name)


@on_engines(*((case, engine) for case in EVERY_PRECISION for engine in ENGINES["interpreter"]))
def test_other_precisions_answer_nearly_as_keras(streams, case, engine):
    check_parity(streams, case, engine)


@on_engines(*((case, engine) for case in OTHER_RUNTIMES for engine in ENGINES[case.runtime]))
def test_other_runtimes_answer_as_keras(streams, case, engine):
    if case.precision != "float32":
        return check_parity(streams, case, engine)
    for name, (found, right) in pairs(streams, case, engine).items():
        assert_close(found, right, name)
    return None


def check_parity(streams: Streams, case: Case, engine: str) -> None:
    """Holds answers to the tolerances that every conversion is held to."""
    result, count = pairs(streams, case, engine), CHUNKS[case.chunk]
    found, expected = (
        {name: np.concatenate([pair[side], pair[side][:count]]) for name, pair in result.items()} for side in (0, 1)
    )
    _, problems = compare(case.precision, engine, list(found), list(expected.values()), found, again=count)
    assert problems == []


@parameters(
    *(
        Case(name, 3, precision, "interpreter")
        for name in CORE
        for precision in ("float32", "int8")
        if precision in BY_NAME[name].precisions
    )
)
def test_states_are_named_after_layers_and_listed_in_the_card(streams, case):
    model, card = streams.model(case), streams.artifact(case).card
    assert card["state"]["semantics"] == "streaming"
    entries = card["state"]["states"]
    units = {layer.name: layer.units for layer in model._flatten_layers() if isinstance(layer, keras.layers.LSTM)}
    assert sorted(entry["name"] for entry in entries) == sorted(
        f"{name}/{kind}_state" for name in units for kind in ("hidden", "cell")
    )
    for entry in entries:
        assert entry["shape"] == [BY_NAME[case.form].batch, units[entry["layer"]]]
        assert entry["storage"] == ("input" if case.form == "linear" else "variable")
        integer = {"hidden": "int8", "cell": "int16"}[entry["kind"]] if case.precision == "int8" else "float32"
        assert entry["dtype"] == integer
