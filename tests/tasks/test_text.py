from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.texts.vocabulary import PADDING, START, UNKNOWN
from edgelstm.training.runs import build_model

TINY = {"num_train": 64, "num_validation": 16, "num_test": 16, "length": 20, "embedding": 4, "units": 4}


@pytest.fixture(scope="module")
def task():
    return load_task("text")


@pytest.fixture(scope="module")
def data(task):
    return task.data(task.setup(settings=TINY))


def built(task, variant, **settings):
    setup = task.setup(variant, settings={**TINY, **settings})
    return build_model(task, setup, task.data(setup))


def test_the_splits_have_the_sizes_asked_for(data):
    assert [split.x["ids"].shape for split in data.splits.values()] == [(64, 20), (16, 20), (16, 20)]
    assert all(split.x["ids"].dtype == split.y.dtype == np.int32 for split in data.splits.values())
    assert data.labels == ("negative", "positive")


def test_texts_begin_with_the_start_id_and_end_with_padding(data):
    ids = data.train.x["ids"]
    assert (ids[:, 0] == START).all()
    is_padding = ids == PADDING
    assert is_padding.any()
    assert (np.diff(is_padding.astype(int), axis=1) >= 0).all()


def test_inputs_are_the_encoded_texts(data):
    for name, split in data.splits.items():
        encoded = data.files["vocabulary.txt"].encode(data.extra["texts"][name], 20)
        np.testing.assert_array_equal(encoded, split.x["ids"])


def test_the_same_seed_gives_the_same_data_and_another_one_other_data(task, data):
    same, other = (task.data(task.setup(settings=TINY, seed=seed)).test.x["ids"] for seed in (0, 1))
    np.testing.assert_array_equal(same, data.test.x["ids"])
    assert (other != data.test.x["ids"]).any()


def test_both_classes_are_equally_frequent_in_every_split(data):
    assert {split.y.mean() for split in data.splits.values()} == {0.5}


def test_no_text_is_in_two_splits(task):
    settings = {"num_train": 2000, "num_validation": 500, "num_test": 1000}
    texts = task.data(task.setup(settings=settings, seed=3)).extra["texts"]
    assert len(set(texts["train"]) | set(texts["validation"]) | set(texts["test"])) == 3500


def test_the_default_vocabulary_and_length_cover_all_but_rare_words(task):
    data = task.data()
    assert len(data.files["vocabulary.txt"]) == 250
    assert (data.train.x["ids"][:, -1] == PADDING).all()
    for split in (data.train, data.test):
        assert 0.001 < (split.x["ids"] == UNKNOWN).mean() < 0.02


def test_a_bag_of_words_stays_far_below_what_the_lstm_reaches(task):
    data = task.data(task.setup(settings={"num_train": 3000, "num_test": 1000}))
    assert 0.55 < task.baselines(data)["bag_of_words"]["accuracy"] < 0.75


@pytest.mark.parametrize("split", ["num_train", "num_validation", "num_test"])
def test_a_split_without_both_classes_is_refused(task, split):
    with pytest.raises(SettingError, match=f"{split}=1: at least 2 texts are needed, one of each class"):
        task.data(task.setup(settings={**TINY, split: 1}))


def test_the_model_is_a_masked_embedding_an_lstm_and_a_probability(task):
    import keras

    model = built(task, "lstm", vocabulary_size=50, embedding=6, units=5, dropout=0.1, recurrent_dropout=0.3)
    _, embedding, lstm, dense = model.layers
    assert isinstance(lstm, keras.layers.LSTM)
    assert embedding.mask_zero
    assert (embedding.input_dim, embedding.output_dim, lstm.units) == (50, 6, 5)
    assert (lstm.dropout, lstm.recurrent_dropout) == (0.1, 0.3)
    assert dense.activation is keras.activations.sigmoid
    assert (model.name, model.input_shape, model.output_shape) == ("text", (None, 20), (None, 1))


def test_by_default_the_model_has_128_embedding_features_64_units_and_a_fifth_of_dropout(task, data):
    _, embedding, lstm, _ = task.build(task.setup(), data).layers
    assert (embedding.output_dim, lstm.units, lstm.dropout, lstm.recurrent_dropout) == (128, 64, 0.2, 0.2)


@pytest.mark.parametrize(
    "variant, count",
    [
        ("plain", 320_000 + 4 * 100 * (32 + 100 + 1) + 101),
        ("lstm", 1_280_000 + 4 * 64 * (128 + 64 + 1) + 65),
        ("bidirectional", 1_280_000 + 2 * 4 * 64 * (128 + 64 + 1) + 129),
        ("stacked", 1_280_000 + 4 * 128 * (128 + 128 + 1) + 4 * 64 * (128 + 64 + 1) + 65),
        ("conv", 1_280_000 + 64 * (3 * 128 + 1) + 4 * 100 * (64 + 100 + 1) + 101),
        ("attention", 1_280_000 + 4 * 64 * (128 + 64 + 1) + 65),
        ("permute", 1_280_000 + 4 * 64 * (128 + 64 + 1) + 20 * 21 + 65),
        ("normalized", 1_280_000 + 4 * 64 * (128 + 64 + 1) + 2 * 4 * 64 * 129 + 2 * 64 + 4 * 64 + 65),
    ],
)
def test_variants_have_the_parameters_of_their_layers(task, data, variant, count):
    setup = task.setup(variant, settings={"vocabulary_size": 10_000})
    assert task.build(setup, data).count_params() == count


def test_the_plain_variant_has_373301_parameters_with_10000_words(task, data):
    setup = task.setup("plain", settings={"vocabulary_size": 10_000, "length": 500})
    assert task.build(setup, data).count_params() == 373_301


@pytest.mark.parametrize("variant", load_task("text").variants)
def test_padding_says_nothing(task, variant):
    """With the same weights, more padding leaves the answers as they are."""
    short, long = (built(task, variant, length=length) for length in (20, 31))
    data = task.data(task.setup(settings=TINY))
    ids = data.train.x["ids"][(data.train.x["ids"] == PADDING).any(axis=1)]
    generator = np.random.default_rng(0)
    weights = [generator.uniform(*_range(variable), variable.shape) for variable in short.weights]
    short.set_weights(weights)
    long.set_weights(
        [_grown(value, there.shape, generator) for value, there in zip(weights, long.get_weights(), strict=True)]
    )
    answers = short.predict(ids, verbose=0)
    padded = long.predict(np.pad(ids, ((0, 0), (0, 11))), verbose=0)
    assert answers.std() > 1e-3
    np.testing.assert_allclose(padded, answers, rtol=0, atol=1e-6)
    cut = ids.copy()
    cut[np.arange(len(ids)), (ids != PADDING).sum(axis=1) - 1] = PADDING
    assert np.abs(short.predict(cut, verbose=0) - answers).max() > 1e-3  # the last word says something


def _range(variable):
    """Scales and variances are near 1, or a small one would hide what comes through it."""
    return (0.5, 1.5) if "gamma" in variable.path or "variance" in variable.path else (-1.5, 1.5)


def _grown(value, shape, generator):
    """Weights over the steps of a longer text: those of its further steps are anything."""
    grown = generator.normal(0, 0.5, shape)
    grown[tuple(slice(size) for size in value.shape)] = value
    return grown


@pytest.mark.parametrize("variant", ["conv", "attention", "permute"])
def test_an_architecture_with_padding_of_its_own_survives_saving(task, variant, tmp_path):
    import keras

    model = built(task, variant)
    model.save(tmp_path / "model.keras")
    ids = task.data(task.setup(settings=TINY)).test.x["ids"]
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(ids, verbose=0), model.predict(ids, verbose=0), rtol=0, atol=1e-7)


def test_a_folder_of_two_classes_is_read(task, tmp_path):
    for name in ("pos", "neg"):
        (tmp_path / name).mkdir()
        for number in range(20):
            text = f"the film number {number} was {'good' if name == 'pos' else 'bad'}"
            (tmp_path / name / f"{number}_7.txt").write_text(text, encoding="utf-8")
    data = task.data(task.setup(source=tmp_path))
    assert data.labels == ("neg", "pos")
    assert [len(split) for split in data.splits.values()] == [28, 4, 8]
    vocabulary = data.files["vocabulary.txt"]
    for split in data.splits.values():
        assert split.x["ids"].shape[1] == 200
        assert [("good" in vocabulary.decode(ids)) for ids in split.x["ids"]] == list(split.y == 1)


def test_texts_of_three_classes_are_refused(task, tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{'abc'[n % 3]}\n" for n in range(30)), encoding="utf-8")
    with pytest.raises(DataError, match=r"are of 3 classes, a, b, c, and this task tells two apart: the task 'topic'"):
        task.data(task.setup(source=path))
