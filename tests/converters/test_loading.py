"""Loading of Keras models from files: the good ones exactly, all others with a sentence."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.converters.loading import hdf5, keras_import, weights
from edgelstm.converters.loading import load_model as load
from edgelstm.errors import LoadError, MissingExtraError

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

TIME, FEATURES, UNITS = 5, 3, 4
# The loaded model runs the same operations on the same weights; only their order of summation may differ.
TOLERANCE = 1e-6

# Keras on NumPy 2, whenever it reads a variable; the library does not.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")

SUFFIXES = (".keras", ".h5", ".hdf5")

SCALE_LAYER = """
import keras

@keras.saving.register_keras_serializable({registration})
class {name}(keras.layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.offset = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="offset")

    def call(self, x):
        return self.factor * x + self.offset

    def get_config(self):
        return super().get_config() | {{"factor": self.factor}}
"""


def lstm_model() -> Any:
    return keras.Sequential(
        [keras.Input((TIME, FEATURES)), keras.layers.LSTM(UNITS), keras.layers.Dense(2, activation="tanh")]
    )


def bidirectional_model() -> Any:
    lstm = keras.layers.LSTM(UNITS, return_sequences=True, dropout=0.1, recurrent_dropout=0.1)
    layers = [keras.layers.Bidirectional(lstm), keras.layers.BatchNormalization(), keras.layers.LSTM(2)]
    return keras.Sequential([keras.Input((TIME, FEATURES)), *layers])


def multi_input_model() -> Any:
    left, right = keras.Input((TIME, FEATURES), name="left"), keras.Input((TIME, 2), name="right")
    both = [keras.layers.LSTM(UNITS, name="a")(left), keras.layers.LSTM(UNITS, name="b", go_backwards=True)(right)]
    return keras.Model([left, right], keras.layers.Dense(2)(keras.layers.Concatenate()(both)))


def nested_model() -> Any:
    layers = [keras.layers.LSTM(UNITS, return_sequences=True), keras.layers.BatchNormalization()]
    inner = keras.Sequential([keras.Input((TIME, FEATURES)), *layers], name="inner")
    x = keras.Input((TIME, FEATURES))
    return keras.Model(x, keras.layers.TimeDistributed(keras.layers.Dense(2))(inner(x)))


def load_model(path: Any, **options: Any) -> Any:
    """The model alone."""
    return load(path, **options).model


MODELS = (lstm_model, bidirectional_model, multi_input_model, nested_model)


def randomize(model: Any) -> Any:
    """Gives every weight, and with that every gate, random values of its own; variances stay positive."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        values = rng.normal(0, 0.5, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)
    return model


def outputs(model: Any) -> Any:
    rng = np.random.default_rng(1)
    data = [rng.normal(0, 1, (3, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    return np.asarray(model(data if len(data) > 1 else data[0], training=False))


def assert_same(loaded: Any, model: Any) -> None:
    np.testing.assert_allclose(outputs(loaded), outputs(model), rtol=0, atol=TOLERANCE, equal_nan=False)


def save(model: Any, path: Path) -> Path:
    """Saves under any name, in the format of the suffix .keras or .h5 in it."""
    model.save(str(path))
    return path


def change_entry(source: Path, entry: str, change: Callable[[bytes], bytes | str]) -> Path:
    """Returns a copy of a .keras archive, beside it, with one of its entries changed."""
    target = source.with_name("edited.keras")
    with zipfile.ZipFile(source) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(target, "w") as new:
        for name, content in contents.items():
            new.writestr(name, change(content) if name == entry else content)
    return target


def rewrite(source: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Returns a copy of a .keras archive, beside it, with its configuration edited."""

    def change(content: bytes) -> str:
        config = json.loads(content)
        edit(config)
        return json.dumps(config)

    return change_entry(source, "config.json", change)


def rewrite_h5(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Edits the configuration of an HDF5 model in place."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        edit(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; modules imported from it and objects registered by them are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    registered = keras.saving.get_custom_objects()
    before = dict(registered)
    yield tmp_path
    registered.clear()
    registered.update(before)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a .keras file."""
    return save(randomize(lstm_model()), tmp_path_factory.mktemp("saved") / "model.keras").read_bytes()


@pytest.fixture
def saved(archive: bytes, tmp_path: Path) -> Path:
    """A .keras file of an LSTM and a Dense layer."""
    path = tmp_path / "saved.keras"
    path.write_bytes(archive)
    return path


@pytest.fixture
def saved_h5(tmp_path: Path) -> Path:
    """The same as an HDF5 file."""
    return save(randomize(lstm_model()), tmp_path / "saved.h5")


def custom_model_file(folder: Path, module: str, name: str = "Scale", registration: str = '"shop"') -> tuple[Any, Path]:
    """Writes a module with a layer class, saves a model that uses it, and forgets the class again."""
    (folder / f"{module}.py").write_text(SCALE_LAYER.format(name=name, registration=registration))
    scope: dict[str, Any] = {"__name__": module}
    exec((folder / f"{module}.py").read_text(), scope)
    x = keras.Input((TIME, FEATURES))
    model = randomize(keras.Model(x, scope[name](factor=3.0, name="stretch")(keras.layers.LSTM(UNITS)(x))))
    path = save(model, folder / "custom.keras")
    keras.saving.get_custom_objects().clear()
    return model, path


class TestWhatLoads:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("build", MODELS)
    def test_every_output_is_that_of_the_saved_model(self, build: Any, suffix: str, tmp_path: Path) -> None:
        model = randomize(build())
        assert_same(load_model(save(model, tmp_path / f"model{suffix}")), model)

    def test_random_weights_are_seen_by_the_comparison(self) -> None:
        model = randomize(lstm_model())
        kernel = model.layers[0].cell.kernel
        before = outputs(model)
        gates = np.split(np.asarray(kernel), 4, axis=1)
        kernel.assign(np.concatenate([gates[1], gates[0], gates[2], gates[3]], axis=1))
        assert np.abs(outputs(model) - before).max() > 100 * TOLERANCE

    @pytest.mark.parametrize("name", ["model.keras", "model.h5", "model", "model.KERAS", "model.bin"])
    @pytest.mark.parametrize("written_as", [".keras", ".h5"])
    def test_content_counts_and_not_the_name(self, written_as: str, name: str, tmp_path: Path) -> None:
        model = randomize(lstm_model())
        path = save(model, tmp_path / f"original{written_as}").rename(tmp_path / name)
        assert_same(load_model(str(path)), model)

    @pytest.mark.parametrize("build", MODELS)
    def test_unzipped_archive(self, build: Any, tmp_path: Path) -> None:
        model = randomize(build())
        assert_same(load_model(unzipped(save(model, tmp_path / "model.keras"))), model)

    @pytest.mark.parametrize("build", MODELS)
    def test_architecture_and_weights_in_two_files(self, build: Any, tmp_path: Path) -> None:
        model = randomize(build())
        (tmp_path / "model.json").write_text(model.to_json())
        model.save_weights(tmp_path / "model.weights.h5")
        assert_same(load_model(tmp_path / "model.json", weights=tmp_path / "model.weights.h5"), model)
        whole = save(model, tmp_path / "whole.h5")
        assert_same(load_model(tmp_path / "model.json", weights=whole), model)

    def test_training_state_is_left_out(self, tmp_path: Path) -> None:
        def own_loss(y: Any, prediction: Any) -> Any:
            return keras.ops.mean((y - prediction) ** 2)

        model = lstm_model()
        model.compile("adam", own_loss, metrics=["mae"])
        model.fit(np.ones((2, TIME, FEATURES)), np.ones((2, 2)), verbose=0)
        for suffix in (".keras", ".h5"):
            loaded = load_model(save(model, tmp_path / f"model{suffix}"))
            assert not loaded.compiled
            assert_same(loaded, model)

    def test_configurations_of_keras_2_without_module_paths(self, tmp_path: Path) -> None:
        def to_keras_2(config: dict[str, Any]) -> None:
            for layer in config["config"]["layers"]:
                layer.pop("module", None)
                for key, value in layer["config"].items():
                    if isinstance(value, dict) and "module" in value:
                        layer["config"][key] = {"class_name": value["class_name"], "config": value["config"]}
                layer["config"]["dtype"] = "float32"

        model = randomize(lstm_model())
        path = rewrite_h5(save(model, tmp_path / "model.h5"), to_keras_2)
        assert_same(load_model(path), model)

    def test_operations_between_layers(self, tmp_path: Path) -> None:
        x = keras.Input((TIME, FEATURES))
        model = randomize(keras.Model(x, keras.ops.relu(keras.layers.LSTM(UNITS)(x) + 0.1)[:, 1:]))
        assert_same(load_model(save(model, tmp_path / "model.keras")), model)

    def test_bfloat16_weights(self, tmp_path: Path) -> None:
        layers = [keras.layers.LSTM(UNITS), keras.layers.Dense(2, dtype="bfloat16")]
        model = randomize(keras.Sequential([keras.Input((TIME, FEATURES)), *layers]))
        loaded = load_model(save(model, tmp_path / "model.keras"))
        for variable, original in zip(loaded.weights, model.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(variable), np.asarray(original))

    def test_shared_and_frozen_layers(self, tmp_path: Path) -> None:
        x, y = keras.Input((TIME, FEATURES)), keras.Input((TIME, FEATURES))
        shared = keras.layers.LSTM(UNITS, return_sequences=True)
        frozen = keras.layers.BatchNormalization(trainable=False)
        model = randomize(keras.Model([x, y], keras.layers.Add()([frozen(shared(x)), shared(y)])))
        for suffix in (".keras", ".h5"):
            assert_same(load_model(save(model, tmp_path / f"model{suffix}")), model)

    def test_nothing_is_printed(self, saved: Path, run_python: Any) -> None:
        code = "import sys; from edgelstm.converters.loading import load_model; load_model(sys.argv[1])"
        done = run_python(code, saved)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_importing_the_package_does_not_import_keras(self, run_python: Any) -> None:
        code = "import sys, edgelstm.converters.loading; print({'keras', 'tensorflow', 'h5py'} & set(sys.modules))"
        assert run_python(code).stdout == "set()\n"


class TestCustomObjects:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_registered_layer_from_the_current_folder(self, suffix: str, in_folder: Path) -> None:
        model, _ = custom_model_file(in_folder, "shop_layers")
        path = save(model, in_folder / f"model{suffix}")
        assert_same(load_model(path, custom=("shop_layers:Scale",)), model)

    @pytest.mark.parametrize("registered", ["Scale", "shop>Scale", "elsewhere>Scale"])
    def test_name_in_the_file_may_have_a_package_or_none(self, registered: str, in_folder: Path) -> None:
        model, path = custom_model_file(in_folder, "shop_layers")

        def rename(config: dict[str, Any]) -> None:
            config["config"]["layers"][-1] |= {"registered_name": registered, "module": None}

        assert_same(load_model(rewrite(path, rename), custom=("shop_layers:Scale",)), model)

    def test_class_registered_under_another_name(self, in_folder: Path) -> None:
        model, path = custom_model_file(in_folder, "shop_layers", registration='"shop", "Stretch"')
        assert_same(load_model(path, custom=("shop_layers:Scale",)), model)

    def test_subclassed_model_with_layers_in_containers(self, in_folder: Path) -> None:
        (in_folder / "own_model.py").write_text(
            "import keras\n"
            "class Stack(keras.Model):\n"
            "    def __init__(self, **kwargs):\n"
            "        super().__init__(**kwargs)\n"
            "        self.stack = [[keras.layers.LSTM(4)], keras.layers.Dense(2)]\n"
            "        self.scale = self.add_weight(shape=(1,), name='scale')\n"
            "    def call(self, x):\n"
            "        return self.stack[1](self.stack[0][0](x)) * self.scale\n"
        )
        scope: dict[str, Any] = {"__name__": "own_model"}
        exec((in_folder / "own_model.py").read_text(), scope)
        model = scope["Stack"]()
        x = np.random.default_rng(0).normal(0, 1, (2, TIME, FEATURES)).astype(np.float32)
        model(x)
        randomize(model)
        loaded = load_model(save(model, in_folder / "model.keras"), custom="own_model:Stack")
        np.testing.assert_allclose(loaded(x), model(x), rtol=0, atol=TOLERANCE, equal_nan=False)

    def test_function_as_activation(self, in_folder: Path) -> None:
        (in_folder / "own_functions.py").write_text("def halve(x):\n    return 0.5 * x\n")
        scope: dict[str, Any] = {"__name__": "own_functions"}
        exec((in_folder / "own_functions.py").read_text(), scope)
        layers = [keras.layers.LSTM(UNITS), keras.layers.Dense(2, activation=scope["halve"])]
        model = randomize(keras.Sequential([keras.Input((TIME, FEATURES)), *layers]))
        path = save(model, in_folder / "model.keras")
        assert_same(load_model(path, custom=("own_functions:halve",)), model)
        with pytest.raises(LoadError, match=r"uses the function .*halve.*--custom module:halve"):
            load_model(path)

    def test_class_that_is_not_given_is_named_and_its_module_not_imported(self, in_folder: Path) -> None:
        _, path = custom_model_file(in_folder, "shop_layers")
        message = r"the layer 'stretch' is of the class shop_layers\.Scale, .*--custom module:Scale\."
        with pytest.raises(LoadError, match=message):
            load_model(path)
        assert "shop_layers" not in sys.modules

    def test_unknown_class_in_hdf5_is_named(self, in_folder: Path) -> None:
        model, _ = custom_model_file(in_folder, "shop_layers")
        path = save(model, in_folder / "model.h5")
        with pytest.raises(LoadError, match=r"the layer 'stretch' is of the class .*Scale.*--custom module:Scale\."):
            load_model(path)

    @pytest.mark.parametrize(
        "spec, message",
        [
            ("Scale", r"--custom Scale: expected module:Class, for instance --custom my_layers:Attention\."),
            ("shop_layers:", r"expected module:Class"),
            (":Scale", r"expected module:Class"),
            ("a-b:Scale", r"expected module:Class"),
            ("lib/shop_layers.py:Scale", r"a module is given by its name.*Write --custom lib\.shop_layers:Scale"),
            ("no_such_shop:Scale", r"no module no_such_shop in the current folder or on Python's path"),
            ("shop_layers:Skale", r"the module shop_layers has no Skale\. It defines: Scale\."),
            ("os:system", r"system is neither a Keras class nor a Python function"),
            ("broken:Scale", r"importing the module broken failed with ZeroDivisionError: division by zero\."),
            ("needy:Scale", r"the module needy needs no_such_dependency, which is missing"),
        ],
    )
    def test_wrong_spec(self, spec: str, message: str, in_folder: Path) -> None:
        _, path = custom_model_file(in_folder, "shop_layers")
        (in_folder / "broken.py").write_text("1 / 0\n")
        (in_folder / "needy.py").write_text("import no_such_dependency\n")
        with pytest.raises(LoadError, match=message):
            load_model(path, custom=(spec,))

    def test_current_folder_does_not_stay_on_the_path(self, in_folder: Path) -> None:
        _, path = custom_model_file(in_folder, "shop_layers")
        before = sys.path.copy()
        load_model(path, custom=("shop_layers:Scale",))
        assert sys.path == before


def unzipped(path: Path) -> Path:
    """Unpacks an archive into a folder beside it."""
    folder = path.with_suffix("")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def dense_layer(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """An edit of the last layer of the saved model."""
    return lambda config: config["config"]["layers"][-1].update(changes)


def activation(module: str, name: str) -> Callable[[dict[str, Any]], None]:
    """An edit that makes a function the activation of the last layer of the saved model."""
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    return lambda config: config["config"]["layers"][-1]["config"].update(activation=function)


def lambda_model() -> Any:
    layers = [keras.layers.Lambda(lambda x: x * 2, name="twice"), keras.layers.LSTM(UNITS)]
    return keras.Sequential([keras.Input((TIME, FEATURES)), *layers])


class TestHostileFiles:
    @pytest.mark.parametrize("custom", [(), ("own_birds:Bird",)])
    @pytest.mark.parametrize("module", ["canary", "keras_hub", "keras_cv.layers"])
    def test_modules_named_by_a_file_are_not_imported(
        self, module: str, custom: tuple[str, ...], saved: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bird = "import keras\nclass Bird(keras.layers.Dense):\n    pass\n"
        (in_folder / "own_birds.py").write_text(bird)
        for name in ("canary", "keras_hub", "keras_cv"):
            (in_folder / f"{name}.py").write_text(f"open({str(in_folder / 'sang')!r}, 'w').close()\n{bird}")
        monkeypatch.syspath_prepend(in_folder)
        path = rewrite(saved, dense_layer(module=module, class_name="Bird", registered_name=None))
        with pytest.raises(LoadError, match=rf"is of the class {module}\.Bird, which is not a part of Keras"):
            load_model(path, custom=custom)
        assert not (in_folder / "sang").exists()
        assert module not in sys.modules

    def test_the_canary_sings_when_it_is_imported(self, saved: Path, in_folder: Path) -> None:
        (in_folder / "keras_hub.py").write_text(
            f"open({str(in_folder / 'sang')!r}, 'w').close()\n"
            "import keras\n@keras.saving.register_keras_serializable()\nclass Dense(keras.layers.Dense):\n    pass\n"
        )
        path = rewrite(saved, dense_layer(module="keras_hub", class_name="Dense", registered_name="Custom>Dense"))
        load_model(path, custom=("keras_hub:Dense",))
        assert (in_folder / "sang").exists()

    @pytest.mark.parametrize(
        "module, name",
        [
            ("os", "system"),
            ("builtins", "exec"),
            ("keras.utils", "plot_model"),
            ("keras.applications", "MobileNetV2"),
            ("keras.models", "load_model"),
            ("keras.saving", "save_model"),
            (None, "eval"),
        ],
    )
    def test_functions_that_are_no_activations_are_not_called(self, module: str, name: str, saved: Path) -> None:
        with pytest.raises(LoadError, match=rf"the layer 'dense\w*' uses the function .*{name}, which is not a part"):
            load_model(rewrite(saved, activation(module, name)))

    @pytest.mark.parametrize(
        "module, name",
        [("os", "system"), ("keras", "Input"), ("keras.applications", "VGG16"), ("keras.src.saving", "A")],
    )
    def test_names_that_are_no_parts_of_models_are_refused(self, module: str, name: str, saved: Path) -> None:
        path = rewrite(saved, dense_layer(module=module, class_name=name))
        with pytest.raises(LoadError, match=rf"is of the class {module}\.{name}, which is not a part of Keras"):
            load_model(path)

    def test_activations_of_keras_stay_allowed(self, saved: Path) -> None:
        assert (
            load_model(rewrite(saved, activation("builtins", "relu"))).layers[-1].activation is keras.activations.relu
        )

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_lambda_is_named_with_what_to_do(self, suffix: str, tmp_path: Path) -> None:
        path = save(lambda_model(), tmp_path / f"model{suffix}")
        message = r"the layer 'twice' is a Lambda, whose code in the file is never run\. Replace it with .*keras\.ops"
        with pytest.raises(LoadError, match=message):
            load_model(path)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_lambda_around_an_operation_loads_when_that_is_given(self, suffix: str, tmp_path: Path) -> None:
        layers = [keras.layers.Lambda(keras.ops.abs, name="absolute"), keras.layers.LSTM(UNITS)]
        model = randomize(keras.Sequential([keras.Input((TIME, FEATURES)), *layers]))
        path = save(model, tmp_path / f"model{suffix}")
        with pytest.raises(LoadError, match=r"the layer 'absolute' uses the function .*--custom keras\.ops:abs\."):
            load_model(path)
        assert_same(load_model(path, custom=("keras.ops:abs",)), model)

    def test_lambda_in_the_form_of_keras_2(self, tmp_path: Path) -> None:
        def to_keras_2(config: dict[str, Any]) -> None:
            layer = config["config"]["layers"][1]
            code = layer["config"]["function"]["config"]["code"]
            layer["config"] = {"name": "old", "function": [code, None, None], "function_type": "lambda"}

        path = rewrite_h5(save(lambda_model(), tmp_path / "model.h5"), to_keras_2)
        with pytest.raises(LoadError, match="the layer 'old' is a Lambda"):
            load_model(path)

    def test_lambda_hidden_as_an_activation(self, saved: Path) -> None:
        code = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
        path = rewrite(saved, lambda config: config["config"]["layers"][-1]["config"].update(activation=code))
        with pytest.raises(LoadError, match=r"the layer 'dense\w*' holds a Lambda"):
            load_model(path)

    def test_layer_that_runs_a_saved_model_is_refused(self, saved: Path) -> None:
        with pytest.raises(LoadError, match="is a TFSMLayer, which runs a SavedModel from elsewhere"):
            load_model(rewrite(saved, dense_layer(class_name="TFSMLayer")))

    def test_safe_mode_holds_even_where_it_was_turned_off(self, tmp_path: Path, run_python: Any) -> None:
        words = tmp_path / "secret.txt"
        words.write_text("one\ntwo\n")
        layers = [keras.layers.StringLookup(vocabulary=["a", "b"]), keras.layers.Embedding(3, 2), keras.layers.LSTM(2)]
        path = save(keras.Sequential([keras.Input((TIME,), dtype="string"), *layers]), tmp_path / "words.keras")
        path = rewrite(
            path,
            lambda config: config["config"]["layers"][1]["config"].update(vocabulary=str(words), vocabulary_size=3),
        )
        code = (
            "import sys, keras\nfrom edgelstm.converters.loading import load_model\n"
            "keras.config.enable_unsafe_deserialization()\n"
            "try:\n    load_model(sys.argv[1])\nexcept Exception as error:\n    print(error)"
        )
        assert "Requested the loading of a vocabulary file" in run_python(code, path).stdout

    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "C:/evil"])
    def test_entries_that_lead_outside(self, name: str, saved: Path) -> None:
        with zipfile.ZipFile(saved, "a") as file:
            file.writestr(name, "x")
        with pytest.raises(LoadError, match=r"leads outside the archive\. Do not trust this file"):
            load_model(saved)

    @pytest.mark.parametrize("entry", ["config.json", "metadata.json", "model.weights.h5", "assets/notes.txt"])
    def test_zip_bomb(self, entry: str, saved: Path, tmp_path: Path) -> None:
        path = tmp_path / "bomb.keras"
        with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name in {*old.namelist(), entry}:
                new.writestr(name, bytes(70 << 20) if name == entry else old.read(name))
        assert path.stat().st_size < 1 << 20
        with pytest.raises(LoadError, match=r"unpacked it would take 70 MiB, .*looks like a decompression bomb"):
            load_model(path)

    def test_configuration_that_is_larger_than_it_declares(self, saved: Path) -> None:
        content = bytearray(saved.read_bytes())
        with zipfile.ZipFile(saved) as file:
            size = file.getinfo("config.json").file_size.to_bytes(4, "little")
        assert content.count(size) >= 2
        saved.write_bytes(content.replace(size, (64).to_bytes(4, "little")))
        with pytest.raises(LoadError, match="the archive is damaged or incomplete"):
            load_model(saved)

    @pytest.mark.parametrize("into", ["saved.h5", "weights"])
    def test_hdf5_shape_bomb(self, into: str, saved: Path, saved_h5: Path, tmp_path: Path) -> None:
        def plant(file: Any) -> None:
            options = {"chunks": (1 << 20,), "compression": "gzip", "fillvalue": 0}
            file.create_dataset("model_weights/bomb" if into == "saved.h5" else "bomb", (1 << 40,), "f4", **options)

        path = change_hdf5(saved_h5 if into == "saved.h5" else saved, plant)
        with pytest.raises(
            LoadError, match=r"its arrays would take more than 20 times .*looks like a decompression bomb"
        ):
            load_model(path)

    @pytest.mark.parametrize("kind", ["external link", "soft link", "external values", "virtual values", "circle"])
    def test_hdf5_that_refers_elsewhere(self, kind: str, saved: Path, saved_h5: Path, tmp_path: Path) -> None:
        def plant(file: Any) -> None:
            if kind == "external link":
                file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
            elif kind == "soft link":
                file["elsewhere"] = h5py.SoftLink("/")
            elif kind == "external values":
                file.create_dataset("elsewhere", (4,), "u1", external=[("/etc/passwd", 0, 4)])
            elif kind == "virtual values":
                layout = h5py.VirtualLayout((4,), "f4")
                layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
                file.create_virtual_dataset("elsewhere", layout)
            else:
                file.create_group("circle")["again"] = file["/"]

        for path in (saved, saved_h5):
            message = r"is a link to elsewhere|has its values in another file|its groups nest too deep"
            with pytest.raises(LoadError, match=message):
                load_model(change_hdf5(path, plant))

    def test_deeply_nested_configuration(self, saved: Path) -> None:
        deep: Any = {}
        for _ in range(900):
            deep = {"a": deep}
        with pytest.raises(LoadError, match=r"cannot rebuild the model|is damaged"):
            load_model(rewrite(saved, lambda config: config["config"]["layers"][-1]["config"].update(trap=deep)))

    def test_names_are_shown_without_control_characters(self, saved: Path) -> None:
        path = rewrite(saved, dense_layer(module="evil", class_name="\x1b[31mRed\n"))
        with pytest.raises(LoadError) as caught:
            load_model(path)
        assert "\x1b" not in str(caught.value)
        assert "\n" not in str(caught.value)


def change_hdf5(path: Path, change: Callable[[Any], None]) -> Path:
    """Returns a copy of a model, beside it, whose HDF5 content, in the archive or the file itself, was changed."""

    def changed(content: bytes) -> bytes:
        buffer = io.BytesIO(content)
        with h5py.File(buffer, "r+") as file:
            change(file)
        return buffer.getvalue()

    if path.suffix == ".keras":
        return change_entry(path, "model.weights.h5", changed)
    target = path.with_name(f"changed{path.suffix}")
    target.write_bytes(changed(path.read_bytes()))
    return target


class TestBrokenFiles:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match=r"Cannot load .*none\.keras: there is no such file\. Check the path"):
            load_model(tmp_path / "none.keras")

    def test_folder_without_a_model(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(
            LoadError, match=r"it is a folder without a model that Keras knows\. Give a \.keras or \.h5"
        ):
            load_model(tmp_path)

    def test_unzipped_archive_without_weights(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").touch()
        with pytest.raises(LoadError, match=r"the folder has no model\.weights\.h5\. Save the model again"):
            load_model(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]"])
    def test_unzipped_archive_with_a_damaged_configuration(self, content: bytes, saved: Path, tmp_path: Path) -> None:
        folder = unzipped(saved)
        (folder / "config.json").write_bytes(content)
        with pytest.raises(LoadError, match=r"the file is empty|its config\.json is damaged|holds no model"):
            load_model(folder)

    def test_no_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.keras")
        with pytest.raises(LoadError, match="it is not a regular file"):
            load_model(tmp_path / "pipe.keras")

    def test_permission_denied(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so a mode of 000 does not show it
        with pytest.raises(LoadError, match=r"you may not read it \(permission denied\)\. Change its permissions"):
            load_model(saved)

    @pytest.mark.parametrize(
        "content, message",
        [
            (b"", r"the file is empty\. Copy or save it again\."),
            (b"\x89PNG\r\n\x1a\n" + bytes(100), "it is a PNG image and not a Keras model"),
            (b"\xff\xd8\xff\xe0" + bytes(100), "it is a JPEG image and not a Keras model"),
            (b"\x1c\0\0\0TFL3" + bytes(100), r"it is a \.tflite model, which is converted already"),
            (b"\x80\x04\x95" + bytes(100), r"it is a Python pickle, which is never opened"),
            (b"\x1f\x8b\x08" + bytes(100), "it is compressed with gzip"),
            (b"PK\x05\x06" + bytes(18), "it is an empty zip archive"),
            (b"version https://git-lfs.github.com/spec/v1\n", "only a pointer of Git LFS to the model"),
            (b"<!DOCTYPE html><html>", "it is a web page"),
            (b'{"class_name": "Sequential"}', "it is text in JSON, but no architecture of a model"),
            (
                b'\n {"class_name": "Model", "config": {}}',
                r"an architecture without weights\. .*--weights model\.weights\.h5",
            ),
            (b"backend: tensorflow\nclass_name: Model", "it looks like an architecture in YAML, which can hold code"),
            (b"some text", r"it is neither a \.keras archive nor an HDF5 file"),
        ],
    )
    def test_other_content_under_the_name_of_a_model(self, content: bytes, message: str, tmp_path: Path) -> None:
        path = tmp_path / "model.keras"
        path.write_bytes(content)
        with pytest.raises(LoadError, match=rf"^Cannot load .*model\.keras: .*{message}"):
            load_model(path)

    @pytest.mark.parametrize("part", [0.001, 0.05, 0.3, 0.5, 0.9, 0.99, 0.9999])
    def test_truncated_archive(self, part: float, archive: bytes, tmp_path: Path) -> None:
        path = tmp_path / "model.keras"
        path.write_bytes(archive[: max(5, int(len(archive) * part))])
        with pytest.raises(LoadError, match=r"the archive is damaged or incomplete \(.+\)\. Copy or save it again"):
            load_model(path)

    def test_flipped_bytes_in_an_archive(self, archive: bytes, tmp_path: Path) -> None:
        path = tmp_path / "model.keras"
        for position in range(40, len(archive), len(archive) // 16):
            content = bytearray(archive)
            content[position] ^= 0xFF
            path.write_bytes(content)
            assert_loads_alike_or_refuses(path)

    @pytest.mark.parametrize("part", [0.001, 0.05, 0.3, 0.5, 0.9, 0.99, 0.9999])
    def test_truncated_hdf5(self, part: float, saved_h5: Path) -> None:
        content = saved_h5.read_bytes()
        saved_h5.write_bytes(content[: max(20, int(len(content) * part))])
        with pytest.raises(
            LoadError, match=r"its HDF5 content is damaged or incomplete \(.+\)\. Copy or save it again"
        ):
            load_model(saved_h5)

    @pytest.mark.parametrize("width", [1, 200])
    def test_garbage_in_hdf5(self, width: int, saved_h5: Path) -> None:
        content = saved_h5.read_bytes()
        rng = np.random.default_rng(0)
        for position in range(8, len(content) - width, len(content) // 16):
            saved_h5.write_bytes(content[:position] + rng.bytes(width) + content[position + width :])
            assert_loads_alike_or_refuses(saved_h5)

    @pytest.mark.parametrize("suffix", [".h5", ".keras"])
    def test_hdf5_on_which_the_library_hangs(
        self, suffix: str, saved: Path, saved_h5: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def trap(content: bytes) -> bytes:
            size_at = content.index(b"GCOL") + 24  # of the first object in the first global heap
            return content[:size_at] + (2**64 - 16).to_bytes(8, "little") + content[size_at + 8 :]

        def add_text(file: Any) -> None:
            file["layers/lstm"].attrs["note"] = "text of variable length stands in a global heap"

        monkeypatch.setattr(hdf5, "PROBE_TIMEOUT_S", 3.0)
        if suffix == ".h5":
            path = saved_h5
            path.write_bytes(trap(path.read_bytes()))
        else:
            path = change_entry(change_hdf5(saved, add_text), "model.weights.h5", trap)
        message = r"its HDF5 content is damaged \(reading it did not end within 3 seconds\)\. Copy or save it again"
        with pytest.raises(LoadError, match=message):
            load_model(path)

    def test_hdf5_on_which_the_library_crashes(self, saved_h5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        crash = saved_h5.with_name("crash.py")
        crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
        monkeypatch.setattr(hdf5.hdf5_probe, "__file__", str(crash))
        with pytest.raises(LoadError, match=r"its HDF5 content is damaged \(reading it ended with signal 11\)"):
            load_model(saved_h5)

    def test_zip_that_is_no_keras_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("holiday.txt", "sun")
        with pytest.raises(LoadError, match=r"a zip archive, but not one that Keras wrote \(it has no config\.json\)"):
            load_model(path)

    def test_archive_without_weights(self, tmp_path: Path) -> None:
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("config.json", "{}")
        with pytest.raises(LoadError, match=r"the archive has no model\.weights\.h5"):
            load_model(path)

    @pytest.mark.parametrize(
        "text, message",
        [
            ("{", "is damaged"),
            ("[]", "holds no model"),
            ("[" * 100000, "is damaged"),
            ("{}", "cannot rebuild|not a model"),
        ],
    )
    def test_damaged_configuration(self, text: str, message: str, saved: Path, tmp_path: Path) -> None:
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, text if name == "config.json" else old.read(name))
        with pytest.raises(LoadError, match=message):
            load_model(path)

    def test_layer_instead_of_a_model(self, saved: Path) -> None:
        def only_the_layer(config: dict[str, Any]) -> None:
            layer = config["config"]["layers"][-1]
            config.clear()
            config.update(layer)

        with pytest.raises(LoadError, match=r"holds a Dense and not a model|cannot rebuild the model"):
            load_model(rewrite(saved, only_the_layer))

    @pytest.mark.parametrize("name", ["model.weights.h5", "model.h5"])
    def test_weights_without_architecture(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        lstm_model().save_weights(tmp_path / "only.weights.h5")
        (tmp_path / "only.weights.h5").rename(path)
        message = r"it holds weights only, the architecture is missing\. .*--weights.*model\.save\('model\.keras'\)"
        with pytest.raises(LoadError, match=message):
            load_model(path)

    def test_weights_of_keras_2_without_architecture(self, saved_h5: Path, tmp_path: Path) -> None:
        path = tmp_path / "old.h5"
        with h5py.File(saved_h5) as old, h5py.File(path, "w") as new:
            for name in old["model_weights"]:
                old.copy(f"model_weights/{name}", new)
            new.attrs["layer_names"] = old["model_weights"].attrs["layer_names"]
        with pytest.raises(LoadError, match="it holds weights only, the architecture is missing"):
            load_model(path)

    def test_hdf5_of_something_else(self, tmp_path: Path) -> None:
        path = tmp_path / "model.h5"
        with h5py.File(path, "w") as file:
            file["temperature"] = [1.0]
        with pytest.raises(LoadError, match=r"not a model that Keras wrote \(it has no model_config\)"):
            load_model(path)

    def test_what_keras_says_is_kept_to_one_line(self, saved: Path) -> None:
        path = rewrite(saved, lambda config: config["config"]["layers"][1]["config"].update(time_major=True))
        message = r"Keras [\d.]+ cannot rebuild the model\. It says: .*time_major.*\. If an older Keras wrote"
        with pytest.raises(LoadError, match=message) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500 + len(str(path))

    def test_operations_that_hdf5_cannot_hold(self, tmp_path: Path) -> None:
        x = keras.Input((TIME, FEATURES))
        path = save(keras.Model(x, keras.ops.relu(keras.layers.LSTM(UNITS)(x))), tmp_path / "model.h5")
        with pytest.raises(LoadError, match=r"the operation 'Relu'.*model\.save\('model\.keras'\) instead"):
            load_model(path)


def assert_loads_alike_or_refuses(path: Path) -> None:
    """A damaged file is refused with a LoadError, unless the damage changed nothing that matters."""
    try:
        model = load_model(path)
    except LoadError:
        return
    original = randomize(lstm_model())
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in original.weights]


class TestWeightsFindTheirPlace:
    def test_weights_in_an_archive_that_no_layer_takes(self, saved: Path) -> None:
        def without_dense(config: dict[str, Any]) -> None:
            config["config"]["layers"].pop()

        message = r"the weight 'layers/dense/vars/0' of shape \(4, 2\) in the file has no place in the model"
        with pytest.raises(LoadError, match=message):
            load_model(rewrite(saved, without_dense))

    def test_weights_that_keras_leaves_random(self, in_folder: Path) -> None:
        (in_folder / "deep_layer.py").write_text(
            "import keras\n"
            "class Deep(keras.layers.Layer):\n"
            "    def __init__(self, **kwargs):\n"
            "        super().__init__(**kwargs)\n"
            "        self.parts = [[keras.layers.LSTM(4)], keras.layers.Dense(2)]\n"
            "    def build(self, shape):\n"
            "        self.parts[0][0].build(shape)\n"
            "        self.parts[1].build((shape[0], 4))\n"
            "    def call(self, x):\n"
            "        return self.parts[1](self.parts[0][0](x))\n"
        )
        scope: dict[str, Any] = {"__name__": "deep_layer"}
        exec((in_folder / "deep_layer.py").read_text(), scope)
        x = keras.Input((TIME, FEATURES))
        model = randomize(keras.Model(x, scope["Deep"]()(x)))
        path = save(model, in_folder / "model.keras")
        assert_same(load_model(path, custom=("deep_layer:Deep",)), model)

        def as_before_nested_containers(file: Any) -> None:
            del file["layers/deep/parts/container"]

        with pytest.raises(LoadError, match=r"Keras left the weight 'deep.*/lstm.*/kernel' at random values"):
            load_model(change_hdf5(path, as_before_nested_containers), custom=("deep_layer:Deep",))

    def test_a_single_changed_value_is_seen(self, saved_h5: Path) -> None:
        with hdf5.open_hdf5(saved_h5, saved_h5) as file:
            prints = weights.legacy_prints(file["model_weights"])
        model = load_model(saved_h5)
        weights.check_legacy_weights(model, prints, saved_h5)
        values = np.array(model.layers[0].cell.bias)
        values[3] = np.nextafter(values[3], np.float32(9))
        model.layers[0].cell.bias.assign(values)
        message = r"the weight '.*bias' of the layer 'lstm\w*' differs from the file's '.*bias' after loading"
        with pytest.raises(LoadError, match=message):
            weights.check_legacy_weights(model, prints, saved_h5)

    def test_layers_of_an_hdf5_file_in_another_order(self, tmp_path: Path) -> None:
        layers = [keras.layers.LSTM(FEATURES, return_sequences=True, name=name) for name in ("first", "second")]
        path = save(randomize(keras.Sequential([keras.Input((TIME, FEATURES)), *layers])), tmp_path / "model.h5")

        def swap(file: Any) -> None:
            file["model_weights"].attrs["layer_names"] = [b"second", b"first"]

        with pytest.raises(LoadError, match=r"the layers with weights .* differ in their order"):
            load_model(change_hdf5(path, swap))

    def test_weights_within_a_layer_of_an_hdf5_file_in_another_order(self, tmp_path: Path) -> None:
        layers = [keras.layers.LSTM(UNITS), keras.layers.BatchNormalization(name="norm")]
        path = save(randomize(keras.Sequential([keras.Input((TIME, FEATURES)), *layers])), tmp_path / "model.h5")

        def swap(file: Any) -> None:
            names = list(file["model_weights/norm"].attrs["weight_names"])
            file["model_weights/norm"].attrs["weight_names"] = [names[1], names[0], *names[2:]]

        message = r"the layer 'norm' has the weights gamma, beta, .*, and the file holds beta, gamma, "
        with pytest.raises(LoadError, match=message):
            load_model(change_hdf5(path, swap))

    def test_missing_layer_in_an_hdf5_file(self, saved_h5: Path) -> None:
        def forget(file: Any) -> None:
            group = file["model_weights"]
            group.attrs["layer_names"] = group.attrs["layer_names"][:-1]

        with pytest.raises(LoadError, match=r"Layer count mismatch"):
            load_model(change_hdf5(saved_h5, forget))

    def test_names_split_over_several_attributes(self, saved_h5: Path) -> None:
        expected = load_model(saved_h5)

        def split(file: Any) -> None:
            attributes = file["model_weights"].attrs
            names = attributes["layer_names"]
            del attributes["layer_names"]
            attributes["layer_names0"], attributes["layer_names1"] = names[:1], names[1:]

        assert_same(load_model(change_hdf5(saved_h5, split)), expected)


class TestTwoFiles:
    @pytest.fixture
    def architecture(self, tmp_path: Path) -> Path:
        path = tmp_path / "model.json"
        path.write_text(lstm_model().to_json())
        return path

    @pytest.mark.parametrize(
        "content, message",
        [
            (None, "there is no such file"),
            (b"", "the file is empty"),
            (b"\x89PNG\r\n\x1a\n", "is a PNG image"),
            (b"weights", r"it is no HDF5 file\. Give the file that model\.save_weights"),
            (b"\x89HDF\r\n\x1a\n" + bytes(50), "its HDF5 content is damaged"),
        ],
    )
    def test_weights_that_cannot_be_read(self, content: bytes | None, message: str, architecture: Path) -> None:
        weights = architecture.with_name("weights.h5")
        if content is not None:
            weights.write_bytes(content)
        with pytest.raises(LoadError, match=rf"Cannot load .*weights\.h5: .*{message}"):
            load_model(architecture, weights=weights)

    def test_weights_of_something_else(self, architecture: Path) -> None:
        with h5py.File(architecture.with_name("weights.h5"), "w") as file:
            file["temperature"] = [1.0]
        with pytest.raises(LoadError, match="it is an HDF5 file, but not one of weights that Keras wrote"):
            load_model(architecture, weights=architecture.with_name("weights.h5"))

    @pytest.mark.parametrize("part", ["dense", "lstm"])
    def test_weights_of_another_model(self, part: str, architecture: Path) -> None:
        layers = {"dense": keras.layers.Dense(3), "lstm": keras.layers.LSTM(UNITS + 1)}
        other = keras.Sequential([keras.Input((TIME, FEATURES)), layers[part]])
        other.save_weights(architecture.with_name("model.weights.h5"))
        with pytest.raises(LoadError, match=r"the layer '\w+' has the weights|holds no values for the weight"):
            load_model(architecture, weights=architecture.with_name("model.weights.h5"))

    def test_weights_for_a_file_that_has_its_own(self, saved: Path, saved_h5: Path) -> None:
        for path, kind in ((saved, "a .keras archive"), (saved_h5, "an HDF5 file"), (unzipped(saved), "an unzipped")):
            with pytest.raises(
                LoadError, match=rf"it is {kind}.*, which holds its weights itself\. Leave --weights out"
            ):
                load_model(path, weights=saved_h5)

    def test_hostile_architecture(self, architecture: Path) -> None:
        config = json.loads(architecture.read_text())
        config["config"]["layers"][-1] |= {"module": "canary", "class_name": "Bird"}
        architecture.write_text(json.dumps(config))
        lstm_model().save_weights(architecture.with_name("model.weights.h5"))
        with pytest.raises(LoadError, match=r"is of the class canary\.Bird, which is not a part of Keras"):
            load_model(architecture, weights=architecture.with_name("model.weights.h5"))


class TestBackend:
    def test_other_backend_already_running(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
        with pytest.raises(LoadError, match=r"already runs on the backend 'jax'.*Set KERAS_BACKEND=tensorflow before"):
            load_model(saved)

    def test_other_backend_chosen(self, saved: Path, run_python: Any) -> None:
        code = (
            "import os, sys\nos.environ['KERAS_BACKEND'] = 'torch'\n"
            "from edgelstm.converters.loading import load_model\n"
            "try:\n    load_model(sys.argv[1])\nexcept Exception as error:\n"
            "    print(type(error).__name__, error, 'keras' in sys.modules)"
        )
        done = run_python(code, saved)
        assert "LoadError Keras is set to run on the backend 'torch'" in done.stdout
        assert done.stdout.endswith("or unset it. False\n")

    def test_backend_is_set_where_it_is_not(self, saved: Path, run_python: Any) -> None:
        code = (
            "import os, sys\nos.environ.pop('KERAS_BACKEND', None)\n"
            "from edgelstm.converters.loading import load_model\n"
            "load_model(sys.argv[1])\nprint(os.environ['KERAS_BACKEND'])"
        )
        assert run_python(code, saved).stdout == "tensorflow\n"

    @pytest.mark.parametrize("package", ["keras", "tensorflow", "h5py"])
    def test_missing_extra(self, package: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def without_package(name: str) -> Any:
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return sys.modules.get(name)

        monkeypatch.setattr(keras_import.importlib, "import_module", without_package)
        message = rf'needs {package}, which is not installed\. .*pip install "edgelstm\[convert\]"'
        with pytest.raises(MissingExtraError, match=message):
            load_model(saved)

    def test_bad_files_are_told_without_importing_keras(self, tmp_path: Path, run_python: Any) -> None:
        (tmp_path / "image.keras").write_bytes(b"\x89PNG")
        code = (
            "import sys\nfrom edgelstm.converters.loading import load_model\n"
            "try:\n    load_model(sys.argv[1])\nexcept Exception as error:\n    print('keras' in sys.modules)"
        )
        assert run_python(code, tmp_path / "image.keras").stdout == "False\n"
