"""Verification finds files that answer wrongly: by a weight, by a state that leaks, by an output that stands still."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm.converters import parity, verification
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.signature import Signature, model_signature
from edgelstm.converters.parity import TOLERANCES
from edgelstm.converters.verification import Stream, VerificationReport, require_passed, verify_calls, verify_file
from edgelstm.errors import VerificationError
from edgelstm.runtime import child
from edgelstm.runtime.engines import ENGINES
from edgelstm.runtime.interpreters import CLASSIC
from tests.converters.tiny import FEATURES, TIME, UNITS, Array, classifier, floats, functional, sequential
from tests.one_operator import accumulator

Op = schema.BuiltinOperator
DATA = floats(8, TIME, FEATURES)


class Converted(NamedTuple):
    """A Keras model and its float32 file."""

    model: keras.Model
    path: Path
    signature: Signature

    def graph(self) -> Graph:
        return Graph.from_bytes(self.path.read_bytes())

    def verify(self, file: Path | None = None, **options) -> VerificationReport:
        keywords = {
            "inspection": edgelstm.inspect(self.path),
            "precision": "float32",
            "data": {"x": DATA},
            "origin": "given",
            **options,
        }
        return verify_file(self.model, self.signature, file or self.path, **keywords)


def converted(model: keras.Model, folder: Path) -> Converted:
    path = edgelstm.convert(model, folder / "m.tflite", verify=False).path
    return Converted(model, path, model_signature(model))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return converted(classifier(), tmp_path_factory.mktemp("good"))


def edited(converted: Converted, folder: Path, edit) -> Path:
    """Writes the file anew after an edit of its graph."""
    graph = converted.graph()
    edit(graph)
    graph.prune_operators()
    graph.prune_tensors()
    path = folder / "edited.tflite"
    path.write_bytes(graph.to_bytes())
    return path


def change_constants(graph: Graph, name: str, change) -> None:
    """Overwrites every float constant with that in its name."""
    found = 0
    for index, tensor in enumerate(graph.subgraph.tensors):
        value = graph.constant(index)
        if value is not None and value.dtype == np.float32 and name in tensor.name.decode():
            graph.model.buffers[tensor.buffer].data = np.frombuffer(
                change(value).astype(np.float32).tobytes(), np.uint8
            )
            found += 1
    assert found


def forget_states(graph: Graph) -> None:
    """Takes out the operators that write the states."""
    before = len(graph.operators)
    graph.remove([each for each in graph.operators if any(graph.tensor(tensor).isVariable for tensor in each.outputs)])
    assert len(graph.operators) == before - 2


def exchange_kernels(graph: Graph) -> None:
    """Exchanges the kernels of the input and the forget gate."""
    lstm = next(each for each in graph.operators if graph.code(each) == Op.UNIDIRECTIONAL_SEQUENCE_LSTM)
    lstm.inputs[1], lstm.inputs[2] = lstm.inputs[2], lstm.inputs[1]


def dense_weights(graph: Graph) -> int:
    return next(each for each in graph.operators if graph.code(each) == Op.FULLY_CONNECTED).inputs[1]


# What passes


def test_a_right_file_passes_on_every_runtime(good):
    report = good.verify()
    assert report.passed
    assert report.problems == []
    for each in report.parities:
        assert each.passed
        assert each.invokes == len(DATA) + 1
        assert each.samples == len(DATA) + 1
        assert 0 <= each.mean_abs_difference <= each.max_abs_difference <= each.tolerance
        assert each.decision_agreement == 1
    require_passed(report, "m.tflite")


def test_a_single_sample_is_called_three_times_and_then_again(good):
    report = good.verify(data={"x": DATA[:1]})
    assert report.passed
    assert report.parities[0].invokes == parity.MIN_CALLS + 1


def test_the_report_tells_all_numbers_as_json_and_as_text(good):
    report = good.verify()
    content = report.to_json()
    assert (content["passed"], content["precision"], content["data"]) == (True, "float32", "given")
    assert content["parity"][0]["runtime"].startswith("ai-edge-litert ")
    assert "float32, given data: passed" in report.summary()
    assert "9 calls in a row" in report.summary()
    assert "100.0 %" in report.summary()


# What fails


def test_one_broken_weight_fails(good, tmp_path):
    def break_one(value: Array) -> Array:
        value = value.copy()
        value.flat[0] += 0.01
        return value

    path = edited(good, tmp_path, lambda graph: change_constants(graph, "input_gate/kernel", break_one))
    report = good.verify(path)
    assert not report.passed
    with pytest.raises(
        VerificationError, match=r"m\.tflite was not written: ai-edge-litert .* differs from .* by up to"
    ):
        require_passed(report, "m.tflite")


def test_exchanged_gates_fail(good, tmp_path):
    assert not good.verify(edited(good, tmp_path, exchange_kernels)).passed


def test_a_state_that_leaks_fails(good, tmp_path):
    path = edited(good, tmp_path, forget_states)
    assert {lstm.state for lstm in edgelstm.inspect(path).lstms} == {"leaking"}
    report = good.verify(path)
    assert not report.passed
    with pytest.raises(VerificationError, match="was not written"):
        require_passed(report, "m.tflite")


def test_a_state_that_leaks_fails_on_one_single_sample_too(good, tmp_path):
    assert not good.verify(edited(good, tmp_path, forget_states), data={"x": DATA[:1]}).passed


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_leaking_state_is_beyond_the_tolerance_of_every_precision(good, tmp_path, precision):
    assert not good.verify(edited(good, tmp_path, forget_states), precision=precision).passed


def test_the_public_verification_fails_on_a_leaking_file(good, tmp_path):
    assert not edgelstm.verify(good.model, edited(good, tmp_path, forget_states)).passed
    assert edgelstm.verify(good.model, good.path).passed


def test_the_model_decides_differently_on_this_data(good):
    assert len(set(np.asarray(good.model(DATA)).argmax(axis=-1))) > 1


def test_decisions_that_differ_are_counted(good, tmp_path):
    def exaggerate(graph: Graph) -> None:
        index = dense_weights(graph)
        value = -20 * graph.constant(index)
        graph.model.buffers[graph.tensor(index).buffer].data = np.frombuffer(value.tobytes(), np.uint8)

    parity = good.verify(edited(good, tmp_path, exaggerate)).parities[0]
    assert not parity.passed
    assert 0 <= parity.decision_agreement < 1


class TestOutliers:
    """Of many calls on real data a few may be far off in 8 bits; of few calls, or in float32, none."""

    SAMPLES = floats(200, TIME, FEATURES)

    def tip(self, monkeypatch, num_calls: int) -> None:
        """Has Keras answer some calls the other way round."""
        answer = verification.expected_outputs

        def change(model, signature, calls):
            outputs = [np.array(output) for output in answer(model, signature, calls)]
            outputs[0][3 : 3 + num_calls] = outputs[0][3 : 3 + num_calls, ..., ::-1]
            return outputs

        monkeypatch.setattr(verification, "expected_outputs", change)

    @pytest.mark.parametrize(
        "precision, num_far, passes",
        [
            ("int8", 1, True),
            ("int8", 4, True),
            ("int8", 5, False),
            ("dynamic", 1, True),
            ("float16", 1, False),
            ("float32", 1, False),
        ],
    )
    def test_two_of_a_hundred_are_let_pass_in_8_bits(self, good, monkeypatch, precision, num_far, passes):
        self.tip(monkeypatch, num_far)
        monkeypatch.setitem(TOLERANCES, precision, dataclasses.replace(TOLERANCES[precision], max_difference=1e-3))
        report = good.verify(precision=precision, data={"x": self.SAMPLES})
        assert report.passed == passes
        assert {parity.outliers for parity in report.parities} == {num_far if passes else 0}
        assert {parity.invokes for parity in report.parities} == {17 if precision.startswith("float") else 201}
        assert report.outlier_sentence().startswith(f"{num_far} of 201 answers in {precision} differ") == passes
        assert ("differ by more than allowed" in report.summary()) == passes

    @pytest.mark.parametrize("num_samples, origin", [(16, "given"), (200, "generated")])
    def test_none_is_let_pass_of_few_or_generated_samples(self, good, monkeypatch, num_samples, origin):
        self.tip(monkeypatch, 1)
        monkeypatch.setitem(TOLERANCES, "int8", dataclasses.replace(TOLERANCES["int8"], max_difference=1e-3))
        report = good.verify(precision="int8", data={"x": self.SAMPLES[:num_samples]}, origin=origin)
        assert not report.passed
        assert {parity.invokes for parity in report.parities} == {17}


def still_output(graph: Graph) -> None:
    index = dense_weights(graph)
    size = graph.constant(index).size
    graph.model.buffers[graph.tensor(index).buffer].data = np.zeros(4 * size, np.uint8)


def test_an_output_that_stands_still_is_told_even_where_the_tolerance_is_wide(good, tmp_path, monkeypatch):
    wide = parity.Tolerance(10.0, 10.0, 1.0, "for this test")
    monkeypatch.setitem(TOLERANCES, "int8", wide)
    report = good.verify(edited(good, tmp_path, still_output), precision="int8")
    assert not report.passed
    assert "output 'answer' hardly moves with the input, in Keras it does." in report.problems[0]


def test_an_output_that_stands_still_in_keras_too_is_right(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS), layers.Dense(2))
    kernel, bias = model.layers[1].get_weights()
    model.layers[1].set_weights([np.zeros_like(kernel), bias])
    assert converted(model, tmp_path).verify().passed


def test_an_output_of_nan_fails(good, tmp_path):
    path = edited(
        good, tmp_path, lambda graph: change_constants(graph, "cell_gate/kernel", lambda value: value * np.nan)
    )
    report = good.verify(path)
    assert not report.passed
    assert "holds NaN or infinity" in report.problems[0]


def test_one_bad_output_of_two_fails(tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.LSTM(UNITS)(x)
    outputs = [layers.Dense(2, name="big")(y), layers.Dense(2, name="small")(y)]
    model = functional(x, outputs)
    # Errors are measured on each output's own scale: the big output must not excuse the small one.
    model.get_layer("big").set_weights([1e4 * value for value in model.get_layer("big").get_weights()])
    both = converted(model, tmp_path)
    assert both.verify().passed
    small = np.sort(model.get_layer("small").get_weights()[0].ravel())

    def break_small(graph: Graph) -> None:
        for operator in graph.operators:
            if graph.code(operator) == Op.FULLY_CONNECTED:
                index = operator.inputs[1]
                value = graph.constant(index)
                if np.array_equal(np.sort(value.ravel()), small):
                    content = np.frombuffer((1.01 * value).tobytes(), np.uint8)
                    graph.model.buffers[graph.tensor(index).buffer].data = content

    path = edited(both, tmp_path, break_small)
    assert path.read_bytes() != both.path.read_bytes()
    report = both.verify(path)
    assert not report.passed
    with pytest.raises(VerificationError) as raised:
        require_passed(report, "m.tflite")
    differ, allowed = re.search(r"by up to ([\d.e+-]+) .*float32 allows ([\d.e+-]+) ", str(raised.value)).groups()
    assert float(differ) > float(allowed)


def test_a_runtime_that_cannot_run_the_file_is_a_problem_not_a_pass(good, tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(good.path.read_bytes()[:200])
    report = good.verify(path)
    assert not report.passed
    assert len(report.problems) == sum(ENGINES[name].is_here() for name in CLASSIC)
    with pytest.raises(VerificationError, match="was not written"):
        require_passed(report, "m.tflite")


@pytest.mark.cold
def test_a_file_that_runs_too_long_is_a_problem(good, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(child, "worker_file", lambda: worker)
    report = good.verify(timeout_s=0.2)
    assert not report.passed
    assert "was stopped after 0.2 s" in report.problems[0]


@pytest.fixture
def only(monkeypatch):
    """Makes the given engines the only ones that are installed."""

    def have(*names: str) -> None:
        for name, engine in ENGINES.items():
            here = functools.partial(bool, name in names)
            monkeypatch.setitem(ENGINES, name, dataclasses.replace(engine, is_here=here))

    return have


def test_without_any_runtime_nothing_passes(good, only):
    only()
    report = good.verify()
    assert not report.passed
    with pytest.raises(VerificationError, match=r"No TFLite runtime is installed.*pip install ai-edge-litert"):
        require_passed(report, "m.tflite")


# On which engines


def runtimes_of(report: VerificationReport) -> list[str]:
    return [each.runtime.split()[0] for each in report.parities]


def test_the_engines_are_those_that_are_named(good):
    if not ENGINES["tflite-micro"].is_here():
        pytest.skip("tflite-micro is not installed")
    report = good.verify(engines=("tflite-micro", "ai-edge-litert"))
    assert report.passed, report.summary()
    assert runtimes_of(report) == ["tflite-micro", "ai-edge-litert"]
    assert report.missing == report.to_json()["missing"] == []


def test_a_file_made_for_an_engine_that_is_missing_is_compared_on_another_which_is_told(good, only):
    only("ai-edge-litert")
    report = good.verify(engines=("tflite-micro",))
    assert report.passed
    assert runtimes_of(report) == ["ai-edge-litert"]
    assert report.missing == report.to_json()["missing"] == ["tflite-micro"]
    told = f"The file was compared on {report.parities[0].runtime}, not on tflite-micro (pip install 'tflite-micro'), "
    assert f"  {told}which is not installed." in report.summary().splitlines()


def test_a_second_choice_that_is_missing_is_not_missed(good, only):
    only("ai-edge-litert")
    report = good.verify(engines=("ai-edge-litert", "tflite-runtime"))
    assert (report.passed, report.missing) == (True, [])
    assert "not installed" not in report.summary()


def test_an_engine_that_refuses_the_file_is_a_problem_with_its_reason(good):
    report = good.verify(engines=("litert-compiled", "ai-edge-litert"))
    assert not report.passed
    assert report.problems == [f"{good.path}: litert-compiled failed: Variable tensors not yet supported."]
    assert runtimes_of(report) == ["ai-edge-litert"]


def test_exchanged_gates_fail_on_micro_too(good, tmp_path):
    if not ENGINES["tflite-micro"].is_here():
        pytest.skip("tflite-micro is not installed")
    report = good.verify(edited(good, tmp_path, exchange_kernels), engines=("tflite-micro",))
    assert "differs from Keras" in report.problems[0]


# Files that keep a state from call to call


@pytest.fixture(scope="module")
def accumulate(tmp_path_factory):
    path = tmp_path_factory.mktemp("streams") / "m.tflite"
    path.write_bytes(accumulator())
    return path


@pytest.fixture
def verify_sums(accumulate):
    """Verifies the sums of two sequences of three calls, the first of them once more."""

    def verify(stream: Stream | None, **options: Any) -> VerificationReport:
        x = floats(6, 2, 3, seed=3)
        sums = x.reshape(2, 3, 2, 3).cumsum(axis=1).reshape(x.shape)
        x, sums = (np.concatenate([array, array[:3]]) for array in (x, sums))
        common = {"inputs": [], "outputs": ["total"], "precision": "float32", "origin": "given", "timeout_s": 60.0}
        return verify_calls(accumulate, {"x": x}, [sums], **common, stream=stream, **options)

    return verify


@pytest.mark.parametrize("engine", ["ai-edge-litert", "litert-compiled", "tflite-micro"])
def test_a_stream_is_compared_sequence_by_sequence(verify_sums, engine):
    if not ENGINES[engine].is_here():
        pytest.skip(f"{engine} is not installed")
    report = verify_sums(Stream(3, {"state": "total"}), engines=(engine,))
    assert report.passed, report.summary()
    assert runtimes_of(report) == [engine]


def test_a_stream_whose_state_does_not_begin_anew_fails(verify_sums):
    report = verify_sums(Stream(9, {"state": "total"}), engines=("ai-edge-litert",))
    assert any("differs from Keras" in problem for problem in report.problems)


# What Keras itself cannot answer


def test_nan_from_keras_on_given_data_is_told(good):
    data = DATA.copy()
    data[3] = np.nan
    with pytest.raises(
        VerificationError, match=r"Keras itself answers with NaN or infinity on the given data \(first in call 3\)"
    ):
        good.verify(data={"x": data})


def test_generated_calls_that_keras_answers_with_nan_are_left_out(good):
    data = DATA.copy()
    data[3] = np.nan
    report = good.verify(data={"x": data}, origin="generated")
    assert report.passed
    assert report.parities[0].invokes == len(DATA)


def test_nothing_but_nan_is_told(good):
    with pytest.raises(VerificationError, match="Keras itself answers with NaN or infinity on the generated data"):
        good.verify(data={"x": np.full_like(DATA, np.nan)}, origin="generated")


# Decisions


@functools.cache
def decision_agreement(activation: str, units: int) -> float | None:
    expected = np.asarray(sequential(layers.Input((4,)), layers.Dense(units, activation=activation))(floats(9, 4)))
    answers = {"y": expected[:, np.newaxis]}
    return parity.compare("float32", "runtime", ["y"], [expected[:, np.newaxis]], answers)[0].decision_agreement


@pytest.mark.parametrize(
    "activation, units, agreement",
    [("softmax", 3, 1.0), ("sigmoid", 1, 1.0), ("linear", 3, None), ("tanh", 1, None), ("sigmoid", 3, None)],
)
def test_decisions_are_compared_where_outputs_are_probabilities(activation, units, agreement):
    assert decision_agreement(activation, units) == agreement
