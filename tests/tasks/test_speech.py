from __future__ import annotations

import json
import struct
import wave

import numpy as np
import pytest
import scipy.io.wavfile

import edgelstm
from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Split
from edgelstm.tasks.sounds.loading import mix
from edgelstm.tasks.sounds.logmel import FLOOR, RATE, FrontEndFile, LogMel
from edgelstm.tasks.sounds.spoken import KEYWORDS, UNKNOWN_WORDS, Voice, speak
from edgelstm.tasks.sounds.wav import fit_length, read_wav, resample
from edgelstm.training.feeding import keras_predict
from tests.tasks.small import SMALL

TINY = SMALL["speech"]
FOLDER = {"seconds": 0.2, "min_clips": 3}


@pytest.fixture(scope="module")
def task():
    return load_task("speech")


@pytest.fixture(scope="module")
def data(task):
    return task.data(task.setup(settings=TINY))


@pytest.fixture(scope="module")
def clips():
    """Words in noise and without, loud and quiet."""
    generator = np.random.default_rng(0)
    words = [speak(word, Voice.of(3, 0), generator, RATE) for word in (*KEYWORDS, "")]
    quiet = speak("dako", Voice.of(1, 0), generator, RATE) / 100
    return np.stack([*words, quiet, np.zeros(RATE, np.float32)])


# The front end


@pytest.mark.parametrize("frame, hop", [(480, 320), (400, 160), (256, 256)])
def test_features_are_logarithms_of_magnitudes_in_mel_bands(frame, hop, clips):
    """Computed here frame by frame from the definition of the transform and of each triangle."""
    front_end = LogMel(frame, hop, mels=30)
    features = front_end.features(clips[:2])
    assert features.shape == (2, 1 + (RATE - frame) // hop, 30)
    times, frequencies = np.arange(frame), np.arange(513)[: front_end.fft // 2 + 1]
    hertz = frequencies * RATE / front_end.fft
    edges = np.linspace(2595 * np.log10(1 + 125 / 700), 2595 * np.log10(1 + 7500 / 700), 32)
    mels = 2595 * np.log10(1 + hertz / 700)
    for index in (0, 7, features.shape[1] - 1):
        window = np.sin(np.pi * times / frame) ** 2
        cut = clips[1, index * hop : index * hop + frame] * window
        spectrum = np.exp(-2j * np.pi * np.outer(frequencies, times) / front_end.fft) @ cut
        for band in range(30):
            triangle = np.interp(mels, edges[band : band + 3], [0, 1, 0])
            wanted = np.log(triangle @ np.abs(spectrum) + FLOOR)
            assert features[1, index, band] == pytest.approx(wanted, abs=1e-6)


def test_a_tone_is_loudest_in_the_band_of_its_frequency():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)[np.newaxis]
    front_end = LogMel()
    centre = (front_end.bands()[:, front_end.features(tone)[0].mean(axis=0).argmax()]).argmax() * RATE / front_end.fft
    assert centre == pytest.approx(1000, abs=60)


@pytest.mark.parametrize("frame, hop", [(480, 320), (400, 160)])
def test_the_layers_compute_the_features_of_numpy(frame, hop, clips):
    front_end = LogMel(frame, hop)
    front_end = front_end.fitted(front_end.features(clips))
    model = FrontEndFile(front_end, RATE).model()
    wanted = front_end.features(clips)
    # The sums are of float32: 480 products of up to 1 with 6e-8 each, against a floor of 1e-2.
    np.testing.assert_allclose(model.predict(clips, verbose=0), wanted, rtol=0, atol=1e-4)
    assert not model.trainable_variables
    assert np.abs(wanted[:, 1:] - wanted[:, :-1]).max() > 1  # a frame too early or too late would be seen


def test_the_front_end_is_a_file_that_plain_keras_loads_and_that_converts(clips, tmp_path):
    import keras

    front_end = LogMel().fitted(LogMel().features(clips))
    FrontEndFile(front_end, RATE).save(tmp_path / "frontend.keras")
    assert keras.models.load_model(tmp_path / "frontend.keras").output_shape == (None, 49, 40)
    edgelstm.convert(tmp_path / "frontend.keras", tmp_path / "frontend.tflite")
    answers = edgelstm.load(tmp_path / "frontend.tflite").predict({"audio": clips})
    np.testing.assert_allclose(answers, front_end.features(clips), rtol=0, atol=1e-4)


def test_its_description_says_all_that_an_app_needs(clips, tmp_path):
    front_end = LogMel().fitted(LogMel().features(clips))
    front_end.save(tmp_path / "frontend.json")
    described = json.loads((tmp_path / "frontend.json").read_text(encoding="utf-8"))
    assert (described["frame"], described["hop"], described["fft"], described["sample_rate"]) == (480, 320, 512, RATE)
    again = LogMel(480, 320, described["mels"], tuple(described["mean"]), tuple(described["deviation"]))
    np.testing.assert_array_equal(again.features(clips), front_end.features(clips))


def test_standardized_features_have_mean_0_and_deviation_1(clips):
    features = LogMel().features(clips)
    standard = LogMel().fitted(features).features(clips)
    np.testing.assert_allclose(standard.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=(0, 1)), 1, atol=1e-5)


# Offline data


def test_every_split_has_its_size_and_all_classes_alike(data):
    assert data.labels == (*KEYWORDS, "unknown", "silence")
    for split, size in (("train", 60), ("validation", 20), ("test", 20)):
        assert data.splits[split].x["features"].shape == (size, 16, 20)
        assert data.splits[split].x["features"].dtype == np.float32
        assert (np.bincount(data.splits[split].y) == size // 10).all()


def test_no_clip_comes_twice(task):
    data = task.data(task.setup("raw", settings=TINY))
    audio = np.concatenate([split.x["audio"] for split in data.splits.values()])
    assert len(np.unique(audio, axis=0)) == 100
    assert np.abs(audio).max() <= 1


def test_the_same_seed_gives_the_same_data_and_another_one_other_data(task, data):
    again, other = (task.data(task.setup(settings=TINY, seed=seed)) for seed in (0, 1))
    np.testing.assert_array_equal(again.test.x["features"], data.test.x["features"])
    assert (other.test.x["features"] != data.test.x["features"]).any()


def test_keywords_come_in_pairs_of_the_same_syllables():
    for word in KEYWORDS:
        assert word[2:] + word[:2] in KEYWORDS
    assert not set(KEYWORDS) & set(UNKNOWN_WORDS)


def test_the_order_of_syllables_is_in_the_sound_and_not_in_the_mean():
    """A word and its reverse differ in time; averaged over time they differ less than two clips of one word do."""
    generator, voice = np.random.default_rng(0), Voice.of(0, 0)
    spoken = {
        word: LogMel().features(np.stack([speak(word, voice, generator, RATE) for _ in range(40)])).mean(axis=1)
        for word in ("dako", "koda", "misu")
    }
    apart = {word: np.abs(spoken["dako"].mean(axis=0) - spoken[word].mean(axis=0)).mean() for word in ("koda", "misu")}
    assert apart["koda"] < spoken["dako"].std(axis=0).mean()
    assert apart["koda"] < 0.7 * apart["misu"]


def test_speakers_differ_in_pitch_and_are_the_same_again():
    voices = [Voice.of(speaker, 0) for speaker in range(20)]
    assert voices[3] == Voice.of(3, 0) != Voice.of(3, 1)
    pitches = [voice.pitch_hz for voice in voices]
    assert 80 < min(pitches) < 130
    assert 170 < max(pitches) < 260


def test_of_speakers_every_one_is_in_every_split(task):
    data = task.data(task.setup("speaker", settings=TINY))
    assert data.labels == tuple(f"speaker_{number}" for number in range(6))
    for split in data.splits.values():
        assert set(split.y) == set(range(6))


def test_the_mean_spectrum_alone_does_not_suffice(task):
    data = task.data(task.setup(settings={"num_train": 300, "num_validation": 10, "num_test": 100}))
    assert 0.3 < task.baselines(data)["mean spectrum"]["accuracy"] < 0.65


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_train": 9}, "num_train=9: at least 10 clips are needed, one of each class"),
        ({"num_speakers": 2}, "num_speakers=2: at least 3 are needed"),
        ({"seconds": 0.02}, "seconds=0.02: a clip must be as long as a frame, 30 ms"),
        ({"hop_ms": 0}, "hop_ms=0.0 must be larger"),
        ({"mels": 0}, "mels=0 must be larger"),
        ({"mels": 200}, "mels=200: some bands are narrower"),
        ({"layers": 0}, "layers=0 must be larger"),
        ({"snr_low": 30}, "snr_low must not be above snr_high"),
        ({"copies": -1}, "copies=-1 must not be negative"),
        ({"mask_ms": -1}, r"mask_ms=-1\.0 must not be negative"),
    ],
)
def test_impossible_settings_are_refused(task, settings, message):
    with pytest.raises(SettingError, match=message):
        task.data(task.setup(settings=settings))


# Models


def test_the_model_is_two_lstms_over_features(task, data):
    model = task.build(task.setup(settings={**TINY, "units": 5}), data)
    first, second = (model.get_layer(f"lstm_{number}") for number in (1, 2))
    assert (model.input_shape, model.output_shape, model.output_names) == ((None, 16, 20), (None, 10), ["word"])
    assert (first.units, first.return_sequences, second.return_sequences) == (5, True, False)
    assert model.count_params() == 4 * 5 * (20 + 5 + 1) + 4 * 5 * (5 + 5 + 1) + 10 * (5 + 1)


def test_the_raw_model_answers_audio_as_the_other_answers_features(task):
    setups = {variant: task.setup(variant, settings=TINY) for variant in ("lstm", "raw")}
    data = {variant: task.data(setup) for variant, setup in setups.items()}
    models = {variant: task.build(setup, data[variant]) for variant, setup in setups.items()}
    for layer in ("lstm_1", "lstm_2", "word"):
        models["lstm"].get_layer(layer).set_weights(models["raw"].get_layer(layer).get_weights())
    answers = {variant: keras_predict(model)(data[variant].test.x) for variant, model in models.items()}
    np.testing.assert_allclose(answers["raw"], answers["lstm"], rtol=0, atol=1e-5)
    assert len(models["raw"].trainable_variables) == len(models["lstm"].trainable_variables)


def test_features_come_in_one_frame_at_a_time_too(task, data, tmp_path):
    """A stream of frames ends at the answer to the whole clip."""
    model = task.build(task.setup(settings=TINY), data)
    edgelstm.convert(model, tmp_path / "stream.tflite", streaming=True)
    stream, x = edgelstm.load(tmp_path / "stream.tflite"), data.test.x["features"][:3]
    for clip, wanted in zip(x, model.predict(x, verbose=0), strict=True):
        stream.reset()
        for frame in clip:
            answer = stream(frame[np.newaxis, np.newaxis])["word"]
        np.testing.assert_allclose(answer[0], wanted, rtol=0, atol=1e-5)


# Augmentation


def test_by_default_nothing_is_varied(task, data):
    assert task.augment(data.train, np.random.default_rng(0), task.setup(settings=TINY)) is data.train


def test_shifted_features_are_the_same_frames_at_another_time(task):
    x = np.arange(1, 41, dtype=np.float32).reshape(1, 20, 2).repeat(50, axis=0)
    setup = task.setup(settings={"time_shift_ms": 60})  # three frames
    varied = task.augment(Split({"features": x}, np.zeros(50)), np.random.default_rng(0), setup).x["features"]
    shifts = {int((clip[10, 0] - x[0, 10, 0]) / 2) for clip in varied}
    assert shifts == set(range(-3, 4))
    for clip in varied:
        shift = int((clip[10, 0] - x[0, 10, 0]) / 2)
        np.testing.assert_array_equal(clip, x[0, np.clip(np.arange(20) + shift, 0, 19)])


def test_shifted_audio_has_silence_where_it_began(task):
    x = np.ones((50, RATE), np.float32)
    setup = task.setup("raw", settings={"time_shift_ms": 100})
    varied = task.augment(Split({"audio": x}, np.zeros(50)), np.random.default_rng(0), setup).x["audio"]
    lost = RATE - varied.sum(axis=1)
    assert 1200 < lost.max() <= 1600
    assert ((varied[:, 0] == 0) ^ (varied[:, -1] == 0) ^ (lost == 0)).all()


def test_masks_are_stretches_of_zeros_in_a_copy(task):
    x = np.ones((100, 30, 20), np.float32)
    setup = task.setup(settings={"mask_ms": 100, "mask_mels": 4})
    varied = task.augment(Split({"features": x}, np.zeros(100)), np.random.default_rng(0), setup).x["features"]
    assert (x == 1).all()
    frames, bands = (varied == 0).all(axis=2), (varied == 0).all(axis=1)
    assert set(frames.sum(axis=1)) == set(range(6))
    assert set(bands.sum(axis=1)) == set(range(5))
    np.testing.assert_array_equal(varied == 0, frames[:, :, np.newaxis] | bands[:, np.newaxis])
    for masks in (frames, bands):
        assert (np.abs(np.diff(masks.astype(int), axis=1)).sum(axis=1) <= 2).all()


def test_copies_with_noise_come_beside_the_clips_and_only_in_training(task):
    plain, noisy = (task.data(task.setup("raw", settings={**TINY, "copies": copies})) for copies in (0, 2))
    assert (len(noisy.train), len(noisy.test)) == (180, 20)
    clips = noisy.train.x["audio"].reshape(3, 60, -1)
    np.testing.assert_array_equal(clips[0], plain.train.x["audio"])
    np.testing.assert_array_equal(noisy.train.y, np.tile(plain.train.y, 3))
    assert np.abs(clips[1] - clips[2]).max() > 0.01
    powers = np.square(clips[1] - clips[0], dtype=np.float64).mean(axis=1)
    decibels = 10 * np.log10(np.square(clips[0], dtype=np.float64).mean(axis=1) / powers)
    assert decibels.min() == pytest.approx(6, abs=1.5)
    assert decibels.max() == pytest.approx(19, abs=1.5)


def test_noise_is_mixed_at_the_ratio_asked_for():
    generator = np.random.default_rng(0)
    clip, noise = generator.normal(size=(2, 4000)).astype(np.float32) * [[0.05], [7.0]]
    added = mix(clip, noise, 10) - clip
    assert np.square(clip).mean() / np.square(added).mean() == pytest.approx(10, rel=1e-3)
    np.testing.assert_array_equal(mix(clip, 0 * noise, 10), clip)
    np.testing.assert_array_equal(mix(0 * clip, noise, 10), 0 * clip)


# WAV files


def sine(samples, rate=RATE, hertz=440):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


def write_pcm(path, audio, width, rate=RATE):
    """Writes integers of 1 to 4 bytes with the standard library, one channel for each column."""
    columns = audio.reshape(len(audio), -1)
    levels = np.round(columns * (2 ** (8 * width - 1) - 1)).astype(np.int64) + (128 if width == 1 else 0)
    data = b"".join(int(level).to_bytes(width, "little", signed=width > 1) for level in levels.reshape(-1))
    with wave.open(str(path), "wb") as file:
        file.setparams((columns.shape[1], width, rate, len(columns), "NONE", ""))
        file.writeframes(data)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_integers_of_every_width_are_read(tmp_path, width):
    write_pcm(tmp_path / "a.wav", sine(500), width)
    audio, rate = read_wav(tmp_path / "a.wav")
    assert (rate, audio.dtype, audio.shape) == (RATE, np.float32, (500,))
    np.testing.assert_allclose(audio, sine(500), rtol=0, atol=2.0 ** (1 - 8 * width) * 1.1 + 1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_read(tmp_path, dtype):
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, sine(500).astype(dtype))
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav")[0], sine(500), rtol=0, atol=1e-7)


def test_channels_are_mixed_down_to_their_mean(tmp_path):
    write_pcm(tmp_path / "a.wav", np.stack([sine(500), 0.5 * sine(500)], axis=1), 2)
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav")[0], 0.75 * sine(500), rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_brought_to_16_khz(rate):
    audio = resample(sine(rate, rate).astype(np.float32), rate)
    assert len(audio) == RATE
    # Away from the ends, where the filter sees what is not there.
    np.testing.assert_allclose(audio[200:-200], sine(RATE)[200:-200], rtol=0, atol=2e-3)


def test_what_16_khz_cannot_hold_is_filtered_out():
    assert np.abs(resample(sine(44100, 44100, hertz=12000).astype(np.float32), 44100)[200:-200]).max() < 0.01


def test_clips_are_filled_up_and_cut_on_both_sides():
    np.testing.assert_array_equal(fit_length(np.array([1, 2, 3]), 6), [0, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(fit_length(np.array([1, 2, 3, 4, 5]), 3), [2, 3, 4])
    np.testing.assert_array_equal(fit_length(np.array([1, 2]), 2), [1, 2])


def damaged(tmp_path):
    write_pcm(tmp_path / "good.wav", sine(100), 2)
    good = (tmp_path / "good.wav").read_bytes()
    nan = tmp_path / "nan.wav"
    scipy.io.wavfile.write(nan, RATE, np.array([0, np.nan, 0], np.float32))
    return {
        "no bytes": b"",
        "text": b"this is no sound at all, but a text",
        "head alone": good[:30],
        "no sound": good[:36],
        "cut off": good[:100],
        "cut off in a sample": good[:101],
        "no channels": good[:22] + struct.pack("<H", 0) + good[24:],
        "zero samples": good[:4] + struct.pack("<I", 36) + good[8:40] + struct.pack("<I", 0),
        "not a number": nan.read_bytes(),
        "mu-law": good[:20] + struct.pack("<H", 7) + good[22:],
    }


@pytest.mark.parametrize("fault", ["no bytes", "text", "head alone", "no sound", "cut off", "cut off in a sample",
                                   "no channels", "zero samples", "not a number", "mu-law"])  # fmt: skip
def test_damaged_files_are_named(tmp_path, fault):
    path = tmp_path / "bad.wav"
    path.write_bytes(damaged(tmp_path)[fault])
    with pytest.raises(DataError, match=r"bad\.wav.*Replace or remove it\."):
        read_wav(path)


# Folders


def make_folder(folder, words=("yes", "no"), speakers=10, takes=1, name="{speaker:08x}_nohash_{take}.wav"):
    """The layout of Speech Commands, with a tone of its own for each word and speaker."""
    for number, word in enumerate(words):
        (folder / word).mkdir(parents=True)
        for speaker in range(speakers):
            for take in range(takes):
                tone = sine(3200, hertz=300 * (number + 1) + 10 * speaker + take)
                write_pcm(folder / word / name.format(speaker=speaker, take=take), tone, 2)
    return folder


def load(task, folder, variant="raw", **settings):
    return task.data(task.setup(variant, folder, settings={**FOLDER, **settings}))


def test_every_word_of_a_folder_is_a_class(task, tmp_path):
    data = load(task, make_folder(tmp_path, ("yes", "no", "go")))
    assert data.labels == ("go", "no", "yes")
    assert sum(map(len, data.splits.values())) == 30
    assert data.notes == ("There is no folder _background_noise_ with WAV files, so silence is not learnt from it.",)
    # Which word a clip is, by its tone: 300 Hz yes, 600 Hz no, 900 Hz go.
    for split in data.splits.values():
        hertz = np.abs(np.fft.rfft(split.x["audio"])).argmax(axis=1) * RATE / 3200
        assert [("yes", "no", "go")[round((value - 45) / 300) - 1] for value in hertz] == [
            data.labels[number] for number in split.y
        ]


def test_no_speaker_is_in_two_splits_and_the_split_does_not_depend_on_the_seed(task, tmp_path):
    folder = make_folder(tmp_path, speakers=30, takes=2)
    data = load(task, folder)
    tones = {
        name: set((np.abs(np.fft.rfft(split.x["audio"], 32000)).argmax(axis=1) / 2 % 300 // 10).astype(int))
        for name, split in data.splits.items()
    }
    assert set.union(*tones.values()) == set(range(30))
    assert sum(map(len, tones.values())) == 30
    other = task.data(task.setup("raw", folder, seed=5, settings=FOLDER))
    np.testing.assert_array_equal(other.test.x["audio"], data.test.x["audio"])


def test_the_lists_of_the_folder_decide_on_the_splits(task, tmp_path):
    folder = make_folder(tmp_path, speakers=6)
    (folder / "validation_list.txt").write_text("yes/00000001_nohash_0.wav\nno/00000001_nohash_0.wav\n", "utf-8")
    (folder / "testing_list.txt").write_text("yes/00000002_nohash_0.wav\r\n\r\nno/00000003_nohash_0.wav", "utf-8")
    data = load(task, folder)
    assert [len(split) for split in data.splits.values()] == [8, 2, 2]
    frequencies = np.abs(np.fft.rfft(data.test.x["audio"], 32000)).argmax(axis=1) / 2
    np.testing.assert_allclose(frequencies, [630, 320], atol=2)


@pytest.mark.parametrize(
    "lists, message",
    [
        (("yes/none.wav\n", "yes/00000002_nohash_0.wav\n"), r"validation_list\.txt names no file that is there"),
        (("yes/00000002_nohash_0.wav\n",) * 2, "yes/00000002_nohash_0.wav is in both lists"),
    ],
)
def test_lists_that_do_not_fit_are_refused(task, tmp_path, lists, message):
    folder = make_folder(tmp_path, speakers=6)
    for name, text in zip(("validation_list.txt", "testing_list.txt"), lists, strict=True):
        (folder / name).write_text(text, "utf-8")
    with pytest.raises(DataError, match=message):
        load(task, folder)


def test_a_single_list_is_left_aside_with_a_note(task, tmp_path):
    folder = make_folder(tmp_path)
    (folder / "testing_list.txt").write_text("yes/00000002_nohash_0.wav\n", "utf-8")
    assert "has testing_list.txt but not the other list" in load(task, folder).notes[0]


def test_other_words_than_those_asked_for_are_unknown_and_no_more_than_a_keyword(task, tmp_path):
    data = load(task, make_folder(tmp_path, ("yes", "no", "go", "up"), 10), words="no, yes")
    assert data.labels == ("no", "yes", "unknown")
    counts = sum(np.bincount(split.y, minlength=3) for split in data.splits.values())
    np.testing.assert_array_equal(counts, [10, 10, 10])


def test_of_each_word_no_more_clips_are_taken_than_allowed(task, tmp_path):
    data = load(task, make_folder(tmp_path, speakers=20), max_per_word=5)
    np.testing.assert_array_equal(np.bincount(data.train.y), [5, 5])


def test_background_noise_becomes_silence_and_parts_of_it_are_not_shared(task, tmp_path):
    folder = make_folder(tmp_path)
    (folder / "_background_noise_").mkdir()
    # It rises from start to end, so every cut tells where it is from; half of its level at most is lost.
    write_pcm(folder / "_background_noise_" / "fan.wav", np.linspace(0, 1, 5 * RATE), 2)
    data = load(task, folder)
    assert data.labels == ("no", "yes", "silence")
    assert data.notes == ()
    for split, (low, high) in {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}.items():
        cuts = data.splits[split].x["audio"][data.splits[split].y == 2].astype(np.float64)
        assert len(cuts)
        slopes = (cuts[:, -1] - cuts[:, 0]) / 3199 * (5 * RATE - 1)
        starts, ends = cuts[:, 0] / slopes, cuts[:, -1] / slopes
        assert (starts > low - 0.01).all()
        assert (ends < high + 0.01).all()


def test_rates_and_lengths_that_were_changed_are_told(task, tmp_path):
    folder = make_folder(tmp_path)
    write_pcm(folder / "yes" / "0000000a_nohash_0.wav", sine(1600, 8000), 2, rate=8000)
    write_pcm(folder / "yes" / "0000000b_nohash_0.wav", sine(1600), 2)
    write_pcm(folder / "yes" / "0000000c_nohash_0.WAV", sine(4800), 2)
    assert load(task, folder, copies=1).notes[1:] == (
        "1 files of 8000 samples per second were brought to 16000.",
        "1 clips are shorter than 0.2 s and were filled up with silence.",
        "1 clips are longer than 0.2 s; only their middle is used.",
    )


def test_names_without_a_speaker_are_told(task, tmp_path):
    data = load(task, make_folder(tmp_path, name="take{speaker}.wav"))
    assert "The names of the files tell no speaker" in data.notes[0]


def test_speakers_are_the_classes_of_their_variant(task, tmp_path):
    data = load(task, make_folder(tmp_path, speakers=4, takes=5), "speaker")
    assert data.labels == ("00000000", "00000001", "00000002", "00000003")
    for split, count in (("train", 8), ("validation", 1), ("test", 1)):
        np.testing.assert_array_equal(np.bincount(data.splits[split].y), [count] * 4)


def test_speakers_with_few_clips_are_left_out(task, tmp_path):
    folder = make_folder(tmp_path, speakers=3, takes=4)
    write_pcm(folder / "yes" / "beef_nohash_0.wav", sine(3200), 2)
    data = load(task, folder, "speaker")
    assert data.notes == ("1 speakers with fewer than 3 clips (min_clips) were left out.",)
    with pytest.raises(DataError, match="Fewer than 2 speakers have at least 100 clips"):
        load(task, folder, "speaker", min_clips=100)


def test_a_damaged_clip_is_named(task, tmp_path):
    folder = make_folder(tmp_path)
    (folder / "no" / "0000000a_nohash_0.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"no/0000000a_nohash_0\.wav"):
        load(task, folder)


def test_folders_from_which_nothing_can_be_learnt_are_refused(task, tmp_path):
    with pytest.raises(DataError, match="There are no WAV files in folders of"):
        load(task, tmp_path)
    with pytest.raises(DataError, match=r"has clips of 'yes' alone\. Give it a second class"):
        load(task, make_folder(tmp_path / "one", ("yes",)))
    with pytest.raises(DataError, match="are of 2 speakers, and 3 are needed"):
        load(task, make_folder(tmp_path / "two", speakers=2))
    with pytest.raises(DataError, match=r"has no WAV files of the word 'maybe'\. Its words are no, yes"):
        load(task, tmp_path / "two", words="yes,maybe")
    (tmp_path / "file.wav").write_bytes(b"")
    with pytest.raises(DataError, match="is no folder"):
        load(task, tmp_path / "file.wav")


def test_a_word_without_a_clip_to_train_on_is_refused(task, tmp_path):
    folder = make_folder(tmp_path, speakers=6)
    only = "".join(f"yes/{speaker:08x}_nohash_0.wav\n" for speaker in range(6))
    (folder / "testing_list.txt").write_text(only, "utf-8")
    (folder / "validation_list.txt").write_text("no/00000001_nohash_0.wav\n", "utf-8")
    with pytest.raises(DataError, match="No clip of 'yes' is left to be trained on"):
        load(task, folder)
