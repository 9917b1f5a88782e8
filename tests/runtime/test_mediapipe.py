from __future__ import annotations

import itertools
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime import mediapipe_tasks
from edgelstm.runtime.engines import ENGINES, run_on
from edgelstm.runtime.interpreters import VARIABLE
from tests.lstm_reference import lstm_reference
from tests.runtime import state_free_models as models
from tests.runtime.processes import children_of
from tests.tiny_models import lstm_weights

TOLERANCE = 2e-6  # float32 with fused multiply-add; the values are below 1
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def here():
    """Leaves a test out where MediaPipe is not installed."""
    if not mediapipe_tasks.is_here():
        pytest.skip(f"no MediaPipe: {mediapipe_tasks.REQUIREMENT}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def classifier(folder):
    return models.write(folder / "classifier.tflite", models.classifier, tokens=((1, models.LENGTH), "int32"))


def rows(*tokens: list[int]) -> np.ndarray:
    """Tokens of shape (calls, 1, LENGTH); an incomplete row is filled up with zeros at its end."""
    filled = [[*row, *[0] * (models.LENGTH - len(row))] for row in tokens]
    return np.array(filled)[:, None]


def random_rows(calls: int) -> np.ndarray:
    return np.random.default_rng(calls).integers(0, models.WORDS, (calls, 1, models.LENGTH))


def run(path: Path, timeout_s: float = TIMEOUT_S, **calls: Any) -> dict[str, Any]:
    return run_on("mediapipe", path, calls, timeout_s=timeout_s)[0]


def message_of(path: Path, timeout_s: float = TIMEOUT_S, **calls: Any) -> str:
    with pytest.raises(ModelRunError) as caught:
        run(path, timeout_s, **calls)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_classifier_answers_like_the_reference_on_every_sentence(here, classifier):
    tokens = random_rows(12)
    tokens[7] = tokens[0]
    outputs, result = run_on("mediapipe", classifier, {"tokens": tokens}, timeout_s=TIMEOUT_S)
    np.testing.assert_allclose(outputs["scores"], models.classifier_reference(tokens), rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(outputs["scores"][7], outputs["scores"][0])
    assert (result["runtime"], result["runtime_version"]) == ("mediapipe", ENGINES["mediapipe"].version())
    assert [tensor["shape"] for tensor in (*result["inputs"], *result["outputs"])] == [[1, 6], [1, 3]]
    assert len(result["samples_ns"]) == 12
    assert all(sample > 0 for sample in [result["load_us"], *result["samples_ns"]])


def test_the_data_sees_swapped_gates():
    x = models.TABLE[random_rows(12)[:, 0]]
    right = lstm_reference(x, lstm_weights()).last_output @ models.HEAD
    for a, b in itertools.combinations("ifco", 2):
        wrong = lstm_reference(x, lstm_weights().swap(a, b)).last_output @ models.HEAD
        assert np.abs(wrong - right).max() > 100 * TOLERANCE


def test_every_row_of_tokens_can_be_said(here, folder):
    import tensorflow as tf

    # The scores are the tokens themselves, so the test sees what MediaPipe feeds.
    path = models.write(
        folder / "echo.tflite", lambda t: {"y": tf.cast(t, tf.float32)}, t=((1, models.LENGTH), "int32")
    )
    tokens = rows([0] * 6, [0, 0, 0, 5, 6, 7], [5, 6], [1, 0, 1, 0, 1, 0], [123456, 2, 2, 2, 3, 9], [9, 8, 7, 6, 5, 4])
    np.testing.assert_array_equal(run(path, t=tokens)["y"], tokens)


def test_negative_scores_are_not_left_out(here, folder):
    import tensorflow as tf

    path = models.write(
        folder / "logits.tflite", lambda t: {"y": 3.5 - tf.cast(t, tf.float32)}, t=((1, models.LENGTH), "int32")
    )
    tokens = rows([9, 8, 7, 6, 5, 4], [1, 9, 2, 8])
    np.testing.assert_array_equal(run(path, t=tokens)["y"], 3.5 - tokens)


def test_one_class_will_do(here, folder):
    import tensorflow as tf

    def function(tokens: Any) -> dict[str, Any]:
        return {"y": tf.sigmoid(tf.reduce_sum(tf.cast(tokens, tf.float32), axis=1, keepdims=True) / 10.0)}

    path = models.write(folder / "one.tflite", function, tokens=((1, models.LENGTH), "int32"))
    tokens = rows([1, 2, 3], [4, 5])
    expected = 1 / (1 + np.exp(-tokens.sum(axis=2, keepdims=True) / 10))
    np.testing.assert_allclose(run(path, tokens=tokens)["y"], expected, rtol=0, atol=TOLERANCE)


def test_a_loop_is_refused_in_its_words(here, folder):
    import tensorflow as tf

    def function(tokens: Any) -> dict[str, Any]:
        start = (0, tf.cast(tokens, tf.float32))
        return {"y": tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2.0), start)[1]}

    path = models.write(folder / "loop.tflite", function, tokens=((1, models.LENGTH), "int32"))
    assert re.search(r"loop\.tflite: mediapipe.* failed: .*single subgraph\.$", message_of(path, tokens=random_rows(2)))


@pytest.mark.parametrize(
    "inputs, has",
    [
        ({"x": (1, 6)}, r"input 'x' float32 \(1, 6\), output 'y' float32 \(1, 6\)"),
        ({"x": ((2, 6), "int32")}, r"input 'x' int32 \(2, 6\), output 'y' int32 \(2, 6\)"),
        ({"x": ((1, 6), "int32"), "z": (1, 6)}, r"input 'x' .*, input 'z' .*, output 'y' .*"),
        ({"x": ((1, None), "int32")}, r"input 'x' int32 \(1, -1\), output 'y' int32 \(1, -1\)"),
    ],
)
def test_what_is_no_text_classifier_is_refused(here, folder, inputs, has):
    path = models.write(folder / "other.tflite", lambda x, z=None: {"y": x + x}, **inputs)
    assert re.search(
        r"other\.tflite: MediaPipe Tasks run text classifiers only: one int32 input of shape \(1, length\) and one "
        rf"float32 output of shape \(1, classes\), sizes fixed\. The file has {has}\.$",
        message_of(path, x=np.zeros((1, 1, 6))),
    )


def test_tokens_that_no_vocabulary_holds_are_refused(here, classifier):
    assert message_of(classifier, tokens=rows([3, -2])).endswith(
        "classifier.tflite: MediaPipe numbers its words from 0, but the tokens hold -2."
    )


def test_wrong_inputs_are_refused(here, classifier):
    assert message_of(classifier, words=random_rows(1)).endswith(
        "classifier.tflite: mediapipe cannot be fed: the inputs are ['tokens'], but ['words'] were given."
    )


def test_a_process_that_takes_too_long_is_stopped(here, classifier):
    # Far less than Python needs to import MediaPipe.
    started, before = time.monotonic(), children_of(os.getpid())
    message = message_of(classifier, 0.1, tokens=random_rows(1))
    assert message.endswith("classifier.tflite: mediapipe was stopped after 0.1 s. Give it fewer calls or more time.")
    assert time.monotonic() - started < 20
    assert children_of(os.getpid()) == before


def test_the_worker_needs_nothing_of_edgelstm():
    source = Path(mediapipe_tasks.__file__).with_name("worker.py").read_text()
    assert "import edgelstm" not in source
    assert "from edgelstm" not in source


def test_without_the_package_it_says_how_to_get_it(monkeypatch, classifier):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(mediapipe_tasks.importlib.util, "find_spec", lambda _: None)
    assert not ENGINES["mediapipe"].is_here()
    with pytest.raises(MissingExtraError, match=r"not installed in .* pip install mediapipe==0\.10\.31;.*=mediapipe="):
        run(classifier, tokens=random_rows(1))


def test_a_python_without_the_package_is_refused(monkeypatch, tmp_path):
    for python in ("/nowhere/python", "/bin/false"):
        monkeypatch.setenv(VARIABLE, f"mediapipe={python}")
        with pytest.raises(
            ModelRunError, match=rf"{VARIABLE}: {python} has no mediapipe\. Install it: {python} -m pip"
        ):
            ENGINES["mediapipe"].version()
    monkeypatch.setenv(VARIABLE, f"mediapipe={sys.executable}")
    assert ENGINES["mediapipe"].is_here()
