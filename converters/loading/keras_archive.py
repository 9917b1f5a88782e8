"""The `.keras` archive: a zip of config.json, metadata.json and model.weights.h5."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from edgelstm.converters.loading.base import Loaded, Request
from edgelstm.converters.loading.configuration import parse_configuration
from edgelstm.converters.loading.custom import check_spec, import_custom
from edgelstm.converters.loading.hdf5 import FREE_BYTES, MAX_EXPANSION, open_hdf5
from edgelstm.converters.loading.legacy import finish, is_legacy
from edgelstm.converters.loading.paths import place_by_path
from edgelstm.converters.loading.policy import allowed_objects
from edgelstm.converters.loading.reasons import reason
from edgelstm.converters.loading.rebatch import rebase_batch
from edgelstm.converters.loading.rebuild import rebuild
from edgelstm.converters.loading.rewriting import Writer
from edgelstm.converters.loading.weights import archive_prints, check_archive_weights
from edgelstm.errors import LoadError

MAGIC = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_CONFIG_BYTES = 16 << 20
"""The configuration of a model of 1000 layers takes about 1 MiB."""


def recognizes(head: bytes) -> bool:
    """Tells whether a file begins as a zip archive does."""
    return head.startswith(MAGIC)


def read(path: Path, request: Request) -> Loaded:
    """Reads a .keras archive; arguments and errors as `Reader.read` says."""
    for spec in request.custom:
        check_spec(spec)
    with _open(path) as archive:
        _check_members(archive, path)
        config = _read_json(archive, CONFIG, path)
        metadata = _read_json(archive, METADATA, path) if METADATA in archive.namelist() else {}
        if is_legacy(str(metadata.get("keras_version") or "3")) and any(
            name.startswith("assets/") and not name.endswith("/") for name in archive.namelist()
        ):
            raise LoadError(
                f"Cannot load {path}: a layer in it keeps files of its own, as layers that look up words do, and only "
                "the Keras that wrote them can read them. Save the model without that layer."
            )
        weights = BytesIO(archive.read(WEIGHTS))
    return read_contents(path, config, metadata, weights, request)


def read_contents(
    path: Path, config: dict[str, Any], metadata: Mapping[str, Any], weights: BytesIO | Path, request: Request
) -> Loaded:
    """Builds the model that an archive, or its unzipped folder, holds.

    Args:
        path: The archive or folder.
        config: Content of its config.json.
        metadata: Content of its metadata.json.
        weights: Its weights in HDF5.
        request: As in `Reader.read`.

    Raises:
        LoadError: As `Reader.read` says.
        MissingExtraError: As `Reader.read` says.
    """
    custom = import_custom(request.custom)
    version = str(metadata.get("keras_version") or "3")
    if is_legacy(version):
        with open_hdf5(weights, path) as file:
            writer = Writer.parse(version, "tensorflow")
            return finish(config, writer, custom, path, request.batch, lambda built: place_by_path(built, file))
    # How the model was trained is not loaded, so nothing in there can be missing.
    objects = allowed_objects(config | {"compile_config": None}, custom, path)
    with open_hdf5(weights, path) as file:
        prints = archive_prints(file)
    model = rebuild(path, ".keras", objects)
    check_archive_weights(model, prints, path)
    return rebase_batch(model, request.batch)


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except LoadError:
        raise
    except Exception as error:  # zipfile raises whatever fits: BadZipFile, EOFError, zlib.error, RuntimeError, ...
        raise LoadError(
            f"Cannot load {path}: the archive is damaged or incomplete ({reason(error)}). Copy or save it again."
        ) from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuses what Keras did not write, before anything is unpacked."""
    names = archive.namelist()
    for name in names:
        inner = PurePosixPath(name.replace("\\", "/"))
        if inner.is_absolute() or ".." in inner.parts or ":" in "".join(inner.parts[:1]):
            raise LoadError(
                f"Cannot load {path}: its entry {name!r} leads outside the archive. Do not trust this file."
            )
    if CONFIG not in names:
        raise LoadError(
            f"Cannot load {path}: it is a zip archive, but not one that Keras wrote (it has no {CONFIG}). "
            "Give the file that model.save('model.keras') writes; unpack it first if it was packed."
        )
    if WEIGHTS not in names:
        raise LoadError(f"Cannot load {path}: the archive has no {WEIGHTS}. Save the model again with model.save().")
    _check_sizes(archive, path)


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Bounds what unpacking can take; `zipfile` never unpacks more of an entry than it declares."""
    total = sum(entry.file_size for entry in archive.infolist())
    configs = sum(archive.getinfo(name).file_size for name in (CONFIG, METADATA) if name in archive.namelist())
    if configs > MAX_CONFIG_BYTES or total > max(FREE_BYTES, MAX_EXPANSION * path.stat().st_size):
        raise LoadError(
            f"Cannot load {path}: unpacked it would take {total >> 20} MiB, {configs >> 20} MiB of that for the "
            "configuration, so it looks like a decompression bomb. Save the model again with model.save()."
        )


def _read_json(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    return parse_configuration(lambda: archive.read(name), name, path)
