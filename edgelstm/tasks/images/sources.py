"""Images with classes: digits of scikit-learn, MNIST, CIFAR-10, and folders of the user's."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import DataError, MissingExtraError
from edgelstm.tasks.base import Array
from edgelstm.tasks.class_folders import find_examples, split_examples
from edgelstm.tasks.images.files import is_image, read_image

DIGITS = tuple(str(digit) for digit in range(10))
CIFAR_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_FILES = {
    "mnist": ("mnist.npz", "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"),
    "cifar10": (
        "cifar-10-batches-py-target/cifar-10-batches-py/ (the unpacked archive)",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
}
_KIND = "images"


@dataclasses.dataclass(frozen=True)
class Images:
    """Images in splits.

    Attributes:
        x: By split, float32 from 0 to 1, shape (n, size, size, channels).
        y: By split, numbers of classes, int32, shape (n,).
        labels: Names of the classes.
        notes: Sentences that the user should know.
    """

    x: dict[str, Array]
    y: dict[str, Array]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def digits_of_scikit_learn(seed: int) -> Images:
    """Splits the 1,797 digits, 8 x 8 pixels, each class alike: 30 % test, and a tenth of the rest validation.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError('The digits come with scikit-learn: pip install "edgelstm[train]".') from error
    digits = load_digits()
    # The images count ink in 16 levels.
    x = (digits.images / 16).astype(np.float32)[..., np.newaxis]
    x_rest, y_rest, x_test, y_test = _split(x, digits.target, 0.3, seed)
    return _images(x_rest, y_rest, x_test, y_test, DIGITS, seed)


def public_images(name: str, seed: int) -> Images:
    """Loads a data set of `keras.datasets`, "mnist" or "cifar10": its own test split, a tenth of the rest validation.

    Raises:
        DataError: If it is neither on disk nor can be downloaded.
    """
    keras = import_keras()
    try:
        (x_rest, y_rest), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        file, address = _FILES[name]
        place = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets" / file
        raise DataError(
            f"The data set {name!r} is not on disk and cannot be downloaded ({error}): put {address} at {place}."
        ) from error
    labels = CIFAR_10 if name == "cifar10" else DIGITS
    return _images(_as_images(x_rest), y_rest.reshape(-1), _as_images(x_test), y_test.reshape(-1), labels, seed)


def images_of_folder(folder: Path, seed: int, size: int, *, color: bool) -> Images:
    """Reads images from one folder per class, as `edgelstm.tasks.class_folders` tells.

    Args:
        folder: The folder.
        seed: Chooses the splits.
        size: Side in pixels that all images are stretched to.
        color: Whether to keep colours.

    Raises:
        DataError: If there is nothing to learn from.
        MissingExtraError: If Pillow is not installed.
    """
    examples, notes = find_examples(folder, is_image, _KIND)
    pixels: dict[Path, Array] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    damaged: list[str] = []
    for example in examples:
        try:
            pixels[example.path], own_size = read_image(example.path, size, color=color)
            sizes[own_size] += 1
        except DataError as error:
            damaged.append(str(error))
    readable = [example for example in examples if example.path in pixels]
    splits, labels, more = split_examples(readable, seed, _KIND)
    empty = [split for split, own in splits.items() if not own]
    if empty:
        raise DataError(f"None of the images in {folder} that can be read is for the {empty[0]} split.")
    return Images(
        {split: np.stack([pixels[e.path] for e in own]).astype(np.float32) / 255 for split, own in splits.items()},
        {split: np.array([labels.index(e.label) for e in own], np.int32) for split, own in splits.items()},
        labels,
        (*notes, *more, *_notes_on_sizes(sizes, size), *notes_on_damage(damaged)),
    )


def _notes_on_sizes(sizes: Counter[tuple[int, int]], size: int) -> list[str]:
    others = {own: count for own, count in sizes.items() if own != (size, size)}
    if not others:
        return []
    (width, height), _ = Counter(others).most_common(1)[0]
    return [
        f"{sum(others.values())} images of other sizes ({width} x {height} most often) were stretched to "
        f"{size} x {size} pixels: an app must do the same."
    ]


def notes_on_damage(damaged: list[str]) -> list[str]:
    """Says how many images could not be read, and why the first of them."""
    return [f"{len(damaged)} images were left out. {damaged[0]}"] if damaged else []


def _as_images(x: Array) -> Array:
    images: Array = (x if x.ndim == 4 else x[..., np.newaxis]).astype(np.float32) / 255
    return images


def _images(x_rest: Array, y_rest: Array, x_test: Array, y_test: Array, labels: tuple[str, ...], seed: int) -> Images:
    x_train, y_train, x_validation, y_validation = _split(x_rest, y_rest, 0.1, seed)
    return Images(
        {"train": x_train, "validation": x_validation, "test": x_test},
        {
            "train": y_train.astype(np.int32),
            "validation": y_validation.astype(np.int32),
            "test": y_test.astype(np.int32),
        },
        labels,
    )


def _split(x: Array, y: Array, share: float, seed: int) -> tuple[Any, Any, Any, Any]:
    """Keeps a share of each class apart: (x, y) of the rest, then (x, y) of the share."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise MissingExtraError('Splits are made with scikit-learn: pip install "edgelstm[train]".') from error
    x_rest, x_apart, y_rest, y_apart = train_test_split(x, y, test_size=share, random_state=seed, stratify=y)
    return x_rest, y_rest, x_apart, y_apart
