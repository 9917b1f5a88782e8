"""The HDF5 file of `model.save("model.h5")`: the configuration as an attribute, the weights by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelstm.converters.loading.base import Loaded, Request
from edgelstm.converters.loading.configuration import parse_configuration
from edgelstm.converters.loading.custom import check_spec, import_custom
from edgelstm.converters.loading.hdf5 import open_hdf5
from edgelstm.converters.loading.legacy import build_legacy, is_legacy
from edgelstm.converters.loading.policy import allowed_objects
from edgelstm.converters.loading.rebatch import rebase_batch
from edgelstm.converters.loading.rebuild import rebuild
from edgelstm.converters.loading.weights import check_legacy_weights, legacy_arrays, legacy_prints
from edgelstm.errors import LoadError

MAGIC = b"\x89HDF\r\n\x1a\n"
_OFFSETS = (0, 512, 1024, 2048)  # a user block may stand in front


def is_hdf5(head: bytes) -> bool:
    """Tells whether the signature of HDF5 stands where the format allows it."""
    return any(head.startswith(MAGIC, offset) for offset in _OFFSETS)


recognizes = is_hdf5


def read(path: Path, request: Request) -> Loaded:
    """Reads an HDF5 model; arguments and errors as `Reader.read` says."""
    for spec in request.custom:
        check_spec(spec)
    with open_hdf5(path, path) as file:
        config = _config(file, path)
        if "model_weights" not in file:
            raise LoadError(f"Cannot load {path}: it holds no weights. Save the whole model with model.save().")
        weights = file["model_weights"]
        version = attribute("keras_version", file, weights) or "1"
        backend = attribute("backend", file, weights)
        if is_legacy(version):
            arrays = legacy_arrays(weights)
        else:
            prints = legacy_prints(weights)
    custom = import_custom(request.custom)
    if is_legacy(version):
        return build_legacy(
            config, arrays, keras_version=version, custom=custom, path=path, batch=request.batch, backend=backend
        )
    model = rebuild(path, ".h5", allowed_objects(config, custom, path))
    check_legacy_weights(model, prints, path)
    return rebase_batch(model, request.batch)


def _config(file: Any, path: Path) -> Any:
    text = file.attrs.get("model_config")
    if text is None:
        if "layer_names" in file.attrs or any(
            name in file for name in ("layers", "_layer_checkpoint_dependencies", "vars")
        ):
            raise LoadError(
                f"Cannot load {path}: it holds weights only, the architecture is missing. If you have it as JSON, give "
                "that file as the model and this one with --weights; if not, build the model in Python, call "
                "model.load_weights() on this file, and save the whole model with model.save('model.keras')."
            )
        raise LoadError(
            f"Cannot load {path}: it is an HDF5 file, but not a model that Keras wrote (it has no model_config). "
            "Give the file that model.save() writes."
        )
    return parse_configuration(lambda: _text(text), "model_config", path)


def attribute(name: str, *groups: Any) -> str | None:
    """Returns a text from the first group that has it."""
    return next((_text(group.attrs[name]) for group in groups if name in group.attrs), None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
