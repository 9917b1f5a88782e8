"""The files of a SavedModel folder: found, bounded in size, and parsed without running anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.converters.loading.foreign import describe
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.reasons import reason
from edgelstm.errors import LoadError

GRAPH, KERAS_METADATA = "saved_model.pb", "keras_metadata.pb"
CHECKPOINT = Path("variables", "variables")
MAX_GRAPH_BYTES = 256 << 20
"""The graph of a model of a hundred recurrent layers takes about 20 MiB. Large constants can stand in it."""
MAX_METADATA_BYTES = 64 << 20
HEAD_BYTES = 64
_SERVING_TAGS = {"serve"}


@dataclass(frozen=True)
class SavedModelFolder:
    """What stands in a SavedModel folder, except the values of its variables.

    Attributes:
        path: The folder.
        graph: The MetaGraphDef for serving: operations, functions, signatures and the graph of saved objects.
        keras_metadata: Content of keras_metadata.pb, None if there is no such file.
    """

    path: Path
    graph: Any
    keras_metadata: bytes | None

    @property
    def checkpoint(self) -> Path:
        """What the names of the files with the variables' values begin with."""
        return self.path / CHECKPOINT


def open_folder(path: Path) -> SavedModelFolder:
    """Reads the graph and the metadata of a SavedModel folder.

    Raises:
        LoadError: If a file is missing, too large or damaged, or the folder holds no graph for serving.
    """
    content = _read(path, GRAPH, MAX_GRAPH_BYTES)
    if what := describe(content[:HEAD_BYTES]):  # a pointer of Git LFS, for instance
        raise LoadError(f"Cannot load {path}: its {GRAPH} {what}.")
    metadata = _read(path, KERAS_METADATA, MAX_METADATA_BYTES) if (path / KERAS_METADATA).exists() else None
    return SavedModelFolder(path, _serving_graph(content, path), metadata)


def damaged(path: Path, what: str, error: BaseException | str) -> LoadError:
    """The error for a damaged part of a SavedModel folder."""
    told = error if isinstance(error, str) else reason(error)
    return LoadError(f"Cannot load {path}: its {what} is damaged ({told}). Copy or save the SavedModel again.")


def _read(folder: Path, name: str, largest: int) -> bytes:
    file = folder / name
    try:
        if not file.is_file():
            raise LoadError(
                f"Cannot load {folder}: the file {name} of the SavedModel is missing. Copy the whole folder."
            )
        size = file.stat().st_size
        if size > largest:
            raise LoadError(
                f"Cannot load {folder}: {name} has {size >> 20} MiB, and models have at most {largest >> 20} MiB "
                "there. Save the model again with its weights in variables and not in constants."
            )
        return file.read_bytes()
    except OSError as error:
        raise LoadError(f"Cannot load {folder}: {name} cannot be read ({reason(error)}).") from error


def _serving_graph(content: bytes, path: Path) -> Any:
    import_keras()
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(content)
    except (DecodeError, RecursionError) as error:
        raise damaged(path, GRAPH, error) from error
    for graph in message.meta_graphs:
        if set(graph.meta_info_def.tags) == _SERVING_TAGS:
            return graph
    found = "; ".join(",".join(graph.meta_info_def.tags) or "no tag" for graph in message.meta_graphs) or "none"
    raise LoadError(
        f"Cannot load {path}: the SavedModel has no graph with the tag 'serve' (its graphs: {found}). "
        "Save it again with tf.saved_model.save or model.export."
    )
