"""Hybrid: a transformer gives each word its features, an LSTM 128 reads them.

The encoder is a small one made here, which learns from the training texts without their labels before it is frozen; a
Keras file of the user's; or a preset of KerasHub (`edgelstm.tasks.texts.encoders`). Offline data are the notes of the
task `topic`: which words stand beside each other tells much of topics, so an encoder can learn it without labels.
A good score is 98 % (docs/tasks.md has measured ones).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import SettingError
from edgelstm.tasks.base import OFFLINE, Data, Setup, Split, Variant
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range
from edgelstm.tasks.text import IMDB, TextTask
from edgelstm.tasks.texts.encoders import SMALL, Preset, build_small, pretrain, read_encoder
from edgelstm.tasks.texts.encoding import (
    IDS,
    TEXT_SETTINGS,
    Sizes,
    bag_of_words,
    encode_splits,
    make_data,
    notes_on_words,
)
from edgelstm.tasks.texts.loading import load_classes
from edgelstm.tasks.texts.task import WordsTask
from edgelstm.tasks.texts.topics import SYNONYMS
from edgelstm.tasks.texts.vocabulary import PADDING, Vocabulary
from edgelstm.tasks.topic import TopicTask

if TYPE_CHECKING:
    import keras


class HybridTask(WordsTask):
    """Classes of texts, read by an LSTM through a transformer."""

    name = "hybrid"
    title = "texts through a transformer and an LSTM"
    objective = Classification()
    variants: ClassVar[dict[str, Variant]] = {
        "frozen": Variant("frozen encoder, LSTM 128"),
        "tuned": Variant(
            "encoder trained along, LSTM 128",
            # What the frozen encoder takes would wash out what it has learnt before.
            {"freeze": False, "learning_rate": 0.001, "epochs": 20, "patience": 6},
        ),
        "bidirectional": Variant("frozen encoder, LSTM 128 in both directions"),
    }
    sources: ClassVar[dict[str, str]] = {
        OFFLINE: "short notes on ten topics written from a seed",
        IMDB: "50,000 film reviews (keras.datasets.imdb)",
    }
    reads = "a folder with a sub-folder of .txt files for each class, or a CSV file with texts and labels"
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 5000,
        "num_validation": 500,
        "num_test": 1000,
        **TEXT_SETTINGS,
        "label_column": "label",
        "encoder": SMALL,
        "freeze": True,
        "encoder_width": 64,
        "encoder_heads": 4,
        "encoder_blocks": 1,
        "pretrain_epochs": 6,
        "units": 128,
        "dropout": 0.2,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 10, "patience": 3, "learning_rate": 0.003}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    offline_sizes = TopicTask.offline_sizes

    def load(self, setup: Setup) -> Data:
        """Writes or reads the texts and encodes them as the encoder needs it.

        Returns:
            Input "ids": int32, shape (n, length); y: number of the class, int32, shape (n,). In `extra`: "texts" by
            split, "num_words" and "padding" (the id of padding).

        Raises:
            DataError: If texts or the encoder cannot be read.
            MissingExtraError: If the encoder is a preset and KerasHub is not installed.
            SettingError: If a setting is impossible.
        """
        _check(setup)
        sizes = self.sizes(setup)
        data = _texts(setup, sizes)
        texts = data.extra.get("texts") or _decoded(data)
        encoder = setup.str("encoder")
        if encoder == SMALL:
            words = {"num_words": len(_vocabulary(data)), "padding": PADDING}
            return dataclasses.replace(data, extra={**data.extra, **words, "texts": texts})
        if _is_file(encoder):
            return _for_file(Path(encoder), data, texts, setup, sizes)
        return _for_preset(encoder, data, texts, setup, sizes)

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model; the small encoder learns from the training texts first.

        Returns:
            ids, int32, shape (batch, length) -> probability of each class, shape (batch, classes).
        """
        keras = import_keras()
        layers = keras.layers
        ids = keras.Input(data.train.x[IDS].shape[1:], dtype="int32", name=IDS)
        features = layers.Dropout(setup.float("dropout"))(_features(ids, setup, data))
        reader = layers.LSTM(setup.int("units"))
        if setup.variant == "bidirectional":
            reader = layers.Bidirectional(reader)
        # The mask is made from the ids, because an encoder need not hand one on.
        x = reader(features, mask=keras.ops.not_equal(ids, data.extra["padding"]))
        x = layers.Dropout(setup.float("dropout"))(x)
        label = layers.Dense(len(data.labels), activation="softmax", dtype="float32", name="label")(x)
        return keras.Model(ids, label, name="hybrid")

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores a logistic regression on the counts of words."""
        answers = bag_of_words(data.train, data.test)
        if answers.shape[1] == 1:
            answers = np.concatenate([1 - answers, answers], axis=1)
        return {"bag_of_words": self.objective.score(answers, data.test.y)}


def _features(ids: Any, setup: Setup, data: Data) -> Any:
    encoder, frozen = setup.str("encoder"), setup.on("freeze")
    if encoder != SMALL and not _is_file(encoder):
        return Preset(encoder).features(ids, data.extra["padding"], frozen=frozen)
    if encoder == SMALL:
        model = build_small(setup, data.extra["num_words"], ids.shape[1])
        pretrain(model, data.train.x[IDS], data.extra["num_words"], setup)
    else:
        model = read_encoder(Path(encoder)).model
    model.trainable = not frozen
    return model(ids, training=False) if frozen else model(ids)


def _check(setup: Setup) -> None:
    if setup.int("pretrain_epochs") < 0:
        raise SettingError(f"The setting 'pretrain_epochs' must be 0 or more, not {setup.int('pretrain_epochs')}.")
    if not setup.str("encoder"):
        raise SettingError(f"The setting 'encoder' is empty: give {SMALL!r}, a .keras file or a preset of KerasHub.")


def _is_file(encoder: str) -> bool:
    return Path(encoder).suffix.lower() in (".keras", ".h5", ".hdf5") or Path(encoder).is_file()


def _texts(setup: Setup, sizes: Sizes) -> Data:
    """The texts with a vocabulary of their own."""
    if setup.source.path is not None:
        return load_classes(setup, sizes)
    return TopicTask().load(setup) if setup.source.name == OFFLINE else TextTask().load(setup)


def _decoded(data: Data) -> dict[str, list[str]]:
    """Texts of data that come as ids."""
    vocabulary = _vocabulary(data)
    return {name: [vocabulary.decode(row) for row in split.x[IDS]] for name, split in data.splits.items()}


def _vocabulary(data: Data) -> Vocabulary:
    vocabulary = data.files["vocabulary.txt"]
    assert isinstance(vocabulary, Vocabulary)
    return vocabulary


def _for_file(path: Path, data: Data, texts: dict[str, list[str]], setup: Setup, sizes: Sizes) -> Data:
    """The same texts in the vocabulary and the length of an encoder."""
    found = read_encoder(path)
    taken = Sizes(len(found.vocabulary), found.length or sizes.length)
    encoded = make_data(
        encode_splits(texts, found.vocabulary, setup, taken),
        {name: split.y for name, split in data.splits.items()},
        found.vocabulary,
        setup,
        taken,
        SYNONYMS if setup.source.name == OFFLINE else (),
        labels=data.labels,
        extra={**data.extra, "texts": texts, "num_words": len(found.vocabulary), "padding": PADDING},
    )
    return dataclasses.replace(encoded, notes=(*_without_words(data), *notes_on_words(encoded, taken)))


def _without_words(data: Data) -> tuple[str, ...]:
    """Notes without those about a vocabulary that is not used."""
    return tuple(note for note in data.notes if "vocabulary" not in note and "larger length" not in note)


@dataclasses.dataclass(frozen=True)
class _PresetName:
    """What an app needs to know of a preset: whose tokenizer to use, and for how many ids."""

    name: str
    length: int
    padding: int

    def save(self, path: Path) -> None:
        """Writes it as JSON. Raises OutputError."""
        from edgelstm.training.folders import write_json

        write_json(path, {"keras_hub_preset": self.name, "length": self.length, "padding": self.padding})


def _for_preset(name: str, data: Data, texts: dict[str, list[str]], setup: Setup, sizes: Sizes) -> Data:
    """The same texts as a preset's own tokenizer encodes them."""
    for setting in ("word_dropout", "synonyms", "crop"):
        if setup.settings[setting]:
            raise SettingError(f"The setting {setting!r} varies words, and the encoder {name!r} has pieces of words.")
    preset, length = Preset(name), sizes.length
    splits: dict[str, Split] = {}
    padding = PADDING
    for split, some in texts.items():
        ids, padding = preset.encode(list(some), length)
        splits[split] = Split({IDS: ids}, data.splits[split].y)
    return Data(
        splits["train"],
        splits["validation"],
        splits["test"],
        labels=data.labels,
        files={"tokenizer.json": _PresetName(name, length, padding)},
        notes=(*_without_words(data), f"The texts are encoded by the tokenizer of {name!r}: an app must use it too."),
        extra={**data.extra, "texts": texts, "padding": padding},
    )
