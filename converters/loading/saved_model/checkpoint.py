"""The values of a SavedModel's variables."""

from __future__ import annotations

import json
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters import scripts
from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.saved_model import checkpoint_program
from edgelstm.converters.loading.saved_model.checkpoint_program import NAMES, OBJECT_GRAPH
from edgelstm.converters.loading.saved_model.folder import SavedModelFolder, damaged
from edgelstm.errors import LoadError

START_TIMEOUT_S = 60.0
BYTES_PER_S = 20e6
"""Time to read a checkpoint: that of starting Python with a part of TensorFlow, and far more than a slow disk takes."""
_VALUE = "VARIABLE_VALUE"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, read.

    Attributes:
        values: Arrays by their keys.
        keys: The key of each variable, by its number in the graph of saved objects.
    """

    values: dict[str, Array]
    keys: dict[int, str]

    def value(self, variable: int) -> Array | None:
        """Value of a variable, by its number in the graph of saved objects; None if it is not saved or no number."""
        return self.values.get(self.keys.get(variable, ""))


def read_checkpoint(folder: SavedModelFolder) -> Checkpoint:
    """Reads all variables of a SavedModel, in a process of its own.

    Raises:
        LoadError: If the files are missing or damaged.
    """
    files = sorted(folder.checkpoint.parent.glob(f"{folder.checkpoint.name}.*"))
    if not any(file.suffix == ".index" for file in files):
        if any(node.WhichOneof("kind") == "variable" for node in folder.graph.object_graph_def.nodes):
            raise LoadError(
                f"Cannot load {folder.path}: the file {folder.checkpoint.relative_to(folder.path)}.index with the "
                "values of its variables is missing. Copy the whole folder."
            )
        return Checkpoint({}, {})
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as scratch:
        output = Path(scratch, "values.npz")
        _run(folder, output, START_TIMEOUT_S + sum(file.stat().st_size for file in files) / BYTES_PER_S)
        with zipfile.ZipFile(output) as archive:
            names = json.loads(archive.read(NAMES))
        with np.load(output, allow_pickle=False) as arrays:
            values = {name: arrays[str(position)] for position, name in enumerate(names)}
    objects = values.pop(OBJECT_GRAPH, None)
    return Checkpoint(values, {} if objects is None else _keys(folder, objects.tobytes()))


def _run(folder: SavedModelFolder, output: Path, timeout_s: float) -> None:
    prefix = str(folder.checkpoint.absolute())
    try:
        done = scripts.start(checkpoint_program.__file__, prefix, output, timeout_s=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise damaged(folder.path, "checkpoint", f"reading it did not end within {timeout_s:.0f} s") from error
    if done.returncode < 0:
        raise damaged(folder.path, "checkpoint", f"reading it ended with signal {-done.returncode}")
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise damaged(folder.path, "checkpoint", " ".join(lines[-1].split())[:200].rstrip("."))


def _keys(folder: SavedModelFolder, content: bytes) -> dict[int, str]:
    """Finds the checkpoint's key of each variable, by walking both graphs of objects side by side from their roots.

    Object numbers differ between the two; the names that lead from object to object do not.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    in_checkpoint = trackable_object_graph_pb2.TrackableObjectGraph()
    try:
        in_checkpoint.ParseFromString(content)
        return _walk(folder.graph.object_graph_def, in_checkpoint)
    except (DecodeError, IndexError) as error:
        raise damaged(folder.path, "graph of saved objects", error) from error


def _walk(saved: Any, in_checkpoint: Any) -> dict[int, str]:
    keys: dict[int, str] = {}
    waiting, seen = [(0, 0)], {0}
    while waiting:
        here, there = waiting.pop()
        for attribute in in_checkpoint.nodes[there].attributes:
            if attribute.name == _VALUE and saved.nodes[here].WhichOneof("kind") == "variable":
                keys[here] = attribute.checkpoint_key
        children = {child.local_name: child.node_id for child in in_checkpoint.nodes[there].children}
        for child in saved.nodes[here].children:
            if child.local_name in children and child.node_id not in seen:
                seen.add(child.node_id)
                waiting.append((child.node_id, children[child.local_name]))
    return keys
