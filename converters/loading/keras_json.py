"""The architecture that `model.to_json()` writes, with the weights in a file of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgelstm.converters.loading.base import Loaded, Request
from edgelstm.converters.loading.configuration import parse_configuration
from edgelstm.converters.loading.custom import check_spec, import_custom
from edgelstm.converters.loading.foreign import describe
from edgelstm.converters.loading.hdf5 import open_hdf5
from edgelstm.converters.loading.head import read_head
from edgelstm.converters.loading.keras_hdf5 import attribute, is_hdf5
from edgelstm.converters.loading.legacy import Built, finish
from edgelstm.converters.loading.paths import CONTAINERS, place_by_path
from edgelstm.converters.loading.placing import place_weights
from edgelstm.converters.loading.policy import allowed_objects
from edgelstm.converters.loading.rebatch import rebase_batch
from edgelstm.converters.loading.rebuild import revive
from edgelstm.converters.loading.rewriting import Context, Writer
from edgelstm.converters.loading.weights import has_names, legacy_arrays
from edgelstm.errors import LoadError

MAX_BYTES = 16 << 20
Place = Callable[[Built], None]


def recognizes(head: bytes) -> bool:
    """Tells whether a file begins as a JSON object does."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def read(path: Path, request: Request) -> Loaded:
    """Reads an architecture and the weights beside it; arguments and errors as `Reader.read` says."""
    for spec in request.custom:
        check_spec(spec)
    if path.stat().st_size > MAX_BYTES:
        raise LoadError(f"Cannot load {path}: it is larger than any architecture. Write it again with model.to_json().")
    config = parse_configuration(lambda: path.read_text(encoding="utf-8-sig"), "architecture", path)
    if not isinstance(config.get("class_name"), str) or "config" not in config:
        raise LoadError(
            f"Cannot load {path}: it is text in JSON, but no architecture of a model. Give the file that was written "
            "with model.to_json(), or the model as model.save() writes it."
        )
    if request.weights is None:
        raise LoadError(
            f"Cannot load {path}: it is an architecture without weights. Give the file with its weights, too: "
            "--weights model.weights.h5."
        )
    return _read_weights(path, config, request.weights, request)


def _read_weights(path: Path, config: dict[str, Any], weights: Path, request: Request) -> Loaded:
    head = read_head(weights)
    if not is_hdf5(head):
        what = describe(head) or "is no HDF5 file. Give the file that model.save_weights('model.weights.h5') writes"
        raise LoadError(f"Cannot load {weights}: it {what}.")
    custom = import_custom(request.custom)
    with open_hdf5(weights, weights) as file:
        place = _placer(file, weights)
        version = config.get("keras_version")
        if version is None and "module" in config:  # Keras 3 writes modules, but no version
            return _read_modern(path, config, custom, request.batch, place)
        writer = Writer.parse(str(version or "1"), str(config.get("backend") or "") or None)
        return finish(config, writer, custom, path, request.batch, place)


def _placer(file: Any, weights: Path) -> Place:
    """Returns what puts the weights of a file in place, in whichever of Keras' two layouts they are."""
    group = file.get("model_weights", file)
    if has_names(group):
        arrays = legacy_arrays(group)
        version, backend = attribute("keras_version", group, file), attribute("backend", group, file)

        def place(built: Built) -> None:
            writer = Writer.parse(version, backend) if version else built.context.writer
            place_weights(built.model, arrays, dataclasses.replace(built.context, path=weights, writer=writer))

        return place
    if not any(name in file for name in (*CONTAINERS, "vars")):
        raise LoadError(
            f"Cannot load {weights}: it is an HDF5 file, but not one of weights that Keras wrote. Give the file that "
            "model.save_weights('model.weights.h5') writes."
        )
    return lambda built: place_by_path(built, file)


def _read_modern(
    path: Path, config: dict[str, Any], custom: Mapping[str, Any], batch: int | None, place: Place
) -> Loaded:
    """Builds a model whose architecture Keras 3 wrote."""
    objects = allowed_objects(config | {"compile_config": None}, custom, path)
    model = revive(path, config, objects)
    place(Built(model, Context(path, Writer.parse("3"))))
    return rebase_batch(model, batch)
