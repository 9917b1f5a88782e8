"""Runs one native conversion job in a process of its own: a crash here costs the job, not the caller.

A standalone program: `python worker.py JOB.json`. The job names what to do and where the files lie:

    {"op": "convert",  "saved_model": DIR, "precision": "float32" | "float16" | "dynamic", "output": FILE}
    {"op": "quantize", "model": FILE, "output": FILE}

It loads TensorFlow's converter extension without running `tensorflow/__init__.py`, which takes
0.4 s instead of 3 s; where a TensorFlow release does not allow that, it imports TensorFlow as a whole.
"""

import importlib
import importlib.util
import json
import os
import sys
import types
from typing import Any

CONVERTER = "tensorflow.compiler.mlir.lite.python._pywrap_converter_api"
FUNCTION_LIBRARY = "tensorflow.compiler.mlir.quantization.tensorflow.python.pywrap_function_lib"
CONVERTER_FLAGS = "tensorflow.compiler.mlir.lite.converter_flags_pb2"
MODEL_FLAGS = "tensorflow.compiler.mlir.lite.model_flags_pb2"
TYPES = "tensorflow.compiler.mlir.lite.types_pb2"
MODULES = (FUNCTION_LIBRARY, CONVERTER, CONVERTER_FLAGS, MODEL_FLAGS, TYPES)


def _declare_parents(module: str, root: str) -> None:
    """Registers the packages above a module as bare namespaces, so that none of their code runs."""
    parts = module.split(".")[:-1]
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [os.path.join(root, *parts[1:depth])]  # noqa: PTH118 (must not slow the start)
            sys.modules[name] = package


def load_converter() -> tuple[Any, ...]:
    """The converter extension and the modules of its flags, in the order of MODULES."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("tensorflow is not installed")
    try:
        for module in MODULES:
            _declare_parents(module, spec.submodule_search_locations[0])
        return tuple(importlib.import_module(module) for module in MODULES)
    except Exception:  # whatever a release of TensorFlow or protobuf raises when it is loaded in parts
        for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow"]:
            del sys.modules[name]
        importlib.import_module("tensorflow")
        return tuple(importlib.import_module(module) for module in MODULES)


def convert(job: dict[str, str]) -> bytes:
    """SavedModel -> flatbuffer, with built-in operators only; unknown operators stay in it as custom ones."""
    _, converter, converter_flags, model_flags, _ = load_converter()
    source = model_flags.ModelFlags()
    source.saved_model_dir = job["saved_model"]
    source.saved_model_version = 1
    source.saved_model_tags.append("serve")
    source.saved_model_exported_names.append("serving_default")
    flags = converter_flags.ConverterFlags()
    flags.input_format = converter_flags.TENSORFLOW_GRAPHDEF
    flags.output_format = converter_flags.TFLITE
    flags.allow_custom_ops = True
    flags.drop_control_dependency = True
    flags.enable_tflite_resource_variables = True
    flags.lower_tensor_list_ops = True
    flags.enable_composite_direct_lowering = True
    flags.canonicalizing_inf_as_min_max_float = True
    flags.post_training_quantize = job["precision"] in ("float16", "dynamic")
    flags.enable_mlir_dynamic_range_quantizer = job["precision"] in ("float16", "dynamic")
    flags.quantize_to_float16 = job["precision"] == "float16"
    # One scale for each matrix: with one for each row, FULLY_CONNECTED becomes version 12, which runtimes before
    # 2.17 do not have.
    flags.disable_per_channel_quantization_for_dense_layers = True
    result: bytes = converter.Convert(source.SerializeToString(), flags.SerializeToString(), b"", False, b"", None)
    return result


def quantize(job: dict[str, str]) -> bytes:
    """Flatbuffer with a range on every activation -> full integer flatbuffer with float inputs and outputs."""
    _, converter, _, _, dtypes = load_converter()
    with open(job["model"], "rb") as file:  # noqa: PTH123
        model = file.read()
    result: bytes = converter.ExperimentalMlirQuantizeModel(
        model,
        False,  # per channel
        False,  # operators without an integer kernel stay float
        dtypes.QUANTIZED_INT8,
        dtypes.FLOAT,
        dtypes.FLOAT,
        False,
        False,
        None,
        None,
        False,
        False,
        "",
    )
    return result


def main(path: str) -> int:
    """Runs the job described in a JSON file; the reason of a refusal goes to stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        job = json.load(file)
    result = {"convert": convert, "quantize": quantize}[job["op"]](job)
    with open(job["output"], "wb") as file:  # noqa: PTH123
        file.write(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
