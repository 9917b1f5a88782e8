"""What tests of SavedModels share: their graphs, read, changed and written again."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_graph(folder: Path) -> Any:
    """The content of saved_model.pb."""
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel()
    graph.ParseFromString((folder / "saved_model.pb").read_bytes())
    return graph


def write_graph(folder: Path, graph: Any) -> None:
    (folder / "saved_model.pb").write_bytes(graph.SerializeToString())


def served_answers(folder: Path, inputs: dict[str, Any], signature: str = "serving_default") -> dict[str, Any]:
    """What TensorFlow itself answers; for SavedModels that the test wrote."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}
