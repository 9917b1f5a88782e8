"""The table of the kinds of model files that can be read. The first that recognizes a file reads it."""

from __future__ import annotations

from edgelstm.converters.loading import keras_archive, keras_hdf5
from edgelstm.converters.loading.base import Reader

HEAD_BYTES = 4096
"""How much of a file's beginning tells its kind: HDF5 may begin behind a user block of up to 2048 bytes."""

READERS = (
    Reader("a .keras archive", keras_archive.recognizes, keras_archive.read),
    Reader("an HDF5 file", keras_hdf5.recognizes, keras_hdf5.read),
)
