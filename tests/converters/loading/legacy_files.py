"""Writers for model files as Keras 1 and 2 laid them out, by hand: no Keras takes part.

Configurations carry every key that the version named beside them wrote, so that nothing is left to today's defaults.
Weights are given by layer, in the order of the file, each as (name, array).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Named = tuple[str, Array]
Weights = Mapping[str, Sequence[Named]]
Config = dict[str, Any]


def write_h5(path: Path, config: Any, weights: Weights, version: str | None, backend: str | None = None) -> Path:
    """A whole model, as `model.save("model.h5")` laid it out from Keras 1.0.8 to tf.keras 2.15."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        _write_version(file, version, backend)
        _write_layers(file.create_group("model_weights"), weights, version, backend)
    return path


def write_weights(path: Path, weights: Weights, version: str | None, backend: str | None = None) -> Path:
    """The weights alone, as `model.save_weights("weights.h5")` laid them out."""
    with h5py.File(path, "w") as file:
        _write_layers(file, weights, version, backend)
    return path


def _write_version(group: Any, version: str | None, backend: str | None) -> None:
    for name, value in (("keras_version", version), ("backend", backend)):
        if value is not None:
            group.attrs[name] = value.encode()


def _write_layers(group: Any, weights: Weights, version: str | None, backend: str | None) -> None:
    group.attrs["layer_names"] = [name.encode() for name in weights]
    _write_version(group, version, backend)
    for layer, values in weights.items():
        inner = group.create_group(layer)
        inner.attrs["weight_names"] = [name.encode() for name, _ in values]
        for name, array in values:
            inner.create_dataset(name, data=np.asarray(array, np.float32))


def write_json(path: Path, config: Config, version: str | None, backend: str | None = None) -> Path:
    """The architecture alone, as `model.to_json()` wrote it."""
    known = {"keras_version": version, "backend": backend}
    path.write_text(json.dumps(config | {name: value for name, value in known.items() if value is not None}))
    return path


def write_archive(path: Path, config: Config, arrays: Mapping[str, Array], version: str) -> Path:
    """A .keras archive; the arrays by their paths in model.weights.h5."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=np.asarray(array, np.float32))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": "2023-05-01@10:00:00"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


def layer(class_name: str, name: str, **settings: Any) -> Config:
    """One layer in a list, as {"class_name": ..., "config": ...}."""
    return {"class_name": class_name, "config": {"name": name, "trainable": True} | settings}


def sequential(*layers: Config) -> Config:
    """A Sequential model before 2.2.3: its configuration is a list."""
    return {"class_name": "Sequential", "config": list(layers)}


def named_sequential(name: str, *layers: Config, **settings: Any) -> Config:
    """A Sequential model from 2.2.3 on."""
    return {"class_name": "Sequential", "config": {"name": name, "layers": list(layers)} | settings}


def functional(
    inputs: Sequence[str], outputs: Sequence[str], *nodes: tuple[Config, Any], kind: str = "Model"
) -> Config:
    """A functional model: its layers, each with its inbound nodes; inputs and outputs by the names of layers."""
    layers = [config | {"name": config["config"]["name"], "inbound_nodes": inbound} for config, inbound in nodes]
    ends = {"input_layers": [[name, 0, 0] for name in inputs], "output_layers": [[name, 0, 0] for name in outputs]}
    return {"class_name": kind, "config": {"name": "model_1", "layers": layers} | ends}


def tensor(name: str, index: int = 0, node: int = 0, **arguments: Any) -> list[Any]:
    """One tensor in a node."""
    return [name, node, index, arguments]


def input_layer(name: str, shape: Sequence[int | None], dtype: str = "float32", **settings: Any) -> Config:
    """An InputLayer of Keras 2."""
    config = {"batch_input_shape": list(shape), "dtype": dtype, "sparse": False, "name": name} | settings
    return {"class_name": "InputLayer", "config": config}


# Layers of Keras 1.2


def keras_1_recurrent(class_name: str, name: str, units: int, **settings: Any) -> Config:
    """SimpleRNN, GRU or LSTM of Keras 1.2."""
    gates = {} if class_name == "SimpleRNN" else {"inner_activation": "hard_sigmoid"}
    bias = {"forget_bias_init": "one"} if class_name == "LSTM" else {}
    common = {
        "output_dim": units,
        "init": "glorot_uniform",
        "inner_init": "orthogonal",
        "activation": "tanh",
        "W_regularizer": None,
        "U_regularizer": None,
        "b_regularizer": None,
        "dropout_W": 0.0,
        "dropout_U": 0.0,
        "return_sequences": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "consume_less": "cpu",
        "input_dim": None,
        "input_length": None,
    }
    return layer(class_name, name, **(common | gates | bias | settings))


def keras_1_dense(name: str, units: int, class_name: str = "Dense", **settings: Any) -> Config:
    """Dense of Keras 1.2."""
    common = {
        "output_dim": units,
        "init": "glorot_uniform",
        "activation": "linear",
        "W_regularizer": None,
        "b_regularizer": None,
        "activity_regularizer": None,
        "W_constraint": None,
        "b_constraint": None,
        "bias": True,
        "input_dim": None,
    }
    return layer(class_name, name, **(common | settings))


def keras_1_embedding(name: str, words: int, units: int, length: int | None, **settings: Any) -> Config:
    """Embedding of Keras 1.2 as a first layer."""
    common = {
        "batch_input_shape": [None, length],
        "input_dtype": "int32",
        "input_dim": words,
        "output_dim": units,
        "init": "uniform",
        "input_length": length,
        "mask_zero": False,
        "activity_regularizer": None,
        "W_regularizer": None,
        "W_constraint": None,
        "dropout": 0.0,
    }
    return layer("Embedding", name, **(common | settings))


def keras_1_conv1d(name: str, filters: int, length: int, **settings: Any) -> Config:
    """Convolution1D of Keras 1.2."""
    common = {
        "nb_filter": filters,
        "filter_length": length,
        "init": "glorot_uniform",
        "activation": "linear",
        "border_mode": "valid",
        "subsample_length": 1,
        "W_regularizer": None,
        "b_regularizer": None,
        "activity_regularizer": None,
        "W_constraint": None,
        "b_constraint": None,
        "bias": True,
        "input_dim": None,
        "input_length": None,
    }
    return layer("Convolution1D", name, **(common | settings))


# Layers of Keras 2.0 to 2.3


def _initializer(class_name: str, **config: Any) -> Config:
    return {"class_name": class_name, "config": config}


_GLOROT = _initializer("VarianceScaling", scale=1.0, mode="fan_avg", distribution="uniform", seed=None)
_ORTHOGONAL = _initializer("Orthogonal", gain=1.0, seed=None)
_ZEROS = _initializer("Zeros")


def keras_2_recurrent(class_name: str, name: str, units: int, **settings: Any) -> Config:
    """SimpleRNN, GRU or LSTM of Keras 2.2."""
    gates = {} if class_name == "SimpleRNN" else {"recurrent_activation": "hard_sigmoid", "implementation": 1}
    bias = {"unit_forget_bias": True} if class_name == "LSTM" else {}
    common = {
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "units": units,
        "activation": "tanh",
        "use_bias": True,
        "kernel_initializer": _GLOROT,
        "recurrent_initializer": _ORTHOGONAL,
        "bias_initializer": _ZEROS,
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
    }
    return layer(class_name, name, **(common | gates | bias | settings))


def cudnn_recurrent(class_name: str, name: str, units: int, **settings: Any) -> Config:
    """CuDNNGRU or CuDNNLSTM of Keras 2.2."""
    common = {
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "units": units,
        "kernel_initializer": _GLOROT,
        "recurrent_initializer": _ORTHOGONAL,
        "bias_initializer": _ZEROS,
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
    }
    bias = {"unit_forget_bias": True} if class_name == "CuDNNLSTM" else {}
    return layer(class_name, name, **(common | bias | settings))


def keras_2_dense(name: str, units: int, **settings: Any) -> Config:
    """Dense of Keras 2.2."""
    common = {
        "units": units,
        "activation": "linear",
        "use_bias": True,
        "kernel_initializer": _GLOROT,
        "bias_initializer": _ZEROS,
        "kernel_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "bias_constraint": None,
    }
    return layer("Dense", name, **(common | settings))


def keras_2_embedding(name: str, words: int, units: int, length: int | None, **settings: Any) -> Config:
    """Embedding of Keras 2.2 as a first layer."""
    common = {
        "batch_input_shape": [None, length],
        "dtype": "float32",
        "input_dim": words,
        "output_dim": units,
        "embeddings_initializer": _initializer("RandomUniform", minval=-0.05, maxval=0.05, seed=None),
        "embeddings_regularizer": None,
        "activity_regularizer": None,
        "embeddings_constraint": None,
        "mask_zero": False,
        "input_length": length,
    }
    return layer("Embedding", name, **(common | settings))


def wrapper(class_name: str, name: str, inner: Config, **settings: Any) -> Config:
    """Bidirectional or TimeDistributed of Keras 1 and 2."""
    return layer(class_name, name, layer=inner, **settings)
