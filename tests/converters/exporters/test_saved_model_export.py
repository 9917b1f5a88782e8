"""SavedModel folders: what their signature takes and gives, and that they answer as Keras in a process without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from edgelstm.converters.calibration import generate_data
from edgelstm.converters.exporters.saved_model import Served, export_saved_model, verify, verify_saved_model
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.errors import LoweringError, ModelRunError, OutputError
from tests.converters.tiny import (
    FEATURES,
    TIME,
    UNITS,
    Array,
    Constant,
    floats,
    functional,
    sequential,
    with_random_weights,
)

TOLERANCE = 1e-6  # the same operators in the same order as in Keras; a rounding or two of sums below 10

# Serves calls with TensorFlow alone: argv[1] is the folder, argv[2] a JSON file of calls, each a dict of lists.
SERVE = """
import json, sys
sys.modules["keras"] = sys.modules["tf_keras"] = None
import numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
assert list(loaded.signatures) == ["serving_default"], list(loaded.signatures)
serve = loaded.signatures["serving_default"]
given = serve.structured_input_signature[1]
for call in json.load(open(sys.argv[2])):
    fed = {name: tf.constant(value, given[name].dtype) for name, value in call.items()}
    answers = serve(**fed)
    print(json.dumps({name: [tensor.numpy().ravel().tolist(), list(tensor.shape)] for name, tensor in answers.items()}))
assert not any(name.split(".")[0] in ("keras", "tf_keras") for name, module in sys.modules.items() if module)
"""


def export(model: keras.Model, folder: Path, *, batch: int = 1, length: int | None = None) -> Served:
    return export_saved_model(model, model_signature(model, batch=batch, length=length), folder / "served")


def serve(folder: Path, calls: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """Answers of consecutive calls of one loaded folder, from a process that cannot import Keras."""
    plan = folder / "calls.json"
    plan.write_text(json.dumps([{name: array.tolist() for name, array in call.items()} for call in calls]))
    command = [sys.executable, "-c", SERVE, str(folder / "served"), str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        {name: np.asarray(values, np.float32).reshape(shape) for name, (values, shape) in line.items()}
        for line in lines
    ]


def assert_same(found: dict[str, Array], right: dict[str, Any]) -> None:
    assert found.keys() == right.keys()
    for name, wanted in right.items():
        assert found[name].shape == tuple(wanted.shape)
        np.testing.assert_allclose(
            found[name], np.asarray(wanted), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=False, err_msg=name
        )


def sizes(tensors: list[Any]) -> list[tuple[str, tuple[int | None, ...], str]]:
    return [(tensor.name, tensor.shape, tensor.dtype) for tensor in tensors]


def tokens(*shape: int, seed: int = 0) -> Array:
    """Token ids below 9; zeros, which are masked, before, between and behind the others."""
    return np.random.default_rng(seed).integers(0, 9, shape).astype(np.int32)


def words(length: int | None = None) -> keras.Model:
    x = keras.Input((length,), dtype="int32", name="tokens")
    y = layers.Embedding(9, FEATURES, mask_zero=True)(x)
    y = layers.Bidirectional(layers.LSTM(UNITS, dropout=0.5, recurrent_dropout=0.5))(y)
    y = layers.Dropout(0.5)(y)
    return functional(x, layers.Dense(2, name="answer")(y))


class TestSignature:
    def test_free_batch_and_length_stay_free(self, tmp_path):
        served = export(words(), tmp_path, length=5)
        assert sizes(served.inputs) == [("tokens", (None, None), "int32")]
        assert sizes(served.outputs) == [("answer", (None, 2), "float32")]
        assert served.notes == []

    def test_fixed_batch_and_length_stay_fixed(self, tmp_path):
        model = sequential(
            layers.Input((TIME, FEATURES), batch_size=2, name="x"), layers.LSTM(UNITS, return_sequences=True)
        )
        served = export(model, tmp_path)
        assert sizes(served.inputs) == [("x", (2, TIME, FEATURES), "float32")]
        assert sizes(served.outputs) == [("output", (2, TIME, UNITS), "float32")]

    def test_a_subclassed_model_leaves_the_batch_free_that_given_data_leave_free(self, tmp_path):
        class Subclassed(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.lstm = layers.LSTM(UNITS)

            def call(self, x: Any) -> Any:
                return self.lstm(x)

        model = Subclassed()
        model(floats(2, TIME, FEATURES))
        with_random_weights(model)
        signature = model_signature(model, data={"x": floats(7, TIME, FEATURES)})
        served = export_saved_model(model, signature, tmp_path / "served")
        assert served.inputs[0].shape == (None, TIME, FEATURES)
        (answer,) = serve(tmp_path, [{"x": floats(3, TIME, FEATURES)}])
        assert_same(answer, {"output": model(floats(3, TIME, FEATURES))})

    def test_words_of_python_get_another_name_and_a_note(self, tmp_path):
        names = ("from", "from_input", "self", "class", "x")
        inputs = [keras.Input((2,), name=name) for name in names]
        weighted = [factor * tensor for factor, tensor in enumerate(inputs, 1)]
        model = keras.Model(inputs, {"sum": layers.Add()(weighted)})
        served = export(model, tmp_path)
        renamed = [entry.name for entry in served.inputs]
        assert len(set(renamed)) == len(names)
        assert (renamed[1], renamed[4]) == ("from_input", "x")
        assert len(served.notes) == 3
        assert served.notes[1].startswith(f"Input 'self' is called {renamed[2]!r} in the SavedModel")
        values = [floats(3, 2, seed=seed) for seed in range(len(names))]
        (answer,) = serve(tmp_path, [dict(zip(renamed, values, strict=True))])
        np.testing.assert_allclose(answer["sum"], sum(k * v for k, v in enumerate(values, 1)), rtol=0, atol=1e-5)

    def test_names_with_spaces_slashes_and_umlauts(self, tmp_path):
        x = keras.Input((TIME, FEATURES), name="my input")
        y = layers.LSTM(UNITS, name="größte Schicht")(x)
        model = functional(x, layers.Dense(2, name="class: A or B")(y))
        served = export(model, tmp_path)
        assert [entry.name for entry in (*served.inputs, *served.outputs)] == ["my_input", "class_A_or_B"]
        data = floats(3, TIME, FEATURES)
        (answer,) = serve(tmp_path, [{"my_input": data}])
        assert_same(answer, {"class_A_or_B": model(data)})

    def test_an_output_may_have_the_name_of_an_input(self, tmp_path):
        x = keras.Input((TIME, FEATURES), name="x")
        model = functional(x, {"x": layers.LSTM(UNITS)(x), "kept": x})
        export(model, tmp_path)
        data = floats(3, TIME, FEATURES)
        (answer,) = serve(tmp_path, [{"x": data}])
        assert_same(answer, {"x": model(data)["x"], "kept": data})

    def test_dicts_in_and_out(self, tmp_path):
        shapes = {"right": (TIME, FEATURES), "left": (None, FEATURES)}
        inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
        one, other = layers.LSTM(UNITS)(inputs["left"]), layers.GRU(UNITS)(inputs["right"])
        model = functional(inputs, {"z": ops.subtract(one, other), "a": {"b": one}})
        served = export(model, tmp_path, length=4)
        assert {entry.name: entry.shape for entry in served.inputs} == {
            "left": (None, None, FEATURES),
            "right": (None, TIME, FEATURES),
        }
        assert [entry.name for entry in served.outputs] == ["a_b", "z"]
        data = {"left": floats(3, 7, FEATURES, seed=1), "right": floats(3, TIME, FEATURES, seed=2)}
        (answer,) = serve(tmp_path, [data])
        right = model(data)
        assert_same(answer, {"a_b": right["a"]["b"], "z": right["z"]})


class TestAnswers:
    def test_masks_directions_batches_and_lengths(self, tmp_path):
        """A padded batch through both directions; dropout would make every answer another one."""
        model = words()
        export(model, tmp_path, length=5)
        calls = [tokens(3, 5), tokens(1, 9, seed=1), tokens(4, 2, seed=2), np.zeros((2, 4), np.int32), tokens(3, 5)]
        answers = serve(tmp_path, [{"tokens": call} for call in calls])
        for call, answer in zip(calls, answers, strict=True):
            assert_same(answer, {"answer": model(call)})
        np.testing.assert_array_equal(answers[0]["answer"], answers[-1]["answer"])

    def test_these_tokens_see_a_lost_mask(self):
        model, call = words(), tokens(3, 5)
        bare = keras.Sequential(
            [layers.Embedding(9, FEATURES), *(layer for layer in model.layers[2:] if "mask" not in layer.name)]
        )
        bare.build((None, 5))
        bare.layers[0].set_weights(model.layers[1].get_weights())
        assert np.abs(np.asarray(bare(call)) - np.asarray(model(call))).max() > 1000 * TOLERANCE

    @pytest.mark.parametrize("options", [{"zero_output_for_mask": True}, {"go_backwards": True}, {"unroll": True}])
    def test_options_of_masked_layers(self, options, tmp_path):
        x = keras.Input((TIME, FEATURES), name="x")
        y = layers.LSTM(UNITS, return_sequences=True, **options)(layers.Masking()(x))
        model = functional(x, layers.SimpleRNN(UNITS, name="last")(y))
        export(model, tmp_path)
        data = floats(3, TIME, FEATURES)
        data[0, :2] = data[1, 2:4] = data[2, 4:] = 0
        (answer,) = serve(tmp_path, [{"x": data}])
        assert_same(answer, {"last": model(data)})

    def test_initial_states_as_inputs_and_final_states_as_outputs(self, tmp_path):
        x, h, c = (
            keras.Input(shape, name=name) for shape, name in (((None, FEATURES), "x"), ((UNITS,), "h"), ((UNITS,), "c"))
        )
        y, new_h, new_c = layers.LSTM(UNITS, return_sequences=True, return_state=True)(x, initial_state=[h, c])
        model = functional([x, h, c], {"y": y, "h": new_h, "c": new_c})
        export(model, tmp_path, length=4)
        data = {"x": floats(3, 6, FEATURES), "h": floats(3, UNITS, seed=1), "c": floats(3, UNITS, seed=2)}
        (answer,) = serve(tmp_path, [data])
        assert_same(answer, model([data["x"], data["h"], data["c"]]))

    def test_a_stateful_model_starts_every_call_from_zeros_and_keeps_its_own_states(self, tmp_path):
        model = sequential(
            layers.Input((TIME, FEATURES), batch_size=3, name="x"), layers.LSTM(UNITS, stateful=True, name="memory")
        )
        data = floats(3, TIME, FEATURES)
        fresh, second = np.asarray(model(data)), np.asarray(model(data))
        assert np.abs(fresh - second).max() > 1000 * TOLERANCE
        states = [np.array(state) for state in model.layers[0].states]
        served = export(model, tmp_path)
        assert served.notes == ["Layer 'memory' is stateful in Keras; this file starts every call from zero states."]
        assert model.layers[0].stateful
        for before, after in zip(states, model.layers[0].states, strict=True):
            np.testing.assert_array_equal(before, after)
        for answer in serve(tmp_path, [{"x": data}] * 3):
            assert_same(answer, {"memory": fresh})

    def test_time_distributed_layers_have_the_length_fixed_and_a_note(self, tmp_path):
        x = keras.Input((None, FEATURES), name="x")
        model = functional(
            x, layers.TimeDistributed(layers.Dense(2), name="each")(layers.LSTM(UNITS, return_sequences=True)(x))
        )
        served = export(model, tmp_path, length=5)
        assert served.inputs[0].shape == (None, 5, FEATURES)
        assert "fixed in the SavedModel, because Keras' TimeDistributed" in served.notes[0]
        data = floats(3, 5, FEATURES)
        (answer,) = serve(tmp_path, [{"x": data}])
        assert_same(answer, {"each": model(data)})

    def test_a_layer_that_asks_for_a_gpu_kernel_is_portable_and_keeps_its_setting(self, tmp_path):
        model = sequential(layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS, use_cudnn="auto"))
        kept = model.layers[0].use_cudnn
        export(model, tmp_path)
        assert model.layers[0].use_cudnn == kept
        assert b"CudnnRNN" not in (tmp_path / "served" / "saved_model.pb").read_bytes()


def test_a_model_that_cannot_be_traced_is_named(tmp_path):
    class Broken(layers.Layer):
        broken = False

        def call(self, x: Any) -> Any:
            if self.broken:
                raise ZeroDivisionError("on purpose")
            return 2 * x

    x = keras.Input((TIME, FEATURES), name="x")
    model = keras.Model(x, Broken()(x), name="mine")
    model.layers[-1].broken = True
    with pytest.raises(
        LoweringError, match=r"Model 'mine' cannot be traced on inputs of shape \(None, 6, 3\): .*purpose"
    ):
        export(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_saved_is_named(tmp_path):
    x = keras.Input((TIME,), dtype="int64", name="x")
    y = layers.Embedding(5, FEATURES)(layers.IntegerLookup(vocabulary=[7, 8, 9])(x))
    model = keras.Model(x, layers.LSTM(UNITS)(y), name="mine")
    with pytest.raises(
        LoweringError, match=r"'mine' cannot be saved as a SavedModel.* \(.*\)\. Leave out layers .*IntegerLookup"
    ):
        export(model, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS))
    (tmp_path / "file").write_text("text")
    with pytest.raises(OutputError, match=r"Cannot write the temporary folder .*served: "):
        export_saved_model(model, model_signature(model), tmp_path / "file" / "served")


class TestVerification:
    def verified(self, model: keras.Model, folder: Path, exported: keras.Model | None = None, **options: Any) -> Any:
        """Verifies one model on the folder of another one."""
        signature = model_signature(model, length=5)
        served = export_saved_model(exported or model, signature, folder / "served")
        data = generate_data(model, signature.inputs, padding="auto")
        return verify_saved_model(model, signature, folder / "served", served, data, **options)

    def test_a_right_folder_is_compared_in_a_batch_and_at_another_length(self, tmp_path):
        report = self.verified(words(), tmp_path)
        assert (report.passed, report.problems) == (True, [])
        assert [parity.runtime.partition(", ")[2] for parity in report.parities] == ["", "batch 3", "longer"]
        assert [parity.invokes >= 2 for parity in report.parities] == [True] * 3
        assert max(parity.max_abs_difference for parity in report.parities) < TOLERANCE

    def test_one_changed_weight_is_seen(self, tmp_path):
        changed = words()
        kernel, *others = changed.layers[-1].get_weights()
        kernel[0, 0] += 0.01
        changed.layers[-1].set_weights([kernel, *others])
        report = self.verified(words(), tmp_path, changed)
        assert not report.passed
        assert "differs from Keras' by up to" in report.problems[0]

    def test_a_folder_that_fixes_the_batch_in_its_graph_is_seen(self, tmp_path):
        x = keras.Input((None, FEATURES), name="x")
        right = functional(x, {"y": layers.LSTM(UNITS)(x)})
        model = functional(x, {"y": ops.sum(layers.LSTM(UNITS)(x), axis=0, keepdims=True)})
        model.set_weights(right.get_weights())
        report = self.verified(right, tmp_path, model)
        assert report.problems
        assert report.problems[0].endswith("output 'y' has shape (1, 4), Keras' has (3, 4).")

    def test_known_positions_only_are_no_reason_to_fail(self, tmp_path):
        """Keras itself takes no sequence longer than the positions that the model has learned."""

        class Positions(layers.Layer):
            def build(self, shape: Any) -> None:
                self.table = self.add_weight((5, FEATURES), name="table")
                super().build(shape)

            def call(self, x: Any) -> Any:
                return x + ops.take(self.table, ops.arange(ops.shape(x)[1]), axis=0)

        x = keras.Input((None, FEATURES), name="x")
        report = self.verified(functional(x, layers.LSTM(UNITS)(Positions()(x))), tmp_path)
        assert report.passed
        assert [parity.runtime.partition(", ")[2] for parity in report.parities] == ["", "batch 3"]

    def test_constants_are_served(self, tmp_path):
        x = keras.Input((None, FEATURES), name="x")
        assert self.verified(functional(x, {"y": layers.LSTM(2)(x), "one": Constant([[1.0]])(x)}), tmp_path).passed

    def test_a_broken_folder_is_a_sentence(self, tmp_path):
        (tmp_path / "served").mkdir()
        with pytest.raises(ModelRunError, match=r"served: TensorFlow failed: .*saved_model"):
            verify.serve_calls(tmp_path / "served", [{"x": floats(1, 1)}])

    def test_a_run_that_takes_too_long_is_stopped(self, tmp_path, monkeypatch):
        worker = tmp_path / "worker.py"
        worker.write_text("import time\ntime.sleep(60)\n")
        monkeypatch.setattr(verify, "WORKER", worker)
        with pytest.raises(ModelRunError, match=r"was stopped after 0\.2 s\. Give it .*more time with --timeout"):
            verify.serve_calls(tmp_path, [{"x": floats(1, 1)}], timeout_s=0.2)

    def test_a_crash_is_a_sentence(self, tmp_path, monkeypatch):
        worker = tmp_path / "worker.py"
        worker.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
        monkeypatch.setattr(verify, "WORKER", worker)
        with pytest.raises(ModelRunError, match=r"TensorFlow crashed \(SIGSEGV\)"):
            verify.serve_calls(tmp_path, [{"x": floats(1, 1)}])
