from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Split
from edgelstm.tasks.clips.frame_cnn import build_cnn, features_of, identity
from edgelstm.tasks.clips.moving_shapes import MOTIONS, write_clips
from edgelstm.tasks.video import crop_in_time

TINY = {"num_train": 32, "num_validation": 8, "num_test": 16, "frames": 6, "units": 5, "dense": 7}


@pytest.fixture(scope="module")
def task():
    return load_task("video")


@pytest.fixture(scope="module")
def data(task):
    return task.data(task.setup(settings=TINY))


def centers(clips):
    """Where the brightness of frames is on the ring from left to right and from top to bottom, as angles."""
    light = clips.astype(float).sum(axis=4) - np.median(clips.astype(float).sum(axis=4), axis=(2, 3), keepdims=True)
    light = np.clip(light - 150, 0, None)
    angles = np.exp(2j * np.pi * np.arange(clips.shape[2]) / clips.shape[2])
    return np.angle((light * angles).sum(axis=(2, 3))), np.angle((light * angles[:, np.newaxis]).sum(axis=(2, 3)))


def steps(angles):
    """From frame to frame, the short way round."""
    return np.angle(np.exp(1j * np.diff(angles, axis=1)))


@pytest.fixture(scope="module")
def shapes():
    return write_clips(160, (0, 0), 12, 32)


def test_every_motion_is_equally_frequent(shapes):
    assert np.bincount(shapes[1]).tolist() == [20] * 8


@pytest.mark.parametrize("motion, axis, sign", [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_shapes_move_where_their_class_says(shapes, motion, axis, sign):
    clips, y = shapes
    moved = [steps(part).mean(axis=1) for part in centers(clips[y == MOTIONS.index(motion)])]
    assert (sign * moved[axis] > 0.1).mean() > 0.9
    assert np.abs(np.median(moved[1 - axis])) < 0.05


@pytest.mark.parametrize("motion, sign", [("clockwise", 1), ("counterclockwise", -1)])
def test_circles_turn_as_their_class_says(shapes, motion, sign):
    clips, y = shapes
    x, down = (steps(part) for part in centers(clips[y == MOTIONS.index(motion)]))
    turned = np.sign(x[:, :-1] * down[:, 1:] - down[:, :-1] * x[:, 1:]).mean(axis=1)
    assert (turned * sign > 0).mean() > 0.9


@pytest.mark.parametrize("motion, sign", [("growing", 1), ("shrinking", -1)])
def test_sizes_change_as_their_class_says(shapes, motion, sign):
    clips, y = shapes
    light = clips[y == MOTIONS.index(motion)].astype(float).sum(axis=(2, 3, 4))
    assert (sign * np.sign(np.diff(light, axis=1)).sum(axis=1) > 0).mean() > 0.9


def test_mirrored_motions_differ_in_nothing_but_the_order(task):
    data = task.data(task.setup(settings={"num_train": 800, "num_test": 200, "frames": 8}))
    scores = task.baselines(data)
    assert len(scores) == 2
    for score in scores.values():
        assert score["accuracy"] < 0.3


def test_the_same_seed_gives_the_same_clips_and_another_one_others(task, data):
    again = task.data(task.setup(settings=TINY))
    other = task.data(task.setup(seed=1, settings=TINY))
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(again.splits[name].x["features"], data.splits[name].x["features"])
        assert (other.splits[name].x["features"] != data.splits[name].x["features"]).any()


def test_splits_are_drawn_apart(data):
    clips = np.concatenate([split.x["features"].reshape(len(split), -1) for split in data.splits.values()])
    assert len(np.unique(clips, axis=0)) == 32 + 8 + 16


def test_features_and_pixels_have_their_shapes(task, data):
    assert data.train.x["features"].shape == (32, 6, 64)
    pixels = task.data(task.setup("end_to_end", settings=TINY))
    clips = pixels.train.x["clip"]
    assert (clips.shape, clips.dtype) == ((32, 6, 32, 32, 3), np.float32)
    assert 150 < clips.max() <= 255
    assert (clips == clips.round()).all()
    assert not pixels.files


def test_the_small_cnn_sees_where_brightness_is():
    cnn, notes = build_cnn("small", "imagenet", 32)
    assert not notes
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[1] = 128
    frames[2, 8:12, 20:24, 1] = 255
    dark, grey, spot = features_of(cnn, frames).reshape(3, 8, 8)
    np.testing.assert_allclose(dark, -2, atol=1e-6)
    np.testing.assert_allclose(grey[1:-1, 1:-1], 2, atol=1e-5)
    assert np.unravel_index(spot.argmax(), spot.shape) == (2, 5)
    # A triangle of width 8 puts (5 + 7 + 7 + 5) / 32 of its weight on the 4 pixels in its middle.
    assert spot[2, 5] == pytest.approx(-2 + (24 / 32) ** 2 * 0.587 * 255 / 32, rel=1e-4)


def test_features_do_not_depend_on_the_batch():
    cnn, _ = build_cnn("small", "random", 32)
    frames = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(features_of(cnn, frames, 4), features_of(cnn, frames, 7), atol=1e-5)


def test_a_cnn_is_known_by_its_weights():
    first, second, larger = (build_cnn("small", "random", size)[0] for size in (32, 32, 48))
    assert identity(first) == identity(second) != identity(larger)
    kernel, bias = second.get_weights()
    second.set_weights([kernel, bias + 1])
    assert identity(first) != identity(second)


def test_flips_add_mirrored_clips_to_training_only(task, data):
    setup = task.setup(settings={**TINY, "flip": True})
    flipped = task.data(setup)
    assert [len(split) for split in flipped.splits.values()] == [64, 8, 16]
    x = flipped.train.x["features"].reshape(2, 32, 6, 8, 8)
    np.testing.assert_array_equal(x[0].reshape(32, 6, 64), data.train.x["features"])
    np.testing.assert_allclose(x[1], x[0][..., ::-1], atol=1e-4)
    np.testing.assert_array_equal(flipped.train.y, np.tile(data.train.y, 2))


def test_flips_mirror_half_of_the_clips_of_pixels(task):
    setup = task.setup("end_to_end", settings={**TINY, "flip": True})
    x = np.random.default_rng(0).random((100, 2, 4, 4, 3))
    varied = task.augment(Split({"clip": x}, np.zeros(100)), np.random.default_rng(0), setup).x["clip"]
    same, mirrored = ((varied == other).all(axis=(1, 2, 3, 4)) for other in (x, x[:, :, :, ::-1]))
    assert 30 < mirrored.sum() < 70
    assert (same ^ mirrored).all()


def test_crops_are_parts_of_a_clip_at_its_length():
    clips = np.tile(np.arange(10)[:, np.newaxis], (300, 1, 1))
    cropped = crop_in_time(clips, np.random.default_rng(0), 0.4)[..., 0]
    assert cropped.shape == (300, 10)
    assert set(np.unique(np.diff(cropped, axis=1))) == {0, 1}
    lengths = cropped[:, -1] - cropped[:, 0] + 1
    assert set(lengths) == {6, 7, 8, 9, 10}
    assert (cropped.min(), cropped.max()) == (0, 9)


def test_by_default_nothing_is_varied(task, data):
    varied = task.augment(data.train, np.random.default_rng(0), task.setup(settings=TINY))
    np.testing.assert_array_equal(varied.x["features"], data.train.x["features"])


def lstm_count(inputs, units):
    return 4 * units * (inputs + units + 1)


def head_count(inputs, dense=7, classes=8):
    return 4 * inputs + (inputs + 1) * dense + (dense + 1) * classes


@pytest.mark.parametrize(
    "variant, count",
    [
        ("lstm", lstm_count(64, 5) + head_count(5)),
        ("bidirectional", 2 * lstm_count(64, 5) + head_count(10)),
        ("attention", lstm_count(64, 5) + 6 + head_count(5)),
        ("end_to_end", 16 * 76 + 32 * 145 + lstm_count(512, 5) + head_count(5)),
    ],
)
def test_models_have_the_layers_of_their_variant(task, variant, count):
    setup = task.setup(variant, settings=TINY)
    data = task.data(setup)
    model = task.build(setup, data)
    assert model.count_params() == count
    assert [tensor.name for tensor in model.inputs] == list(data.train.x)
    answers = model.predict(next(iter(data.test.x.values())), verbose=0)
    assert answers.shape == (16, 8)
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


def test_by_default_there_are_256_units_and_512_dense_ones(task, data):
    model = task.build(task.setup(), data)
    assert model.count_params() == lstm_count(64, 256) + head_count(256, 512)


def test_attention_weighs_the_steps(task, data):
    import keras

    model = task.build(task.setup("attention", settings=TINY), data)
    layers = {layer.name: layer for layer in model.layers}
    lstm = next(layer for layer in model.layers if isinstance(layer, keras.layers.LSTM))
    outputs = [lstm.output, layers["attention"].output, layers["weighted_sum"].output]
    hidden, weights, weighted = keras.Model(model.inputs, outputs).predict(data.test.x["features"], verbose=0)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weighted[:, 0], (weights * hidden).sum(axis=1), atol=1e-6)


def test_the_cnn_may_stay_frozen_in_the_whole_model(task):
    setup = task.setup("end_to_end", settings={**TINY, "train_cnn": False})
    model = task.build(setup, task.data(setup))
    assert not model.get_layer("each_frame").trainable_weights
    assert model.get_layer("each_frame").weights


def test_the_cnn_lies_beside_the_model_with_frames_to_calibrate_it(data, tmp_path):
    import keras

    for name, item in data.files.items():
        item.save(tmp_path / name)
    cnn = keras.saving.load_model(tmp_path / "features.keras")
    frames = np.load(tmp_path / "features-calibration.npz")["frame"]
    assert (frames.shape, frames.dtype) == ((8 * 6, 32, 32, 3), np.float32)
    features = cnn.predict(frames, verbose=0).reshape(8, 6, 64)
    np.testing.assert_allclose(features, data.train.x["features"][:8], atol=1e-4)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"cnn": "vgg"}, "cnn=vgg: must be one of small, efficientnetb0, resnet50"),
        ({"size": 40}, "size=40: must be a multiple of 16"),
        ({"size": 16, "cnn": "resnet50"}, "size=16: must be at least 32"),
        ({"frames": 1}, "frames=1: must be at least 2"),
        ({"fold": 4}, "fold=4: must be 1, 2 or 3"),
        ({"temporal_crop": 1}, "temporal_crop=1.0: must be at least 0 and less than 1"),
    ],
)
def test_impossible_settings_are_refused(task, settings, message):
    with pytest.raises(SettingError, match=message):
        task.data(task.setup(settings={**TINY, **settings}))


def test_a_missing_file_of_weights_is_named(task):
    with pytest.raises(DataError, match=r"weights=no\.h5: there is no such file"):
        task.data(task.setup(settings={**TINY, "cnn": "resnet50", "weights": "no.h5"}))


def test_weights_that_cannot_be_downloaded_are_random_and_said_to_be(monkeypatch):
    import keras

    def stand_in(weights, **arguments):
        if weights == "imagenet":
            raise RuntimeError("no network")
        inner = arguments["input_tensor"]
        return keras.Model(inner, keras.layers.GlobalAveragePooling2D()(inner))

    monkeypatch.setattr(keras.applications, "EfficientNetB0", stand_in)
    _, notes = build_cnn("efficientnetb0", "imagenet", 32)
    assert len(notes) == 1
    assert "neither on disk nor can be downloaded (no network), so they are random" in notes[0]


@pytest.mark.matrix
@pytest.mark.parametrize("name, count", [("efficientnetb0", 1280), ("resnet50", 2048)])
def test_large_cnns_give_their_features_and_convert_inside_the_model(task, name, count, tmp_path):
    import edgelstm

    settings = {
        **TINY,
        "frames": 2,
        "num_train": 8,
        "num_test": 8,
        "cnn": name,
        "weights": "random",
        "train_cnn": False,
    }
    setup = task.setup(settings=settings)
    features = task.data(setup).train.x["features"]
    assert features.shape == (8, 2, count)
    assert features.std() > 0
    whole = task.setup("end_to_end", settings=settings)
    data = task.data(whole)
    model = task.build(whole, data)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite")
    assert artifact.card["parity"]


@pytest.mark.matrix
def test_resnet_gets_blue_green_red_without_their_means():
    cnn, _ = build_cnn("resnet50", "random", 32)
    import keras

    first = keras.Model(cnn.input, cnn.get_layer("bgr_without_mean").output)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected = keras.applications.resnet50.preprocess_input(frames.copy())
    np.testing.assert_allclose(first.predict(frames, verbose=0), expected, atol=1e-3)
