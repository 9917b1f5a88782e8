from __future__ import annotations

import json
import re
import sys
import types

import numpy as np
import pytest

from edgelstm.errors import DataError, MissingExtraError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.texts.encoders import GUESSED_SHARE, build_small, hide_words, pretrain
from edgelstm.tasks.texts.vocabulary import PADDING, START, UNKNOWN, Vocabulary

TINY = {
    **{"num_train": 64, "num_validation": 16, "num_test": 16, "length": 20},
    **{"encoder_width": 8, "encoder_heads": 2, "pretrain_epochs": 0, "units": 4},
}
VARIANTS = ("frozen", "tuned", "bidirectional")


@pytest.fixture(scope="module")
def task():
    return load_task("hybrid")


@pytest.fixture(scope="module")
def data(task):
    return task.data(task.setup(settings=TINY))


@pytest.fixture
def ids():
    """Texts of 2 to 12 words, padded at the end."""
    generator = np.random.default_rng(0)
    ids = generator.integers(UNKNOWN + 1, 30, (40, 13)).astype(np.int32)
    ids[:, 0] = START
    for row, length in enumerate(generator.integers(3, 14, 40)):
        ids[row, length:] = PADDING
    return ids


def small(task, length, seed=0, **settings):
    import keras

    keras.utils.set_random_seed(seed)
    encoder = build_small(task.setup(settings={**TINY, **settings}), 30, length)
    generator = np.random.default_rng(seed)
    encoder.set_weights([generator.normal(0, 0.5, weight.shape) for weight in encoder.get_weights()])
    return encoder


def softmax(scores):
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def reference(encoder, ids, heads):
    """The encoder in NumPy, one text after the other, without its padding."""
    weights = {}
    for layer in encoder.layers:
        weights[layer.name] = layer.get_weights()
    norms = [layer.get_weights() for layer in encoder.layers if type(layer).__name__ == "LayerNormalization"]
    plain = [each.get_weights() for each in encoder.layers if re.fullmatch(r"dense(_\d+)?", each.name)]

    def dense(name, x):
        return x @ weights[name][0] + weights[name][1]

    def normalize(x, number):
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
        gamma, beta = norms[number]
        return gamma * (x - mean) / np.sqrt(variance + 1e-6) + beta

    results = []
    for row in ids:
        text = row[row != PADDING]
        x = (weights["words"][0][text] + weights["places"][0][: len(text)]).astype(np.float64)
        for block in range(len(norms) // 2):
            query, key, value = (dense(f"attention_{block}_{part}", x) for part in ("query", "key", "value"))
            size = x.shape[1] // heads
            met = [
                softmax(query[:, part] @ key[:, part].T / np.sqrt(size)) @ value[:, part]
                for part in (slice(head * size, (head + 1) * size) for head in range(heads))
            ]
            attended = dense(f"attention_{block}_output", np.concatenate(met, axis=1))
            x = normalize(x + attended, 2 * block)
            (up, up_bias), (down, down_bias) = plain[2 * block : 2 * block + 2]
            x = normalize(x + np.maximum(x @ up + up_bias, 0) @ down + down_bias, 2 * block + 1)
        results.append(x)
    return results


@pytest.mark.parametrize("heads, blocks", [(1, 1), (2, 2), (4, 1)])
def test_the_small_encoder_is_a_transformer_that_padding_does_not_reach(task, ids, heads, blocks):
    encoder = small(task, 13, encoder_heads=heads, encoder_blocks=blocks)
    features = encoder.predict(ids, verbose=0)
    assert features.shape == (40, 13, 8)
    for found, expected in zip(features, reference(encoder, ids, heads), strict=True):
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=2e-5)


def test_places_matter_to_the_small_encoder(task, ids):
    encoder = small(task, 13)
    swapped = ids.copy()
    swapped[:, [1, 2]] = ids[:, [2, 1]]
    difference = encoder.predict(swapped, verbose=0)[:, [0, 2, 1]] - encoder.predict(ids, verbose=0)[:, :3]
    assert np.abs(difference[ids[:, 1] != ids[:, 2]]).max() > 0.1


def test_the_small_encoder_reloads_in_plain_keras(task, ids, tmp_path, run_python):
    encoder = small(task, 13)
    encoder.save(tmp_path / "encoder.keras")
    np.savez(tmp_path / "both.npz", ids=ids, features=encoder.predict(ids, verbose=0))
    done = run_python(
        "import sys, os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import keras, numpy as np\n"
        "both = np.load(sys.argv[2]); model = keras.models.load_model(sys.argv[1])\n"
        "assert 'edgelstm' not in sys.modules\n"
        "print(np.abs(model.predict(both['ids'], verbose=0) - both['features']).max())",
        tmp_path / "encoder.keras",
        tmp_path / "both.npz",
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_does_not_change_an_answer(task, variant):
    import keras

    answers, weights = [], []
    for length in (64, 90):
        setup = task.setup(variant, settings={**TINY, "length": length})
        data = task.data(setup)
        keras.utils.set_random_seed(0)
        model = task.build(setup, data)
        if weights:  # more places have embeddings; the further ones keep their own
            values = model.get_weights()
            for value, shorter in zip(values, weights, strict=True):
                value[tuple(slice(side) for side in shorter.shape)] = shorter
            model.set_weights(values)
        weights = model.get_weights()
        answers.append(model.predict(data.test.x["ids"], verbose=0))
    assert np.ptp(answers[0][:, 0]) > 1e-3
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant, trained", [("frozen", 3), ("bidirectional", 6), ("tuned", 3 + 18)])
def test_only_the_tuned_encoder_is_trained_along(task, data, variant, trained):
    model = task.build(task.setup(variant, settings=TINY), data)
    assert len(model.trainable_weights) == trained + 2  # and the dense layer
    assert len(model.weights) >= 18 + 5
    assert model.output_shape == (None, 10)


def test_freeze_can_be_turned_off_in_each_variant(task, data):
    model = task.build(task.setup("bidirectional", settings={**TINY, "freeze": False}), data)
    assert not model.non_trainable_weights


def test_hidden_words_are_words_and_can_be_found_again(ids):
    num_words, num_guessed = 30, 3
    seen, places, counts = hide_words(ids, num_guessed, num_words, np.random.default_rng(0))
    lengths = (ids > UNKNOWN).sum(axis=1)
    np.testing.assert_array_equal(counts.sum(axis=1), np.minimum(np.ceil(GUESSED_SHARE * lengths), num_guessed))
    changed = np.zeros(ids.shape, bool)
    np.put_along_axis(changed, places, counts > 0, axis=1)
    np.testing.assert_array_equal(seen[~changed], ids[~changed])
    assert (ids[changed] > UNKNOWN).all()
    assert (seen[changed] >= UNKNOWN).all()
    assert 0.25 < (seen[changed] == UNKNOWN).mean() < 0.65
    assert 0.35 < (seen[changed] == ids[changed]).mean() < 0.75
    assert (seen[changed] != ids[changed]).sum() > (seen[changed] == UNKNOWN).sum()  # some became another word
    assert ((places >= 0) & (places < ids.shape[1])).all()


def test_a_text_without_words_hides_nothing():
    ids = np.array([[START, PADDING, PADDING]], np.int32)
    seen, _, counts = hide_words(ids, 1, 30, np.random.default_rng(0))
    np.testing.assert_array_equal(seen, ids)
    assert counts.sum() == 0


def test_pretraining_lowers_its_loss_and_does_not_look_at_labels(task, ids):
    texts = np.tile(ids, (10, 1))
    texts[:, 2:12:2] = np.where(texts[:, 2:12:2] > UNKNOWN, texts[:, 1:11:2], texts[:, 2:12:2])  # words come in pairs
    encoder = build_small(task.setup(settings=TINY), 30, 13)
    before = [weight.copy() for weight in encoder.get_weights()]
    losses = pretrain(encoder, texts, 30, task.setup(settings={**TINY, "pretrain_epochs": 6}))
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.2
    assert losses[0] == pytest.approx(np.log(30), abs=0.4)
    for was, weight in zip(before, encoder.get_weights(), strict=True):
        assert np.abs(weight - was).max() > 0


def test_no_pretraining_leaves_the_encoder_alone(task, ids):
    encoder = small(task, 13)
    before = encoder.get_weights()
    assert pretrain(encoder, ids, 30, task.setup(settings=TINY)) == []
    for was, weight in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, was)


@pytest.fixture
def folder(task, tmp_path):
    """An encoder with its vocabulary beside it."""
    small(task, 13).save(tmp_path / "encoder.keras")
    words = [*Vocabulary.from_texts(["the plot was good and bad"], 30).words, *(f"word{n}" for n in range(20))]
    Vocabulary(words).save(tmp_path / "vocabulary.txt")
    return tmp_path


def test_an_encoder_from_a_file_brings_its_vocabulary_and_length(task, folder):
    setup = task.setup(settings={**TINY, "encoder": str(folder / "encoder.keras")})
    data = task.data(setup)
    assert data.train.x["ids"].shape == (64, 13)
    vocabulary = Vocabulary.load(folder / "vocabulary.txt")
    assert data.files["vocabulary.txt"].words == vocabulary.words
    np.testing.assert_array_equal(vocabulary.encode(data.extra["texts"]["test"], 13), data.test.x["ids"])
    assert any("of the words in the validation texts" in note for note in data.notes)


def test_an_encoder_from_a_file_keeps_its_weights(task, folder):
    setup = task.setup(settings={**TINY, "encoder": str(folder / "encoder.keras")})
    model = task.build(setup, task.data(setup))
    expected = small(task, 13).get_weights()
    for weight, value in zip(model.get_layer("encoder").get_weights(), expected, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert len(model.trainable_weights) == 5


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "vocabulary.txt").unlink(), "vocabulary.txt beside it: Cannot read the vocabulary"),
        (lambda folder: (folder / "encoder.keras").write_bytes(b"x"), "needs a Keras model and vocabulary.txt"),
        (lambda folder: (folder / "encoder.keras").unlink(), "There is no encoder"),
        (
            lambda folder: Vocabulary([*Vocabulary.from_texts(["a"], 9).words, *map(str, range(40))]).save(
                folder / "vocabulary.txt"
            ),
            r"has 44 words, and the encoder .* knows 30",
        ),
    ],
)
def test_a_file_that_is_no_encoder_is_refused(task, folder, damage, message):
    damage(folder)
    with pytest.raises(DataError, match=message):
        task.data(task.setup(settings={**TINY, "encoder": str(folder / "encoder.keras")}))


def test_a_whole_classifier_is_no_encoder(task, data, folder):
    task.build(task.setup(settings=TINY), data).save(folder / "encoder.keras")
    with pytest.raises(DataError, match=r"is no encoder: it makes \[\(None, 10\)\] of \[\(None, 20\)\]"):
        task.data(task.setup(settings={**TINY, "encoder": str(folder / "encoder.keras")}))


def test_the_users_texts_may_be_of_any_number_of_classes(task, tmp_path):
    rows = [f"text number {n} of kind {n % 3},{'abc'[n % 3]}" for n in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    setup = task.setup(source=tmp_path / "t.csv", settings={**TINY, "vocabulary_size": 50})
    data = task.data(setup)
    assert data.labels == ("a", "b", "c")
    assert task.build(setup, data).output_shape == (None, 3)


def test_words_alone_stay_far_below(task):
    data = task.data(task.setup(settings={"num_train": 2000, "num_test": 800}))
    assert 0.5 < task.baselines(data)["bag_of_words"]["accuracy"] < 0.72


def test_without_keras_hub_a_preset_says_how_to_install_it(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(MissingExtraError, match=r"'bert_tiny' is no file, and presets .*: pip install keras-hub"):
        task.data(task.setup(settings={**TINY, "encoder": "bert_tiny"}))


class Preprocessor:
    """Stands in for KerasHub's: ids are lengths of words, 9 is padding."""

    tokenizer = types.SimpleNamespace(pad_token_id=9)

    def __init__(self, sequence_length):
        self.length = sequence_length

    @classmethod
    def from_preset(cls, name, sequence_length):
        return cls(sequence_length)

    def __call__(self, texts):
        ids = [([min(len(word), 8) for word in text.split()] + self.length * [9])[: self.length] for text in texts]
        return {"token_ids": np.array(ids), "segment_ids": np.zeros_like(ids)}


class Backbone:
    """Stands in for KerasHub's: three inputs by name, two outputs by name."""

    @classmethod
    def from_preset(cls, name):
        import keras

        names = ("token_ids", "padding_mask", "segment_ids")
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
        x = keras.layers.Embedding(10, 6)(inputs["token_ids"])
        x = x * keras.ops.expand_dims(keras.ops.cast(inputs["padding_mask"] - inputs["segment_ids"], "float32"), -1)
        return keras.Model(inputs, {"sequence_output": x, "pooled_output": x[:, 0]})


class Broken:
    """A preset that needs the network."""

    @classmethod
    def from_preset(cls, name, **options):
        raise OSError("no\nnetwork")


@pytest.fixture
def keras_hub(monkeypatch):
    models = types.SimpleNamespace(TextClassifierPreprocessor=Preprocessor, Backbone=Backbone)
    monkeypatch.setitem(sys.modules, "keras_hub", types.SimpleNamespace(models=models))
    return models


def test_a_preset_brings_its_ids_padding_and_inputs(task, keras_hub, tmp_path):
    setup = task.setup(settings={**TINY, "encoder": "bert_tiny"})
    data = task.data(setup)
    assert data.train.x["ids"].dtype == np.int32
    first = data.extra["texts"]["train"][0].split()
    assert list(data.train.x["ids"][0][: len(first)]) == [min(len(word), 8) for word in first][:20]
    data.files["tokenizer.json"].save(tmp_path / "tokenizer.json")
    document = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert document == {"keras_hub_preset": "bert_tiny", "length": 20, "padding": 9}
    model = task.build(setup, data)
    assert len(model.trainable_weights) == 5
    answers = model.predict(data.test.x["ids"], verbose=0)
    shorter = data.test.x["ids"].copy()
    shorter[shorter == 9] = 0  # no longer padding, so that the LSTM reads on
    assert np.abs(model.predict(shorter, verbose=0) - answers).max() > 1e-4


def test_a_preset_can_be_trained_along(task, keras_hub):
    setup = task.setup("tuned", settings={**TINY, "encoder": "bert_tiny"})
    assert len(task.build(setup, task.data(setup)).trainable_weights) == 6


def test_a_preset_that_cannot_be_had_is_one_sentence(task, keras_hub):
    keras_hub.TextClassifierPreprocessor = Broken
    with pytest.raises(DataError, match=r"'bert' is neither a file nor a preset that .* downloaded: no network"):
        task.data(task.setup(settings={**TINY, "encoder": "bert"}))


def test_words_of_a_preset_are_not_varied(task, keras_hub):
    with pytest.raises(SettingError, match="'word_dropout' varies words, and the encoder 'bert' has pieces of words"):
        task.data(task.setup(settings={**TINY, "encoder": "bert", "word_dropout": 0.1}))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"encoder": ""}, "'encoder' is empty"),
        ({"pretrain_epochs": -1}, "'pretrain_epochs' must be 0 or more, not -1"),
        ({"encoder_heads": 3}, "encoder_width=8, encoder_heads=3, encoder_blocks=1: .* multiple of the heads"),
    ],
)
def test_impossible_settings_are_refused(task, settings, message):
    setup = task.setup(settings={**TINY, **settings})
    with pytest.raises(SettingError, match=message):
        task.build(setup, task.data(setup))
