from __future__ import annotations

import zipfile

import keras
import numpy as np
import pytest
from keras import layers, ops

from edgelstm.converters.calibration import calls_of, fit_data, generate_data, read_data
from edgelstm.converters.lowering.signature import TensorSpec, model_signature
from edgelstm.errors import CalibrationError
from tests.converters.tiny import FEATURES, TIME, UNITS, floats

FLOATS = TensorSpec("series", (1, TIME, FEATURES), "float32")
TOKENS = TensorSpec("tokens", (1, TIME), "int32")
SERIES = floats(5, TIME, FEATURES)
WORDS = np.random.default_rng(0).integers(0, 9, (5, TIME))

# Reading


def test_all_kinds_of_sources_are_read(tmp_path):
    np.savez(tmp_path / "data.npz", series=SERIES, tokens=WORDS)
    np.save(tmp_path / "data.npy", SERIES)
    assert sorted(read_data(tmp_path / "data.npz")) == ["series", "tokens"]
    assert sorted(read_data(str(tmp_path / "data.npz"))) == ["series", "tokens"]
    np.testing.assert_array_equal(read_data(tmp_path / "data.npy")[""], SERIES)
    np.testing.assert_array_equal(read_data({"series": SERIES})["series"], SERIES)
    np.testing.assert_array_equal(read_data(SERIES.tolist())[""], SERIES)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(CalibrationError, match=r"There is no data file .*missing\.npz: give an \.npz file"):
        read_data(tmp_path / "missing.npz")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(CalibrationError, match="There is no data file"):
        read_data(tmp_path)


def objects(path):
    np.savez(path, series=np.array([{"x": 1}], dtype=object))


def truncated(path):
    np.savez(path, series=SERIES)
    path.write_bytes(path.read_bytes()[:-200])


def wrong_header(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("series.npy", b"\x93NUMPY\x01\x00 but no more")


def damaged_inside(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("series.npy", "w") as file:
        np.lib.format.write_array(file, SERIES)
    data = bytearray(path.read_bytes())
    data[300] ^= 0xFF
    path.write_bytes(data)


BAD_FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("a,b\n1,2\n"),
    "picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e."),
    "objects": objects,
    "truncated": truncated,
    "wrong header": wrong_header,
    "damaged inside": damaged_inside,
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_told_with_the_way_to_write_a_good_one(name, tmp_path):
    path = tmp_path / "data.npz"
    BAD_FILES[name](path)
    with pytest.raises(CalibrationError, match=r"data\.npz cannot be read \(.+\): write it with numpy\.savez"):
        read_data(path)


def test_pickled_objects_are_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "trapped"), "w")

    np.savez(tmp_path / "data.npz", series=np.array([Trap()], dtype=object))
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_data(tmp_path / "data.npz")
    assert not (tmp_path / "trapped").exists()


def test_lists_that_are_no_array_are_told():
    with pytest.raises(CalibrationError):
        read_data([[1, 2], [3]])


# Fitting


def test_data_that_fits_comes_in_the_dtypes_of_the_inputs():
    fitted = fit_data({"tokens": WORDS.astype(np.float64), "series": SERIES.astype(np.float64)}, [FLOATS, TOKENS])
    assert [(name, array.dtype) for name, array in fitted.items()] == [("series", np.float32), ("tokens", np.int32)]
    np.testing.assert_array_equal(fitted["tokens"], WORDS)


def test_one_array_fits_one_input_whatever_it_is_called():
    for name in ("", "x", "series"):
        assert list(fit_data({name: SERIES}, [FLOATS])) == ["series"]


def with_value(array, value):
    changed = array.astype(float)
    changed[3].flat[0] = value
    return changed


BAD_DATA = {
    "wrong name": ({"serie": SERIES, "tokens": WORDS}, r"arrays named 'serie', 'tokens', but .* 'series', 'tokens'"),
    "missing name": ({"series": SERIES}, r"arrays named 'series', but .* 'series', 'tokens': name the arrays"),
    "nothing": ({}, r"arrays named nothing, but"),
    "features": (
        {"series": SERIES[:, :, :2], "tokens": WORDS},
        r"input 'series' has shape \(5, 6, 2\), but the model takes \(samples, 6, 3\)",
    ),
    "length": ({"series": SERIES, "tokens": WORDS[:, :4]}, r"'tokens' has shape \(5, 4\).*\(samples, 6\)"),
    "no samples axis": (
        {"series": SERIES[0], "tokens": WORDS},
        r"'series' has shape \(6, 3\).*samples along the first",
    ),
    "scalar": ({"series": np.array(1.0), "tokens": WORDS}, r"'series' has shape \(\)"),
    "strings": ({"series": SERIES.astype(str), "tokens": WORDS}, r"'series' has dtype <U.*takes float32: give numbers"),
    "objects": ({"series": SERIES.astype(object), "tokens": WORDS}, r"'series' has dtype object"),
    "complex": ({"series": SERIES.astype(complex), "tokens": WORDS}, r"'series' has dtype complex128"),
    "dates": ({"series": SERIES.astype("datetime64[s]"), "tokens": WORDS}, r"'series' has dtype datetime64"),
    "fractions": (
        {"series": SERIES, "tokens": WORDS + 0.5},
        r"'tokens' has dtype float64 with fractions, but the model takes int32: give whole numbers",
    ),
    "nan": (
        {"series": with_value(SERIES, np.nan), "tokens": WORDS},
        r"'series' holds NaN or infinity \(first in sample 3",
    ),
    "inf": (
        {"series": with_value(SERIES, -np.inf), "tokens": WORDS},
        r"'series' holds NaN or infinity \(first in sample 3",
    ),
    "nan token": ({"series": SERIES, "tokens": with_value(WORDS, np.nan)}, r"'tokens' holds NaN or infinity"),
    "counts": ({"series": SERIES, "tokens": WORDS[:4]}, r"different numbers of samples \('series' 5, 'tokens' 4\)"),
    "no samples": ({"series": SERIES[:0], "tokens": WORDS[:0]}, r"no samples: give at least one"),
    "token beyond int32": ({"series": SERIES, "tokens": WORDS + 2**32}, r"'tokens'"),
    "beyond float32": ({"series": with_value(SERIES, 1e300), "tokens": WORDS}, r"'series'"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_told(name):
    data, text = BAD_DATA[name]
    with pytest.raises(CalibrationError, match=text):
        fit_data(data, [FLOATS, TOKENS])


# Generating


def embedded(vocabulary: int, *, mask_zero: bool, dtype: str = "int32") -> keras.Model:
    x = keras.Input((TIME,), dtype=dtype, name="tokens")
    return keras.Model(x, layers.LSTM(UNITS)(layers.Embedding(vocabulary, 3, mask_zero=mask_zero)(x)))


def masking(value: float = 0.0) -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="series")
    return keras.Model(x, layers.LSTM(UNITS)(layers.Masking(value)(x)))


def generated(model: keras.Model, padding: str = "auto"):
    (array,) = generate_data(model, model_signature(model).inputs, padding=padding).values()
    return array


@pytest.mark.parametrize("vocabulary", [1, 2, 7])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_generated_tokens_stay_within_the_vocabulary(vocabulary, dtype):
    tokens = generated(embedded(vocabulary, mask_zero=True, dtype=dtype))
    assert tokens.dtype == dtype
    assert set(np.unique(tokens)) <= set(range(vocabulary))


def test_the_smallest_vocabulary_of_nested_models_counts():
    inner = embedded(5, mask_zero=False)
    x = keras.Input((TIME,), dtype="int32", name="tokens")
    model = keras.Model(x, layers.Concatenate()([inner(x), embedded(50, mask_zero=False)(x)]))
    assert generated(model).max() == 4


def test_generated_data_is_the_same_every_time_and_differs_from_sample_to_sample():
    model = embedded(9, mask_zero=True)
    np.testing.assert_array_equal(generated(model), generated(model))
    assert len(np.unique(generated(model), axis=0)) > 6


def test_tokens_of_a_model_without_embedding_differ_too():
    x = keras.Input((TIME,), dtype="int32", name="tokens")
    assert len(np.unique(generated(keras.Model(x, layers.LSTM(UNITS)(ops.one_hot(x, 5)))))) > 1


@pytest.mark.parametrize("build", [lambda: embedded(9, mask_zero=True), masking, lambda: masking(-7.0)])
def test_generated_padding_keeps_the_promise(build):
    model = build()
    value = -7.0 if len(model.layers) > 1 and getattr(model.layers[1], "mask_value", 0) else 0

    def masked(padding: str) -> np.ndarray:
        data = generated(model, padding)
        return data == value if data.ndim == 2 else (data == value).all(axis=-1)

    pre, post, auto = masked("pre"), masked("post"), masked("auto")
    assert not masked("none").any()
    for mask in (pre, post):
        assert mask.any()
    assert (np.diff(pre.astype(int), axis=1) <= 0).all()
    assert (np.diff(post.astype(int), axis=1) >= 0).all()
    changes = np.abs(np.diff(auto.astype(int), axis=1)).sum(axis=1)
    assert auto.all(axis=1).any(), "a sample that is masked as a whole"
    assert (~auto).all(axis=1).any(), "a sample without padding"
    assert (changes > 1).any(), "a sample with scattered padding"


def test_models_without_masks_get_no_padding():
    assert (generated(embedded(9, mask_zero=False)) > 0).all()


# Grouping


def test_samples_fill_whole_calls_from_the_first_ones():
    spec = TensorSpec("tokens", (2, TIME), "int32")
    calls = calls_of({"tokens": WORDS}, [spec], limit=100)["tokens"]
    assert calls.shape == (3, 2, TIME)
    np.testing.assert_array_equal(calls.reshape(-1, TIME), np.concatenate([WORDS, WORDS[:1]]))


def test_no_more_samples_than_the_limit_are_used():
    assert calls_of({"series": SERIES}, [FLOATS], limit=2)["series"].shape == (2, 1, TIME, FEATURES)


def test_fewer_samples_than_a_call_are_repeated():
    spec = TensorSpec("series", (12, TIME, FEATURES), "float32")
    calls = calls_of({"series": SERIES}, [spec], limit=100)["series"]
    assert calls.shape == (1, 12, TIME, FEATURES)
    np.testing.assert_array_equal(calls[0, 5:10], SERIES)
