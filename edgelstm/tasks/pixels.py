"""Pixels: pictures that an LSTM draws, one pixel after the other.

Offline data: the handwritten digits inside scikit-learn, 8 x 8 pixels, black or white; other sources are MNIST,
CIFAR-10 in grey, and a folder of images. An answer is a distribution over the values of a pixel, and the score is bits
per pixel: how long a code of the test pictures would be that the model gives. Lower is better.

Test digits, bits per pixel, with the default settings: `next` reached 0.387, 0.375 and 0.388 with the seeds 0, 1 and 2
(beside 0.56 to 0.57 of independent pixels and 0.58 of pixels that look at four neighbours), `multiscale` 0.423 and
`image` 0.451 with the seed 0 (beside 0.589 of independent pixels and 0.491 of the most similar training digits, for the
lower half). A training takes one to two minutes on two cores. Samples of `next` look like digits, most of them.

`multiscale` is one LSTM that draws both pictures, so that one file on the device needs nothing from outside: first the
small one, then the large one, where each step sees the small one's pixel at the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import SettingError
from edgelstm.tasks.base import OFFLINE, Array, Data, Predict, Setup, Split, Task, Variant
from edgelstm.tasks.drawing import baselines
from edgelstm.tasks.drawing.bits import NOT_ASKED, BitsPerPixel, as_probabilities
from edgelstm.tasks.drawing.canvas import FILE, START, Canvas
from edgelstm.tasks.drawing.images import read_pictures
from edgelstm.tasks.drawing.sampling import Step, draw, grid, png
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range
from edgelstm.training.folders import write_complete

if TYPE_CHECKING:
    import keras

NUM_SAMPLES = 16
NUM_COMPLETED = 8


class PixelsTask(Task):
    """Pictures, one pixel per step.

    Settings: levels is the number of values of a pixel; size the side in pixels that pictures are stretched to, 0 for
    their own (16 for a folder). above lets a step see the pixel above the one to be drawn, beside the one before it.
    num_train limits the training split, 0 takes all of it. shift moves training pictures by up to so many pixels. known
    is the share of rows that are given, for the variant image.
    """

    name = "pixels"
    title = "pictures drawn one pixel after the other"
    objective = BitsPerPixel()
    variants: ClassVar[dict[str, Variant]] = {
        "next": Variant("LSTM that tells the next pixel, row by row"),
        "image": Variant(
            "two LSTMs over the upper rows, the lower rows at once",
            {"layers": 2, "batch_size": 64, "learning_rate": 0.004},
        ),
        "multiscale": Variant("LSTM that draws half the size first, then the picture with that before its eyes"),
    }
    sources: ClassVar[dict[str, str]] = {
        OFFLINE: "8 x 8 handwritten digits of scikit-learn",
        "mnist": "28 x 28 handwritten digits of keras.datasets",
        "cifar10": "32 x 32 photographs of keras.datasets, in grey",
    }
    reads: ClassVar[str] = "a folder with images, sub-folders included"
    defaults: ClassVar[dict[str, Setting]] = {
        "levels": 2,
        "size": 0,
        "above": True,
        "num_train": 0,
        "shift": 0,
        "known": 0.5,
        "units": 96,
        "layers": 1,
        "dropout": 0.1,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 60, "batch_size": 32, "patience": 8, "learning_rate": 0.008}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    def load(self, setup: Setup) -> Data:
        """Reads pictures and makes sequences of them.

        Returns:
            For next and multiscale: input "pixels", what each step sees, float32, shape (n, steps, features), and y,
            the values to be drawn, int32, shape (n, steps); see `Canvas`. For image: input "rows", pixels from 0 to 1
            and -1 where they are not known, float32, shape (n, height, width), and y, shape (n, height, width).

        Raises:
            DataError: If nothing can be learnt from the data.
            SettingError: If a setting has an impossible value.
        """
        pictures, notes = read_pictures(setup)
        height, width = pictures["train"].shape[1:]
        scales = 2 if setup.variant == "multiscale" else 1
        canvas = Canvas(height, width, setup.int("levels"), setup.on("above"), scales)
        known_rows = _known_rows(setup, height) if setup.variant == "image" else 0
        train, validation, test = (
            _with_known_rows(pictures[name], canvas, known_rows) if known_rows else _in_steps(pictures[name], canvas)
            for name in ("train", "validation", "test")
        )
        extra = {"canvas": canvas, "pictures": pictures, "known_rows": known_rows}
        return Data(train, validation, test, files={} if known_rows else {FILE: canvas}, notes=notes, extra=extra)

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model.

        For next and multiscale: what each step sees, shape (batch, steps, features) -> probabilities of its value,
        shape (batch, steps, levels). For image: (batch, height, width) -> (batch, height, width, levels). Two levels
        have one probability, that of 1.
        """
        keras = import_keras()
        layers, canvas, whole = keras.layers, data.extra["canvas"], setup.variant == "image"
        ((name, x_train),) = data.train.x.items()
        num_answers = 1 if canvas.levels == 2 else canvas.levels
        activation = "sigmoid" if canvas.levels == 2 else "softmax"
        x = given = keras.Input(x_train.shape[1:], name=name)
        num_layers = setup.positive("layers")
        for index in range(num_layers):
            last = index == num_layers - 1
            x = layers.LSTM(setup.int("units"), return_sequences=not (whole and last))(x)
            x = layers.Dropout(setup.float("dropout"))(x)
        if not whole:
            value = layers.Dense(num_answers, activation=activation, dtype="float32", name="value")(x)
            return keras.Model(given, value, name=self.name)
        x = layers.Dense(canvas.height * canvas.width * num_answers, dtype="float32", name="picture")(x)
        x = layers.Reshape((canvas.height, canvas.width, num_answers), dtype="float32", name="pixels")(x)
        return keras.Model(given, layers.Activation(activation, dtype="float32", name="value")(x), name=self.name)

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Moves pictures by up to `shift` pixels in each direction; what comes in is black."""
        shift = setup.int("shift")
        if shift < 0:
            raise SettingError(f"The setting 'shift' must not be negative, and {shift} is.")
        if not shift or setup.variant == "image":
            return examples
        canvas = _canvas_of(setup, examples.y.shape[1])
        pictures = canvas.images(examples.y)
        padded = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift)))
        corners = generator.integers(0, 2 * shift + 1, (len(pictures), 2))
        height, width = canvas.height, canvas.width
        moved = [image[y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)]
        return _in_steps(np.stack(moved), canvas)

    def score(self, answers: Array, y: Array, data: Data) -> dict[str, float]:
        """Scores pictures; bits of the small picture of multiscale count for the pixels of the large one."""
        figures = super().score(answers, y, data)
        canvas = data.extra["canvas"]
        share = 1.0 if data.extra["known_rows"] else canvas.num_steps / (canvas.height * canvas.width)
        return {**figures, "bits_per_pixel": share * figures["bits_per_pixel"]}

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores pixels that do not look at others; beside them, pixels that look at four neighbours.

        For image, the training pictures whose upper rows are most similar stand beside them.
        """
        levels, known_rows = data.extra["canvas"].levels, data.extra["known_rows"]
        train, test = data.extra["pictures"]["train"], data.extra["pictures"]["test"]
        answers = {"independent pixels": baselines.independent(train, test, levels)}
        if known_rows:
            answers["most similar pictures"] = baselines.nearest(train, test, levels, known_rows)
        else:
            answers["four neighbours"] = baselines.contexts(train, test, levels)
        y = data.test.y if known_rows else test
        return {name: self.objective.score(answer, y) for name, answer in answers.items()}

    def illustrate(self, predict: Predict, data: Data, setup: Setup, folder: Path) -> list[Path]:
        """Draws samples.png with the model in the folder, as `edgelstm sample` does with a converted one.

        For image, completed.png: in each column what is given, the probabilities, and the true picture.
        """
        if setup.variant == "image":
            return [_draw_completed(predict, data, folder / "completed.png")]
        if not (folder / "model.keras").is_file():
            return []
        begin = _keras_steps(folder / "model.keras")
        samples = draw(data.extra["canvas"], begin, NUM_SAMPLES, count=NUM_SAMPLES, seed=setup.seed, temperature=1.0)
        samples.save(folder / "samples.png")
        return [folder / "samples.png"]


def _canvas_of(setup: Setup, num_steps: int) -> Canvas:
    """The canvas of square pictures with so many steps."""
    scales = 2 if setup.variant == "multiscale" else 1
    side = next(side for side in range(1, num_steps + 1) if _square(setup, side, scales).num_steps == num_steps)
    return _square(setup, side, scales)


def _square(setup: Setup, side: int, scales: int) -> Canvas:
    return Canvas(side, side, setup.int("levels"), setup.on("above"), scales)


def _in_steps(pictures: Array, canvas: Canvas) -> Split:
    values = canvas.values(pictures)
    return Split({"pixels": canvas.inputs(values)}, values)


def _known_rows(setup: Setup, height: int) -> int:
    rows = round(setup.float("known") * height)
    if not 0 < rows < height:
        raise SettingError(
            f"The setting 'known' is {setup.float('known')}, which is {rows} of {height} rows: at least one row must "
            "be known and one unknown."
        )
    return rows


def _with_known_rows(pictures: Array, canvas: Canvas, known_rows: int) -> Split:
    x = pictures.astype(np.float32) / np.float32(canvas.levels - 1)
    x[:, known_rows:] = START
    y = pictures.copy()
    y[:, :known_rows] = NOT_ASKED
    return Split({"rows": x}, y)


def _draw_completed(predict: Predict, data: Data, path: Path) -> Path:
    canvas, known_rows = data.extra["canvas"], data.extra["known_rows"]
    chosen = data.test.take(slice(NUM_COMPLETED))
    true = data.extra["pictures"]["test"][:NUM_COMPLETED] / (canvas.levels - 1)
    probabilities = as_probabilities(np.asarray(predict(chosen.x)))
    given, completed = true.copy(), true.copy()
    given[:, known_rows:] = 0.5
    completed[:, known_rows:] = (probabilities @ np.linspace(0, 1, canvas.levels))[:, known_rows:]
    grey = np.rint(255 * np.concatenate([given, completed, true])).astype(np.uint8)
    content = png(grid(grey, columns=len(true)))
    write_complete(path, lambda file: file.write_bytes(content))
    return path


def _keras_steps(path: Path) -> Callable[[], Step]:
    """Lets a Keras model answer step by step, for `NUM_SAMPLES` pictures at a time."""
    keras = import_keras()
    loaded = keras.models.load_model(path, compile=False)
    model = keras.Model(loaded.inputs[0], loaded.outputs[0])

    def stateful(layer: Any) -> Any:
        config = layer.get_config()
        is_lstm = isinstance(layer, keras.layers.LSTM)
        return type(layer).from_config({**config, "stateful": True} if is_lstm else config)

    given = keras.Input((1, model.inputs[0].shape[2]), batch_size=NUM_SAMPLES, name=model.inputs[0].name)
    stepwise = keras.models.clone_model(model, input_tensors=given, clone_function=stateful)
    stepwise.set_weights(model.get_weights())

    def step(x: Array) -> Array:
        answers: Array = stepwise.predict_on_batch(x[:, np.newaxis])[:, 0]
        return answers

    def begin() -> Step:
        for layer in stepwise.layers:
            if getattr(layer, "stateful", False):
                layer.reset_state()
        return step

    return begin
