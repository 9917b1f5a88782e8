"""Program that reads a TensorFlow checkpoint, in a process of its own that a damaged file may crash.

    python checkpoint_program.py PREFIX OUTPUT

Writes all numbers in the checkpoint PREFIX to the .npz file OUTPUT, and the graph of its objects as bytes. The keys are
positions in the list of names, which stands in the file as JSON. The reason of a refusal goes to stderr.
"""

import glob
import importlib
import importlib.util
import json
import math
import os
import sys
import types
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

NAMES, OBJECT_GRAPH = "names", "_CHECKPOINTABLE_OBJECT_GRAPH"
_READER = "tensorflow.python.util._pywrap_checkpoint_reader"
_NUMPY_BRIDGE = "tensorflow.python.client._pywrap_tf_session"  # without it the reader crashes on arrays


def load_reader() -> Any:
    """The checkpoint reader, without the rest of TensorFlow where the release allows that: 0.5 s instead of 3."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("tensorflow is not installed")
    try:
        for name in ("tensorflow", "tensorflow.python", "tensorflow.python.util", "tensorflow.python.client"):
            package = types.ModuleType(name)
            package.__path__ = [os.path.join(spec.submodule_search_locations[0], *name.split(".")[1:])]  # noqa: PTH118
            sys.modules[name] = package
        importlib.import_module(_NUMPY_BRIDGE)
        return importlib.import_module(_READER).CheckpointReader
    except Exception:  # whatever a release raises when it is loaded in parts
        for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow"]:
            del sys.modules[name]
        importlib.import_module("tensorflow")
        return importlib.import_module(_READER).CheckpointReader


def read_values(reader: Any, available: int) -> Iterator[tuple[str, Any]]:
    """Yields name and value of everything that holds numbers, and of the graph of objects.

    Args:
        reader: The checkpoint.
        available: Number of bytes in its data files; what claims to be larger is damaged.
    """
    shapes: dict[str, list[int]] = reader.get_variable_to_shape_map()
    for name in sorted(shapes):
        elements = math.prod(shapes[name])
        if elements < 0 or elements > available:
            raise ValueError(f"{name} claims to have {elements} elements")
        value = reader.CheckpointReader_GetTensor(reader, name.encode())
        if name == OBJECT_GRAPH:
            yield name, np.frombuffer(value, np.uint8)
        elif np.asarray(value).dtype.kind in "fiub":
            yield name, np.asarray(value)
        elif np.asarray(value).dtype.name == "bfloat16":
            yield name, np.asarray(value).astype(np.float32)


def main(prefix: str, output: str) -> int:
    """Reads the checkpoint and writes its values."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    available = sum(os.path.getsize(file) for file in glob.glob(f"{glob.escape(prefix)}.data-*"))  # noqa: PTH202, PTH207
    reader = load_reader()(prefix.encode())
    names = []
    with zipfile.ZipFile(output, "w") as archive:
        for position, (name, value) in enumerate(read_values(reader, available)):
            names.append(name)
            with archive.open(f"{position}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(value, order="C"), allow_pickle=False)
        archive.writestr(NAMES, json.dumps(names))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2]))
    except Exception as error:
        sys.exit(f"{error}")
