from __future__ import annotations

import pytest

from edgelstm.errors import EdgeLSTMError, SettingError
from edgelstm.tasks.settings import CHOICES, EXPLANATIONS, TRAINING, resolve
from tests.training.tiny_task import TinyTask


def settings(variant="dense", **given):
    return resolve(TinyTask(), variant, given)


def test_what_is_given_comes_before_the_variant_the_task_and_the_training():
    assert TRAINING["learning_rate"] != 0.01
    assert TRAINING["patience"] == 5
    found = settings("lstm")
    assert (found["units"], found["learning_rate"], found["patience"]) == (4, 0.01, 5)
    assert settings("dense")["units"] == 3
    assert settings("lstm", units=9)["units"] == 9


def test_every_setting_of_a_training_is_explained():
    assert list(EXPLANATIONS) == list(TRAINING)
    assert set(CHOICES) <= set(TRAINING)


@pytest.mark.parametrize(
    "name, text, value",
    [
        ("units", "12", 12),
        ("units", "1e1", 10),
        ("units", 12.0, 12),
        ("learning_rate", "1e-4", 1e-4),
        ("learning_rate", 1, 1.0),
        ("class_weights", "yes", True),
        ("class_weights", "OFF", False),
        ("class_weights", 1, True),
        ("class_weights", True, True),
        ("optimizer", "adamw", "adamw"),
    ],
)
def test_text_is_read_as_the_type_of_the_default(name, text, value):
    found = settings(**{name: text})[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "given, message",
    [
        ({"unit": 3}, r"Task 'tiny' has no setting 'unit'\. Its settings are units, num_train, .*class_weights\."),
        ({"units": "many"}, r"'units' must be a whole number, not 'many'"),
        ({"units": "2.5"}, r"'units' must be a whole number, not '2\.5'"),
        ({"units": True}, r"'units' must be a whole number, not True"),
        ({"units": "inf"}, r"'units' must be a whole number, not 'inf'"),
        ({"units": None}, r"'units' must be a whole number, not None"),
        ({"noise": "nan"}, r"'noise' must be a number, not 'nan'"),
        ({"noise": ""}, r"'noise' must be a number, not ''"),
        ({"class_weights": "maybe"}, r"'class_weights' must be true or false, not 'maybe'"),
        ({"class_weights": 2}, r"'class_weights' must be true or false, not 2"),
        ({"optimizer": "sgd"}, r"'optimizer' must be one of adam, adamw, not 'sgd'"),
        ({"schedule": "step"}, r"'schedule' must be one of constant, plateau, cosine, not 'step'"),
        ({"epochs": 0}, r"'epochs' must be at least 1, not 0"),
        ({"batch_size": -1}, r"'batch_size' must be at least 1, not -1"),
        ({"patience": -1}, r"'patience' must not be negative, and -1 is"),
        ({"learning_rate": -0.1}, r"'learning_rate' must not be negative, and -0\.1 is"),
        ({"learning_rate": 0}, r"'learning_rate' must not be 0: nothing would be learnt"),
        ({"clipnorm": 1, "clipvalue": 1}, r"'clipnorm' and 'clipvalue' exclude each other: set one of them to 0"),
        ({"weight_decay": 0.1}, r"'weight_decay' is used by adamw alone: set optimizer=adamw as well"),
    ],
)
def test_what_is_wrong_is_refused(given, message):
    with pytest.raises(SettingError, match=message) as refused:
        settings(**given)
    assert isinstance(refused.value, EdgeLSTMError)
    assert isinstance(refused.value, ValueError)


def test_weight_decay_goes_with_adamw():
    assert settings(optimizer="adamw", weight_decay="0.1")["weight_decay"] == 0.1
