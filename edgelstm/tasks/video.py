"""Video: what happens in a short clip?

Offline data: `edgelstm.tasks.clips.moving_shapes`, made from a seed. Other data: folders of the user's, as
`edgelstm.tasks.clips.folders` tells. A CNN turns each frame into features, an LSTM reads the features of all frames:

    lstm, bidirectional, attention   the CNN is frozen. Its features are computed once; the model reads features, and
                                     the CNN lies beside it as features.keras, to be run on each frame
    end_to_end                       the CNN is part of the model, which reads frames, and is trained along

A good score is 80 % (docs/tasks.md has measured ones). Logistic regressions that do not know the order of the frames
stay below 30 %; chance is 12.5 %. What costs most is growing beside shrinking, which the frozen CNN's map hardly tells.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import SettingError
from edgelstm.tasks.base import OFFLINE, Array, Data, Setup, Split, Task, Variant
from edgelstm.tasks.clips.data import CLIP, FEATURES, load_clips
from edgelstm.tasks.clips.frame_cnn import IMAGENET, SMALL, build_cnn
from edgelstm.tasks.linear import class_probabilities, logistic_regression
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range

if TYPE_CHECKING:
    import keras

END_TO_END = "end_to_end"

_LEAST = {"num_train": 8, "num_validation": 8, "num_test": 8, "frames": 2, "size": 16, "every": 0, "clips_per_class": 0}


class VideoTask(Task):
    """Classes of short clips.

    Settings: frames is how many frames of a clip are read, size the side in pixels that they are stretched to, every
    takes every so many-th frame from the middle of a clip of the user's (0 spreads them over the whole clip). cnn is
    small, efficientnetb0 or resnet50, with weights imagenet, random, or the path of a file; train_cnn trains it along
    in the variant end_to_end. cache is the folder that keeps features, by default below the user's own cache folder;
    off keeps none. fold chooses among UCF101's lists; clips_per_class limits the user's clips in each split, 0 takes
    all. temporal_crop reads a random part of a training clip, shorter by up to this share, slowed down to full length.
    flip mirrors training clips from left to right, which must not change their class.
    """

    name = "video"
    title = "classes of short clips"
    objective = Classification()
    variants: ClassVar[dict[str, Variant]] = {
        "lstm": Variant("frozen CNN, LSTM 256, dense 512"),
        "bidirectional": Variant("frozen CNN, LSTM 256 in both directions, dense 512"),
        "attention": Variant("frozen CNN, LSTM 256 whose steps are weighed by attention, dense 512"),
        END_TO_END: Variant("CNN trained along with LSTM 256 and dense 512, in one model"),
    }
    sources: ClassVar[dict[str, str]] = {OFFLINE: "moving shapes drawn from a seed, 32 x 32 pixels"}
    reads = (
        "a folder with one sub-folder for each class, of videos, .npy files (frames, height, width, 3) or folders of "
        "images; UCF101 with its lists; Kinetics with its tables"
    )
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 3000,
        "num_validation": 300,
        "num_test": 400,
        "frames": 16,
        "size": 32,
        "every": 1,
        "cnn": SMALL,
        "weights": IMAGENET,
        "train_cnn": True,
        "cache": "",
        "fold": 1,
        "clips_per_class": 0,
        "units": 256,
        "dense": 512,
        "dropout": 0.3,
        "temporal_crop": 0.0,
        "flip": False,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 15, "batch_size": 32, "patience": 5, "learning_rate": 0.002}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    def load(self, setup: Setup) -> Data:
        """Draws or reads clips, and computes the features of their frames.

        Returns:
            Input "features", float32, shape (n, frames, features), or in the variant "end_to_end" input "clip", red,
            green and blue from 0 to 255, float32, shape (n, frames, size, size, 3).

        Raises:
            DataError: If clips or weights cannot be found or read, or nothing can be learnt from them.
            MissingExtraError: If what reads them is not installed.
            SettingError: If a setting is impossible.
        """
        for name, least in _LEAST.items():
            if setup.int(name) < least:
                raise SettingError(f"{name}={setup.int(name)}: must be at least {least}.")
        for name, allowed in {"fold": setup.int("fold") in (1, 2, 3), "temporal_crop": 0 <= _crop(setup) < 1}.items():
            if not allowed:
                limits = "1, 2 or 3" if name == "fold" else "at least 0 and less than 1"
                raise SettingError(f"{name}={setup.settings[name]}: must be {limits}.")
        return load_clips(setup, as_features=setup.variant != END_TO_END)

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Crops clips in time, and mirrors half of them if `flip` is on.

        Mirrored clips stand in the training split already where the model reads features.
        """
        ((name, x),) = examples.x.items()
        if _crop(setup):
            x = crop_in_time(x, generator, _crop(setup))
        if name == CLIP and setup.on("flip"):
            mirrored = generator.random(len(x)) < 0.5
            x = np.where(mirrored[:, np.newaxis, np.newaxis, np.newaxis, np.newaxis], x[:, :, :, ::-1], x)
        return Split({name: x}, examples.y)

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: the features or the pixels of a clip -> probability per class, shape (batch, classes)."""
        keras = import_keras()
        layers = keras.layers
        ((name, clips),) = data.train.x.items()
        clip = keras.Input(clips.shape[1:], name=name)
        x = clip
        if setup.variant == END_TO_END:
            trained = setup.on("train_cnn")
            cnn, _ = build_cnn(setup.str("cnn"), setup.str("weights"), setup.int("size"), trained=trained)
            cnn.trainable = trained
            x = layers.TimeDistributed(cnn, name="each_frame")(clip)
        x = _summary(layers, setup, x)
        x = layers.BatchNormalization()(x)
        x = layers.Dropout(setup.float("dropout"))(x)
        x = layers.Dense(setup.int("dense"), activation="relu")(x)
        answer = layers.Dense(len(data.labels), activation="softmax", dtype="float32", name="class")(x)
        return keras.Model(clip, answer, name="video")

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores logistic regressions that do not know the order of the frames; only where there are features."""
        if FEATURES not in data.train.x:
            return {}
        regression = logistic_regression(C=0.01, max_iter=200)
        pipeline, preprocessing = (import_module(f"sklearn.{part}") for part in ("pipeline", "preprocessing"))
        middle = data.train.x[FEATURES].shape[1] // 2
        ways: dict[str, Callable[[Array], Array]] = {
            "the frame in the middle": lambda x: x[:, middle],
            "the mean of all frames": lambda x: x.mean(axis=1),
        }
        scores = {}
        for name, summary in ways.items():
            model = pipeline.make_pipeline(preprocessing.StandardScaler(), regression)
            model.fit(summary(data.train.x[FEATURES]), data.train.y)
            answers = class_probabilities(model, summary(data.test.x[FEATURES]), len(data.labels))
            scores[name] = self.objective.score(answers, data.test.y)
        return scores


def crop_in_time(clips: Array, generator: np.random.Generator, largest: float) -> Array:
    """Cuts a part out of each clip and repeats frames until it is as long as before.

    Args:
        clips: Shape (n, frames, ...).
        generator: Chooses the parts.
        largest: Share of a clip that is cut off, at most.

    Returns:
        A copy of the same shape.
    """
    count, frames = clips.shape[:2]
    lengths = generator.integers(max(1, frames - int(frames * largest)), frames + 1, count)
    starts = generator.integers(0, frames - lengths + 1)
    steps = np.arange(frames) * lengths[:, np.newaxis] // frames
    cropped: Array = clips[np.arange(count)[:, np.newaxis], starts[:, np.newaxis] + steps]
    return cropped


def _summary(layers: Any, setup: Setup, x: Any) -> Any:
    """What an LSTM makes of all frames, shape (batch, units) or twice as many."""
    units = setup.int("units")
    if setup.variant == "bidirectional":
        return layers.Bidirectional(layers.LSTM(units))(x)
    if setup.variant != "attention":
        return layers.LSTM(units)(x)
    steps = layers.LSTM(units, return_sequences=True)(x)
    weights = layers.Softmax(axis=1, name="attention")(layers.Dense(1, name="relevance")(steps))
    return layers.Flatten()(layers.Dot(axes=1, name="weighted_sum")([weights, steps]))


def _crop(setup: Setup) -> float:
    return setup.float("temporal_crop")
