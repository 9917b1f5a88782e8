"""Settings: those that every training has, and how given ones are read and filled up with defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgelstm.errors import SettingError

if TYPE_CHECKING:
    from edgelstm.tasks.base import Task

Setting = bool | int | float | str
Settings = dict[str, Setting]

TRAINING: dict[str, Setting] = {
    "epochs": 20,
    "batch_size": 64,
    "patience": 5,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "clipnorm": 0.0,
    "clipvalue": 0.0,
    "schedule": "constant",
    "l2": 0.0,
    "mixed_precision": False,
    "truncate": 0,
    "class_weights": False,
}
"""Settings of every training."""

EXPLANATIONS = {
    "epochs": "Passes over the training split, at most.",
    "batch_size": "Examples in one step.",
    "patience": "Epochs without a lower validation loss after which training stops; 0 never stops early.",
    "optimizer": "adam or adamw.",
    "learning_rate": "Of the first step.",
    "weight_decay": "Share of a weight that is taken off in a step, times the learning rate; adamw alone (0.004 if 0).",
    "clipnorm": "Largest global norm of the gradients; 0 for no limit.",
    "clipvalue": "Largest absolute value in a gradient; 0 for no limit.",
    "schedule": "constant; cosine, down to 0 at the end; plateau, halved after patience / 2 epochs without progress.",
    "l2": "Factor of the sum of squares of kernels in the loss.",
    "mixed_precision": "Compute in float16 with weights in float32; only GPUs gain from it.",
    "truncate": "Time steps after which gradients are cut off while states go on; 0 for the whole sequence.",
    "class_weights": "Weigh examples so that all classes count alike.",
}
"""What each of them is."""

CHOICES = {"optimizer": ("adam", "adamw"), "schedule": ("constant", "plateau", "cosine")}
_AT_LEAST_ONE = ("epochs", "batch_size")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def resolve(task: Task, variant: str, given: Mapping[str, Any]) -> Settings:
    """Fills up given settings with the defaults of the variant, the task and the training.

    Args:
        task: The task.
        variant: Name of one of its variants.
        given: Values by name; text is read as the type of the default.

    Raises:
        SettingError: If a setting is unknown, its value is not of its type or out of its range, or settings exclude
            each other.
    """
    defaults = {**task.defaults, **TRAINING, **task.training, **task.variants[variant].settings}
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise SettingError(f"Task {task.name!r} has no setting {unknown[0]!r}. Its settings are {', '.join(defaults)}.")
    settings = {**defaults, **{name: _read(name, value, defaults[name]) for name, value in given.items()}}
    _check(settings)
    return settings


def _read(name: str, value: Any, default: Setting) -> Setting:
    """The value of a setting, in the type of its default."""
    try:
        if isinstance(default, bool):
            return value if isinstance(value, bool) else _WORDS[str(value).lower()]
        if isinstance(value, bool):
            raise TypeError
        if isinstance(default, int):
            number = float(value)
            if number != int(number):
                raise ValueError
            return int(number)
        if isinstance(default, float):
            number = float(value)
            if not math.isfinite(number):
                raise ValueError
            return number
    except (KeyError, TypeError, ValueError, OverflowError):
        kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise SettingError(f"The setting {name!r} must be {kind}, not {value!r}.") from None
    return str(value)


def _check(settings: Settings) -> None:
    for name, value in settings.items():
        if name in CHOICES and value not in CHOICES[name]:
            raise SettingError(f"The setting {name!r} must be one of {', '.join(CHOICES[name])}, not {value!r}.")
        if name in _AT_LEAST_ONE and int(value) < 1:
            raise SettingError(f"The setting {name!r} must be at least 1, not {value}.")
        if name in TRAINING and not isinstance(value, str) and value < 0:
            raise SettingError(f"The setting {name!r} must not be negative, and {value} is.")
    if settings["learning_rate"] == 0:
        raise SettingError("The setting 'learning_rate' must not be 0: nothing would be learnt.")
    if settings["clipnorm"] and settings["clipvalue"]:
        raise SettingError("The settings 'clipnorm' and 'clipvalue' exclude each other: set one of them to 0.")
    if settings["weight_decay"] and settings["optimizer"] != "adamw":
        raise SettingError("The setting 'weight_decay' is used by adamw alone: set optimizer=adamw as well.")
