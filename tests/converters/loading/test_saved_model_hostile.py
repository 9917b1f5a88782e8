"""SavedModels that nobody has vouched for: nothing in them is executed unasked, and damage becomes a sentence."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from edgelstm.converters.loading import load_model
from edgelstm.converters.loading.saved_model import checkpoint, folder, operations
from edgelstm.errors import LoadError
from tests.converters.loading.saved_models import read_graph, write_graph

SEQUENCE = tf.TensorSpec([None, 3], tf.float32, name="x")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with an LSTM."""
    path = tmp_path_factory.mktemp("pristine") / "model"
    stack = [keras.Input((4, 3)), layers.LSTM(2), layers.Dense(1)]
    keras.Sequential(stack).export(str(path), verbose=False)
    return path


@pytest.fixture
def model(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    shutil.copytree(pristine, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a function as a SavedModel."""

    def saved(function: Any, module: Any = None) -> Path:
        concrete = tf.function(function, autograph=False).get_concrete_function(SEQUENCE)
        tf.saved_model.save(module or tf.Module(), str(tmp_path / "saved"), signatures={"serving_default": concrete})
        return tmp_path / "saved"

    return saved


def change(path: Path, edit: Callable[[Any], None]) -> None:
    graph = read_graph(path)
    edit(graph.meta_graphs[0])
    write_graph(path, graph)


# What runs


def test_an_operation_that_writes_a_file_beside_the_outputs_is_refused(save, tmp_path):
    target = tmp_path / "written"

    def function(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.io.write_file(str(target), "hello")]):
            return {"y": x + 1}

    with pytest.raises(LoadError, match="uses WriteFile, which is never run from a file"):
        load_model(save(function))
    assert not target.exists()


def test_an_output_that_is_read_from_a_file_is_refused(save, tmp_path):
    (tmp_path / "secret").write_text("12345678")

    def function(x: Any) -> dict[str, Any]:
        return {"y": x + tf.reduce_sum(tf.io.decode_raw(tf.io.read_file(str(tmp_path / "secret")), tf.float32))}

    with pytest.raises(LoadError, match="uses DecodeRaw, ReadFile, which TensorFlow Lite has no operator for"):
        load_model(save(function))


def test_initialisers_and_functions_that_nobody_calls_do_not_run(save, tmp_path):
    target = tmp_path / "written"

    class Module(tf.Module):
        @tf.function(input_signature=[])
        def write(self) -> None:
            tf.io.write_file(str(target), "hello")

    module = Module()
    module.write.get_concrete_function()
    path = save(lambda x: {"y": x + 1}, module)

    def let_initialiser_write(graph: Any) -> None:
        name = next(f.signature.name for f in graph.graph_def.library.function if "write" in f.signature.name)
        for node in graph.graph_def.node:
            if node.op == "NoOp":
                node.op = "StatefulPartitionedCall"
                node.attr["f"].func.name = name
                node.attr["Tin"].list.SetInParent()
                node.attr["Tout"].list.SetInParent()

    change(path, let_initialiser_write)
    assert np.asarray(load_model(path).model(np.ones((1, 3), np.float32))["y"]).tolist() == [[2, 2, 2]]
    assert not target.exists()


OUTSIDE = """
    ReadFile WriteFile MatchingFiles PyFunc PyFuncStateless EagerPyFunc ImmutableConst LoadAndRemapMatrix SaveV2
    DebugIdentityV2 RemoteCall TextLineDataset InitializeTableFromTextFileV2 RestoreV2 Abort CollectiveReduceV2
    HashTableV2 SymbolicGradient XlaLaunch CustomOperation
"""


def test_operations_that_reach_outside_are_not_listed():
    assert not operations.TAKEN.intersection(OUTSIDE.split())


@pytest.mark.parametrize("name", ["ImmutableConst", "EagerPyFunc", "CustomOperation"])
def test_other_operations_are_refused_by_name(save, name):
    path = save(lambda x: {"y": tf.sinh(x) + 1})

    def rename(graph: Any) -> None:
        for node in (node for function in graph.graph_def.library.function for node in function.node_def):
            node.op = name if node.op == "Sinh" else node.op

    change(path, rename)
    with pytest.raises(LoadError, match=rf"uses {name}, which"):
        load_model(path)


def test_a_function_that_calls_itself_is_refused(save):
    path = save(lambda x: {"y": tf.function(lambda y: y + 1)(x)})

    def close_circle(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if "PartitionedCall" in node.op:
                    node.attr["f"].func.name = function.signature.name

    change(path, close_circle)
    with pytest.raises(LoadError, match="calls itself"):
        load_model(path)


def test_functions_that_multiply_are_refused(save):
    path = save(lambda x: {"y": tf.function(lambda y: y + 1)(x)})

    def multiply(graph: Any) -> None:
        """The outermost function calls one that calls another one twice, and so on 30 times."""
        library = graph.graph_def.library.function
        caller = next(f for f in library if any("PartitionedCall" in node.op for node in f.node_def))
        call = next(node for node in caller.node_def if "PartitionedCall" in node.op)
        name = call.attr["f"].func.name
        for number in range(30):
            function = library.add()
            function.CopyFrom(caller)
            function.signature.name = f"level_{number}"
            first = next(node for node in function.node_def if node.name == call.name)
            first.attr["f"].func.name = name
            second = function.node_def.add()
            second.CopyFrom(first)
            second.name = "again"
            second.input[0] = f"{first.name}:output:0"
            for key in function.ret:
                function.ret[key] = "again:output:0"
            name = function.signature.name
        call.attr["f"].func.name = name

    change(path, multiply)
    with pytest.raises(LoadError, match=r"call each other so often that they have [\d,]{13,} operations"):
        load_model(path)


def test_a_constant_out_of_proportion_is_refused(save):
    path = save(lambda x: {"y": x + tf.reduce_sum(tf.fill(tf.constant([7, 7]), 1.0))})

    def enlarge(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Const" and node.attr["value"].tensor.tensor_content == np.array([7, 7], "i4").tobytes():
                    node.attr["value"].tensor.tensor_content = np.array([2**30, 2**30], "i4").tobytes()

    change(path, enlarge)
    with pytest.raises(LoadError, match="would make a constant of 1152921504606846976 elements"):
        load_model(path)


def test_the_loops_of_tensorflow_1_are_named(save):
    path = save(lambda x: {"y": tf.sinh(x) + 1})

    def rename(graph: Any) -> None:
        for node in (node for function in graph.graph_def.library.function for node in function.node_def):
            node.op = "Merge" if node.op == "Sinh" else node.op

    change(path, rename)
    with pytest.raises(LoadError, match=r"loops of TensorFlow 1 \(Merge\)"):
        load_model(path)


# What is damaged


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_cut_files_are_refused(model, name, part):
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(LoadError, match=rf"Cannot load {model}: .+\."):
        load_model(model)


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_missing_files_are_named(model, name):
    (model / name).unlink()
    with pytest.raises(LoadError, match=r"variables|no model|missing"):
        load_model(model)


def test_overwritten_bytes_are_noticed_or_do_no_harm(model, pristine):
    """Whatever stands in a file, the answer is a model or a LoadError."""
    rng = np.random.default_rng(0)
    original = (pristine / "saved_model.pb").read_bytes()
    refused = 0
    for _ in range(25):
        content = bytearray(original)
        for place in rng.integers(0, len(content), 40):
            content[place] = rng.integers(0, 256)
        (model / "saved_model.pb").write_bytes(content)
        with contextlib.suppress(LoadError):
            load_model(model)
            refused -= 1
        refused += 1
    assert refused > 5


def test_overwritten_weights_are_noticed(model):
    file = model / "variables" / "variables.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[5] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(LoadError, match="checkpoint is damaged"):
        load_model(model)


def test_a_crash_while_the_checkpoint_is_read_is_told(model, monkeypatch, tmp_path):
    program = tmp_path / "crash.py"
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(checkpoint.checkpoint_program, "__file__", str(program))
    with pytest.raises(LoadError, match="reading it ended with signal 11"):
        load_model(model)


def test_a_checkpoint_that_takes_forever_is_told(model, monkeypatch, tmp_path):
    program = tmp_path / "sleep.py"
    program.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(checkpoint.checkpoint_program, "__file__", str(program))
    monkeypatch.setattr(checkpoint, "START_TIMEOUT_S", 0.5)
    with pytest.raises(LoadError, match="did not end within"):
        load_model(model)


def test_files_that_are_too_large_are_not_read(model, monkeypatch):
    monkeypatch.setattr(folder, "MAX_GRAPH_BYTES", 1000)
    with pytest.raises(LoadError, match=r"saved_model.pb has 0 MiB, and models have at most 0 MiB"):
        load_model(model)


def test_a_pointer_of_git_lfs_is_named(model):
    (model / "saved_model.pb").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(LoadError, match=r"its saved_model\.pb is only a pointer of Git LFS"):
        load_model(model)


@pytest.mark.parametrize(
    "content",
    [
        b"\x0a",  # ends inside a field
        b"\x0b",  # a wire type that does not exist
        b"\xff" * 12,  # a number without end
        b"\x08\x01",  # a number in place of a node
        b"\x0a\x05\x2a\x03{]}",  # a node whose JSON is none
        b"\x0a\x06\x2a\x04null",
        b"\x0a\x04\x2a\x02\xff\xfe",  # no text
    ],
)
def test_damaged_keras_metadata_is_refused(model, content):
    (model / "keras_metadata.pb").write_bytes(content)
    with pytest.raises(LoadError, match="is damaged"):
        load_model(model)


def test_metadata_nested_without_end_is_refused(model):
    text = b'{"model_config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    node = b"\x2a" + varint(len(text)) + text
    (model / "keras_metadata.pb").write_bytes(b"\x0a" + varint(len(node)) + node)
    with pytest.raises(LoadError, match="Keras metadata is damaged"):
        load_model(model)


def varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def test_objects_that_do_not_exist_are_refused(model):
    def refer_beyond(graph: Any) -> None:
        graph.object_graph_def.nodes[0].children.add(local_name="x", node_id=10**6)

    change(model, refer_beyond)
    load_model(model)  # nothing of it is needed


def test_a_signature_without_its_input_is_refused(model):
    def lose_input(graph: Any) -> None:
        for node in graph.graph_def.node:
            if node.op == "Placeholder" and "serving" in node.name:
                node.name = "elsewhere"

    change(model, lose_input)
    with pytest.raises(LoadError, match="graph is damaged"):
        load_model(model)
