"""The contract of a training task: its data, its model, its training and its score.

A task is an object without state: everything that can be chosen is a setting with a default, listed in
`Task.defaults`, and every method takes the same settings by name. Keras is imported when a model is built, not before.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgelstm.converters.loading.keras_import import import_keras

if TYPE_CHECKING:
    import keras

Setting = int | float
Settings = dict[str, Setting]
Array = npt.NDArray[Any]
Predict = Callable[[Array], npt.ArrayLike]
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Data:
    """The three splits of a task.

    Attributes:
        x_train, x_validation, x_test: Model inputs, the first axis counts the examples.
        y_train, y_validation, y_test: Class numbers, int32, shape (examples,).
        extra: What belongs to the data and an app needs or a report shows: vocabulary, label names, texts.
    """

    x_train: Array
    y_train: Array
    x_validation: Array
    y_validation: Array
    x_test: Array
    y_test: Array
    extra: Mapping[str, Any]


class Task(abc.ABC):
    """A training problem.

    Attributes:
        name: Its name in the table of tasks.
        defaults: Every setting with its default: of the data, of the model, and of the training.
    """

    name: ClassVar[str]
    defaults: ClassVar[Mapping[str, Setting]]

    @abc.abstractmethod
    def data(self, seed: int = 0, **settings: Setting) -> Data:
        """Makes or loads the data; the same seed and settings give the same arrays."""

    @abc.abstractmethod
    def build(self, **settings: Setting) -> keras.Model:
        """Builds the compiled, untrained model."""

    def train(self, data: Data, seed: int = 0, progress: Progress | None = None, **settings: Setting) -> keras.Model:
        """Trains a model and keeps the weights of the epoch with the lowest validation loss.

        Sets Keras's global random seed, from which weights, dropout and the order of the examples follow.

        Args:
            data: What `data` returned for the same settings.
            seed: Seed of everything random in the training.
            progress: Called with one line after each epoch.
            **settings: As for `build`, with `epochs`, `batch_size` and `patience` (epochs without improvement).

        Raises:
            ValueError: If a setting is unknown.
        """
        chosen = self.resolve(settings)
        keras = import_keras()
        keras.utils.set_random_seed(seed)
        model = self.build(**chosen)
        stopping = keras.callbacks.EarlyStopping(patience=int(chosen["patience"]), restore_best_weights=True)
        callbacks = [stopping]
        if progress is not None:
            callbacks.append(_epoch_reporter(progress, int(chosen["epochs"])))
        model.fit(
            data.x_train,
            data.y_train,
            validation_data=(data.x_validation, data.y_validation),
            epochs=int(chosen["epochs"]),
            batch_size=int(chosen["batch_size"]),
            callbacks=callbacks,
            verbose=0,
        )
        return model

    def evaluate(self, predict: Predict, data: Data) -> float:
        """Returns the accuracy on the test split of anything that answers with probabilities.

        Args:
            predict: Maps the test inputs to probabilities, shape (n,), (n, 1) or (n, classes).
            data: The task's data.
        """
        return accuracy(predict(data.x_test), data.y_test)

    def resolve(self, settings: Mapping[str, Setting]) -> Settings:
        """Fills up the settings with the defaults.

        Raises:
            ValueError: If a setting is unknown.
        """
        unknown = sorted(set(settings) - set(self.defaults))
        if unknown:
            raise ValueError(
                f"Task {self.name!r} has no setting {unknown[0]!r}. Its settings are {', '.join(self.defaults)}."
            )
        return {**self.defaults, **settings}


def accuracy(probabilities: npt.ArrayLike, labels: Array) -> float:
    """Returns the share of examples whose most probable class is the label, 0 to 1.

    Args:
        probabilities: Of the positive class, shape (n,) or (n, 1), decided at 0.5; or of each class, (n, classes).
        labels: Class numbers, shape (n,).

    Raises:
        ValueError: If the shapes do not fit, no example is there, or a probability is not a finite number.
    """
    values = np.asarray(probabilities)
    if values.ndim not in (1, 2) or len(values) != len(labels) or values.size == 0:
        raise ValueError(
            f"Probabilities of shape {values.shape} do not fit {len(labels)} labels: "
            f"({len(labels)},), ({len(labels)}, 1) or ({len(labels)}, classes) is expected."
        )
    if not np.isfinite(values).all():
        raise ValueError("The probabilities contain NaN or infinity, so no accuracy can be computed from them.")
    if values.ndim == 2 and values.shape[1] > 1:
        decisions = values.argmax(axis=1)
    else:
        decisions = values.reshape(-1) > 0.5
    return float(np.mean(decisions == labels))


def _epoch_reporter(progress: Progress, num_epochs: int) -> Any:
    def report(epoch: int, logs: Mapping[str, float]) -> None:
        progress(
            f"epoch {epoch + 1}/{num_epochs}: loss {logs['loss']:.4f}, validation loss {logs['val_loss']:.4f}, "
            f"validation accuracy {logs['val_accuracy']:.4f}"
        )

    return import_keras().callbacks.LambdaCallback(on_epoch_end=report)
