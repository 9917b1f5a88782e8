"""Models in ONNX Runtime."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from .plan import PlanError, first_line, read_choice, read_key
from .session import Arrays, Session, by_name, plain_tensor

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Names of numpy dtypes, by the names of ONNX Runtime."""

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}
GPU = "cuda"
ERRORS_ONLY = 3


class OnnxSession(Session):
    """A model in ONNX Runtime. It keeps nothing from call to call, so there is nothing to reset."""

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        self._module, self._model = module, plan["model"]
        self._threads = read_key(plan, "threads", int, 1)
        device = read_choice(plan, "device")
        self._provider = find_provider(device, module.get_available_providers())
        started = time.perf_counter_ns()
        self._session = self._open()
        self.load_us = (time.perf_counter_ns() - started) / 1e3
        self.inputs, self.outputs = tensors_of(self._session.get_inputs()), tensors_of(self._session.get_outputs())
        self._binding = self._session.io_binding() if device == "gpu" else None
        self._fed: Arrays = {}
        self._answers: list[Any] = []

    def _open(self, profile_prefix: str | None = None) -> Any:
        """Returns the runtime's session, on the device that was asked for and no other."""
        options = self._module.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = ERRORS_ONLY
        if profile_prefix is not None:
            options.enable_profiling, options.profile_file_prefix = True, profile_prefix
        try:
            session = self._module.InferenceSession(self._model, options, providers=[self._provider])
        except Exception as error:  # classes of its own, by reason
            raise PlanError(f"onnxruntime refuses the file: {first_line(error)}") from error
        if session.get_providers()[0] != self._provider:
            raise PlanError(f"{self._provider} cannot be started: see what onnxruntime logs, or use device 'cpu'")
        return session

    def resize(self, feeds: Arrays) -> None:
        """Notes the sizes: they come with every call."""
        for name, array in feeds.items():
            self.inputs[name]["shape"] = list(array.shape[1:])
        if self._binding is not None:
            for name in self.outputs:
                self._binding.bind_output(name, GPU)

    def feed(self, arrays: Arrays) -> None:
        """Keeps the inputs for the call, on the device."""
        self._fed.update(arrays)
        if self._binding is not None:
            for name, array in arrays.items():
                self._binding.bind_ortvalue_input(name, self._module.OrtValue.ortvalue_from_numpy(array, GPU, 0))
            self._binding.synchronize_inputs()

    def invoke(self) -> None:
        """Runs the graph; outputs are on the device when it returns."""
        if self._binding is None:
            self._answers = self._session.run(None, self._fed)
        else:
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()

    def reset(self) -> None:
        """Does nothing: there are no variables."""

    def read_outputs(self) -> Arrays:
        """Returns the answers of the last call, which are the caller's: the runtime makes new ones."""
        if self._binding is not None:
            self._answers = self._binding.copy_outputs_to_cpu()
        return by_name(self.outputs, self._answers)

    def describe(self) -> dict[str, Any]:
        """Describes outputs as the last call gave them."""
        for name, answer in self.read_outputs().items():
            self.outputs[name]["shape"] = list(answer.shape)
        return super().describe()

    def profile(self, calls: int) -> list[dict[str, Any]]:
        """Makes calls in a session of its own that records every node."""
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
            session = self._open(str(Path(folder) / "profile"))
            for _ in range(calls):
                session.run(None, self._fed)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return sum_by_node(events, calls)


def find_provider(device: str, available: list[str]) -> str:
    """Returns what computes on a device.

    Raises:
        PlanError: If this build of ONNX Runtime cannot use it.
    """
    provider = PROVIDERS[device]
    if provider not in available:
        raise PlanError(
            f"onnxruntime has no {provider} here, only {', '.join(available)}: use device 'cpu', or install "
            "onnxruntime-gpu in place of onnxruntime"
        )
    return provider


def tensors_of(arguments: list[Any]) -> Arrays:
    """Returns tensor details by name of what ONNX Runtime tells about inputs or outputs.

    Raises:
        PlanError: If one is no tensor of numbers.
    """
    for argument in arguments:
        if argument.type not in DTYPES:
            raise PlanError(f"{argument.name!r} is {argument.type}, which is no tensor of numbers")
    return {
        argument.name: plain_tensor(index, argument.shape, DTYPES[argument.type])
        for index, argument in enumerate(arguments)
    }


def sum_by_node(events: list[dict[str, Any]], inferences: int) -> list[dict[str, Any]]:
    """Adds up a profile of ONNX Runtime.

    Args:
        events: Its events; those of category "Node" whose names end in "_kernel_time" hold durations in µs.
        inferences: Calls of the model that it tells of.

    Returns:
        {"name", "operator", "inferences", "calls", "total_us"} of each node, the longest first.
    """
    sums: dict[str, dict[str, Any]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            node = name[: -len("_kernel_time")]
            new = {"name": node, "operator": event["args"]["op_name"], "inferences": inferences}
            entry = sums.setdefault(node, {**new, "calls": 0, "total_us": 0})
            entry["calls"] += 1
            entry["total_us"] += event["dur"]
    return sorted(sums.values(), key=lambda entry: -entry["total_us"])
