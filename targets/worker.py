"""The worker: runs, observes or times one model in one runtime, in a process of its own.

One standalone file for every target. It needs Python 3.9, numpy and one runtime, and nothing of edgelstm, so it can be
copied to a device and started there. Start it isolated, or the module `statistics` beside it hides Python's:

    python -I -B worker.py < plan.json

It reads one JSON object, the plan, from stdin up to its end, and writes JSON objects, the events, to stdout, one per
line. Whatever native libraries print goes to stderr. All paths are paths on the machine that the worker runs on.

Plan, all operations:
    protocol        1
    op              "load", "run", "observe" or "bench"
    model           path of the .tflite file; it has at most one signature
    runtime         "ai-edge-litert" or "tflite-runtime", which have an Interpreter; "auto": the first of these two that
                    is installed (default); "litert-compiled": the CompiledModel of ai-edge-litert, on the CPU;
                    "tflite-micro": the interpreter for microcontrollers, compiled for this machine
    threads         number of threads of the runtime, default 1, the only one that tflite-micro takes
    delegate        null (default), or {"library": path of an external delegate, "options": {name: text}}; only with an
                    Interpreter
    A key that the operation does not know is an error.

Names: tensors go by the input and output names of the signature; without a signature by tensor name.
Arrays come and go in .npz files, one array per name, the calls along the first axis: shape (calls, *tensor shape).
Inputs are cast to the tensor's dtype where no value changes its meaning: floats to another float, integers to another
integer that holds them, integers to float. Floats for a quantized tensor are quantized with its scale and zero point.
Anything else is an error. Dimensions that the file leaves free take the size that is given; tflite-micro takes them as
one.

op "load": loads the model, nothing more.

op "run": all calls in one interpreter, in the given order, state surviving from call to call.
    inputs          path of the .npz to read
    outputs         path of the .npz to write; outputs are as the runtime gives them, quantized ones too
    reset           true: reset all variables before every call. Default false. CompiledModel takes no files with
                    variables
    sequence        number of calls that belong together. With it, reset is before the first call of each sequence only.
                    Default null: all calls are one sequence
    carry           {name of an input: name of an output}: inputs that the .npz does not hold. They are zero in the
                    first call of each sequence, and in the others take what the call before gave. Default none

op "observe": as run, but instead of the outputs writes what all tensors of the first subgraph held. Delegates are off.
    It needs an Interpreter.
    inputs, reset, sequence  as run
    ranges          path of the .npz to write:
                    min, max     shape (num_tensors,): least and greatest finite value of every tensor over all calls,
                                 NaN where the tensor is not float or was never filled
                    cell_peak    shape (len(lstms),): max |c| over all calls, rows, steps and units, c initial included
    lstms           list, default empty, of LSTMs whose cell state to follow. It is computed from the operator's own
                    input and output sequences, since runtimes show only the cell state after the last step:
                    input        index of the input tensor, float, shape (batch, time, features)
                    output       index of the output sequence, float, shape (batch, time, units)
                    hidden_state index of the initial hidden state, shape (batch, units), or null: zeros
                    cell_state   the same for the cell state
                    carried      true: those two are variable tensors that the operator overwrites, so they are read
                                 before each call (a streaming model). Default false: read after each call
                    weights      path of an .npz: kernel (features, 4 * units), recurrent_kernel (units, 4 * units),
                                 bias (4 * units,), gate blocks in the order i, f, c, o
                    activation   "tanh" (default), "relu", "relu6" or "hard_tanh"

op "bench": times calls one by one.
    plan            {"warmup_s": s, "min_runs": n, "max_s": s, "max_runs": n}: calls for warmup_s seconds, then timed
                    ones until max_s seconds have passed, at least min_runs and at most max_runs (default 20000)
    inputs          path of an .npz whose calls are fed in turn, or null (default): random input, integers 0 or 1
    seed            of the random input, default 0
    reset           as run, outside the timed part

Events:
    {"event": "ready", "runtime", "runtime_version", "python", "numpy", "load_us"}        once the model is loaded
    {"event": "result", "inputs": [tensor], "outputs": [tensor], …}                       the last one; exit status 0
        tensor      {"name", "index", "shape", "shape_signature", "dtype", "scale", "zero_point"}; in shape_signature -1
                    is a free dimension; scale and zero_point are null unless the tensor is quantized
        tflite-micro + "arena_bytes": memory for all tensors and bookkeeping, as the runtime measured it
        run         + "calls"
        observe     + "calls", "num_tensors", "not_finite": [indices of tensors that held a NaN or an infinity]
        bench       + "samples_ns", "warmup_ns": [durations in order], "first_invoke_us", "load_us" (creating the
                    interpreter and allocating tensors), "base_rss_bytes" and "peak_rss_bytes" (resident memory before
                    the model is loaded, and at most; null where the system does not tell), "outputs_finite" (false if a
                    float output held a NaN or an infinity after the last call), "machine": {"device", "cpu",
                    "num_cores", "governor", "system", "architecture", "load_average"}, values null if unknown
    {"event": "error", "message"}                                                         the last one; exit status 1
A worker that ends without "result" or "error" was killed by a signal, or its Python could not start it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import re
import struct
import sys
import tempfile
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PROTOCOL = 1
RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "litert-compiled": "ai_edge_litert.compiled_model",
    "tflite-micro": "tflite_micro",
}
"""Module to import, by the name of the runtime."""

INTERPRETERS = ("ai-edge-litert", "tflite-runtime")
"""Runtimes with the class Interpreter, in the order in which "auto" takes them."""

COMMON_KEYS = {"protocol", "op", "model", "runtime", "threads", "delegate"}
DEFAULT_MAX_RUNS = 20_000

Arrays = dict[str, Any]


FIRST_ARENA_BYTES = 2**24
MAX_ARENA_BYTES = 2**30
"""Of tflite-micro: what is tried first, and at most. Memory that the model does not need is never touched."""


class PlanError(Exception):
    """The plan, the model or the data cannot be used; the message goes to whoever sent the plan."""


class Session(ABC):
    """A model in a runtime.

    Attributes:
        inputs: Tensor details by input name, as an Interpreter gives them.
        outputs: Tensor details by output name.
        load_us: Time to load the model until it can be called.
    """

    inputs: Arrays
    outputs: Arrays
    load_us: float

    @abstractmethod
    def resize(self, feeds: Arrays) -> None:
        """Gives free dimensions the sizes of feeds, arrays of shape (calls, *tensor shape) by input name."""

    @abstractmethod
    def feed(self, arrays: Arrays) -> None:
        """Sets inputs of the next call, by name; each of them must be set for every call."""

    @abstractmethod
    def invoke(self) -> None:
        """Makes the call."""

    @abstractmethod
    def reset(self) -> None:
        """Puts all variables back to their initial values."""

    @abstractmethod
    def read_outputs(self) -> Arrays:
        """Returns copies of the outputs by name."""

    def describe(self) -> dict[str, Any]:
        """Returns the part of a result that all operations share."""
        return {"inputs": describe_tensors(self.inputs), "outputs": describe_tensors(self.outputs)}

    def needs_resize(self, feeds: Arrays) -> bool:
        """Says whether feeds have other shapes than the inputs."""
        return any(tuple(self.inputs[name]["shape"]) != array.shape[1:] for name, array in feeds.items())


class _InterpreterSession(Session):
    """A model in the class Interpreter.

    Attributes:
        interpreter: The runtime's interpreter, tensors allocated.
        num_tensors: Tensors of the first subgraph in the file, scratch tensors of the runtime not counted.
    """

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        options = interpreter_options(plan, module)
        started = time.perf_counter_ns()
        self.interpreter = module.Interpreter(
            model_path=plan["model"], num_threads=read_key(plan, "threads", int, 1), **options
        )
        created = time.perf_counter_ns()
        # Before allocation, which appends the scratch tensors of the kernels.
        self.num_tensors = 1 + max(detail["index"] for detail in self.interpreter.get_tensor_details())
        self.inputs, self.outputs = tensors_by_name(self.interpreter)
        allocation_started = time.perf_counter_ns()
        self.interpreter.allocate_tensors()
        self.load_us = (time.perf_counter_ns() - allocation_started + created - started) / 1e3

    def resize(self, feeds: Arrays) -> None:
        if self.needs_resize(feeds):
            for name, array in feeds.items():
                self.interpreter.resize_tensor_input(self.inputs[name]["index"], array.shape[1:])
            self.interpreter.allocate_tensors()
            self.inputs, self.outputs = tensors_by_name(self.interpreter)

    def feed(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            self.interpreter.set_tensor(self.inputs[name]["index"], array)

    def invoke(self) -> None:
        self.interpreter.invoke()

    def reset(self) -> None:
        self.interpreter.reset_all_variables()

    def read_outputs(self) -> Arrays:
        return {name: self.interpreter.get_tensor(detail["index"]) for name, detail in self.outputs.items()}

    def describe(self) -> dict[str, Any]:
        # Again, because sizes that only the graph knows are settled by the first call.
        self.inputs, self.outputs = tensors_by_name(self.interpreter)
        return super().describe()


class NativeLog:
    """What native code writes to stderr from now on; it goes on to stderr when the process ends."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        # No context manager: it takes the place of stderr until the process ends.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._num_read = 0
        os.dup2(self._file.fileno(), 2)
        atexit.register(self._pass_on)

    def read(self) -> list[str]:
        """Returns the lines written since the last time, but for empty ones and notices."""
        size = os.fstat(self._file.fileno()).st_size
        text = os.pread(self._file.fileno(), size - self._num_read, self._num_read).decode(errors="replace")
        self._num_read = size
        lines = [line.strip() for line in text.splitlines()]
        return [line for line in lines if line and not line.startswith(("INFO:", "WARNING:", "└"))]

    def _pass_on(self) -> None:
        os.dup2(self._stderr, 2)
        self._file.seek(0)
        os.write(2, self._file.read())
        self._file.close()


class _LoggingSession(Session):
    """A model in a runtime whose exceptions say only that something failed: it has logged the reason.

    Attributes:
        log: What the runtime logs.
    """

    def __init__(self) -> None:
        self.log = NativeLog()

    def attempt(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls the runtime.

        Raises:
            PlanError: If it fails, with the reason that it logged.
        """
        try:
            return function(*arguments, **options)
        except (RuntimeError, ValueError) as error:
            raise PlanError(reason_of(self.log.read()) or first_line(error)) from error


def reason_of(lines: list[str]) -> str:
    """Returns why a runtime failed: what it logged first, and at which operator; nothing if it logged nothing."""
    said = [re.sub(r"^(ERROR: )?(\[\S+:\d+\] )?", "", line).rstrip(".") for line in lines]
    where = next((line for line in said if line.startswith("Node ")), None)
    return "; ".join(dict.fromkeys([*said[:1], where or said[0]])) if said else ""


class _CompiledSession(_LoggingSession):
    """A model in LiteRT's CompiledModel, on the CPU. It takes no variables, so there is nothing to reset."""

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        super().__init__()
        schema = importlib.import_module("ai_edge_litert.schema_py_generated")
        cpu = module.CpuOptions(num_threads=read_key(plan, "threads", int, 1))
        options = module.Options(hardware_accelerators=module.HardwareAccelerator.CPU, cpu_options=cpu)
        # First, so that the copy of the file is gone when the runtime's memory is at its peak.
        self.inputs, self.outputs = declared_tensors(schema, Path(plan["model"]).read_bytes())
        started = time.perf_counter_ns()
        self._model = self.attempt(module.CompiledModel.from_file, plan["model"], options=options)
        self.load_us = (time.perf_counter_ns() - started) / 1e3
        self._signature = next(iter(self._model.get_signature_list()))
        self._make_buffers()

    def _make_buffers(self) -> None:
        model, key = self._model, self._signature
        for tensors, told in (
            (self.inputs, model.get_input_tensor_details(key)),
            (self.outputs, model.get_output_tensor_details(key)),
        ):
            for name, detail in tensors.items():
                detail["shape"] = told[name]["shape"]
        self._fed = {name: self.attempt(model.create_input_buffer_by_name, key, name) for name in self.inputs}
        self._answered = {name: self.attempt(model.create_output_buffer_by_name, key, name) for name in self.outputs}

    def resize(self, feeds: Arrays) -> None:
        if self.needs_resize(feeds):
            for name, array in feeds.items():
                if -1 in self.inputs[name]["shape_signature"]:
                    self.attempt(self._model.resize_input_tensor_by_name, self._signature, name, array.shape[1:])
            self._make_buffers()

    def feed(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            self.attempt(self._fed[name].write, array)

    def invoke(self) -> None:
        self.attempt(self._model.run_by_name, self._signature, self._fed, self._answered)

    def reset(self) -> None:
        pass

    def read_outputs(self) -> Arrays:
        return {name: self._read_output(name, detail) for name, detail in self.outputs.items()}

    def _read_output(self, name: str, detail: dict[str, Any]) -> Any:
        shape = detail["shape"]
        return self.attempt(self._answered[name].read, int(np.prod(shape)), np.dtype(detail["dtype"])).reshape(shape)


class _MicroSession(_LoggingSession):
    """A model in TensorFlow Lite Micro."""

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        super().__init__()
        threads = read_key(plan, "threads", int, 1)
        if threads != 1:
            raise PlanError(f"it runs on one thread, not on {threads}")
        content = Path(plan["model"]).read_bytes()
        self.inputs, self.outputs = declared_tensors(module.runtime.schema_fb, content)
        refuse_hybrid_lstms(module.runtime.schema_fb, content)
        self._interpreter = self._load(module.runtime.Interpreter, content)

    def _load(self, kind: Any, content: bytes) -> Any:
        """Returns the interpreter, in the first arena that is large enough."""
        arena_bytes = max(FIRST_ARENA_BYTES, 4 * len(content))
        while True:
            started = time.perf_counter_ns()
            try:
                interpreter = kind.from_bytes(content, arena_size=arena_bytes)
                self.load_us = (time.perf_counter_ns() - started) / 1e3
                return interpreter
            except RuntimeError as error:
                lines = self.log.read()
                arena_bytes *= 4
                if not any("missing: " in line for line in lines) or arena_bytes > MAX_ARENA_BYTES:
                    raise PlanError(reason_of(lines) or first_line(error)) from error

    def resize(self, feeds: Arrays) -> None:
        if self.needs_resize(feeds):
            shapes = {name: list(detail["shape"]) for name, detail in self.inputs.items()}
            raise PlanError(f"it cannot resize the inputs: their shapes are {shapes} per call")

    def feed(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            self.attempt(self._interpreter.set_input, np.ascontiguousarray(array), self.inputs[name]["position"])

    def invoke(self) -> None:
        self.attempt(self._interpreter.invoke)

    def reset(self) -> None:
        self.attempt(self._interpreter.reset)

    def read_outputs(self) -> Arrays:
        return {name: self._interpreter.get_output(tensor["position"]) for name, tensor in self.outputs.items()}

    def describe(self) -> dict[str, Any]:
        self.log.read()
        self._interpreter.print_allocations()
        found = re.search(r"Arena allocation total (\d+) bytes", "\n".join(self.log.read()))
        return {**super().describe(), "arena_bytes": int(found.group(1)) if found else None}


SESSIONS: dict[str, Callable[[dict[str, Any], Any], Session]] = {
    "ai-edge-litert": _InterpreterSession,
    "tflite-runtime": _InterpreterSession,
    "litert-compiled": _CompiledSession,
    "tflite-micro": _MicroSession,
}
"""What loads a model, by the name of the runtime."""


def open_session(plan: dict[str, Any]) -> tuple[str, Session]:
    """Loads the model of a plan.

    Returns:
        The runtime's name and the model in it.

    Raises:
        PlanError: If there is no such model or runtime, the runtime refuses the model, or it cannot do what the plan
            asks.
    """
    if not Path(read_key(plan, "model", str)).is_file():
        raise PlanError("the model file does not exist")
    if read_key(plan, "threads", int, 1) < 1:
        raise PlanError(f"a runtime needs at least one thread, not {plan['threads']}")
    name, module = import_runtime(plan.get("runtime", "auto"))
    interpreters = " or ".join(INTERPRETERS)
    if name not in INTERPRETERS and plan["op"] == "observe":
        raise PlanError(f"op 'observe' needs the Interpreter of {interpreters}, not {name}")
    if name not in INTERPRETERS and plan.get("delegate") is not None:
        raise PlanError(f"{name} takes no delegate, only {interpreters} do")
    try:
        return name, SESSIONS[name](plan, module)
    except struct.error as error:  # of what reads files in Python
        raise PlanError(f"the file is damaged: {error}") from error


def read_key(plan: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """Returns plan[key], checked to be of that type; null and absent mean the default.

    Raises:
        PlanError: If the type is another, or there is neither a value nor a default.
    """
    value = plan.get(key)
    if value is None:
        value = default
    if kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise PlanError(f"the plan needs {key!r}, a {kind.__name__}, not {value!r}")
    return value


def check_keys(what: str, given: dict[str, Any], known: set[str]) -> None:
    """Refuses keys that would be silently ignored.

    Raises:
        PlanError: If given has a key that is not known.
    """
    unknown = sorted(set(given) - known)
    if unknown:
        raise PlanError(f"{what} does not know {', '.join(map(repr, unknown))}, only {', '.join(sorted(known))}")


def import_runtime(name: str) -> tuple[str, Any]:
    """Imports a runtime.

    Args:
        name: A name of `RUNTIMES`, or "auto" for the first that is installed.

    Returns:
        The runtime's name and its module.

    Raises:
        PlanError: If the name is unknown or the runtime cannot be imported.
    """
    if name != "auto" and name not in RUNTIMES:
        raise PlanError(f"runtime {name!r} is not known, only {', '.join(RUNTIMES)} and auto")
    reasons = []
    for candidate in RUNTIMES if name == "auto" else [name]:
        try:
            return candidate, importlib.import_module(RUNTIMES[candidate])
        except Exception as error:  # a runtime built for another numpy raises what it likes
            reasons.append(f"{candidate}: {first_line(error)}")
    raise PlanError(f"no runtime in {sys.executable} ({'; '.join(reasons)})")


def interpreter_options(plan: dict[str, Any], module: Any) -> dict[str, Any]:
    """Returns the keyword arguments of Interpreter that depend on the operation and on the delegate."""
    options: dict[str, Any] = {}
    if plan.get("delegate") is not None:
        delegate = read_key(plan, "delegate", dict)
        check_keys("delegate", delegate, {"library", "options"})
        library = read_key(delegate, "library", str)
        try:
            options["experimental_delegates"] = [module.load_delegate(library, delegate.get("options") or {})]
        except Exception as error:
            raise PlanError(f"the delegate {library} cannot be loaded: {first_line(error)}") from error
    if plan["op"] == "observe":
        # A delegate keeps its intermediate tensors to itself.
        options["experimental_preserve_all_tensors"] = True
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return options


def tensors_by_name(interpreter: Any) -> tuple[Arrays, Arrays]:
    """Returns the tensor details of the inputs and of the outputs by their public names.

    Raises:
        PlanError: If the file has more than one signature.
    """
    signatures = interpreter.get_signature_list()
    if len(signatures) > 1:
        raise PlanError(f"the file has {len(signatures)} signatures ({', '.join(signatures)}), not one")
    if signatures:
        # The runner must not outlive this function: while it exists, the interpreter refuses to allocate and to invoke.
        runner = interpreter.get_signature_runner()
        return dict(sorted(runner.get_input_details().items())), dict(sorted(runner.get_output_details().items()))
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def declared_tensors(schema: Any, content: bytes) -> tuple[Arrays, Arrays]:
    """Returns what a file declares about its inputs and its outputs, for runtimes that do not tell.

    Args:
        schema: The runtime's own module that reads model files.
        content: The file.

    Returns:
        Tensor details as of an Interpreter, by public name and sorted by it, with "position", the number of the input
        or output.

    Raises:
        PlanError: If the file has more than one signature.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    if model.SignatureDefsLength() > 1:
        raise PlanError(f"the file has {model.SignatureDefsLength()} signatures, not one")
    dtypes = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    signature = model.SignatureDefs(0) if model.SignatureDefsLength() else None
    graph = model.Subgraphs(signature.SubgraphIndex() if signature else 0)

    def details(kind: str) -> Arrays:
        indices = [getattr(graph, kind)(k) for k in range(getattr(graph, f"{kind}Length")())]
        if signature:
            entries = [getattr(signature, kind)(k) for k in range(getattr(signature, f"{kind}Length")())]
            names = {entry.Name().decode(): entry.TensorIndex() for entry in entries}
        else:
            names = {graph.Tensors(index).Name().decode(): index for index in indices}
        return {name: detail(index, indices.index(index)) for name, index in sorted(names.items())}

    def detail(index: int, position: int) -> dict[str, Any]:
        tensor = graph.Tensors(index)
        shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
        signature_shape = [tensor.ShapeSignature(axis) for axis in range(tensor.ShapeSignatureLength())]
        scales = tensor.Quantization()
        quantized = scales is not None and scales.ScaleLength() == scales.ZeroPointLength() == 1
        return {
            "index": index,
            "position": position,
            "shape": shape,
            "shape_signature": signature_shape or shape,
            "dtype": dtypes[tensor.Type()],
            "quantization": (scales.Scale(0), scales.ZeroPoint(0)) if quantized else (0.0, 0),
        }

    return details("Inputs"), details("Outputs")


def refuse_hybrid_lstms(schema: Any, content: bytes) -> None:
    """Refuses LSTMs whose int8 weights tflite-micro would read as floats, past their end, without a word.

    Raises:
        PlanError: If the file has one.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
            if code != schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM:
                continue
            types = [graph.Tensors(operator.Inputs(k)).Type() for k in range(9) if operator.Inputs(k) >= 0]
            if types[0] == schema.TensorType.FLOAT32 and schema.TensorType.INT8 in types:
                raise PlanError(
                    "it cannot run an LSTM that takes floats and has int8 weights: convert to float32 or int8"
                )


def describe_tensors(tensors: Arrays) -> list[dict[str, Any]]:
    """Returns tensor details as JSON values."""
    described = []
    for name, detail in tensors.items():
        scale, zero_point = detail["quantization"]
        described.append(
            {
                "name": name,
                "index": int(detail["index"]),
                "shape": [int(size) for size in detail["shape"]],
                "shape_signature": [int(size) for size in detail["shape_signature"]],
                "dtype": np.dtype(detail["dtype"]).name,
                "scale": float(scale) if scale else None,
                "zero_point": int(zero_point) if scale else None,
            }
        )
    return described


def read_npz(path: str) -> Arrays:
    """Reads all arrays of an .npz file, without pickled objects.

    Raises:
        PlanError: If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise PlanError(f"cannot read the arrays in {path}: {first_line(error)}") from error


def write_npz(path: str, arrays: Arrays) -> None:
    """Writes arrays to an .npz file that is complete as soon as it has its name.

    Not `numpy.savez`, whose own parameter `file` no array can be named after.

    Raises:
        PlanError: If it cannot be written.
    """
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlanError(f"cannot write {path}: {first_line(error)}") from error


def read_feeds(session: Session, path: str, names: set[str]) -> Arrays:
    """Reads inputs of all calls.

    Args:
        session: The model.
        path: The .npz file.
        names: The inputs that it is to hold.

    Returns:
        By input name, arrays of shape (calls, *tensor shape) in the tensor's dtype.

    Raises:
        PlanError: If names, shapes, dtypes or numbers of calls do not fit.
    """
    arrays = read_npz(path)
    if set(arrays) != names:
        raise PlanError(f"{path} holds {sorted(arrays)}, but the inputs of the model are {sorted(names)}")
    calls = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(calls.values())) != 1 or 0 in calls.values():
        raise PlanError(f"the first axis of every input counts the calls, but {path} holds {calls}")
    return {name: fit_input(name, array, session.inputs[name]) for name, array in sorted(arrays.items())}


def fit_input(name: str, array: Any, detail: dict[str, Any]) -> Any:
    """Returns the array, shape (calls, *tensor shape), in the tensor's dtype; see the module for what is cast.

    Raises:
        PlanError: If the shape or the dtype does not fit.
    """
    signature, dtype = [int(size) for size in detail["shape_signature"]], np.dtype(detail["dtype"])
    shape = list(array.shape[1:])
    if len(shape) != len(signature) or any(signature[k] not in (-1, shape[k]) for k in range(len(shape))):
        raise PlanError(f"input {name!r} has shape {signature} per call (-1: any size), not {shape}")
    scale, zero_point = detail["quantization"]
    if array.dtype == dtype:
        return array
    if scale and array.dtype.kind == "f":
        return quantize(name, array, dtype, scale, zero_point)
    integers = array.dtype.kind in "iub" and dtype.kind in "iu" and not scale
    if integers and np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max:
        return array.astype(dtype)
    if array.dtype.kind in "fiub" and dtype.kind == "f":
        return array.astype(dtype)
    raise PlanError(f"input {name!r} is {dtype.name}, and these {array.dtype.name} values do not fit into it")


def quantize(name: str, array: Any, dtype: Any, scale: float, zero_point: int) -> Any:
    """Returns round(array / scale) + zero_point, saturated to the dtype.

    Raises:
        PlanError: If a value is not a number.
    """
    if np.isnan(array).any():
        raise PlanError(f"input {name!r} holds a NaN, which {dtype.name} cannot express")
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max).astype(dtype)


def calls_of(session: Session, plan: dict[str, Any]) -> tuple[int, Iterator[int]]:
    """Feeds the inputs of the plan, call by call.

    Returns:
        The number of calls, and an iterator over them; when it yields, the inputs of that call are set.
    """
    carry = read_key(plan, "carry", dict, {})
    reset, sequence = read_key(plan, "reset", bool, False), read_key(plan, "sequence", int, 0)
    feeds = read_feeds(session, read_key(plan, "inputs", str), set(session.inputs) - set(carry))
    session.resize(feeds)
    zeros = carried_zeros(session, carry)
    calls = len(next(iter(feeds.values())))

    def iterate() -> Iterator[int]:
        for call in range(calls):
            begins = call == 0 or (sequence > 0 and call % sequence == 0)
            answers = {} if begins or not carry else session.read_outputs()
            if reset and (begins or not sequence):
                session.reset()
            session.feed({name: array[call] for name, array in feeds.items()})
            session.feed(zeros if begins else {name: answers[output] for name, output in carry.items()})
            yield call

    return calls, iterate()


def carried_zeros(session: Session, carry: dict[str, str]) -> Arrays:
    """Returns zeros, as real values, for the inputs that take outputs.

    Raises:
        PlanError: If a name is unknown, or an output differs from its input in shape, dtype or quantization.
    """
    zeros = {}
    for name, output in carry.items():
        if name not in session.inputs or output not in session.outputs:
            raise PlanError(f"carry names {name!r} and {output!r}, which are not an input and an output of the model")
        (one,), (other,) = (
            describe_tensors({key: tensors[key]})
            for key, tensors in ((name, session.inputs), (output, session.outputs))
        )
        if any(one[key] != other[key] for key in ("shape", "dtype", "scale", "zero_point")):
            raise PlanError(f"output {output!r} is not of the shape and type of input {name!r}, to which it is carried")
        zeros[name] = np.full(one["shape"], one["zero_point"] or 0, one["dtype"])
    return zeros


def load(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "load"."""
    return {}


def run(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "run"."""
    path = read_key(plan, "outputs", str)
    calls, each_call = calls_of(session, plan)
    collected: dict[str, list[Any]] = {name: [] for name in session.outputs}
    for _ in each_call:
        session.invoke()
        for name, output in session.read_outputs().items():
            collected[name].append(output)
    for name, outputs in collected.items():
        if len({output.shape for output in outputs}) > 1:
            raise PlanError(f"output {name!r} changes its shape from call to call")
    write_npz(path, {name: np.stack(outputs) for name, outputs in collected.items()})
    return {"calls": calls}


class Ranges:
    """Least and greatest finite value of every float tensor.

    Attributes:
        low: Shape (num_tensors,), NaN where nothing was seen.
        high: Same.
        not_finite: Indices of tensors that held a NaN or an infinity.
    """

    def __init__(self, session: _InterpreterSession) -> None:
        self.low = np.full(session.num_tensors, np.nan)
        self.high = np.full(session.num_tensors, np.nan)
        self.not_finite: set[int] = set()
        details = session.interpreter.get_tensor_details()
        self._floats = [
            detail["index"]
            for detail in details
            if detail["index"] < session.num_tensors and np.issubdtype(detail["dtype"], np.floating)
        ]

    def update(self, interpreter: Any) -> None:
        """Takes in what the tensors hold now."""
        for index in self._floats:
            try:
                tensor = interpreter.get_tensor(index)
            except (ValueError, RuntimeError):  # never filled, for instance in a branch not taken
                continue
            if tensor.size:
                self._update(index, tensor)

    def _update(self, index: int, tensor: Any) -> None:
        low, high = tensor.min(), tensor.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            self.not_finite.add(int(index))
            finite = tensor[np.isfinite(tensor)]
            if not finite.size:
                return
            low, high = finite.min(), finite.max()
        self.low[index] = np.fmin(self.low[index], low)
        self.high[index] = np.fmax(self.high[index], high)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "hard_tanh": lambda x: np.clip(x, -1.0, 1.0),
}
"""Activation of the candidate, by its name in Keras."""


class CellProbe:
    """Follows the cell state of one LSTM operator; one entry of "lstms" in the plan.

    Attributes:
        peak: max |c| so far.
    """

    KEYS = frozenset({"input", "output", "hidden_state", "cell_state", "carried", "weights", "activation"})

    def __init__(self, entry: dict[str, Any], num_tensors: int) -> None:
        check_keys("an entry of lstms", entry, set(self.KEYS))
        self.peak = 0.0
        self._input = read_key(entry, "input", int)
        self._output = read_key(entry, "output", int)
        self._states = entry.get("hidden_state"), entry.get("cell_state")
        for index in (self._input, self._output, *self._states):
            if index is not None and not (isinstance(index, int) and 0 <= index < num_tensors):
                raise PlanError(f"an entry of lstms names tensor {index!r}, but the model has 0 to {num_tensors - 1}")
        self._carried = read_key(entry, "carried", bool, False)
        self._initial: tuple[Any, Any] = (None, None)
        activation = read_key(entry, "activation", str, "tanh")
        if activation not in ACTIVATIONS:
            raise PlanError(f"activation {activation!r} of an LSTM is not known, only {', '.join(ACTIVATIONS)}")
        self._activation = ACTIVATIONS[activation]
        path = read_key(entry, "weights", str)
        weights = read_npz(path)
        missing = {"kernel", "recurrent_kernel", "bias"} - set(weights)
        if missing:
            raise PlanError(f"{path} lacks {', '.join(sorted(missing))}")
        self._weights = [weights[name].astype(np.float64) for name in ("kernel", "recurrent_kernel", "bias")]

    def before_call(self, interpreter: Any) -> None:
        """Reads states that the call will overwrite."""
        if self._carried:
            self._initial = self._read_states(interpreter)

    def after_call(self, interpreter: Any) -> None:
        """Computes the cell states of the call that was made."""
        hidden, cell = self._initial if self._carried else self._read_states(interpreter)
        inputs, outputs = interpreter.get_tensor(self._input), interpreter.get_tensor(self._output)
        try:
            peak = cell_peak(inputs, outputs, hidden, cell, self._weights, self._activation)
        except ValueError as error:
            raise PlanError(
                f"the LSTM from tensor {self._input} {list(inputs.shape)} to {self._output} {list(outputs.shape)} does "
                f"not fit its weights {[list(array.shape) for array in self._weights]}: {first_line(error)}"
            ) from error
        self.peak = float(np.maximum(self.peak, peak))  # lets a NaN through, unlike max()

    def _read_states(self, interpreter: Any) -> tuple[Any, Any]:
        hidden, cell = (None if index is None else interpreter.get_tensor(index) for index in self._states)
        return hidden, cell


def cell_peak(
    inputs: Any, outputs: Any, hidden: Any, cell: Any, weights: list[Any], activation: Callable[[Any], Any]
) -> float:
    """Returns max |c| of an LSTM over all rows, steps and units, the initial state included.

    The hidden states are those of the operator itself, so the gates of all steps are one matrix product.

    Args:
        inputs: Shape (batch, time, features).
        outputs: The hidden state after each step, shape (batch, time, units).
        hidden: Initial hidden state, shape (batch, units); zeros if None.
        cell: Initial cell state, shape (batch, units); zeros if None.
        weights: kernel, recurrent_kernel and bias, gate blocks in the order i, f, c, o.
        activation: Of the candidate.

    Raises:
        ValueError: If the shapes disagree.
    """
    kernel, recurrent_kernel, bias = weights
    batch, num_steps, units = outputs.shape
    first = np.zeros((batch, units)) if hidden is None else hidden
    state = np.zeros((batch, units)) if cell is None else np.array(cell, np.float64)
    if first.shape != (batch, units) or state.shape != (batch, units):
        raise ValueError(f"initial states {first.shape} and {state.shape} are not {(batch, units)}")
    previous = np.concatenate([first[:, None], outputs[:, :-1]], axis=1)
    gates = inputs @ kernel + previous @ recurrent_kernel + bias
    if gates.shape != (batch, num_steps, 4 * units):
        raise ValueError(f"gates {gates.shape} are not {(batch, num_steps, 4 * units)}")
    input_gate, forget_gate, candidate, _ = np.split(gates, 4, axis=-1)
    added = sigmoid(input_gate) * activation(candidate)
    kept = sigmoid(forget_gate)
    peak = np.abs(state).max()
    for step in range(num_steps):
        state = kept[:, step] * state + added[:, step]
        peak = np.maximum(peak, np.abs(state).max())
    return float(peak)


def sigmoid(x: Any) -> Any:
    """Returns 1 / (1 + exp(-x)), in a form that does not overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def observe(session: _InterpreterSession, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "observe"."""
    path = read_key(plan, "ranges", str)
    probes = [CellProbe(entry, session.num_tensors) for entry in read_key(plan, "lstms", list, [])]
    calls, each_call = calls_of(session, plan)
    ranges = Ranges(session)
    for _ in each_call:
        for probe in probes:
            probe.before_call(session.interpreter)
        session.interpreter.invoke()
        ranges.update(session.interpreter)
        for probe in probes:
            probe.after_call(session.interpreter)
    write_npz(path, {"min": ranges.low, "max": ranges.high, "cell_peak": np.array([probe.peak for probe in probes])})
    return {"calls": calls, "num_tensors": session.num_tensors, "not_finite": sorted(ranges.not_finite)}


def random_feeds(session: Session, seed: int) -> Arrays:
    """Returns one call of random input: normal floats, the full range of quantized types, 0 or 1 for integers.

    0 and 1 are valid whatever an integer stands for: an index into a table, a length, a flag.
    """
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, detail in session.inputs.items():
        shape, dtype = (1, *(int(size) for size in detail["shape"])), np.dtype(detail["dtype"])
        if dtype.kind == "f":
            feeds[name] = rng.standard_normal(shape).astype(dtype)
        elif detail["quantization"][0]:
            feeds[name] = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        else:
            feeds[name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds


def time_calls(
    prepare: Callable[[int], None],
    invoke: Callable[[], None],
    limits: dict[str, Any],
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[list[int], list[int]]:
    """Times calls one by one.

    Args:
        prepare: Called before every call with its number, untimed.
        invoke: What is timed.
        limits: "plan" of op "bench".
        clock_ns: The clock.

    Returns:
        The durations in ns of the calls of the warm-up, and of those after it.
    """
    warmup_ns = int(read_key(limits, "warmup_s", float, 0.0) * 1e9)
    max_ns = int(read_key(limits, "max_s", float, 0.0) * 1e9)
    min_runs = read_key(limits, "min_runs", int, 1)
    max_runs = read_key(limits, "max_runs", int, DEFAULT_MAX_RUNS)

    def time_until(num_ns: int, at_least: int, at_most: int) -> list[int]:
        samples: list[int] = []
        end = clock_ns() + num_ns
        while len(samples) < at_least or (len(samples) < at_most and clock_ns() < end):
            prepare(len(samples))
            started = clock_ns()
            invoke()
            samples.append(clock_ns() - started)
        return samples

    return time_until(warmup_ns, 0, max_runs), time_until(max_ns, min_runs, max_runs)


def bench(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "bench"."""
    limits = read_key(plan, "plan", dict)
    check_keys("plan of bench", limits, {"warmup_s", "min_runs", "max_s", "max_runs"})
    path = plan.get("inputs")
    feeds = (
        random_feeds(session, read_key(plan, "seed", int, 0))
        if path is None
        else read_feeds(session, path, set(session.inputs))
    )
    session.resize(feeds)
    reset = read_key(plan, "reset", bool, False)
    calls = len(next(iter(feeds.values()))) if feeds else 1

    def prepare(run: int) -> None:
        if reset:
            session.reset()
        session.feed({name: array[run % calls] for name, array in feeds.items()})

    machine = describe_machine()
    gc.disable()
    prepare(0)
    started = time.perf_counter_ns()
    session.invoke()
    first_invoke_us = (time.perf_counter_ns() - started) / 1e3
    warmup, samples = time_calls(prepare, session.invoke, limits)
    floats = [output for output in session.read_outputs().values() if output.dtype.kind == "f"]
    return {
        "samples_ns": samples,
        "warmup_ns": warmup,
        "load_us": session.load_us,
        "first_invoke_us": first_invoke_us,
        "outputs_finite": all(bool(np.isfinite(output).all()) for output in floats),
        "peak_rss_bytes": memory_bytes("VmHWM"),
        "machine": machine,
    }


def memory_bytes(field: str) -> int | None:
    """Returns a size in bytes out of /proc/self/status: "VmRSS" for now, "VmHWM" for the peak; None if not there.

    Not getrusage, whose peak on Linux starts with that of the process that started this one.
    """
    for line in (read_text("/proc/self/status") or "").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def describe_machine() -> dict[str, Any]:
    """Returns "machine" of op "bench"."""
    governor = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    device = read_text("/proc/device-tree/model") or read_text("/sys/class/dmi/id/product_name")
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "device": device and device.strip("\0 \n"),
        "cpu": cpu_name(),
        "num_cores": len(affinity(0)) if affinity else os.cpu_count(),
        "governor": governor and governor.strip(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def cpu_name() -> str | None:
    """Returns the name of the processor, None if the system does not tell."""
    fields: dict[str, str] = {}
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    part = fields.get("CPU part")
    arm = f"Arm implementer {fields.get('CPU implementer')} part {part}" if part else None
    return fields.get("model name") or fields.get("Hardware") or arm or platform.processor() or None


def read_text(path: str) -> str | None:
    """Returns the text of a system file, None if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def first_line(error: BaseException) -> str:
    """Returns what an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


OPERATIONS: dict[str, tuple[Callable[[Any, dict[str, Any]], dict[str, Any]], set[str]]] = {
    "load": (load, set()),
    "run": (run, {"inputs", "outputs", "reset", "sequence", "carry"}),
    "observe": (observe, {"inputs", "ranges", "lstms", "reset", "sequence"}),
    "bench": (bench, {"plan", "inputs", "seed", "reset"}),
}
"""What performs an operation, and the keys of its plan beyond the common ones."""


def read_plan(text: str) -> dict[str, Any]:
    """Parses and checks a plan.

    Raises:
        PlanError: If it is not a plan of this protocol.
    """
    try:
        plan = json.loads(text)
    except ValueError as error:
        raise PlanError(f"the plan is not JSON: {error}") from error
    if not isinstance(plan, dict) or plan.get("protocol") != PROTOCOL:
        raise PlanError(f"the plan is not of protocol {PROTOCOL}")
    if plan.get("op") not in OPERATIONS:
        raise PlanError(f"op {plan.get('op')!r} is not known, only {', '.join(OPERATIONS)}")
    check_keys(f"op {plan['op']!r}", plan, COMMON_KEYS | OPERATIONS[plan["op"]][1])
    return plan


def runtime_version(name: str) -> str:
    """Returns the version of the package that brings a runtime."""
    try:
        return importlib.metadata.version("ai-edge-litert" if name == "litert-compiled" else name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def perform(plan: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Performs a plan and emits its events."""
    base_rss_bytes = memory_bytes("VmRSS")
    runtime, session = open_session(plan)
    emit(
        {
            "event": "ready",
            "runtime": runtime,
            "runtime_version": runtime_version(runtime),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "load_us": session.load_us,
        }
    )
    result = OPERATIONS[plan["op"]][0](session, plan)
    if plan["op"] == "bench":
        result["base_rss_bytes"] = base_rss_bytes
    emit({"event": "result", **session.describe(), **result})


def main() -> int:
    """Reads a plan from stdin, performs it, and returns the exit status."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # from here on whatever a library prints goes to stderr

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    try:
        perform(read_plan(sys.stdin.read()), emit)
    except PlanError as error:
        emit({"event": "error", "message": str(error)})
        return 1
    except Exception as error:
        emit({"event": "error", "message": f"{type(error).__name__}: {first_line(error)}"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
