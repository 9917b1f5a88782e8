"""Multimodal: a picture and a text, of which neither alone gives the answer.

A small CNN looks at the picture, an LSTM reads the text, and the two are brought together: their features joined
(`concatenate`), each word looking at places of the picture (`attention`), or the text opening and closing channels of
the picture (`gated`).

A good score on the offline pictures is 99 % (docs/tasks.md has measured ones); a picture alone leaves two answers open.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import MissingExtraError, SettingError
from edgelstm.pictures.base import BLUE, ORANGE, new_figure, save_figure
from edgelstm.tasks.base import OFFLINE, SPLITS, Array, Data, Predict, Setup, Split, Task, Variant
from edgelstm.tasks.images.scenes import COLOURS, draw_scene, write_scenes
from edgelstm.tasks.images.table import read_picture_table, split_by_picture
from edgelstm.tasks.linear import class_probabilities, logistic_regression
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range
from edgelstm.tasks.texts.encoding import OWN_VOCABULARY_SIZE, Sizes
from edgelstm.tasks.texts.vocabulary import PADDING, START, UNKNOWN, Vocabulary
from edgelstm.training.folders import write_json

if TYPE_CHECKING:
    import keras

_MIN_SIZE = 8  # pixels; smaller pictures leave the CNN nothing to look at
_MAX_PLACES = 8  # rows and columns of the map that the CNN hands on

_BASELINE_EXAMPLES = 2000  # enough for them, and fitted in seconds

OFFLINE_SIZE, OWN_SIZE = 24, 64
"""Pixels of a picture's side that suit the drawn pictures and the user's."""

OFFLINE_LENGTH, OWN_LENGTH = 16, 40
"""Ids of a text that suit the questions and the user's texts."""


@dataclasses.dataclass(frozen=True)
class PictureFormat:
    """What an app must make of a picture: its size, and how pixels become numbers."""

    size: int

    def save(self, path: Path) -> None:
        """Writes it as JSON. Raises OutputError."""
        write_json(
            path,
            {
                "height": self.size,
                "width": self.size,
                "channels": "RGB",
                "resize": "bilinear, proportions not kept",
                "divide_by": 255,
            },
        )


class MultimodalTask(Task):
    """A class from a picture and a text."""

    name = "multimodal"
    title = "answers from a picture and a text"
    objective = Classification()
    variants: ClassVar[dict[str, Variant]] = {
        "concatenate": Variant("CNN and LSTM 64, features joined"),
        "attention": Variant("each word of an LSTM 64 attends to places of the picture, a second LSTM 64 reads on"),
        "gated": Variant("the text of an LSTM 64 opens and closes channels of the CNN"),
    }
    sources: ClassVar[dict[str, str]] = {OFFLINE: "pictures of coloured shapes with questions, drawn from a seed"}
    reads = "a CSV file with the columns text, image (path relative to the file) and label"
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 6000,
        "num_validation": 800,
        "num_test": 1500,
        "validation_share": 0.1,
        "test_share": 0.2,
        "image_size": 0,
        "vocabulary_size": 2000,
        "length": 0,
        "embedding": 32,
        "filters": 16,
        "units": 64,
        "hidden": 128,
        "dropout": 0.1,
        "noise": 0.0,
        "brightness": 0.0,
        "flip": False,
        "word_dropout": 0.0,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 30, "patience": 12, "learning_rate": 0.002}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    def load(self, setup: Setup) -> Data:
        """Draws scenes, or reads the user's table.

        Returns:
            Inputs "image": float32 from 0 to 1, shape (n, size, size, 3), and "ids": int32, shape (n, length). In
            `extra`: "texts" by split.

        Raises:
            DataError: If the table cannot be read or nothing can be learnt from it.
            SettingError: If a setting is impossible.
        """
        suiting = (OFFLINE_SIZE, OFFLINE_LENGTH) if setup.source.path is None else (OWN_SIZE, OWN_LENGTH)
        size = setup.int("image_size") or suiting[0]
        words = Sizes.of(setup, Sizes(OWN_VOCABULARY_SIZE, suiting[1]))
        if size < _MIN_SIZE:
            raise SettingError(f"The setting 'image_size' must be at least {_MIN_SIZE}, not {size}.")
        _check_variations(setup)
        parts = _offline(setup, size) if setup.source.path is None else _read(setup, setup.source.path, size)
        vocabulary = Vocabulary.from_texts(parts.texts["train"], words.vocabulary_size)
        train, validation, test = (
            Split(
                {
                    "image": parts.pictures[split].astype(np.float32) / 255,
                    "ids": vocabulary.encode(parts.texts[split], words.length),
                },
                parts.y[split],
            )
            for split in SPLITS
        )
        return Data(
            train,
            validation,
            test,
            labels=parts.labels,
            files={"vocabulary.txt": vocabulary, "image.json": PictureFormat(size)},
            notes=parts.notes,
            extra={"texts": parts.texts, "num_words": len(vocabulary)},
        )

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model.

        Returns:
            image, float32, shape (batch, size, size, 3), and ids, int32, shape (batch, length) -> probability of each
            class, shape (batch, classes).
        """
        keras = import_keras()
        image = keras.Input(data.train.x["image"].shape[1:], name="image")
        ids = keras.Input(data.train.x["ids"].shape[1:], dtype="int32", name="ids")
        words = keras.layers.Embedding(data.extra["num_words"], setup.int("embedding"), mask_zero=True, name="words")(
            ids
        )
        fused = {"concatenate": _concatenated, "attention": _attended, "gated": _gated}[setup.variant](
            keras, image, ids, words, setup
        )
        x = keras.layers.Dropout(setup.float("dropout"))(fused)
        answer = keras.layers.Dense(len(data.labels), activation="softmax", dtype="float32", name="answer")(x)
        return keras.Model([image, ids], answer, name="multimodal")

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Varies pictures (noise, brightness, mirror images) and words (unknown ones in between).

        `flip` is wrong where texts speak of left and right.
        """
        image, ids = examples.x["image"], examples.x["ids"]
        each = (len(image), 1, 1, 1)
        if setup.on("flip"):
            image = np.where(generator.random(each) < 0.5, image[:, :, ::-1], image)
        if setup.float("brightness"):
            image = image + generator.uniform(-1, 1, each).astype(np.float32) * setup.float("brightness")
        if setup.float("noise"):
            image = image + generator.standard_normal(image.shape, np.float32) * setup.float("noise")
        if setup.float("word_dropout"):
            dropped = (generator.random(ids.shape) < setup.float("word_dropout")) & ~np.isin(ids, (PADDING, START))
            ids = np.where(dropped, np.int32(UNKNOWN), ids)
        return Split({"image": np.clip(image, 0, 1).astype(np.float32), "ids": ids}, examples.y)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores the most frequent class, words and pairs of words, and coarse pixels (logistic regressions)."""
        train, test, texts = data.train, data.test, data.extra["texts"]
        counts = np.bincount(train.y, minlength=len(data.labels))
        words, pixels = _count_words(texts["train"], texts["test"]), (_coarse(train), _coarse(test))
        answers = {
            "most frequent class": np.tile(counts / counts.sum(), (len(test), 1)),
            "text alone": _regress(*words, train.y, len(data.labels)),
            "picture alone": _regress(*pixels, train.y, len(data.labels)),
        }
        return {name: self.objective.score(values, test.y) for name, values in answers.items()}

    def illustrate(self, predict: Predict, data: Data, setup: Setup, folder: Path) -> list[Path]:
        """Draws examples.png: eight pictures of the test split with their texts, the right and the given answers."""
        shown = data.test.take(slice(0, 8))
        decisions = self.objective.decide(np.asarray(predict(shown.x)))
        figure = new_figure(12, 6.4)
        for index, axes in enumerate(np.ravel(figure.subplots(2, 4))):
            axes.set_axis_off()
            if index >= len(shown):
                continue
            axes.imshow(shown.x["image"][index])
            given, right = (data.labels[int(number)] for number in (decisions[index], shown.y[index]))
            verdict = "" if given == right else f", right: {right}"
            title = f"{_wrapped(data.extra['texts']['test'][index])}\n{given}{verdict}"
            axes.set_title(title, fontsize=9, color=BLUE if given == right else ORANGE)
        path = folder / "examples.png"
        save_figure(figure, path)
        return [path]


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Texts, pictures (uint8) and classes by split."""

    texts: dict[str, list[str]]
    pictures: dict[str, Any]
    y: dict[str, Any]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _check_variations(setup: Setup) -> None:
    if not 0 <= setup.float("word_dropout") < 1:
        raise SettingError(f"The setting 'word_dropout' must be from 0 to below 1, not {setup.float('word_dropout')}.")
    for name in ("noise", "brightness"):
        if setup.float(name) < 0:
            raise SettingError(f"The setting {name!r} must not be negative, and {setup.float(name)} is.")


def _offline(setup: Setup, size: int) -> _Parts:
    texts, pictures, y, labels = {}, {}, {}, tuple(COLOURS)
    for number, split in enumerate(SPLITS):
        scenes = write_scenes(setup.int(f"num_{split}"), setup.seed, split)
        generator = np.random.default_rng((setup.seed, number))
        texts[split] = [scene.question for scene in scenes]
        pictures[split] = np.stack([draw_scene(scene.shapes, size, generator) for scene in scenes])
        y[split] = np.array([labels.index(scene.colour) for scene in scenes], np.int32)
    return _Parts(texts, pictures, y, labels)


def _read(setup: Setup, path: Path, size: int) -> _Parts:
    shares = setup.float("validation_share"), setup.float("test_share")
    if min(shares) <= 0 or sum(shares) >= 1:
        raise SettingError(
            f"The settings 'validation_share' and 'test_share' are {shares[0]} and {shares[1]}: "
            "both must be above 0, and together below 1."
        )
    table = read_picture_table(path, size)
    rows = split_by_picture(path, table.labels, table.sources, shares, setup.seed)
    labels = tuple(sorted(set(table.labels)))
    y = np.array([labels.index(label) for label in table.labels], np.int32)
    return _Parts(
        {split: [table.texts[row] for row in numbers] for split, numbers in rows.items()},
        {split: table.pictures[numbers] for split, numbers in rows.items()},
        {split: y[numbers] for split, numbers in rows.items()},
        labels,
        table.notes,
    )


def _map(keras: Any, image: Any, setup: Setup) -> Any:
    """The CNN: convolutions, each halving the sides, until at most 8 x 8 places are left."""
    layers, x, filters = keras.layers, image, setup.int("filters")
    while max(x.shape[1:3]) > _MAX_PLACES:
        x = layers.MaxPooling2D(padding="same")(_convolve(keras, x, filters))
        filters = min(2 * filters, 4 * setup.int("filters"))
    return _convolve(keras, x, filters)


def _convolve(keras: Any, x: Any, filters: int) -> Any:
    """A convolution of width 3, normalised over the batch; without that the CNN learns nothing for many epochs."""
    layers = keras.layers
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _concatenated(keras: Any, image: Any, ids: Any, words: Any, setup: Setup) -> Any:
    del ids
    layers = keras.layers
    found = _map(keras, image, setup)
    where = layers.Dense(setup.int("hidden"), activation="relu")(layers.Flatten()(found))
    read = layers.LSTM(setup.int("units"))(words)
    x = layers.Concatenate()([where, layers.GlobalMaxPooling2D()(found), read])
    for _ in range(2):
        x = layers.Dense(setup.int("hidden"), activation="relu")(x)
    return x


def _gated(keras: Any, image: Any, ids: Any, words: Any, setup: Setup) -> Any:
    """The text scales the channels of the map (as FiLM does, Perez et al. 2018, without its shift)."""
    del ids
    layers = keras.layers
    read = layers.LSTM(setup.int("units"))(words)
    x = _map(keras, image, setup)
    for _ in range(2):
        channels = x.shape[-1]
        gates = layers.Dense(channels, activation="sigmoid")(read)
        x = layers.Multiply()([x, layers.Reshape((1, 1, channels))(gates)])
        x = _convolve(keras, x, channels)
    seen = layers.Dense(setup.int("hidden"), activation="relu")(layers.Flatten()(x))
    return layers.Dense(setup.int("hidden"), activation="relu")(layers.Concatenate()([seen, read]))


def _attended(keras: Any, image: Any, ids: Any, words: Any, setup: Setup) -> Any:
    """Each word asks the map where it is met; a second LSTM reads the words with what they have met."""
    layers, operations, units = keras.layers, keras.ops, setup.int("units")
    found = _map(keras, image, setup)
    num_places = found.shape[1] * found.shape[2]
    # The numbers of the places, made from the ids because a layer must be fed by an input: 0, 1, 2, ...
    numbers = operations.zeros_like(ids[:, :1]) + operations.arange(num_places, dtype="int32")
    places = layers.Add()(
        [
            layers.Dense(units)(layers.Reshape((num_places, found.shape[3]))(found)),
            layers.Embedding(num_places, units, name="places")(numbers),
        ]
    )
    read = layers.LSTM(units, return_sequences=True)(words)
    met = layers.Attention(use_scale=True, name="look")([layers.Dense(units)(read), places])
    x = layers.Concatenate()([read, met])
    x = layers.LSTM(units)(x, mask=operations.not_equal(ids, PADDING))
    return layers.Dense(setup.int("hidden"), activation="relu")(x)


def _count_words(train: Sequence[str], test: Sequence[str]) -> tuple[Any, Any]:
    try:
        from sklearn.feature_extraction.text import CountVectorizer
    except ImportError as error:
        raise MissingExtraError('Baselines come from scikit-learn: pip install "edgelstm[train]".') from error
    counts = CountVectorizer(token_pattern=r"[\w']+", ngram_range=(1, 2))
    return counts.fit_transform(train), counts.transform(test)


def _coarse(split: Split) -> Array:
    """Mean colours of at most 8 x 8 parts of each picture, shape (n, parts * 3)."""
    image = split.x["image"]
    step = -(-image.shape[1] // _MAX_PLACES)
    whole = image.shape[1] // step * step
    parts = image[:, :whole, :whole].reshape(len(image), whole // step, step, whole // step, step, 3)
    coarse: Array = parts.mean(axis=(2, 4)).reshape(len(image), -1)
    return coarse


def _regress(train: Any, test: Any, y: Any, num_classes: int) -> Any:
    """Probabilities of a logistic regression, shape (n, classes)."""
    kept = slice(0, _BASELINE_EXAMPLES)
    classifier = logistic_regression(C=0.1, tol=1e-3, max_iter=1000).fit(train[kept], y[kept])
    return class_probabilities(classifier, test, num_classes)


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 36)[:3])
