"""The tables of the kinds of model files and folders that can be read. The first that recognizes one reads it."""

from __future__ import annotations

from pathlib import Path

from edgelstm.converters.loading import keras_archive, keras_folder, keras_hdf5, keras_json
from edgelstm.converters.loading.base import FolderReader, Loaded, Reader, Request

READERS = (
    Reader("a .keras archive", keras_archive.recognizes, keras_archive.read),
    Reader("an HDF5 file", keras_hdf5.recognizes, keras_hdf5.read),
    Reader("text in JSON", keras_json.recognizes, keras_json.read, takes_weights=True),
)


def _is_saved_model(folder: Path) -> bool:
    return (folder / "saved_model.pb").exists() or (folder / "keras_metadata.pb").exists()


def _read_saved_model(folder: Path, request: Request) -> Loaded:
    from edgelstm.converters.loading import saved_model

    return saved_model.read(folder, request.custom, request.batch)


FOLDER_READERS = (
    FolderReader("a SavedModel folder", _is_saved_model, _read_saved_model),
    FolderReader("an unzipped .keras folder", keras_folder.recognizes, keras_folder.read),
)
