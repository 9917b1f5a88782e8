"""The tables of operator versions, against the runtimes themselves."""

from __future__ import annotations

import subprocess

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.engines import ENGINES
from edgelstm.runtime.interpreters import python_for
from edgelstm.runtime.support.versions import LITERT, OLDEST, TFLITE_RUNTIME

NEWEST = 20  # more than any operator has
BUILTINS = {name: value for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
SENTINEL = "ADD", 99  # stands behind the operator that is asked for, and is always refused

PROBE = """
import importlib, re, sys
import numpy as np

interpreter = importlib.import_module(sys.argv[1]).Interpreter
for name, content in np.load(sys.argv[2]).items():
    try:
        interpreter(model_content=content.tobytes())
    except ValueError as error:
        refused = re.search(r"opcode '(\\w+)',? version '(\\d+)'", str(error))
        if refused and refused.groups() == ("ADD", "99"):
            print(name)
"""


def without_operators(*codes: tuple[str, int]) -> bytes:
    """Returns a file that only announces operators: what a runtime does not know it refuses all the same."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    for name, version in codes:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = BUILTINS[name], min(BUILTINS[name], 127), version
        model.operatorCodes.append(code)
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [], [], [], []
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    "engine, module, table",
    [
        ("ai-edge-litert", "ai_edge_litert.interpreter", LITERT),
        ("tflite-runtime", "tflite_runtime.interpreter", TFLITE_RUNTIME),
    ],
)
def test_a_runtime_knows_each_operator_up_to_the_version_in_the_table(engine, module, table, tmp_path):
    if not ENGINES[engine].is_here():
        pytest.skip(f"{engine} is not installed")
    names = BUILTINS.keys() - {"CUSTOM", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
    contents = {
        f"{name} {version}": np.frombuffer(without_operators((name, version), SENTINEL), np.uint8)
        for name in names
        for version in range(1, NEWEST + 1)
    }
    np.savez(tmp_path / "files.npz", **contents)
    done = subprocess.run(
        [python_for(engine), "-I", "-c", PROBE, module, str(tmp_path / "files.npz")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    known = {(name, int(version)) for name, version in (line.split() for line in done.stdout.splitlines())}
    assert known == {
        (name, version) for name, newest in table.items() for version in range(OLDEST.get(name, 1), newest + 1)
    }
