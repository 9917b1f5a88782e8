from __future__ import annotations

import gzip
import zipfile
from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.graph import Graph
from edgelstm.converters.stages.shrink_embedding import ShrinkEmbedding
from edgelstm.converters.stages.surgery import named_layers
from edgelstm.errors import SettingError, StageError
from tests.converters.forms import TwoReaders
from tests.converters.stages.workshop import TinyWorkshop
from tests.converters.tiny import floats, functional, sequential

VOCABULARY, WIDTH, TIME, UNITS, CLASSES = 120, 12, 9, 5, 3
NEVER = (17, 40, 41, 119)
UNKNOWN = 2


def embedding(name: str = "table", width: int = WIDTH, **arguments: Any) -> Any:
    return layers.Embedding(VOCABULARY, width, name=name, **{"mask_zero": True} | arguments)


def tokens(name: str = "tokens", dtype: str = "int32") -> Any:
    return keras.Input((TIME,), name=name, dtype=dtype)


def answer(x: Any) -> Any:
    return layers.Dense(CLASSES, activation="softmax", name="answer")(x)


def plain() -> keras.Model:
    return sequential(
        layers.Input((TIME,), name="tokens", dtype="int32"),
        embedding(),
        layers.Dropout(0.1),
        layers.LSTM(UNITS, name="lstm"),
        layers.Dense(CLASSES, activation="softmax", name="answer"),
    )


def bidirectional() -> keras.Model:
    ids = tokens()
    rows = embedding()(ids)
    both = layers.Bidirectional(layers.LSTM(UNITS), name="both")(rows)
    return functional(ids, answer(layers.Concatenate()([both, layers.LSTM(4, name="lstm")(rows)])))


def pooled() -> keras.Model:
    ids = tokens()
    rows = embedding()(ids)
    pool = layers.GlobalAveragePooling1D()(rows)
    return functional(ids, answer(layers.Concatenate()([pool, layers.LSTM(UNITS, name="lstm")(rows)])))


def two_tables() -> keras.Model:
    ids = tokens()
    first = layers.LSTM(UNITS)(embedding("first")(ids))
    second = layers.LSTM(UNITS)(embedding("second", 8, mask_zero=False)(ids))
    return functional(ids, answer(layers.Concatenate()([first, second])))


def shared_table() -> keras.Model:
    left, right = tokens("left"), tokens("right")
    table, lstm = embedding(), layers.LSTM(UNITS, name="lstm")
    return functional([left, right], answer(layers.Subtract()([lstm(table(left)), lstm(table(right))])))


def nested() -> keras.Model:
    inner_ids = keras.Input((TIME,), dtype="int32")
    inner = keras.Model(inner_ids, layers.LSTM(UNITS, name="lstm")(embedding()(inner_ids)), name="inner")
    ids, signal = tokens("words"), keras.Input((TIME, 2), name="signal")
    return functional([ids, signal], answer(layers.Concatenate()([inner(ids), layers.LSTM(3, name="other")(signal)])))


MODELS = [plain, bidirectional, pooled, two_tables, shared_table, nested]


def data(model: keras.Model, count: int = 150, seed: int = 0, *, all_ids: bool = False) -> dict[str, Any]:
    """Ids as frequent as words, some of them never there, behind padding."""
    arrays = {}
    for number, tensor in enumerate(model.inputs):
        rng = np.random.default_rng([seed, number])
        if len(tensor.shape) == 3:
            arrays[tensor.name] = rng.normal(size=(count, *tensor.shape[1:])).astype(np.float32)
            continue
        shown = np.array([each for each in range(1, VOCABULARY) if all_ids or each not in NEVER])
        ids = rng.choice(shown, (count, TIME), p=(1 / shown) / (1 / shown).sum())
        ids[:100].flat[: len(shown)] = shown
        padding = rng.integers(0, TIME - 1, (count, 1))
        padding[:20] = 0
        arrays[tensor.name] = np.where(np.arange(TIME) < padding, 0, ids).astype(np.int32)
    return arrays


def workshop_for(model: keras.Model, count: int = 150) -> TinyWorkshop:
    return TinyWorkshop(data(model, count), np.random.default_rng(1).integers(0, CLASSES, count))


def call(model: keras.Model, x: dict[str, Any], new_ids: Any = None) -> Any:
    values = [x[tensor.name] if new_ids is None else new_ids.get(tensor.name, _same)(x) for tensor in model.inputs]
    return np.array(model(values if len(values) > 1 else values[0]))


def _same(x: dict[str, Any]) -> Any:
    return x["signal"]


def renumbered(outcome: Any) -> dict[str, Any]:
    return {name: lambda x, name=name, new=new: new[x[name]] for name, new in outcome.tokens.items()}


def table(model: keras.Model, path: str = "table") -> Any:
    return np.array(named_layers(model)[path].embeddings, np.float64)


def counts_of(shop: TinyWorkshop, *names: str) -> Counter[int]:
    return Counter(int(each) for name in names or ("tokens",) for each in shop.train.x[name].flat)


@pytest.mark.parametrize("build", MODELS)
def test_dropping_ids_that_are_never_shown_changes_no_answer(build):
    model = build()
    shop = workshop_for(model)
    outcome = ShrinkEmbedding(epochs=0).apply(model, shop)
    x = {name: values[: len(shop.train)] for name, values in data(model).items()}
    np.testing.assert_allclose(call(outcome.model, x, renumbered(outcome)), call(model, x), atol=1e-6)
    ids = [name for name in x if name != "signal"]
    never = VOCABULARY - len(set(counts_of(shop, *ids)) | {0, 1, 2})
    assert never >= len(NEVER)
    rows = {path: layer.input_dim for path, layer in named_layers(outcome.model).items() if hasattr(layer, "input_dim")}
    assert set(rows.values()) == {VOCABULARY - never}
    widths = sum(layer.output_dim for layer in named_layers(model).values() if hasattr(layer, "output_dim"))
    assert outcome.model.count_params() == model.count_params() - never * widths
    assert set(named_layers(model)) == set(named_layers(outcome.model))
    assert sorted(outcome.tokens) == sorted(ids)


@pytest.mark.parametrize("build", MODELS)
def test_dropped_ids_answer_as_the_unknown_one(build):
    model = build()
    shop = workshop_for(model)
    outcome = ShrinkEmbedding(vocabulary=30, merge=False, epochs=0).apply(model, shop)
    x = data(model, 20, seed=5, all_ids=True)
    inputs = [name for name in x if name != "signal"]
    frequent = sorted(counts_of(shop, *inputs).items(), key=lambda item: (-item[1], item[0]))
    kept = [0, 1, 2, *sorted([each for each, _ in frequent if each > 2][:27])]
    unknown = {name: np.where(np.isin(x[name], kept), x[name], UNKNOWN) for name in inputs}
    assert any((unknown[name] != x[name]).any() for name in inputs)
    np.testing.assert_allclose(call(outcome.model, x, renumbered(outcome)), call(model, x | unknown), atol=1e-6)
    for new in outcome.tokens.values():
        assert new.dtype == np.int32
        assert [int(new[each]) for each in kept] == list(range(30))
        assert {int(new[each]) for each in range(VOCABULARY) if each not in kept} == {UNKNOWN}


def test_the_unknown_row_becomes_the_mean_of_what_was_dropped_by_how_often_it_occurs():
    model, shop = plain(), workshop_for(plain())
    outcome = ShrinkEmbedding(min_count=9, epochs=0).apply(model, shop)
    counts, old = counts_of(shop), table(model)
    joined = [each for each in counts if each > 2 and counts[each] < 9] + [2]
    mean = sum(counts[each] * old[each] for each in joined) / sum(counts[each] for each in joined)
    kept = [each for each in range(VOCABULARY) if each < 3 or counts[each] >= 9]
    new = table(outcome.model)
    np.testing.assert_allclose(new[UNKNOWN], mean, rtol=1e-6)
    np.testing.assert_array_equal(np.delete(new, UNKNOWN, 0), np.delete(old[kept], UNKNOWN, 0))
    words = sum(counts.values()) - counts[0]
    share = sum(counts[each] for each in joined) / words
    assert outcome.figures["tables"]["table"]["unknown"] == pytest.approx(share)


def test_special_ids_and_the_unknown_one_are_settings():
    model, shop = plain(), workshop_for(plain())
    outcome = ShrinkEmbedding(special=6, unknown=4, vocabulary=6, merge=False, epochs=0).apply(model, shop)
    assert outcome.tokens["tokens"].tolist() == [0, 1, 2, 3, 4, 5] + [4] * (VOCABULARY - 6)
    np.testing.assert_array_equal(table(outcome.model), table(model)[:6])


def low_rank_table(model: keras.Model, rank: int) -> None:
    for layer in named_layers(model).values():
        if type(layer) is layers.Embedding:
            layer.set_weights([floats(VOCABULARY, rank) @ floats(rank, layer.output_dim, seed=1)])


@pytest.mark.parametrize("build", MODELS)
def test_a_table_of_low_rank_becomes_narrow_without_a_loss(build):
    model = build()
    low_rank_table(model, 2)
    shop = workshop_for(model)
    outcome = ShrinkEmbedding(energy=1.0, min_count=0, epochs=0).apply(model, shop)
    x = data(model, 20, seed=5, all_ids=True)
    np.testing.assert_allclose(call(outcome.model, x), call(model, x), atol=1e-5)
    for path, figures in outcome.figures["tables"].items():
        assert figures["width"][1] == 2
        assert named_layers(outcome.model)[path].output_dim == 2
        assert figures["folded"] == (build is not pooled)
        assert (f"{path}_width" in named_layers(outcome.model)) == (build is pooled)
    assert not outcome.tokens


def test_the_error_of_what_the_lstm_computes_of_the_words_is_the_least_there_is():
    model, shop = plain(), workshop_for(plain())
    outcome = ShrinkEmbedding(rank=4, min_count=0, epochs=0).apply(model, shop)
    read = shop.train.x["tokens"][shop.train.x["tokens"] != 0]
    kernel = np.array(model.get_layer("lstm").cell.kernel, np.float64)
    before = table(model)[read] @ kernel
    after = table(outcome.model)[read] @ np.array(outcome.model.get_layer("lstm").cell.kernel, np.float64)
    least = np.linalg.svd(before, compute_uv=False)[4:]
    assert np.linalg.norm(before - after) == pytest.approx(np.sqrt((least**2).sum()), rel=1e-4)
    assert outcome.model.count_params() == model.count_params() - (WIDTH - 4) * (VOCABULARY + 4 * UNITS)


def test_the_error_of_the_rows_is_the_least_there_is_where_a_dense_follows():
    model, shop = pooled(), workshop_for(pooled())
    outcome = ShrinkEmbedding(rank=4, min_count=0, epochs=0).apply(model, shop)
    read = shop.train.x["tokens"][shop.train.x["tokens"] != 0]
    after = table(outcome.model)[read] @ np.array(outcome.model.get_layer("table_width").kernel, np.float64)
    least = np.linalg.svd(table(model)[read], compute_uv=False)[4:]
    assert np.linalg.norm(table(model)[read] - after) == pytest.approx(np.sqrt((least**2).sum()), rel=1e-4)
    assert outcome.model.count_params() == model.count_params() - WIDTH * VOCABULARY + 4 * (WIDTH + VOCABULARY)


def test_a_dense_behind_the_table_hands_its_mask_on():
    model, shop = pooled(), workshop_for(pooled())
    new = ShrinkEmbedding(rank=3, min_count=0, epochs=0).apply(model, shop).model
    words, shifted = np.array([[5, 9, 3]]), np.zeros((2, TIME), np.int32)
    shifted[0, :3], shifted[1, 4:7] = words, words
    np.testing.assert_allclose(*np.array(new(shifted)), atol=1e-6)


def test_all_three_at_once_and_fine_tuned():
    model, shop = plain(), workshop_for(plain())
    stage = ShrinkEmbedding(vocabulary=40, rank=5, bits=4, epochs=1)
    keras.utils.set_random_seed(0)  # as before every stage of a recipe: it gives a Dropout its seed
    outcome = stage.apply(model, shop)
    untrained = ShrinkEmbedding(vocabulary=40, rank=5, bits=4, epochs=0).apply(model, shop)
    assert shop.trainings[0] == {"epochs": 1, "keep": "best", "name": "tables"}
    other = shop.with_tokens(outcome.tokens)
    assert other.loss(outcome.model) < other.loss(untrained.model)
    assert table(outcome.model).shape == (40, 5)
    assert not np.array_equal(table(outcome.model), table(untrained.model))
    on_one_grid(table(outcome.model), 4)
    keras.utils.set_random_seed(0)
    again = stage.apply(model, shop).model
    for first, second in zip(outcome.model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def on_one_grid(values: Any, bits: int) -> None:
    stored = values / (np.abs(values).max() / 127)
    np.testing.assert_allclose(stored, np.rint(stored), atol=1e-3)
    if bits == 4:
        assert set(np.unique(np.rint(np.abs(stored)))) <= {0, 18, 36, 54, 73, 91, 109, 127}


@pytest.mark.parametrize("bits", [8, 4])
def test_values_on_the_grid_are_the_nearest_ones(bits):
    model, shop = plain(), workshop_for(plain())
    old, new = table(model), table(ShrinkEmbedding(bits=bits, min_count=0, epochs=0).apply(model, shop).model)
    on_one_grid(new, bits)
    levels = np.array([-127, -109, -91, -73, -54, -36, -18, 0, 18, 36, 54, 73, 91, 109, 127])
    grid = (levels if bits == 4 else np.arange(-127, 128)) * np.abs(new).max() / 127
    nearest = np.abs(old[..., None] - grid).min(-1)
    width, step = np.diff(grid).max(), np.abs(new).max() / 127  # levels of 4 bits stand up to half a step off even ones
    assert (np.abs(old - new) <= nearest + (step if bits == 4 else 1e-6)).all()
    assert np.abs(old - new).mean() < 0.3 * width


@pytest.mark.parametrize("bits", [8, 4])
def test_the_file_stores_the_values_of_the_grid_exactly(bits, tmp_path):
    model, shop = plain(), workshop_for(plain())
    sizes = {}
    for each in (0, bits):
        new = ShrinkEmbedding(bits=each, vocabulary=100, epochs=int(each > 0)).apply(model, shop).model
        path = tmp_path / f"{each}.tflite"
        edgelstm.convert(new, path, quantize="dynamic")
        sizes[each] = len(gzip.compress(path.read_bytes(), mtime=0))
    graph = Graph.from_bytes(path.read_bytes())
    (stored,) = [
        (graph.constant(index), tensor.quantization.scale[0])
        for index, tensor in enumerate(graph.subgraph.tensors)
        if graph.shape(index) == [100, WIDTH] and graph.constant(index) is not None
    ]
    assert stored[0].dtype == np.int8
    np.testing.assert_allclose(stored[0] * stored[1], table(new), rtol=1e-6, atol=1e-9)
    assert sizes[bits] < sizes[0] - (300 if bits == 4 else -20)  # of 1,200 values


# Not pooled in int8: the mean over real words divides, and tflite-runtime 2.14 does not divide int8.
@pytest.mark.parametrize(
    "build, precision",
    [(build, precision) for build in (bidirectional, nested) for precision in ("float32", "dynamic", "int8")]
    + [(pooled, "float32"), (pooled, "dynamic")],
)
def test_the_result_converts(build, precision, tmp_path):
    model = build()
    outcome = ShrinkEmbedding(vocabulary=90, rank=6, bits=4, epochs=0).apply(model, workshop_for(model))
    x = {name: outcome.tokens[name][each] if name in outcome.tokens else each for name, each in data(model).items()}
    artifact = edgelstm.convert(outcome.model, tmp_path / "a.tflite", quantize=precision, calibration=x)
    assert artifact.path.stat().st_size > 0


@pytest.mark.parametrize("build", MODELS)
def test_the_model_that_went_in_stays_as_it_was(build):
    model = build()
    named = named_layers(model)
    path = next(path for path, layer in named.items() if type(layer) is layers.Embedding)
    named[path].trainable = False
    before = [np.array(variable) for variable in model.variables], model.get_config(), len(model.trainable_variables)
    stage = ShrinkEmbedding(vocabulary=30, rank=3, bits=4, epochs=int(build is plain))
    outcome = stage.apply(model, workshop_for(model))
    for variable, value in zip(model.variables, before[0], strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    assert (model.get_config(), len(model.trainable_variables)) == before[1:]
    assert not {id(variable) for variable in model.variables} & {id(variable) for variable in outcome.model.variables}
    assert not named_layers(outcome.model)[path].trainable
    assert {type(layer).__module__.split(".")[0] for layer in named_layers(outcome.model).values()} == {"keras"}


def test_plain_keras_loads_the_result(tmp_path):
    model = pooled()
    outcome = ShrinkEmbedding(vocabulary=30, rank=3, bits=4, epochs=0).apply(model, workshop_for(model))
    outcome.model.save(tmp_path / "a.keras")
    x = np.random.default_rng(0).integers(0, 30, (4, TIME))
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert b"edgelstm" not in archive.read("config.json")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "a.keras")(x), outcome.model(x), atol=1e-6)


def also_read_as_numbers() -> keras.Model:
    ids = tokens()
    numbers = layers.Dense(2)(keras.ops.cast(ids, "float32"))
    return functional(ids, answer(layers.Concatenate()([layers.LSTM(UNITS)(embedding()(ids)), numbers])))


def computed_ids() -> keras.Model:
    ids = tokens()
    return functional(ids, answer(layers.LSTM(UNITS)(embedding()(keras.ops.maximum(ids, 1)))))


def of_different_sizes() -> keras.Model:
    ids = tokens()
    small = layers.Embedding(VOCABULARY + 1, 4, name="larger")(ids)
    return functional(ids, answer(layers.LSTM(UNITS)(layers.Concatenate()([embedding(mask_zero=False)(ids), small]))))


def rows_as_output() -> keras.Model:
    ids = tokens()
    rows = embedding(mask_zero=False)(ids)
    return functional(ids, [answer(layers.LSTM(UNITS)(rows)), rows])


def with_a_constraint() -> keras.Model:
    ids = tokens()
    return functional(ids, answer(layers.LSTM(UNITS)(embedding(embeddings_constraint="unit_norm")(ids))))


@pytest.mark.parametrize(
    "build, values, note",
    [
        (also_read_as_numbers, {}, "something else than an Embedding reads the ids of input 'tokens', too."),
        (computed_ids, {}, "All rows of 'table' stay: their ids do not come from an input."),
        (of_different_sizes, {}, "All rows of 'table', 'larger' stay: they have different numbers of rows."),
        (rows_as_output, {"rank": 3, "min_count": 0}, "The width of Embedding 'table' is left as it is: its rows are"),
        (with_a_constraint, {"bits": 4, "min_count": 0}, "The values of Embedding 'table' are not rounded"),
        (with_a_constraint, {"rank": 2, "min_count": 0}, "The width of Embedding 'table' is left as it is: the table"),
        (plain, {"rank": WIDTH, "min_count": 0}, f"{WIDTH} columns save nothing in a table of {VOCABULARY} rows and"),
        (plain, {"min_count": 0}, "No id is rare enough to be dropped"),
    ],
)
def test_what_cannot_be_done_is_said(build, values, note):
    model = build()
    with pytest.raises(StageError, match=note):
        ShrinkEmbedding(**values).apply(model, workshop_for(model))


@pytest.mark.parametrize("build", [also_read_as_numbers, computed_ids, of_different_sizes, rows_as_output])
def test_tables_whose_rows_stay_can_have_other_values(build):
    model = build()
    outcome = ShrinkEmbedding(bits=4, epochs=0).apply(model, workshop_for(model))
    on_one_grid(table(outcome.model), 4)
    assert bool(outcome.tokens) == (build is rows_as_output)


def test_a_kernel_that_reads_other_things_too_is_left_as_it_is():
    ids, signal = tokens("words"), keras.Input((TIME, WIDTH), name="signal")
    shared = layers.LSTM(UNITS, name="lstm")
    model = functional([ids, signal], answer(shared(embedding()(ids)) + shared(signal)))
    shop = workshop_for(model)
    outcome = ShrinkEmbedding(rank=3, epochs=0).apply(model, shop)
    assert named_layers(outcome.model)["lstm"].cell.kernel.shape == (WIDTH, 4 * UNITS)
    assert not outcome.figures["tables"]["table"]["folded"]


def test_an_embedding_inside_a_wrapper_is_named():
    ids = keras.Input((4, TIME), name="tokens", dtype="int32")
    rows = layers.TimeDistributed(embedding(mask_zero=False), name="each")(ids)
    model = functional(ids, answer(layers.LSTM(UNITS)(layers.Reshape((4, TIME * WIDTH))(rows))))
    shop = TinyWorkshop({"tokens": np.ones((10, 4, TIME), np.int32)}, np.zeros(10, int))
    with pytest.raises(
        StageError, match=r"no Embedding to shrink\. Layer 'each' is left as it is: an Embedding inside"
    ):
        ShrinkEmbedding().apply(model, shop)


def test_float_ids_are_followed():
    ids = tokens(dtype="float32")
    model = functional(ids, answer(layers.LSTM(UNITS)(embedding()(keras.ops.cast(ids, "int32")))))
    assert ShrinkEmbedding(epochs=0).apply(model, workshop_for(model)).model.get_layer("table").input_dim < VOCABULARY


def test_an_id_outside_the_table_is_an_error():
    model, shop = plain(), workshop_for(plain())
    shop.train.x["tokens"][0, 0] = VOCABULARY
    with pytest.raises(StageError, match="have the id 120, but the Embedding 'table' has the rows 0 to 119"):
        ShrinkEmbedding().apply(model, shop)


def test_models_without_embeddings_or_without_a_graph_are_refused():
    model = sequential(layers.Input((TIME, 4), name="x"), layers.LSTM(UNITS, name="lstm"))
    shop = TinyWorkshop({"x": floats(10, TIME, 4)}, np.zeros(10, int))
    with pytest.raises(StageError, match="has no Embedding to shrink"):
        ShrinkEmbedding().apply(model, shop)
    subclassed = TwoReaders()
    subclassed(floats(2, TIME, 4))
    with pytest.raises(StageError, match="subclassed model"):
        ShrinkEmbedding().apply(subclassed, shop)


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"vocabulary": 2}, r"'vocabulary' of stage 'shrink-embedding' must be at least 'special' \(3\), not 2"),
        ({"unknown": 3}, r"'unknown' of stage 'shrink-embedding' must be less than 'special' \(3\), not 3"),
        ({"special": 0}, "'special' of stage 'shrink-embedding' must be at least 1"),
        ({"bits": 6}, "'bits' of stage 'shrink-embedding' must be 0, 4 or 8, not 6"),
        ({"energy": 1.5}, "must be at least 0 and at most 1"),
    ],
)
def test_impossible_settings_are_refused(values, sentence):
    with pytest.raises(SettingError, match=sentence):
        ShrinkEmbedding(**values)
