"""Forms of models in the forms of LSTMs that runtimes take: every file answers as Keras does, on the runtime itself.

A file is run on five different calls and then the first again. Each form is traced once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import edgelstm
from edgelstm.converters.calibration import fit_data
from edgelstm.converters.exporters import EXPORTERS, Job
from edgelstm.converters.exporters.carrier import carrier_graph
from edgelstm.converters.graph import DTYPES, Graph
from edgelstm.converters.lowering.adaptation import adapt
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.forms import place_float
from edgelstm.converters.lowering.recurrent import CARRIERS, COUNTING_CARRIERS
from edgelstm.converters.lowering.signature import Signature, model_signature
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.converters.policies import float32_computation
from edgelstm.runtime.engines import find_engine, run_on
from edgelstm.runtime.runtimes import FAMILIES, RuntimeFamily
from tests.converters.forms import BY_NAME, FORMS, Array, Form, call_model
from tests.converters.test_matrix import calibration_for, calls_for, cases, check_range

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

LSTM_FORMS = ("loop", "unrolled")
FLOAT_PRECISIONS = ("float32", "float16", "dynamic")
FAMILY_OF = {"loop": FAMILIES["compiled"], "unrolled": FAMILIES["mediapipe"]}
TIMEOUT_S = 120.0

COMPILED = (
    "lstm",
    "lstm_backwards_sequences",
    "lstm_states",
    "lstm_counter",
    "bidirectional_concat",
    "bidirectional_sum_sequences",
    "inputs_and_outputs_by_name",
    "time_distributed_cnn",
    "layer_normalization",
    "attention_multi_head",
    "translator",
    "states_in_and_out",
    "masked_stack",
    "masked_states",
    "relu",
    "hard_sigmoid_gates",
    "gru",
    "batch_of_3_masked",
)
WEB = {
    "lstm_states": ("float32", "dynamic", "int8"),
    "bidirectional_concat_sequences": ("float32",),
    "stack_of_two": ("float16",),
    "masked": ("float32", "int8"),
    "inputs_and_outputs_by_name": ("float32",),
    "translator": ("dynamic",),
    "hard_sigmoid_gates": ("float32",),
    "attention_dot": ("float32",),
    "batch_of_3_states": ("float32",),
}
MICRO = (
    "lstm",
    "lstm_states",
    "bidirectional_concat_sequences",
    "stack_of_bidirectionals",
    "embedding",
    "masked",
    "masked_backwards_sequences",
    "masked_stack",
    "masked_states",
    "masked_zero_output",
    "states_as_inputs",
    "translator",
    "relu",
    "hard_tanh",
    "hard_sigmoid_gates",
    "gru",
    "conv_and_pooling",
    "layer_normalization",
)


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a function of a form and other arguments be called once for each."""
    done: dict[tuple[Any, ...], Any] = {}

    def call(form: Form, *arguments: Any) -> Any:
        key = (form.name, *arguments)
        if key not in done:
            done[key] = function(form, *arguments)
        return done[key]

    return call


class Lab:
    """Models, their answers and their graphs, made once for each form.

    Args:
        folder: Where traced models are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = once(Form.build)
        self.calls = once(lambda form: calls_for(form, self.model(form)))
        self.traced = once(self._traced)
        self.carriers = once(self._carriers)
        self.right = once(self._right)

    def signature(self, form: Form) -> Signature:
        return model_signature(self.model(form), batch=form.batch, length=form.options.get("length"))

    def _traced(self, form: Form, unrolled: bool, counting: bool) -> tuple[Path, Trace]:
        folder = self.folder / f"{form.name}-{unrolled}-{counting}"
        lowering = COUNTING_CARRIERS if counting else CARRIERS
        padding = form.options.get("padding", "auto")
        with float32_computation(self.model(form)):
            found = trace_model(
                self.model(form), self.signature(form), folder, padding=padding, lowering=lowering, unrolled=unrolled
            )
        return folder, found

    def tracing(self, form: Form, lstm: str, family: RuntimeFamily) -> tuple[bool, bool]:
        """Returns how a form is traced: whether Keras' own loops are written out, and masks planned by counting."""
        counting = not family.takes("TOPK_V2")
        return lstm == "unrolled" and bool(self.traced(form, False, counting)[1].loops), counting

    def _carriers(self, form: Form, precision: str, unrolled: bool, counting: bool) -> Graph:
        folder, trace = self.traced(form, unrolled, counting)
        return carrier_graph(Job(folder, self.signature(form), trace), precision)

    def graph(self, form: Form, precision: str, lstm: str, family: RuntimeFamily) -> Graph:
        """Returns what becomes of a form, as `edgelstm.convert` makes it."""
        unrolled, counting = self.tracing(form, lstm, family)
        folder, trace = self.traced(form, unrolled, counting)
        if precision == "int8":
            data = calibration_for(form, self.model(form))
            given = fit_data(data if isinstance(data, dict) else {"": data}, self.signature(form).inputs)
            job = Job(folder, self.signature(form), trace, given, form=lstm, runtime=family.name)
            graph = EXPORTERS["int8"](job).graph
        else:
            graph = Graph(copy.deepcopy(self.carriers(form, precision, unrolled, counting).model))
            place_float(graph, trace.calls, form=lstm, precision=precision, family=family)
        adapt(graph, family)
        graph.prune_tensors()
        return graph

    def _right(self, form: Form) -> dict[str, Array]:
        """Returns Keras' answers by the file's output names, the calls along the first axis."""
        calls = self.calls(form)
        different = range(len(calls[0]) - 1)
        answers = [call_model(form, self.model(form), [array[call] for array in calls]) for call in different]
        answers.append(answers[0])  # the last call is the first one
        _, trace = self.traced(form, False, False)
        if isinstance(answers[0], dict):
            return {name: np.stack([answer[name] for answer in answers]) for name in trace.outputs}
        return {name: np.stack(values) for name, values in zip(trace.outputs, zip(*answers, strict=True), strict=True)}

    def feeds(self, form: Form, graph: Graph) -> dict[str, Array]:
        """Returns the calls by input name; tokens that Keras takes as floats are integers in a file."""
        tensors = [graph.tensor(tensor) for tensor in graph.subgraph.inputs]
        calls = zip(tensors, self.calls(form), strict=True)
        return {tensor.name.decode(): array.astype(DTYPES[tensor.type]) for tensor, array in calls}

    def check(self, form: Form, precision: str, found: dict[str, Array]) -> None:
        """Compares answers with Keras', and those of the first call with those when it comes again."""
        right = self.right(form)
        assert list(found) == list(right) or set(found) == set(right)
        for name, array in found.items():
            assert array.shape == right[name].shape
            np.testing.assert_array_equal(array[-1], array[0], err_msg=f"{name} depends on the calls before")
        if precision == "float32":
            limits = {"rtol": form.tolerance, "atol": form.tolerance}
            for name, array in found.items():
                np.testing.assert_allclose(array, right[name], **limits, equal_nan=False, err_msg=name)
        else:
            assert all(np.isfinite(array).all() for array in found.values())
            check_range({name: (found[name], right[name]) for name in right}, form, precision)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("runtimes"))


def run_here(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """Runs the calls one after the other on the Interpreter, in this process."""
    runner = Interpreter(model_content=graph.to_bytes(), num_threads=1).get_signature_runner()
    count = len(next(iter(feeds.values())))
    answers = [runner(**{name: array[call] for name, array in feeds.items()}) for call in range(count)]
    return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}


def run_there(engine: str, graph: Graph, feeds: dict[str, Array], folder: Path) -> dict[str, Array]:
    """Runs the calls one after the other on an engine, in a process of its own."""
    found = find_engine(engine)
    if not found.is_here():
        pytest.skip(f"{found.name} is not installed: {found.requirement}")
    path = folder / "model.tflite"
    path.write_bytes(graph.to_bytes())
    return run_on(engine, path, feeds, timeout_s=TIMEOUT_S)[0]


def takes(form: Form, precision: str) -> bool:
    """Whether a form has a precision in the forms of steps: other activations take dynamic there."""
    return precision in form.precisions or (
        precision == "dynamic" and form.name.startswith(("sigmoid", "linear", "hard"))
    )


def check_form(graph: Graph, lstm: str) -> None:
    """Checks that a file holds what runtimes of that form take."""
    tensors = [tensor for subgraph in graph.model.subgraphs for tensor in subgraph.tensors]
    codes = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in graph.model.operatorCodes}
    assert not any(tensor.isVariable for tensor in tensors)
    assert schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM not in codes
    assert schema.BuiltinOperator.CUSTOM not in codes
    if lstm == "unrolled":
        assert schema.BuiltinOperator.WHILE not in codes
        assert len(graph.model.subgraphs) == 1


# Every form, on the Interpreter


@pytest.mark.parametrize(
    "form, precision", cases(*((form, name) for form in FORMS for name in FLOAT_PRECISIONS if takes(form, name)))
)
def test_loops_and_unrolled_steps_answer_as_keras(lab, form, precision):
    for lstm in LSTM_FORMS:
        graph = lab.graph(form, precision, lstm, FAMILY_OF[lstm])
        check_form(graph, lstm)
        lab.check(form, precision, run_here(graph, lab.feeds(form, graph)))


@pytest.mark.parametrize("form", cases(*((form,) for form in FORMS if "int8" in form.precisions)))
def test_integer_loops_answer_as_keras(lab, form):
    graph = lab.graph(form, "int8", "loop", FAMILY_OF["loop"])
    check_form(graph, "loop")
    lab.check(form, "int8", run_here(graph, lab.feeds(form, graph)))


# Chosen forms on the runtimes themselves


def chosen(names: Any, *precisions: str) -> list[Any]:
    return cases(
        *((BY_NAME[name], precision) for name in names for precision in precisions if takes(BY_NAME[name], precision))
    )


@pytest.mark.parametrize("form, precision", chosen(COMPILED, *FLOAT_PRECISIONS, "int8"))
@pytest.mark.parametrize("lstm", LSTM_FORMS)
def test_compiled_model_answers_as_keras(lab, form, precision, lstm, tmp_path):
    graph = lab.graph(form, precision, lstm, FAMILY_OF[lstm])
    check_form(graph, lstm)
    lab.check(form, precision, run_there("litert-compiled", graph, lab.feeds(form, graph), tmp_path))


@pytest.mark.parametrize(
    "form, precision", cases(*((BY_NAME[name], each) for name, some in WEB.items() for each in some))
)
def test_the_browser_answers_as_keras(lab, form, precision, tmp_path):
    graph = lab.graph(form, precision, "loop", FAMILIES["web"])
    lab.check(form, precision, run_there("litertjs", graph, lab.feeds(form, graph), tmp_path))


@pytest.mark.parametrize("form, precision", chosen(MICRO, "float32", "int8"))
def test_tensorflow_lite_micro_answers_as_keras(lab, form, precision, tmp_path):
    family = FAMILIES["micro"]
    graph = lab.graph(form, precision, family.form, family)
    found = run_there("tflite-micro", graph, lab.feeds(form, graph), tmp_path)
    lab.check(form, precision, found)


# Whole conversions


@pytest.mark.parametrize(
    "form, runtime, precision",
    cases(
        (BY_NAME["lstm_sequences_states"], "compiled", "float32"),
        (BY_NAME["masked_bidirectional"], "web", "int8"),
        (BY_NAME["translator"], "mediapipe", "dynamic"),
        (BY_NAME["masked"], "micro", "int8"),
    ),
)
def test_converting_twice_gives_the_same_bytes(lab, form, runtime, precision, tmp_path):
    model = lab.model(form)
    calibration = calibration_for(form, model) if precision == "int8" else None
    options = {"runtime": runtime, "quantize": precision, "calibration": calibration, "verify": False, **form.options}
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    one, two = (edgelstm.convert(model, folder / "m.tflite", **options) for folder in folders)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.card_path.read_bytes() == two.card_path.read_bytes()
    assert one.card["form"] == FAMILIES[runtime].form
    assert one.card["state"] == {"semantics": "self-resetting"}


@pytest.mark.parametrize("lstm", LSTM_FORMS)
def test_weights_of_a_layer_that_is_called_twice_are_stored_once(lab, lstm):
    """One tower for two inputs, and one of them alone."""
    one, two = (BY_NAME[name] for name in ("lstm", "siamese"))
    sizes = {form.name: largest_buffers(lab.graph(form, "float32", lstm, FAMILY_OF[lstm])) for form in (one, two)}
    assert sizes["siamese"] == sizes["lstm"]


def largest_buffers(graph: Graph) -> list[int]:
    """Returns the sizes of the three largest constants: two matrices, and another unless one is there twice."""
    sizes = [len(buffer.data) for buffer in graph.model.buffers if buffer.data is not None]
    return sorted(sizes, reverse=True)[:3]


# A classifier of sentences on MediaPipe

LENGTH, WORDS = 12, 20


def sentences(count: int, seed: int) -> tuple[Array, Array]:
    """Returns tokens padded behind, and whether word 1 stands before word 2 in them."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, WORDS, (count, LENGTH))
    lengths = rng.integers(4, LENGTH + 1, count)
    labels = rng.integers(0, 2, count)
    for row, length, label in zip(tokens, lengths, labels, strict=True):
        first, second = sorted(rng.choice(length, 2, replace=False))
        row[first], row[second] = (1, 2) if label else (2, 1)
        row[length:] = 0
    return tokens.astype(np.int32), labels


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    """Returns a trained model that only the order of words tells the answer."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32", name="tokens"),
            layers.Embedding(WORDS, 8, mask_zero=True),
            layers.LSTM(12),
            layers.Dense(2, activation="softmax", name="order"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(*sentences(1500, seed=1), epochs=8, batch_size=64, verbose=0)
    return model


@pytest.mark.xdist_group("mediapipe")
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_mediapipe_classifies_sentence_after_sentence_as_keras(classifier, precision, tmp_path):
    engine = find_engine("mediapipe")
    if not engine.is_here():
        pytest.skip(f"{engine.name} is not installed: {engine.requirement}")
    tokens, labels = sentences(60, seed=2)
    right = classifier.predict(tokens, verbose=0)
    assert ((right.argmax(axis=1) == labels).mean()) > 0.95
    calibration = sentences(100, seed=3)[0] if precision == "int8" else None
    artifact = edgelstm.convert(
        classifier,
        tmp_path / "m.tflite",
        quantize=precision,
        runtime="mediapipe",
        calibration=calibration,
        verify=False,
    )
    sequence = np.concatenate([tokens, tokens[:1]])[:, np.newaxis]
    scores = run_on("mediapipe", artifact.path, {"tokens": sequence}, timeout_s=TIMEOUT_S)[0]["order"][:, 0]
    np.testing.assert_array_equal(scores[-1], scores[0])
    tolerance = {"float32": 1e-5, "float16": 5e-3}.get(precision, 0.1)
    np.testing.assert_allclose(scores[:-1], right, rtol=0, atol=tolerance)
    assert (scores[:-1].argmax(axis=1) == right.argmax(axis=1)).mean() > (0.99 if precision == "float32" else 0.9)
