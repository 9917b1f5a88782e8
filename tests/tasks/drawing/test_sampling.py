"""Drawing on the file: what it says pixel after pixel is what Keras says about the whole picture."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest

import edgelstm
from edgelstm.cli import main
from edgelstm.errors import LoadError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.drawing.canvas import Canvas
from edgelstm.tasks.drawing.sampling import GAP, draw, draw_samples, grid, png
from edgelstm.training.runs import build_model

TOLERANCE = 1e-5  # of a probability: float32 sums in another order, carried through up to 45 steps

CASES = {"next": {}, "multiscale": {}, "next-4-levels": {"levels": 4, "layers": 2, "above": False}}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Keras models whose answers depend strongly on what they see, and their streaming files, by case."""
    task, cases = load_task("pixels"), {}
    for name, settings in CASES.items():
        folder = tmp_path_factory.mktemp(name)
        setup = task.setup(name.split("-")[0], settings={"units": 12, "size": 6, **settings})
        data = task.data(setup)
        model = build_model(task, setup, data)
        generator = np.random.default_rng(3)
        model.set_weights([generator.normal(0, 1.2, weight.shape) for weight in model.get_weights()])
        model.save(folder / "model.keras")
        data.files["canvas.json"].save(folder / "canvas.json")
        edgelstm.convert(folder / "model.keras", folder / "p.tflite", streaming=True)
        cases[name] = (model, folder)
    return cases


def with_all_levels(answers):
    return np.concatenate([1 - answers, answers], axis=-1) if answers.shape[-1] == 1 else answers


@pytest.mark.parametrize("name", CASES)
def test_probabilities_while_drawing_are_those_of_keras_for_the_whole_picture(drawn, name):
    model, folder = drawn[name]
    samples = draw_samples(folder, folder / "p.tflite", count=5, seed=1)
    canvas = Canvas.load(folder / "canvas.json")
    expected = with_all_levels(model.predict(canvas.inputs(samples.values), verbose=0))
    np.testing.assert_allclose(samples.probabilities, expected, rtol=0, atol=TOLERANCE)
    # States that were not reset between pictures would be seen, as would inputs that are one step late.
    assert expected.std(axis=0).max() > 100 * TOLERANCE
    late = np.roll(canvas.inputs(samples.values), 1, axis=1)
    assert np.abs(with_all_levels(model.predict(late, verbose=0)) - expected).max() > 100 * TOLERANCE


def test_a_seed_is_a_picture_however_many_are_drawn(drawn):
    _, folder = drawn["next"]
    one, two, other = (
        draw_samples(folder, folder / "p.tflite", count=count, seed=seed).images
        for count, seed in ((4, 0), (2, 0), (4, 1))
    )
    np.testing.assert_array_equal(one[:2], two)
    assert (one != other).any()
    assert len(np.unique(one.reshape(4, -1), axis=0)) == 4


def test_temperature_0_draws_the_most_probable_pixels(drawn):
    _, folder = drawn["next-4-levels"]
    samples = draw_samples(folder, folder / "p.tflite", count=2, temperature=0)
    np.testing.assert_array_equal(samples.values, samples.probabilities.argmax(axis=-1))
    np.testing.assert_array_equal(samples.images[0], samples.images[1])


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_values_are_as_frequent_as_their_probabilities_at_a_temperature(temperature):
    probabilities = np.array([0.1, 0.0, 0.3, 0.6])
    canvas = Canvas(10, 100, 4, above=False, scales=1)
    samples = draw(
        canvas, lambda: lambda x: np.tile(probabilities, (len(x), 1)), 8, count=20, seed=0, temperature=temperature
    )
    expected = probabilities ** (1 / temperature)
    shares = np.bincount(samples.values.ravel(), minlength=4) / samples.values.size
    # 20,000 draws: a standard deviation of at most 0.0036.
    np.testing.assert_allclose(shares, expected / expected.sum(), rtol=0, atol=0.015)
    assert shares[1] == 0


def test_drawing_needs_no_tensorflow(drawn, tmp_path):
    _, folder = drawn["next"]
    code = (
        "import pathlib, sys\n"
        "from edgelstm.tasks.drawing.sampling import draw_samples\n"
        "folder, file, picture = map(pathlib.Path, sys.argv[1:])\n"
        "draw_samples(folder, file, count=1).save(picture)\n"
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'PIL', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    arguments = [str(path) for path in (folder, folder / "p.tflite", tmp_path / "s.png")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "s.png").is_file()


def test_the_command_draws_a_grid(drawn, tmp_path, capsys):
    from PIL import Image

    _, folder = drawn["next"]
    arguments = ["sample", str(folder), str(folder / "p.tflite"), "-o", str(tmp_path / "s.png"), "--count", "3"]
    assert main([*arguments, "--seed", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 3
    images = draw_samples(folder, folder / "p.tflite", count=3, seed=5).images
    pixels = np.asarray(Image.open(tmp_path / "s.png"))
    np.testing.assert_array_equal(pixels, grid((images * 255).astype(np.uint8)))
    assert main(arguments) == 0
    assert "3 pictures, 6 x 6 pixels, 36 steps each" in capsys.readouterr().out


def test_the_picture_in_a_run_is_drawn_by_its_keras_model(drawn, tmp_path):
    from edgelstm.tasks.drawing.sampling import Samples

    task, (_, folder) = load_task("pixels"), drawn["multiscale"]
    setup = task.setup("multiscale", settings={"units": 12, "size": 6})
    (path,) = task.illustrate(lambda x: x, task.data(setup), setup, folder)
    samples: Samples = draw_samples(folder, folder / "p.tflite", count=16, seed=0)
    samples.save(tmp_path / "s.png")
    assert path.read_bytes() == (tmp_path / "s.png").read_bytes()


def test_files_that_do_not_draw_are_refused(drawn, tmp_path):
    model, folder = drawn["next"]
    edgelstm.convert(model, tmp_path / "whole.tflite")
    with pytest.raises(LoadError, match="drawing needs one step at a time: convert it with --streaming"):
        draw_samples(folder, tmp_path / "whole.tflite")
    with pytest.raises(LoadError, match="is no file of this run with one step per call"):
        draw_samples(folder, drawn["multiscale"][1] / "p.tflite")
    with pytest.raises(LoadError, match=r"canvas.json cannot be read .* variant next or multiscale"):
        draw_samples(tmp_path, folder / "p.tflite")


@pytest.mark.parametrize(
    "settings, message",
    [({"count": 0}, "count is 0"), ({"temperature": -1.0}, "temperature is -1.0"), ({"temperature": np.nan}, "is nan")],
)
def test_impossible_wishes_are_refused(settings, message):
    chosen = {"count": 1, "seed": 0, "temperature": 1.0, **settings}
    with pytest.raises(SettingError, match=message):
        draw(Canvas(2, 2, 2, above=False, scales=1), lambda: lambda x: x, 1, **chosen)


def test_a_png_is_read_as_it_was_written():
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (7, 11), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)


def test_a_grid_holds_each_picture_once():
    pictures = np.arange(3, dtype=np.uint8)[:, np.newaxis, np.newaxis] * np.ones((1, 64, 64), np.uint8)
    large = grid(pictures)
    assert large.shape == (2 * 68, 2 * 68)
    assert [large[2 + 68 * row, 2 + 68 * column] for row in (0, 1) for column in (0, 1)] == [0, 1, 2, GAP]
