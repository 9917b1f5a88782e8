"""What tf.keras wrote about its layers into a SavedModel: data in JSON, beside the traced graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edgelstm.converters.loading.saved_model.folder import KERAS_METADATA, SavedModelFolder, damaged
from edgelstm.converters.loading.saved_model.wire import fields

ROOT = 0
_MODELS = ("_tf_keras_sequential", "_tf_keras_network", "_tf_keras_model")
_NODES = 1  # of a SavedMetadata message
_NODE_ID, _IDENTIFIER, _METADATA = 2, 4, 5  # of its nodes


@dataclass(frozen=True)
class KerasObject:
    """A layer or model of tf.keras in the graph of saved objects.

    Attributes:
        identifier: Its kind, e.g. "_tf_keras_rnn_layer".
        metadata: What tf.keras wrote about it.
    """

    identifier: str
    metadata: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the layer."""
        return str(self.metadata.get("name", ""))


@dataclass(frozen=True)
class Architecture:
    """A Keras model as a configuration.

    Attributes:
        config: {"class_name": ..., "config": ...}.
        keras_version: Version of the Keras that wrote it, e.g. "2.15.0".
        backend: Its backend.
    """

    config: dict[str, Any]
    keras_version: str
    backend: str | None


def keras_objects(folder: SavedModelFolder) -> dict[int, KerasObject]:
    """Reads the metadata of all layers, by their number in the graph of saved objects; empty if there is none.

    Up to TensorFlow 2.4 it stands in the graph of objects, since then in a file of its own; a file of its own beside a
    graph with metadata is left over from another model.

    Raises:
        LoadError: If it is damaged.
    """
    texts = {
        number: (node.user_object.identifier, node.user_object.metadata)
        for number, node in enumerate(folder.graph.object_graph_def.nodes)
        if node.user_object.identifier.startswith("_tf_keras") and node.user_object.metadata
    }
    if not texts and folder.keras_metadata is not None:
        try:
            texts = dict(_read_node(value) for number, value in fields(folder.keras_metadata) if number == _NODES)
        except ValueError as error:
            raise damaged(folder.path, KERAS_METADATA, error) from error
    return {number: KerasObject(kind, _parse(text, folder)) for number, (kind, text) in texts.items()}


def architecture(objects: dict[int, KerasObject]) -> Architecture | None:
    """The model at the root of the saved objects; None if there is none, or it has no configuration to build it by."""
    root = objects.get(ROOT)
    if root is None or root.identifier not in _MODELS:
        return None
    config = root.metadata.get("model_config")
    if not isinstance(config, dict) or "class_name" not in config:
        return None
    backend = root.metadata.get("backend")
    # Files without a version are of the first TensorFlow 2, whose Keras called itself 2.2.4-tf.
    version = root.metadata.get("keras_version") or "2.2.4-tf"
    return Architecture(config, str(version), str(backend) if backend else None)


def _read_node(message: int | bytes) -> tuple[int, tuple[str, str]]:
    if not isinstance(message, bytes):
        raise ValueError("a node is no message")
    values: dict[int, Any] = {_NODE_ID: 0, _IDENTIFIER: b"", _METADATA: b""} | dict(fields(message))
    if not isinstance(values[_NODE_ID], int) or not all(isinstance(values[n], bytes) for n in (_IDENTIFIER, _METADATA)):
        raise ValueError("a node has a field of another type")
    return values[_NODE_ID], (values[_IDENTIFIER].decode(), values[_METADATA].decode())


def _parse(text: str, folder: SavedModelFolder) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(folder.path, "Keras metadata", error) from error
    if not isinstance(value, dict):
        raise damaged(folder.path, "Keras metadata", "it is no object")
    return value
