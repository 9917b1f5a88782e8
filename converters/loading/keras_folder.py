"""The unzipped `.keras` archive: a folder with config.json, metadata.json and model.weights.h5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelstm.converters.loading.base import Loaded, Request
from edgelstm.converters.loading.configuration import parse_configuration
from edgelstm.converters.loading.custom import check_spec
from edgelstm.converters.loading.head import read_head
from edgelstm.converters.loading.keras_archive import CONFIG, MAX_CONFIG_BYTES, METADATA, WEIGHTS, read_contents
from edgelstm.errors import LoadError


def recognizes(folder: Path) -> bool:
    """Tells whether a folder has the configuration of a model."""
    return (folder / CONFIG).exists()


def read(path: Path, request: Request) -> Loaded:
    """Reads an unzipped .keras archive; arguments and errors as `Reader.read` says."""
    for spec in request.custom:
        check_spec(spec)
    if not (path / WEIGHTS).exists():
        raise LoadError(f"Cannot load {path}: the folder has no {WEIGHTS}. Save the model again with model.save().")
    read_head(path / WEIGHTS)
    metadata = _read_json(path / METADATA) if (path / METADATA).exists() else {}
    return read_contents(path, _read_json(path / CONFIG), metadata, path / WEIGHTS, request)


def _read_json(file: Path) -> dict[str, Any]:
    read_head(file)
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise LoadError(f"Cannot load {file}: it is larger than any configuration. Save the model again.")
    return parse_configuration(file.read_bytes, file.name, file.parent)
