"""Rows: what is in an image, read as a sequence of rows, columns or patches?

Offline data: the 1,797 handwritten digits inside scikit-learn, 8 rows of 8 pixels. The images are not padded, so
nothing is masked. Other sources: MNIST, CIFAR-10, and a folder of images with one sub-folder for each class.

A good score is 98 % (docs/tasks.md has measured ones); the nearest mean image is right for 90 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import SettingError
from edgelstm.tasks.base import OFFLINE, Array, Data, Setup, Split, Task, Variant
from edgelstm.tasks.images.sequences import to_images, to_sequence, vary
from edgelstm.tasks.images.sources import Images, digits_of_scikit_learn, images_of_folder, public_images
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range

if TYPE_CHECKING:
    import keras


class RowsTask(Task):
    """Images, one row of pixels per step.

    Settings: size and color are for folders of the user's (side in pixels that images are stretched to; whether to keep
    colours). planes lets the colour channels follow one another in time instead of standing side by side. num_train
    limits the training split, 0 takes all of it. shift and flip vary training images: moved by up to so many pixels,
    half of them mirrored.
    """

    name = "rows"
    title = "images read as a sequence of rows"
    objective = Classification()
    variants: ClassVar[dict[str, Variant]] = {
        "rows": Variant("LSTM 64 over rows"),
        "columns": Variant("LSTM 64 over columns"),
        "bidirectional": Variant("LSTM 64 over rows from the top and from the bottom"),
        "frames": Variant(
            "a CNN on each of nine patches, LSTM 128 over any number of them",
            {"units": 128, "recurrent_dropout": 0.0, "epochs": 40},
        ),
    }
    sources: ClassVar[dict[str, str]] = {
        OFFLINE: "8 x 8 handwritten digits of scikit-learn",
        "mnist": "28 x 28 handwritten digits, MNIST of keras.datasets",
        "cifar10": "32 x 32 colour photographs of ten things, CIFAR-10 of keras.datasets",
    }
    reads = "a folder with one sub-folder of images (PNG, JPEG) for each class"
    defaults: ClassVar[dict[str, Setting]] = {
        "units": 64,
        "dropout": 0.1,
        "recurrent_dropout": 0.1,
        "size": 32,
        "color": False,
        "planes": False,
        "num_train": 0,
        "shift": 0,
        "flip": False,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 80, "batch_size": 32, "patience": 30, "learning_rate": 0.003}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    def load(self, setup: Setup) -> Data:
        """Loads images and cuts them into steps.

        Returns:
            One input, float32 from 0 to 1, as `edgelstm.tasks.images.sequences` tells: "frames", shape
            (n, 9, size / 2, size / 2, channels), in the variant of that name; "columns", shape
            (n, size, size * channels), in that; "rows", of the same shape, in the others.

        Raises:
            DataError: If the images cannot be found or read, or nothing can be learnt from them.
            MissingExtraError: If scikit-learn or Pillow is not installed.
            SettingError: If a setting is impossible.
        """
        _check(setup)
        images = _load_images(setup)
        kind, planes = _kind(setup), setup.on("planes")
        splits = {
            split: Split({kind: to_sequence(x, kind, planes=planes)}, images.y[split]) for split, x in images.x.items()
        }
        limit = setup.int("num_train")
        if 0 < limit < len(splits["train"]):
            order = np.random.default_rng(setup.seed).permutation(len(splits["train"]))
            splits["train"] = splits["train"].take(np.sort(order[:limit]))
        return Data(splits["train"], splits["validation"], splits["test"], labels=images.labels, notes=images.notes)

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Moves images by up to `shift` pixels, and mirrors half of them if `flip` is on."""
        shift, flip = setup.int("shift"), setup.on("flip")
        if not shift and not flip:
            return examples
        kind, planes = _kind(setup), setup.on("planes")
        images = to_images(examples.x[kind], kind, _num_channels(setup), planes=planes)
        varied = vary(images, generator, shift=shift, flip=flip)
        return Split({kind: to_sequence(varied, kind, planes=planes)}, examples.y)

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: the steps of an image -> probability per class, shape (batch, classes).

        The variant "frames" takes any number of patches, shape (batch, steps, height, width, channels).
        """
        keras = import_keras()
        layers = keras.layers
        kind = _kind(setup)
        shape = data.train.x[kind].shape[1:]
        steps = keras.Input((None, *shape[1:]) if kind == "frames" else shape, name=kind)
        lstm = layers.LSTM(
            setup.int("units"), dropout=setup.float("dropout"), recurrent_dropout=setup.float("recurrent_dropout")
        )
        if setup.variant == "bidirectional":
            lstm = layers.Bidirectional(lstm)
        x = lstm(_features_of_patches(layers, steps) if kind == "frames" else steps)
        answer = layers.Dense(len(data.labels), activation="softmax", dtype="float32", name="class")(x)
        return keras.Model(steps, answer, name="rows")

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores the class whose mean training image is nearest."""
        (x_train,), (x_test,) = (tuple(split.x.values()) for split in (data.train, data.test))
        flat, wanted = x_train.reshape(len(x_train), -1), x_test.reshape(len(x_test), -1)
        means = np.stack([_mean(flat[data.train.y == number]) for number in range(len(data.labels))])
        # Of |x - m|^2, the part that differs between classes.
        nearness = wanted @ means.T - 0.5 * np.square(means).sum(axis=1)
        return {"nearest mean image": self.objective.score(nearness, data.test.y)}


def _mean(images: Array) -> Array:
    """The mean image, or one that is far from all if there are none."""
    mean: Array = images.mean(axis=0) if len(images) else np.full(images.shape[1:], 1e3, images.dtype)
    return mean


def _features_of_patches(layers: Any, steps: Any) -> Any:
    each = layers.TimeDistributed
    x = each(layers.Conv2D(32, 3, padding="same", activation="relu"), name="convolution")(steps)
    x = each(layers.MaxPooling2D(2), name="pooling")(x)
    return each(layers.Flatten(), name="flat")(x)


def _kind(setup: Setup) -> str:
    return setup.variant if setup.variant in ("columns", "frames") else "rows"


def _num_channels(setup: Setup) -> int:
    colored = setup.on("color") if setup.source.path is not None else setup.source.name == "cifar10"
    return 3 if colored else 1


def _check(setup: Setup) -> None:
    for name, least in {"size": 4, "num_train": 0, "shift": 0}.items():
        if setup.int(name) < least:
            raise SettingError(f"{name}={setup.int(name)}: must be at least {least}.")
    if setup.variant == "frames":
        if setup.on("planes"):
            raise SettingError("planes=true is for rows and columns: the patches of the variant 'frames' keep colours.")
        if setup.int("size") % 4:
            raise SettingError(f"size={setup.int('size')}: must be a multiple of 4 for the variant 'frames'.")


def _load_images(setup: Setup) -> Images:
    if setup.source.path is not None:
        return images_of_folder(setup.source.path, setup.seed, setup.int("size"), color=setup.on("color"))
    if setup.source.name == OFFLINE:
        return digits_of_scikit_learn(setup.seed)
    return public_images(setup.source.name, setup.seed)
