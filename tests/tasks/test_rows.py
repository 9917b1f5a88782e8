from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from edgelstm.errors import DataError, MissingExtraError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Split
from edgelstm.tasks.images.files import read_image
from edgelstm.tasks.images.sequences import to_images, to_sequence, vary


@pytest.fixture(scope="module")
def task():
    return load_task("rows")


@pytest.fixture(scope="module")
def data(task):
    return task.data()


def images(count=2, size=8, channels=3):
    return np.random.default_rng(0).random((count, size, size, channels)).astype(np.float32)


def test_images_are_sequences_of_8_rows_with_pixels_from_0_to_1(data):
    for split in data.splits.values():
        x = split.x["rows"]
        assert x.shape[1:] == (8, 8)
        assert (x.dtype, x.min(), x.max()) == (np.float32, 0, 1)


def test_three_tenths_are_the_test_split_and_nothing_is_lost(data):
    assert [len(split) for split in data.splits.values()] == [1131, 126, 540]
    pixels = np.concatenate([split.x["rows"] for split in data.splits.values()])
    assert len(np.unique(pixels.reshape(1797, -1), axis=0)) == 1797


def test_every_class_has_its_share_in_every_split(data):
    for split in data.splits.values():
        np.testing.assert_allclose(np.bincount(split.y, minlength=10) / len(split), 0.1, atol=0.02)


def test_the_same_seed_gives_the_same_split_and_another_one_another_split(task, data):
    np.testing.assert_array_equal(task.data(task.setup()).test.x["rows"], data.test.x["rows"])
    assert (task.data(task.setup(seed=1)).test.y != data.test.y).any()


def test_images_belong_to_their_labels(task, data):
    # The nearest class mean is right for nine in ten digits, and for one in ten if labels were shuffled.
    score = task.baselines(data)["nearest mean image"]["accuracy"]
    x, y = data.train.x["rows"], data.train.y
    means = np.stack([x[y == digit].mean(axis=0) for digit in range(10)])
    distances = np.square(data.test.x["rows"][:, np.newaxis] - means).sum(axis=(2, 3))
    assert score == pytest.approx((distances.argmin(axis=1) == data.test.y).mean())
    assert score > 0.85


def test_columns_are_the_rows_of_the_turned_image(task, data):
    columns = task.data(task.setup("columns")).train.x["columns"]
    np.testing.assert_array_equal(columns, data.train.x["rows"].swapaxes(1, 2))


def test_frames_are_nine_patches_row_by_row(task, data):
    frames = task.data(task.setup("frames")).train.x["frames"]
    assert frames.shape == (1131, 9, 4, 4, 1)
    rows = data.train.x["rows"]
    np.testing.assert_array_equal(frames[:, 1, :, :, 0], rows[:, :4, 2:6])
    np.testing.assert_array_equal(frames[:, 5, :, :, 0], rows[:, 2:6, 4:])
    np.testing.assert_array_equal(frames[:, 6, :, :, 0], rows[:, 4:, :4])


def test_a_row_of_colours_has_red_green_blue_of_each_pixel():
    x = images()
    np.testing.assert_array_equal(to_sequence(x, "rows")[1, 5, 3 * 2 : 3 * 3], x[1, 5, 2])
    np.testing.assert_array_equal(to_sequence(x, "columns")[1, 5, 3 * 2 : 3 * 3], x[1, 2, 5])


def test_planes_follow_one_another_in_time():
    x = images()
    planes = to_sequence(x, "rows", planes=True)
    assert planes.shape == (2, 24, 8)
    np.testing.assert_array_equal(planes[:, 8:16], x[..., 1])
    np.testing.assert_array_equal(to_sequence(x, "columns", planes=True)[:, 16:], x[..., 2].swapaxes(1, 2))


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("kind", ["rows", "columns", "frames"])
def test_sequences_become_images_again(kind, planes):
    if kind == "frames" and planes:
        planes = False
    x = images()
    np.testing.assert_array_equal(to_images(to_sequence(x, kind, planes=planes), kind, 3, planes=planes), x)


def test_shifts_move_whole_images_and_repeat_their_edge():
    x = np.tile(np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1), (200, 1, 1, 1))
    varied = vary(x, np.random.default_rng(0), shift=1)
    places = {(int(v[2, 2, 0]) // 6 - 2, int(v[2, 2, 0]) % 6 - 2) for v in varied}
    assert places == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    up = next(v for v in varied if v[2, 2, 0] == x[0, 3, 2, 0])
    np.testing.assert_array_equal(up[:5], x[0, 1:])
    np.testing.assert_array_equal(up[5], x[0, 5])


def test_flips_mirror_about_half_of_the_images_from_left_to_right():
    x = images(400)
    varied = vary(x, np.random.default_rng(0), flip=True)
    mirrored = (varied == x[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (varied == x).all(axis=(1, 2, 3))
    assert 150 < mirrored.sum() < 250
    assert (mirrored ^ same).all()


@pytest.mark.parametrize("variant", ["rows", "columns", "bidirectional", "frames"])
def test_examples_are_varied_as_images(task, variant):
    setup = task.setup(variant, settings={"flip": True})
    kind = variant if variant in ("columns", "frames") else "rows"
    x = images(20, channels=1)
    varied = task.augment(Split({kind: to_sequence(x, kind)}, np.arange(20)), np.random.default_rng(3), setup)
    expected = vary(x, np.random.default_rng(3), flip=True)
    np.testing.assert_array_equal(varied.x[kind], to_sequence(expected, kind))
    np.testing.assert_array_equal(varied.y, np.arange(20))
    assert (varied.x[kind] != to_sequence(x, kind)).any()


def test_by_default_nothing_is_varied(task, data):
    batch = data.train.take(slice(0, 4))
    assert task.augment(batch, np.random.default_rng(0), task.setup()) is batch


def test_the_training_split_can_be_limited(task, data):
    limited = task.data(task.setup(settings={"num_train": 100}))
    assert [len(split) for split in limited.splits.values()] == [100, 126, 540]


@pytest.mark.parametrize("variant, count", [("rows", 4 * (8 + 64 + 1) * 64), ("bidirectional", 2 * 4 * 73 * 64)])
def test_the_lstm_has_64_units_in_each_direction(task, data, variant, count):
    model = task.build(task.setup(variant), data)
    assert model.layers[1].count_params() == count
    assert model.output_shape == (None, 10)
    assert [tensor.name for tensor in model.inputs] == ["rows"]


def test_frames_are_read_one_by_one_by_the_same_cnn(task):
    setup = task.setup("frames", settings={"units": 5})
    data = task.data(setup)
    model = task.build(setup, data)
    assert model.input_shape == (None, None, 4, 4, 1)
    _, convolution, _, _, lstm, dense = model.layers
    x = data.test.x["frames"][:3]
    frames = x.reshape(-1, 4, 4, 1)
    convolved = np.maximum(np.asarray(convolution.layer(frames)), 0)
    pooled = convolved.reshape(-1, 2, 2, 2, 2, 32).max(axis=(2, 4))
    expected = dense(lstm(pooled.reshape(3, 9, 2 * 2 * 32)))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    assert model.predict(x[:, :4], verbose=0).shape == (3, 10)


def test_without_scikit_learn_the_error_says_how_to_install_it(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'The digits come with scikit-learn: pip install "edgelstm\[train\]"'):
        task.data()


@pytest.mark.parametrize(
    "variant, settings, message",
    [
        ("rows", {"shift": -1}, "shift=-1: must be at least 0"),
        ("frames", {"planes": True}, "planes=true is for rows and columns"),
        ("frames", {"size": 30}, "size=30: must be a multiple of 4"),
    ],
)
def test_impossible_settings_are_refused(task, variant, settings, message):
    with pytest.raises(SettingError, match=message):
        task.data(task.setup(variant, settings=settings))


def public(shape):
    generator = np.random.default_rng(0)
    labels_shape = (-1, 1) if len(shape) == 3 else (-1,)
    return tuple(
        (
            generator.integers(0, 256, (count, *shape), np.uint8),
            np.resize(np.arange(10, dtype=np.uint8), count).reshape(labels_shape),
        )
        for count in (200, 50)
    )


@pytest.mark.parametrize("name, shape, steps", [("mnist", (28, 28), (28, 28)), ("cifar10", (32, 32, 3), (32, 96))])
def test_public_images_keep_their_test_split(task, monkeypatch, name, shape, steps):
    import keras

    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: public(shape))
    data = task.data(task.setup(source=name))
    assert [split.x["rows"].shape for split in data.splits.values()] == [(180, *steps), (20, *steps), (50, *steps)]
    assert [split.y.shape for split in data.splits.values()] == [(180,), (20,), (50,)]
    _, (x, y) = public(shape)
    np.testing.assert_allclose(data.test.x["rows"], x.reshape(50, *steps) / 255, atol=1e-6)
    np.testing.assert_array_equal(data.test.y, y.reshape(-1))
    assert data.labels[0] == {"mnist": "0", "cifar10": "airplane"}[name]


def test_mnist_is_read_from_the_file_that_keras_keeps(task, monkeypatch, tmp_path):
    from keras.src.datasets import mnist

    (x_train, y_train), (x_test, y_test) = public((28, 28))
    np.savez(tmp_path / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    monkeypatch.setattr(mnist, "get_file", lambda fname, **_: str(tmp_path / fname))
    data = task.data(task.setup(source="mnist"))
    np.testing.assert_allclose(data.test.x["rows"], x_test / 255, atol=1e-6)
    np.testing.assert_array_equal(data.test.y, y_test)
    seen = np.concatenate([data.train.x["rows"], data.validation.x["rows"]])
    assert {image.tobytes() for image in seen} == {(image.astype(np.float32) / 255).tobytes() for image in x_train}


@pytest.mark.matrix  # Keras wants batches of 10,000, which are 180 MB
def test_cifar_is_read_from_the_batches_that_keras_keeps(task, monkeypatch, tmp_path):
    from keras.src.datasets import cifar10

    folder = tmp_path / "cifar-10-batches-py-target" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        # A row holds all red values of an image, row by row, then all green, then all blue ones.
        pixels = generator.integers(0, 256, (10_000, 3 * 32 * 32), np.uint8)
        labels = [number % 10 for number in range(10_000)]
        batch = {b"batch_label": name.encode(), b"labels": labels, b"data": pixels, b"filenames": [b"a.png"] * 10_000}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=3))
    monkeypatch.setattr(cifar10, "get_file", lambda fname, **_: str(tmp_path / fname))
    data = task.data(task.setup(source="cifar10", settings={"num_train": 100}))
    assert data.train.x["rows"].shape == (100, 32, 96)
    expected = pixels[7].reshape(3, 32, 32).transpose(1, 2, 0).reshape(32, 96) / 255
    np.testing.assert_allclose(data.test.x["rows"][7], expected, atol=1e-6)
    np.testing.assert_array_equal(data.test.y, labels)


def test_cifar_batches_are_varied_with_their_colours(task):
    setup = task.setup(source="cifar10", settings={"flip": True})
    x = images(20, size=32)
    varied = task.augment(Split({"rows": to_sequence(x, "rows")}, np.zeros(20)), np.random.default_rng(3), setup)
    expected = vary(x, np.random.default_rng(3), flip=True)
    np.testing.assert_array_equal(varied.x["rows"], to_sequence(expected, "rows"))


def test_images_that_cannot_be_downloaded_are_asked_for_with_their_place(task, monkeypatch):
    import keras

    def fail():
        raise RuntimeError("URL fetch failure")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(
        DataError, match=r"'mnist' is not on disk .*URL fetch failure.*: put https.*mnist.npz at .*mnist"
    ):
        task.data(task.setup(source="mnist"))


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Red and green images of several sizes."""
    for number in range(10):
        pixels = np.zeros((12 + number, 16, 3), np.uint8)
        for channel, label in enumerate(("red", "green")):
            save(
                tmp_path / label / f"{number}.{'png' if number % 2 else 'JPG'}",
                pixels + 200 * np.eye(3, dtype=np.uint8)[channel],
            )
    return tmp_path


def test_a_folder_of_images_is_read_in_colour(task, folder):
    data = task.data(task.setup(source=folder, settings={"color": True, "size": 16}))
    assert data.labels == ("green", "red")
    assert [split.x["rows"].shape for split in data.splits.values()] == [(14, 16, 48), (2, 16, 48), (4, 16, 48)]
    for split in data.splits.values():
        mean = split.x["rows"].reshape(len(split), -1, 3).mean(axis=1)
        np.testing.assert_array_equal(np.where(mean[:, 1] > mean[:, 0], 0, 1), split.y)
        np.testing.assert_allclose(mean.max(axis=1), 200 / 255, atol=0.02)
    assert any("18 images of other sizes" in note and "16 x 16" in note for note in data.notes)


def test_grey_is_the_brightness_of_colours(task, folder):
    x = task.data(task.setup(source=folder, settings={"size": 8})).train
    means = [x.x["rows"][x.y == number].mean() for number in (0, 1)]
    np.testing.assert_allclose(means, [0.587 * 200 / 255, 0.299 * 200 / 255], atol=0.01)


def test_damaged_images_are_left_out_and_named(task, folder):
    (folder / "red" / "0.JPG").write_bytes(b"no image")
    data = task.data(task.setup(source=folder, settings={"size": 8}))
    assert sum(len(split) for split in data.splits.values()) == 19
    assert any("1 images were left out. Cannot read the image" in note and "0.JPG" in note for note in data.notes)


def test_a_folder_with_nothing_but_damaged_images_is_refused(task, tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="can be read"):
        task.data(task.setup(source=tmp_path))


def test_images_are_stretched(tmp_path):
    save(tmp_path / "half.png", np.repeat(np.array([[0, 240]], np.uint8), 10, axis=1).repeat(4, axis=0))
    pixels, size = read_image(tmp_path / "half.png", 4, color=False)
    assert size == (20, 4)
    assert (pixels[:, 0] == 0).all()
    assert (pixels[:, 3] == 240).all()


def test_an_image_lies_as_its_camera_says(tmp_path):
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the top row of the file is the right column
    save(tmp_path / "turned.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png", 4, color=False)[0][..., 0], np.rot90(pixels, -1))


def test_sixteen_bits_become_eight(tmp_path):
    save(tmp_path / "deep.png", np.array([[0, 65535], [32768, 257]], np.uint16))
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", 2, color=False)[0][..., 0], [[0, 255], [128, 1]])


def test_what_is_transparent_is_black(tmp_path):
    pixels = np.full((2, 2, 4), 255, np.uint8)
    pixels[0, 0, 3] = 0
    save(tmp_path / "clear.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png", 2, color=False)[0][..., 0], [[0, 255], [255, 255]])
