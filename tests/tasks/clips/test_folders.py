from __future__ import annotations

import csv
import sys

import numpy as np
import pytest
from PIL import Image

from edgelstm.errors import DataError, MissingExtraError
from edgelstm.tasks import load_task
from edgelstm.tasks.clips.cache import ClipCache
from edgelstm.tasks.clips.folders import find_clips
from edgelstm.tasks.clips.frame_cnn import build_cnn, features_of
from edgelstm.tasks.clips.reading import choose_frames, content_hash, read_clip

SMALL = {"frames": 4, "size": 16, "units": 3, "dense": 3}


@pytest.fixture(scope="module")
def task():
    return load_task("video")


def numbered(count, height=16, width=16):
    """A clip whose frames are of the colours 10, 20, 30, ..."""
    return np.tile((10 * np.arange(1, count + 1, dtype=np.uint8))[:, None, None, None], (1, height, width, 3))


def write(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, frames)


def write_video(path, frames, codec="mpeg4"):
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    "count, frames, every, expected",
    [
        (4, 4, 1, [0, 1, 2, 3]),
        (9, 3, 1, [3, 4, 5]),
        (9, 3, 3, [1, 4, 7]),
        (3, 5, 1, [0, 1, 2, 0, 1]),
        (5, 4, 2, [0, 2, 4, 1]),
        (11, 3, 0, [0, 5, 10]),
        (2, 4, 0, [0, 0, 1, 1]),
        (1, 3, 1, [0, 0, 0]),
    ],
)
def test_frames_are_taken_from_the_middle_or_repeated(count, frames, every, expected):
    assert choose_frames(count, frames, every).tolist() == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_arrays_are_read_as_bytes(tmp_path, dtype):
    clip = numbered(9)
    np.save(tmp_path / "c.npy", clip if dtype == np.uint8 else (clip / 255).astype(dtype))
    pixels, count = read_clip(tmp_path / "c.npy", 3, 1, 16)
    assert count == 9
    np.testing.assert_array_equal(pixels, clip[3:6])


def test_arrays_are_stretched_and_grey_becomes_colour(tmp_path):
    np.save(tmp_path / "c.npy", numbered(4, 8, 40)[..., :1])
    pixels, _ = read_clip(tmp_path / "c.npy", 4, 1, 16)
    np.testing.assert_array_equal(pixels, numbered(4))


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((4, 8, 8), np.uint8), r"holds uint8 of shape \(4, 8, 8\), and not uint8, or floats"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"shape \(0, 8, 8, 3\)"),
        (np.zeros((4, 8, 8, 3), np.int64), "holds int64"),
        (np.full((4, 8, 8, 3), 200.0), "numbers that are not from 0 to 1"),
        (np.full((4, 8, 8, 3), np.nan), "numbers that are not from 0 to 1"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, array, message):
    np.save(tmp_path / "c.npy", array)
    with pytest.raises(DataError, match=message):
        read_clip(tmp_path / "c.npy", 4, 1, 16)


def test_pickled_arrays_are_not_opened(tmp_path):
    np.save(tmp_path / "c.npy", np.array([{}], object))
    with pytest.raises(DataError, match="Cannot read the clip"):
        read_clip(tmp_path / "c.npy", 4, 1, 16)


def write_images(folder, clip):
    folder.mkdir(parents=True)
    for number, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"frame{number + 1}.png")


def test_a_folder_of_images_is_a_clip_in_the_order_of_its_numbers(tmp_path):
    write_images(tmp_path / "clip", numbered(12))
    pixels, count = read_clip(tmp_path / "clip", 12, 1, 16)
    assert count == 12
    np.testing.assert_array_equal(pixels, numbered(12))


@pytest.mark.parametrize("name, codec", [("c.avi", "mjpeg"), ("c.avi", "mpeg4"), ("c.mp4", "mpeg4")])
def test_videos_are_decoded_to_the_frames_that_were_written(tmp_path, name, codec):
    clip = numbered(20, 48, 64)
    clip[..., 2] = 0
    write_video(tmp_path / name, clip, codec)
    pixels, count = read_clip(tmp_path / name, 5, 2, 16)
    assert count == 20
    wanted = clip[choose_frames(20, 5, 2), :16, :16].astype(int)
    assert (
        np.abs(pixels.astype(int) - wanted).max() <= 8
    )  # what the codec changes; frames differ by 20, colours by more


def test_a_damaged_video_is_named(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "c.avi").write_bytes(b"no video at all")
    with pytest.raises(DataError, match=r"Cannot decode the clip .*c\.avi"):
        read_clip(tmp_path / "c.avi", 4, 1, 16)


def test_a_video_that_breaks_off_is_read_as_far_as_it_goes(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    write_video(tmp_path / "c.avi", clip, "mjpeg")
    content = (tmp_path / "c.avi").read_bytes()
    (tmp_path / "c.avi").write_bytes(content[: len(content) // 2])
    pixels, count = read_clip(tmp_path / "c.avi", 4, 0, 16)
    assert 5 < count < 15
    assert pixels.shape == (4, 16, 16, 3)


def test_without_a_decoder_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "c.mp4").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"decoded with PyAV: pip install av"):
        read_clip(tmp_path / "c.mp4", 4, 1, 16)


def ucf(folder, groups=4):
    """Files named as in UCF101, two clips of each group."""
    for label in ("ApplyEyeMakeup", "YoYo"):
        for group in range(1, groups + 1):
            for clip in (1, 2):
                path = folder / label / f"v_{label}_g{group:02}_c{clip:02}.avi"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
    return folder


@pytest.mark.parametrize("beside", [False, True])
def test_lists_of_ucf101_choose_the_splits(tmp_path, beside):
    folder = ucf(tmp_path / "UCF-101")
    lists = (tmp_path if beside else folder) / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 YoYo\r\n")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.avi"))
    train = [name for name in names if "_g01" not in name and "_g04_c02" not in name]
    numbers = {"ApplyEyeMakeup": 1, "YoYo": 2}
    text = "".join(f"{name} {numbers[name.split('/')[0]]}\r\n" for name in train)
    (lists / "trainlist02.txt").write_text(text)
    text = "".join(f"{name}\r\n" for name in names if "_g01" in name)
    (lists / "testlist02.txt").write_text(text + "YoYo/v_YoYo_g99_c01.avi\r\n")
    examples, notes = find_clips(folder, 2)
    assert {(e.path.stem[-7:], e.label, e.group, e.split) for e in examples if e.label == "YoYo"} == {
        *((f"g01_c0{n}", "YoYo", "g01", "test") for n in (1, 2)),
        *((f"g0{g}_c0{n}", "YoYo", f"g0{g}", "train") for g in (2, 3) for n in (1, 2)),
        ("g04_c01", "YoYo", "g04", "train"),
    }
    assert notes == [
        f"2 clips that the lists in {lists} do not name were left out.",
        f"1 clips that the lists in {lists} name are not there.",
    ]
    with pytest.raises(DataError, match=r"trainlist03\.txt"):
        find_clips(folder, 3)


def test_without_lists_clips_of_one_video_have_one_group(tmp_path):
    examples, notes = find_clips(ucf(tmp_path), 1)
    assert {e.group for e in examples} == {"g01", "g02", "g03", "g04"}
    assert {e.split for e in examples} == {""}
    assert not notes


def kinetics(folder, rows, header="label,youtube_id,time_start,time_end,split,is_cc"):
    folder.mkdir(parents=True, exist_ok=True)
    for split in dict.fromkeys(row[4] for row in rows):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header.split(","))
            writer.writerows(row for row in rows if row[4] == split)
    return folder


@pytest.mark.parametrize("annotations", ["", "annotations"])
def test_tables_of_kinetics_choose_labels_and_splits(tmp_path, annotations):
    rows = [
        ("abseiling", "0347ZoDXyP0", 95, 105, "train", 0),
        ("air drumming", "-0dzF7RMSpY", 7, 17, "train", 0),
        ("abseiling", "3caPS4FHFF8", 36, 46, "validate", 0),
        ("abseiling", "gone1234567", 1, 11, "validate", 0),
        ("air drumming", "12345678901", 0, 10, "test", 0),
    ]
    kinetics(tmp_path / annotations, rows)
    for label, name, start, end, split, _ in rows:
        if "gone" not in name:
            path = tmp_path / split / label / f"{name}_{start:06}_{end:06}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    examples, notes = find_clips(tmp_path, 1)
    assert {(e.path.stem[:11], e.label, e.group, e.split) for e in examples} == {
        ("0347ZoDXyP0", "abseiling", "0347ZoDXyP0", "train"),
        ("-0dzF7RMSpY", "air drumming", "-0dzF7RMSpY", "train"),
        ("3caPS4FHFF8", "abseiling", "3caPS4FHFF8", "validation"),
        ("12345678901", "air drumming", "12345678901", "test"),
    }
    assert notes == [f"1 videos that the tables of {tmp_path} name are not there."]


def test_tables_that_name_no_video_are_refused(tmp_path):
    kinetics(tmp_path, [("abseiling", "0347ZoDXyP0", 95, 105, "train", 0)])
    with pytest.raises(DataError, match=r"name no video that is there, such as 0347ZoDXyP0_000095_000105\.mp4"):
        find_clips(tmp_path, 1)


@pytest.fixture
def folder(tmp_path):
    """Clips of several lengths and kinds: dark ones and bright ones."""
    generator = np.random.default_rng(0)
    for number in range(8):
        for label, low in (("dark", 0), ("bright", 150)):
            clip = generator.integers(low, low + 100, (3 + number, 20, 24, 3), np.uint8)
            if number < 2:
                write_images(tmp_path / "clips" / label / f"{number}", clip)
            else:
                write(tmp_path / "clips" / label / f"{number}.npy", clip)
    return tmp_path / "clips"


def load(task, folder, variant="lstm", **settings):
    return task.data(task.setup(variant, folder, settings={**SMALL, "cache": str(folder.parent / "cache"), **settings}))


def test_a_folder_of_clips_is_read_as_features(task, folder):
    data = load(task, folder)
    assert data.labels == ("bright", "dark")
    assert [split.x["features"].shape for split in data.splits.values()] == [(10, 4, 64), (2, 4, 64), (4, 4, 64)]
    for split in data.splits.values():
        bright = split.x["features"].mean(axis=(1, 2)) > 1
        np.testing.assert_array_equal(split.y, np.where(bright, 0, 1))
    assert any("Clips have 3 to 10 frames: 12 were longer than 4 frames" in note for note in data.notes)
    assert any("2 were shorter and frames were repeated" in note for note in data.notes)
    assert any("cnn=efficientnetb0" in note for note in data.notes)


def test_features_are_those_of_the_chosen_frames(task, folder):
    data = load(task, folder)
    cnn, _ = build_cnn("small", "random", 16)
    pixels, _ = read_clip(folder / "dark" / "7.npy", 4, 1, 16)
    expected = features_of(cnn, pixels)
    all_features = np.concatenate([split.x["features"] for split in data.splits.values()])
    assert min(np.abs(features - expected).max() for features in all_features) < 1e-5


def test_the_whole_model_reads_pixels(task, folder):
    data = load(task, folder, "end_to_end")
    x = data.train.x["clip"]
    assert (x.shape, x.dtype) == ((10, 4, 16, 16, 3), np.float32)
    assert x.max() > 200


@pytest.mark.parametrize("variant", ["lstm", "end_to_end"])
def test_a_second_run_reads_what_the_first_one_computed(task, folder, monkeypatch, variant):
    first = load(task, folder, variant)
    monkeypatch.setattr("edgelstm.tasks.clips.data._sample", lambda reader, examples: [np.zeros((4, 16, 16, 3))])
    monkeypatch.setattr("edgelstm.tasks.clips.data.read_clip", None)
    second = load(task, folder, variant)
    for name, split in first.splits.items():
        np.testing.assert_array_equal(next(iter(second.splits[name].x.values())), next(iter(split.x.values())))
    assert second.notes == first.notes


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_what_is_damaged_in_the_cache_is_computed_anew(task, folder, damage):
    first = load(task, folder)
    for path in (folder.parent / "cache").rglob("*.npy"):
        content = path.read_bytes()
        path.write_bytes(content[:-100] if damage is None else damage)
    second = load(task, folder)
    np.testing.assert_array_equal(second.train.x["features"], first.train.x["features"])
    assert all(np.load(path).shape == (4, 64) for path in (folder.parent / "cache").rglob("*.npy"))


def test_other_content_or_settings_are_not_taken_from_the_cache(task, folder):
    before = load(task, folder)
    for path in folder.rglob("*.npy"):
        np.save(path, 255 - np.load(path))
    after = load(task, folder)
    assert np.abs(after.train.x["features"] - before.train.x["features"]).max() > 1
    spread = load(task, folder, every=0)
    assert (spread.train.x["features"] != after.train.x["features"]).any()


def test_a_cache_that_cannot_be_written_is_noted(task, folder):
    (folder.parent / "file").write_text("")
    data = load(task, folder, cache=str(folder.parent / "file" / "cache"))
    assert any("not kept for the next run" in note for note in data.notes)


def test_the_cache_can_be_turned_off(task, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "home"))
    load(task, folder, cache="off")
    assert not (folder.parent / "home").exists()
    load(task, folder, cache="")
    assert len(list((folder.parent / "home" / "edgelstm" / "clips").rglob("*.npy"))) == 16


def test_the_cache_refuses_other_shapes_types_and_nan(tmp_path):
    def get(cache, value):
        array, count = cache.get(("key",), lambda: (value, 7))
        return array.tolist(), count, cache.num_read

    assert get(ClipCache(tmp_path, (2,), np.float32), np.array([1, 2], np.float32)) == ([1, 2], 7, 0)
    assert get(ClipCache(tmp_path, (2,), np.float32), np.array([3, 4], np.float32)) == ([1, 2], 7, 1)
    assert get(ClipCache(tmp_path, (1,), np.float32), np.array([5], np.float32)) == ([5], 7, 0)
    assert get(ClipCache(tmp_path, (1,), np.uint8), np.array([6], np.uint8)) == ([6], 7, 0)
    np.save(next(tmp_path.rglob("*.npy")), np.array([np.nan], np.float32))
    assert get(ClipCache(tmp_path, (1,), np.float32), np.array([8], np.float32)) == ([8], 7, 0)


def test_a_clip_is_known_by_its_content(tmp_path):
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, numbered(3))
    write_images(tmp_path / "c", numbered(3))
    write_images(tmp_path / "d", numbered(3))
    write_images(tmp_path / "e", numbered(3)[::-1])
    a, b, c, d, e = (content_hash(tmp_path / name) for name in ("a.npy", "b.npy", "c", "d", "e"))
    assert a == b
    assert c == d != e


def test_damaged_clips_are_left_out_and_named(task, folder):
    (folder / "dark" / "5.npy").write_bytes(b"no array")
    data = load(task, folder)
    assert sum(len(split) for split in data.splits.values()) == 15
    assert any("1 clips were left out. Cannot read the clip" in note and "5.npy" in note for note in data.notes)


def test_clips_of_a_class_can_be_limited(task, folder):
    data = load(task, folder, clips_per_class=2)
    assert [np.bincount(split.y).tolist() for split in data.splits.values()] == [[2, 2], [1, 1], [2, 2]]


def test_mirrored_clips_are_cached_apart(task, folder):
    plain, flipped = load(task, folder), load(task, folder, flip=True)
    assert [len(split) for split in flipped.splits.values()] == [20, 2, 4]
    np.testing.assert_array_equal(flipped.train.x["features"][::2], plain.train.x["features"])
    mirrored = plain.train.x["features"].reshape(10, 4, 8, 8)[..., ::-1]
    np.testing.assert_allclose(flipped.train.x["features"][1::2].reshape(10, 4, 8, 8), mirrored, atol=1e-4)


def test_videos_in_the_layout_of_ucf101_are_trained_on(task, tmp_path):
    generator = np.random.default_rng(0)
    for label, low in (("ApplyEyeMakeup", 0), ("YoYo", 150)):
        for group in range(1, 4):
            clip = generator.integers(low, low + 100, (6, 48, 64, 3), np.uint8)
            write_video(tmp_path / "UCF-101" / label / f"v_{label}_g{group:02}_c01.avi", clip)
    data = load(task, tmp_path / "UCF-101")
    assert [len(split) for split in data.splits.values()] == [2, 2, 2]
    assert data.labels == ("ApplyEyeMakeup", "YoYo")
