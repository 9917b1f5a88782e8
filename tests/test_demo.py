from __future__ import annotations

import itertools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import edgelstm
from edgelstm import demo
from edgelstm.errors import OutputError, VerificationError
from edgelstm.targets.statistics import summarize
from edgelstm.targets.subjects import Settings
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Data, Split
from edgelstm.tasks.objectives import BinaryClassification
from edgelstm.tasks.texts.vocabulary import Vocabulary

TINY = {"num_train": 400, "num_validation": 20, "num_test": 40, "length": 24, "embedding": 8, "units": 8, "epochs": 5}


def result(folder="out", unstable=None):
    """Returns the content of a demo.json with round numbers."""
    artifacts = [
        {
            "precision": precision,
            "size_bytes": 1024 * (40 + index),
            "accuracy": 0.99 - index / 100,
            "max_abs_difference": 10.0 ** (index - 7),
            "latency": {"p50_us": 100.0 + index, "p99_us": 250.0 + index, "stable": precision != unstable},
        }
        for index, precision in enumerate(demo.PRECISIONS)
    ]
    return {
        "data": {"num_test": 1500},
        "training": {"seconds": 33.3},
        "keras": {
            "size_bytes": 345_678,
            "accuracy": 0.998,
            "latency": {
                "predict": {"p50_us": 41_234.5, "p99_us": 1_234_567.8},
                "tf_function": {"p50_us": 3_210.9, "p99_us": 5_000.0},
            },
        },
        "artifacts": artifacts,
        "files": [f"{folder}/model.keras", f"{folder}/demo.json"],
        "seconds": 99.9,
    }


def test_the_table_begins_with_keras_and_ends_with_the_files():
    lines = demo.demo_table(result()).splitlines()
    rows = lines[4:10]
    assert [row.split("  ")[0] for row in rows] == ["Keras predict()", "Keras tf.function", *demo.PRECISIONS]
    assert rows[0].split()[2:] == ["337.6", "99.80", "-", "41.234", "1234.568"]
    assert rows[2].split() == ["float32", "40.0", "99.00", "1.0e-07", "0.100", "0.250"]
    assert rows[5].split() == ["int8", "43.0", "96.00", "1.0e-04", "0.103", "0.253"]
    assert lines[-3:] == [
        "Trained in 33 s, all done in 100 s. Written:",
        "  out/model.keras",
        "  out/demo.json",
    ]


def test_the_table_keeps_to_80_columns_and_its_numbers_stand_below_each_other():
    lines = demo.demo_table(result()).splitlines()
    assert max(map(len, lines)) <= 80
    assert len({len(line) for line in lines[2:10]}) == 1


def test_unstable_timings_are_said_below_the_table():
    lines = demo.demo_table(result(unstable="dynamic")).splitlines()
    assert lines[10:12] == ["Not stable are the timings of dynamic; demo.json says why.", ""]
    assert not any("stable" in line for line in demo.demo_table(result()).splitlines())


def test_calls_are_timed_one_example_at_a_time_without_the_warm_up():
    examples, now = [], itertools.count()
    durations_ns = [10**9] * demo.NUM_WARM_UP_CALLS + [1000 * (index + 1) for index in range(demo.NUM_TIMED_CALLS)]
    readings = itertools.chain.from_iterable((0, duration) for duration in durations_ns)

    def call(x):
        examples.append(x)
        next(now)

    x = np.arange(12).reshape(4, 3)
    times = demo._time_calls(call, x, clock=lambda: next(readings))
    assert times == {"p50_us": 50.5, "p99_us": pytest.approx(99.01), "num_calls": 100}
    assert len(examples) == 105
    for index, example in enumerate(examples[:8]):
        np.testing.assert_array_equal(example, x[[index % 4]])


class FakeTextTask:
    """A task whose model is right for all but every fourth review."""

    name = "text"

    def __init__(self):
        self.labels = np.array([0, 1, 0, 1], np.int32)

    def setup(self, seed, settings):
        return SimpleNamespace(seed=seed, settings={"units": 64, **settings})

    def data(self, setup):
        split = Split({"ids": np.arange(8, dtype=np.int32).reshape(4, 2)}, self.labels)
        vocabulary = Vocabulary.from_texts(["good"], 4)
        return Data(split, split, split, files={"vocabulary.txt": vocabulary})

    def evaluate(self, predict, data):
        return BinaryClassification().score(predict(data.test.x), data.test.y)


def fake_train(task, setup, data, progress):
    progress("epoch 1/1")
    return SimpleNamespace(save=lambda path: path.write_bytes(b"k"))


@pytest.fixture
def fakes(monkeypatch):
    """Replaces training, conversion and runtimes; returns the calls of convert and the answers of the files."""
    calls, right = [], np.array([[0.1], [0.9], [0.2], [0.4]], np.float32)
    answers = SimpleNamespace(loaded=right, without_reset=right)

    def convert(model, path, **options):
        calls.append((model, path, options))
        path.write_bytes(b"x" * 100 * len(calls))
        parity = [
            {"runtime": "first", "max_abs_difference": 1e-7},
            {"runtime": "second", "max_abs_difference": len(calls) * 1e-3},
        ]
        return SimpleNamespace(path=path, card={"parity": parity})

    statistics = summarize([[1000, 2000, 3000]])
    measurement = SimpleNamespace(
        statistics=statistics, runtime="litert", runtime_version="1", settings=Settings(), warnings=("unstable",)
    )
    monkeypatch.setattr("edgelstm.tasks.load_task", lambda name: {"text": FakeTextTask()}[name])
    monkeypatch.setattr(edgelstm, "convert", convert)
    monkeypatch.setattr(edgelstm, "load", lambda path: SimpleNamespace(predict=lambda x: answers.loaded))
    monkeypatch.setattr(edgelstm, "bench", lambda path, plan: measurement)
    monkeypatch.setattr(demo, "_predict_without_reset", lambda path, x: answers.without_reset)
    monkeypatch.setattr(demo, "_train", fake_train)
    latency = {"predict": {"p50_us": 1.0, "p99_us": 2.0}, "tf_function": {"p50_us": 1.0, "p99_us": 2.0}}
    keras_result = {"size_bytes": 1, "accuracy": 1.0, "latency": latency}
    monkeypatch.setattr(demo, "_measure_keras", lambda *_: keras_result)
    return SimpleNamespace(calls=calls, answers=answers)


def test_every_precision_is_converted_from_the_saved_model_with_training_data(fakes, tmp_path):
    assert demo.run_demo(tmp_path / "new" / "folder") == 0
    folder = tmp_path / "new" / "folder"
    assert [options["quantize"] for _, _, options in fakes.calls] == list(demo.PRECISIONS)
    for model, path, options in fakes.calls:
        assert model == folder / "model.keras"
        assert path == folder / f"text-{options['quantize']}.tflite"
        np.testing.assert_array_equal(options["calibration"]["ids"], np.arange(8).reshape(4, 2))


def test_demo_json_holds_what_was_measured_and_the_files_that_exist(fakes, tmp_path):
    demo.run_demo(tmp_path, seed=3, settings={"units": 8})
    content = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert (content["seed"], content["settings"]) == (3, {"units": 8})
    assert content["data"] == {"num_train": 4, "num_validation": 4, "num_test": 4}
    assert [entry["size_bytes"] for entry in content["artifacts"]] == [100, 200, 300, 400]
    assert [entry["max_abs_difference"] for entry in content["artifacts"]] == [1e-3, 2e-3, 3e-3, 4e-3]
    for entry in content["artifacts"]:
        assert entry["accuracy"] == entry["accuracy_without_reset"] == 0.75
        assert (entry["latency"]["p50_us"], entry["runtime"], entry["warnings"]) == (2.0, "litert 1", ["unstable"])
    assert set(content["files"]) == {str(path) for path in tmp_path.iterdir()}


def test_the_table_or_the_json_is_printed_and_nothing_else(fakes, tmp_path, capfd):
    demo.run_demo(tmp_path)
    content = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert capfd.readouterr() == (demo.demo_table(content) + "\n", "")
    demo.run_demo(tmp_path, json_output=True)
    printed = capfd.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert printed.err == ""


def test_progress_tells_each_step(fakes, tmp_path):
    lines = []
    demo.run_demo(tmp_path, progress=lines.append)
    assert "training, epoch 1/1" in lines
    assert [line for line in lines if line.startswith("converting")] == [
        f"converting to {precision}" for precision in demo.PRECISIONS
    ]


def test_a_file_that_remembers_earlier_calls_ends_the_demo(fakes, tmp_path):
    fakes.answers.without_reset = 1 - fakes.answers.loaded
    message = r"text-float32\.tflite remembers earlier calls: its accuracy is 0\.7500 with a reset .* 0\.2500 without"
    with pytest.raises(VerificationError, match=message):
        demo.run_demo(tmp_path)
    assert not (tmp_path / "demo.json").exists()


def test_a_file_in_the_folders_place_is_said_before_any_work(tmp_path, fakes):
    path = tmp_path / "taken"
    path.write_text("")
    with pytest.raises(OutputError, match=rf"Cannot write to the folder {re.escape(str(path))}: File exists"):
        demo.run_demo(path)
    assert fakes.calls == []


def test_what_cannot_be_written_is_said_and_leaves_no_temporary_file(tmp_path, fakes):
    (tmp_path / "demo.json").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write .*demo\.json: Is a directory"):
        demo.run_demo(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.matrix
def test_the_printed_numbers_are_those_of_the_files(tmp_path, capfd):
    from ai_edge_litert.interpreter import Interpreter

    keras = pytest.importorskip("keras")
    settings = {**TINY, "learning_rate": 0.03}
    assert demo.run_demo(tmp_path, settings=settings, plan="quick") == 0
    printed = capfd.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in printed.splitlines()[4:10]}
    task = load_task("text")
    data = task.data(task.setup(settings=settings))
    assert Vocabulary.load(tmp_path / "vocabulary.txt").words == data.files["vocabulary.txt"].words

    model = keras.saving.load_model(tmp_path / "model.keras")
    x_test, y_test = data.test.x["ids"], data.test.y
    expected = model.predict(x_test, verbose=0)
    assert expected.std() > 0.05, "answers that hardly differ could not show a mistake"
    keras_row = rows["Keras predict()"]
    assert float(keras_row[2]) == pytest.approx((tmp_path / "model.keras").stat().st_size / 1024, abs=0.05)
    assert float(keras_row[3]) == pytest.approx(100 * ((expected[:, 0] > 0.5) == y_test).mean(), abs=0.005)
    for precision in demo.PRECISIONS:
        path = tmp_path / f"text-{precision}.tflite"
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        answers = []
        for ids in x_test:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], ids[np.newaxis])
            interpreter.invoke()
            answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
        size, accuracy, difference, p50, p99 = map(float, rows[precision][1:])
        assert size == pytest.approx(path.stat().st_size / 1024, abs=0.05)
        assert accuracy == pytest.approx(100 * ((np.array(answers)[:, 0] > 0.5) == y_test).mean(), abs=0.005)
        assert difference < 0.02
        assert np.abs(np.array(answers) - expected).max() < 0.02
        assert 0 < p50 <= p99 < 1000
        assert edgelstm.Artifact.open(path).card["parity"]
