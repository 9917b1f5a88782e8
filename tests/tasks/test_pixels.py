from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError, LoadError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.drawing.baselines import contexts, independent, nearest
from edgelstm.tasks.drawing.bits import EVEN_SHARE, NOT_ASKED, BitsPerPixel, as_probabilities
from edgelstm.tasks.drawing.canvas import START, Canvas
from edgelstm.tasks.images.sources import Images
from edgelstm.training.runs import build_model


@pytest.fixture(scope="module")
def task():
    return load_task("pixels")


@pytest.fixture(scope="module")
def data(task):
    return {variant: task.data(task.setup(variant)) for variant in task.variants}


CANVASES = [
    Canvas(3, 5, levels, above, scales) for levels, above, scales in ((2, False, 1), (4, True, 1), (4, True, 2))
]


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_a_step_sees_earlier_pixels_only(canvas):
    generator = np.random.default_rng(0)
    values = canvas.values(generator.integers(0, canvas.levels, (2, 3, 5)))
    inputs = canvas.inputs(values)
    for step in range(canvas.num_steps):
        other = values.copy()
        other[:, step:] = canvas.levels - 1 - other[:, step:]
        np.testing.assert_array_equal(canvas.inputs(other)[:, : step + 1], inputs[:, : step + 1])


def test_a_step_sees_the_pixel_before_the_one_above_and_the_small_picture():
    canvas = Canvas(3, 5, 4, above=True, scales=2)
    image = np.array([[[0, 3, 3, 3, 0], [3, 3, 0, 0, 3], [1, 1, 2, 0, 2]]])
    small = np.array([[2, 2, 2], [1, 1, 2]])  # means 2.25, 1.5, 1.5, 1, 1, 2
    values = canvas.values(image)
    np.testing.assert_array_equal(values[0], [*small.ravel(), *image.ravel()])
    np.testing.assert_array_equal(canvas.images(values), image)
    inputs = canvas.inputs(values)[0]
    assert inputs.shape == (6 + 15, 3)
    np.testing.assert_allclose(inputs[:6, 0], [START, 2 / 3, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(inputs[:6, 1], [START, START, START, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_array_equal(inputs[:6, 2], START)
    np.testing.assert_allclose(inputs[6:, 0], [START, *image.ravel()[:-1] / 3], rtol=1e-6)
    np.testing.assert_allclose(inputs[6:, 1], [START] * 5 + list(image.ravel()[:-5] / 3), rtol=1e-6)
    enlarged = [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 2]
    np.testing.assert_allclose(inputs[6:, 2], np.array(enlarged) / 3, rtol=1e-6)


def test_a_canvas_comes_back_from_its_file_and_a_damaged_one_is_refused(tmp_path):
    canvas = CANVASES[2]
    canvas.save(tmp_path / "canvas.json")
    assert Canvas.load(tmp_path / "canvas.json") == canvas
    (tmp_path / "canvas.json").write_text('{"height": 3}', encoding="utf-8")
    with pytest.raises(LoadError, match=r"canvas.json is damaged .*Train anew"):
        Canvas.load(tmp_path / "canvas.json")
    with pytest.raises(LoadError, match="give the folder of edgelstm train pixels"):
        Canvas.load(tmp_path / "missing" / "canvas.json")


def test_offline_pictures_are_black_or_white_and_in_one_split_only(data):
    splits = data["next"].extra["pictures"]
    keys = {name: {image.tobytes() for image in images} for name, images in splits.items()}
    assert not keys["test"] & keys["train"]
    assert not keys["test"] & keys["validation"]
    assert not keys["validation"] & keys["train"]
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [1102, 122, 540]
    assert set(np.unique(splits["test"])) == {0, 1}
    assert data["next"].train.x["pixels"].shape == (1102, 64, 2)
    assert data["multiscale"].train.x["pixels"].shape == (1102, 16 + 64, 3)


def test_the_image_variant_is_asked_for_the_rows_that_it_does_not_see(data):
    x, y = data["image"].test.x["rows"], data["image"].test.y
    pictures = data["image"].extra["pictures"]["test"]
    np.testing.assert_array_equal(x[:, :4], pictures[:, :4])
    np.testing.assert_array_equal(y[:, 4:], pictures[:, 4:])
    assert (x[:, 4:] == START).all()
    assert (y[:, :4] == NOT_ASKED).all()


@pytest.mark.parametrize("levels, size, features", [(2, 8, 2), (4, 6, 2)])
def test_levels_and_size_are_those_of_the_settings(task, levels, size, features):
    found = task.data(task.setup(settings={"levels": levels, "size": size}))
    assert found.test.x["pixels"].shape[1:] == (size * size, features)
    assert found.test.y.max() == levels - 1


def test_colours_become_grey(task, monkeypatch):
    generator = np.random.default_rng(0)
    x = {name: generator.random((12, 4, 4, 3)).astype(np.float32) for name in ("train", "validation", "test")}
    monkeypatch.setattr("edgelstm.tasks.drawing.images.public_images", lambda name, seed: Images(x, {}, ()))
    found = task.data(task.setup(source="cifar10", settings={"levels": 256}))
    grey = 0.299 * x["test"][..., 0] + 0.587 * x["test"][..., 1] + 0.114 * x["test"][..., 2]
    np.testing.assert_allclose(found.extra["pictures"]["test"], np.floor(grey * 256), atol=1)


def save_images(folder, count, size=(20, 12)):
    from PIL import Image

    generator = np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    for index in range(count):
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / ("more" if index % 2 else ".") / f"{index}.png")


def test_a_folder_of_images_is_read_with_its_sub_folders_and_damaged_files_are_left_out(task, tmp_path):
    save_images(tmp_path / "own", 30)
    (tmp_path / "own" / "broken.png").write_bytes(b"no image")
    (tmp_path / "own" / "readme.txt").write_text("no image", encoding="utf-8")
    found = task.data(task.setup(source=tmp_path / "own", settings={"levels": 8}))
    assert [len(split) for split in found.splits.values()] == [24, 3, 3]
    assert found.train.x["pixels"].shape[1:] == (16 * 16, 2)
    assert any("1 images were left out. Cannot read the image" in note for note in found.notes)


def test_a_folder_of_too_few_images_is_refused(task, tmp_path):
    save_images(tmp_path / "own", 3)
    with pytest.raises(DataError, match="own has 3 images that can be read, and at least 10 are needed"):
        task.data(task.setup(source=tmp_path / "own"))


@pytest.mark.parametrize(
    "variant, settings, message",
    [
        ("next", {"levels": 1}, "'levels' must be from 2 to 256, not 1"),
        ("next", {"size": -1}, "'size' must be at least 2, or 0"),
        ("image", {"known": 1.0}, "'known' is 1.0, which is 8 of 8 rows"),
    ],
)
def test_impossible_settings_are_refused(task, variant, settings, message):
    with pytest.raises(SettingError, match=message):
        task.data(task.setup(variant, settings=settings))


@pytest.mark.parametrize("variant", ["next", "multiscale"])
def test_a_shift_moves_pictures_and_their_inputs_alike(task, data, variant):
    setup, split = task.setup(variant, settings={"shift": 1}), data[variant].train.take(slice(50))
    canvas = data[variant].extra["canvas"]
    moved = task.augment(split, np.random.default_rng(0), setup)
    np.testing.assert_array_equal(moved.x["pixels"], canvas.inputs(moved.y))
    before, after = canvas.images(split.y), canvas.images(moved.y)
    assert (before != after).any()
    for one, other in zip(before, after, strict=True):
        padded = np.pad(one, 1)
        assert any((padded[y : y + 8, x : x + 8] == other).all() for y in range(3) for x in range(3))


def test_models_answer_a_distribution_for_each_pixel(task, data):
    for variant, parameters in (("next", 4 * (2 + 6 + 1) * 6 + 7), ("multiscale", 4 * (3 + 6 + 1) * 6 + 7)):
        model = build_model(task, task.setup(variant, settings={"units": 6}), data[variant])
        assert model.count_params() == parameters
        assert model.output_shape == (None, data[variant].test.y.shape[1], 1)
    setup = task.setup("image", settings={"units": 6, "levels": 4})
    found = task.data(setup)
    model = build_model(task, setup, found)
    answers = model.predict(found.test.x["rows"][:3], verbose=0)
    assert answers.shape == (3, 8, 8, 4)
    np.testing.assert_allclose(answers.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("levels", [2, 3])
def test_the_loss_is_the_mean_over_pixels_asked_for(levels):
    generator = np.random.default_rng(0)
    y = generator.integers(0, levels, (2, 5))
    y[:, :2] = NOT_ASKED
    answers = generator.dirichlet(np.ones(levels), (2, 5)).astype(np.float32)
    right = np.take_along_axis(answers, np.maximum(y, 0)[..., np.newaxis], axis=-1)[:, 2:, 0]
    given = answers[..., 1:] if levels == 2 else answers
    np.testing.assert_allclose(BitsPerPixel.loss(y, given), -np.log(right).mean(axis=1), rtol=1e-5)
    figures = BitsPerPixel().score(given, y)
    mixed = (1 - EVEN_SHARE) * right + EVEN_SHARE / levels
    assert figures["bits_per_pixel"] == pytest.approx(-np.log2(mixed).mean(), rel=1e-6)
    assert figures["accuracy"] == pytest.approx((answers.argmax(axis=-1) == y)[:, 2:].mean())


def test_an_even_guess_costs_one_bit_and_a_wrong_certainty_ten():
    objective, y = BitsPerPixel(), np.zeros((1, 4), np.int32)
    assert objective.score(np.full((1, 4, 1), 0.5), y)["bits_per_pixel"] == pytest.approx(1)
    assert objective.score(np.ones((1, 4, 1)), y)["bits_per_pixel"] == pytest.approx(10)  # 1 / (2 * 512)


def test_answers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"Answers of shape \(1, 3, 1\) do not fit pixels of shape \(1, 4\)"):
        BitsPerPixel().score(np.ones((1, 3, 1)), np.zeros((1, 4), np.int32))
    with pytest.raises(ValueError, match="contain NaN"):
        BitsPerPixel().score(np.full((1, 4, 1), np.nan), np.zeros((1, 4), np.int32))


def test_answers_of_zeros_are_an_even_distribution():
    np.testing.assert_array_equal(as_probabilities(np.zeros((1, 4))), [[0.25] * 4])


def test_baselines_count_in_the_training_pictures():
    train = np.array([[[0, 1], [1, 1]], [[0, 0], [1, 1]]])
    test = np.array([[[0, 1], [0, 1]]])
    np.testing.assert_allclose(independent(train, test, 2)[0, 0, 0], [3 / 4, 1 / 4])
    np.testing.assert_allclose(independent(train, test, 2)[0, 0, 1], [2 / 4, 2 / 4])
    # Nothing to the left, above to the left and above to the right; 0 above: twice a 1 followed in the first column of
    # the second row, where the pixel above to the right was 1 once and 0 once.
    np.testing.assert_allclose(contexts(train, test, 2)[0, 1, 0], [1 / 3, 2 / 3])
    np.testing.assert_allclose(nearest(train[[1] * 12 + [0]], test, 2, 1)[0, 1, 0], [1 / 12, 11 / 12])


def test_bits_of_the_small_picture_count_for_the_large_one(task, data):
    even = {
        variant: task.evaluate(lambda x: np.full((540, len(x["pixels"][0]), 1), 0.5), data[variant])
        for variant in ("next", "multiscale")
    }
    assert even["next"]["bits_per_pixel"] == pytest.approx(1)
    assert even["multiscale"]["bits_per_pixel"] == pytest.approx(80 / 64)


def test_baselines_of_the_digits(task, data):
    figures = {variant: task.baselines(found) for variant, found in data.items()}
    assert figures["next"]["independent pixels"]["bits_per_pixel"] == pytest.approx(0.567, abs=0.001)
    assert figures["next"]["four neighbours"]["bits_per_pixel"] == pytest.approx(0.575, abs=0.001)
    assert figures["multiscale"] == figures["next"]
    assert figures["image"]["most similar pictures"]["bits_per_pixel"] == pytest.approx(0.491, abs=0.001)


@pytest.mark.parametrize("chunk", [0, 16])
def test_a_short_training_beats_pixels_that_do_not_look_at_others(task, data, chunk):
    from edgelstm.training.feeding import keras_predict
    from edgelstm.training.fitting import fit

    settings = {"units": 24, "epochs": 6, "learning_rate": 0.02, "dropout": 0, "batch_size": 64, "truncate": chunk}
    setup = task.setup(settings=settings)
    model = build_model(task, setup, data["next"])
    fit(model, task, data["next"], setup)
    bits = task.evaluate(keras_predict(model), data["next"])["bits_per_pixel"]
    assert bits < task.baselines(data["next"])["independent pixels"]["bits_per_pixel"]


def test_the_completed_pictures_are_drawn(task, data, tmp_path):
    setup = task.setup("image")
    paths = task.illustrate(lambda x: np.full((len(x["rows"]), 8, 8, 1), 0.5), data["image"], setup, tmp_path)
    assert [path.name for path in paths] == ["completed.png"]
    assert (tmp_path / "completed.png").read_bytes().startswith(b"\x89PNG")
