"""Stages: a Keras model goes in, a smaller or better prepared one comes out, and the one that went in is as it was."""

from __future__ import annotations

import abc
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy.typing as npt

from edgelstm.errors import SettingError

Array = npt.NDArray[Any]
Value = bool | int | float | str


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs and what is to be answered.

    Attributes:
        x: Arrays by input name, each of shape (n, ...).
        y: Shape (n, ...).
    """

    x: dict[str, Array]
    y: Array

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Any) -> Examples:
        """Returns some of the examples: numbers, a mask or a slice."""
        return Examples({name: array[indices] for name, array in self.x.items()}, self.y[indices])


class Workshop(Protocol):
    """What a stage has at hand: examples, and a training loop that goes on after an interruption.

    What a result is judged by in the end, no stage sees.
    """

    @property
    def train(self) -> Examples:
        """Examples to learn from."""

    @property
    def validation(self) -> Examples:
        """Examples to choose by."""

    @property
    def seed(self) -> int:
        """Of everything random."""

    def finetune(
        self,
        model: Any,
        *,
        epochs: int,
        learning_rate: float | None = None,
        keep: str = "best",
        loss: Callable[[Any, Any], Any] | None = None,
        targets: Array | None = None,
        examples: Examples | None = None,
        after_step: Callable[[int, int], None] | None = None,
        name: str = "",
    ) -> None:
        """Trains a model in place on `train`.

        Regularizers and constraints of its variables hold: Keras applies a constraint after every step.

        Args:
            model: Not compiled.
            epochs: Passes over `train`; 0 does nothing.
            learning_rate: None for that of the data.
            keep: "best": ends with the weights of the epoch with the lowest validation loss; "last": with the last.
            loss: Function of (targets, answers), a loss for each example; None for that of the data.
            targets: Instead of the labels of `train` and `validation`, in this order, shape (n train + n validation,
                ...). Examples are then not varied, since targets belong to them as they are.
            examples: To learn from instead of `train`; `targets`, if given, are theirs.
            after_step: Called with (number of the step from 1 on, number of all steps) after each.
            name: Of this training within the stage; where a stage trains twice, they differ.

        Raises:
            EdgeLSTMError: If the loss is no number any more; the model then has the last weights that were good.
        """

    def loss(self, model: Any) -> float:
        """Returns the loss on `validation`."""

    def label_loss(self, targets: Any, answers: Any) -> Any:
        """Returns what answers cost, before any mean over examples: the loss of the data.

        Args:
            targets: Labels, an array or tensor of shape (n, ...).
            answers: A tensor, shape (n, ..., width).

        Returns:
            A tensor that can be differentiated: a loss for each example, or for each of their steps, shape (n, ...).
        """

    def cached(self, name: str, make: Callable[[], Array]) -> Array:
        """Returns an array that was made before, or makes it and keeps it for a later run.

        Args:
            name: Of the array; another one where what it is made of has changed.
            make: Makes it.
        """

    def score(self, model: Any) -> float:
        """Returns the main score on `validation`; more is better (an error comes with a minus)."""

    def report(self, line: str) -> None:
        """Takes a line about what is being done."""

    def with_tokens(self, tokens: Mapping[str, Array]) -> Workshop:
        """Returns the same workshop with other ids: `tokens` has the new id of each old one, by input name."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a stage made.

    Attributes:
        model: A model of its own; it shares no variable with the one that went in.
        notes: Sentences that the user should know: what was left alone, and why.
        figures: What was done, in numbers, for reports.
        tokens: By input name, the new id of each old one, where the ids that an app feeds have changed.
        ranges: What the exporter must know: (least, greatest) value by name of a tensor, of quantization-aware
            training.
    """

    model: Any
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokens: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    ranges: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a stage.

    Attributes:
        default: Its value where none is given; its type is the type of all values.
        help: What it is, half a line.
        low, high: Least and greatest number.
        open: Whether low and high themselves are no values.
        choices: The words that it may be; empty for any.
    """

    default: Value
    help: str
    low: float = -math.inf
    high: float = math.inf
    open: bool = False
    choices: tuple[str, ...] = ()

    def read(self, where: str, value: Any) -> Value:
        """Returns a value, checked.

        Raises:
            SettingError: If it is of another type or out of range; `where` names the setting in the message.
        """
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise SettingError(f"{where} must be {_KINDS[kind]}, not {value!r}.")
        if self.choices and value not in self.choices:
            raise SettingError(f"{where} must be one of {', '.join(self.choices)}, not {value!r}.")
        if isinstance(value, int | float) and not isinstance(value, bool) and not self._in_range(value):
            raise SettingError(f"{where} must be {self._range()}, not {value!r}.")
        checked: Value = value
        return checked

    def _in_range(self, value: float) -> bool:
        return self.low < value < self.high if self.open else self.low <= value <= self.high

    def _range(self) -> str:
        least, most = ("more than", "less than") if self.open else ("at least", "at most")
        return " and ".join(
            f"{word} {bound:g}" for word, bound in ((least, self.low), (most, self.high)) if math.isfinite(bound)
        )


_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean …?" with the known name that is nearest to a wrong one, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class Stage(abc.ABC):
    """One step of a recipe.

    Args:
        **values: Values of settings, by name.

    Raises:
        SettingError: If a setting is unknown or its value is impossible.

    Attributes:
        name: As in recipes and flags.
        title: What it does, half a line.
        settings: What can be chosen.
        values: What was chosen, defaults included.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    settings: ClassVar[Mapping[str, Setting]]

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self.settings:
                raise SettingError(
                    f"Stage {self.name!r} has no setting {name!r}.{nearest(name, self.settings)} "
                    f"It has {', '.join(self.settings)}."
                )
        self.values: dict[str, Value] = {
            name: setting.read(f"Setting {name!r} of stage {self.name!r}", values.get(name, setting.default))
            for name, setting in self.settings.items()
        }

    @abc.abstractmethod
    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns what became of a model, which itself stays as it was.

        Args:
            model: A built Keras model.
            workshop: Examples and a training loop.

        Raises:
            StageError: If the stage does not fit the model.
            EdgeLSTMError: If a training fails.
        """

    def weaker(self) -> Self | None:
        """Returns the stage with settings that change less, for a guard to try next; None where there are none."""
        return None

    def but(self, **values: Any) -> Self:
        """Returns the stage with some other settings."""
        return type(self)(**{**self.values, **values})

    def number(self, name: str) -> float:
        """Returns a setting that is a number."""
        value = self.values[name]
        assert isinstance(value, int | float)
        return value

    def word(self, name: str) -> str:
        """Returns a setting that is a text."""
        return str(self.values[name])
