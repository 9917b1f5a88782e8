"""Models in LiteRT's CompiledModel."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from .declared import declared_tensors
from .logs import LoggingSession
from .plan import read_key
from .session import Arrays


class CompiledSession(LoggingSession):
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
        """Resizes the inputs and makes new buffers."""
        if self.needs_resize(feeds):
            for name, array in feeds.items():
                if -1 in self.inputs[name]["shape_signature"]:
                    self.attempt(self._model.resize_input_tensor_by_name, self._signature, name, array.shape[1:])
            self._make_buffers()

    def feed(self, arrays: Arrays) -> None:
        """Writes into the buffers."""
        for name, array in arrays.items():
            self.attempt(self._fed[name].write, array)

    def invoke(self) -> None:
        """Runs the signature."""
        self.attempt(self._model.run_by_name, self._signature, self._fed, self._answered)

    def reset(self) -> None:
        """Does nothing: there are no variables."""

    def read_outputs(self) -> Arrays:
        """Reads the buffers."""
        return {name: self._read_output(name, detail) for name, detail in self.outputs.items()}

    def _read_output(self, name: str, detail: dict[str, Any]) -> Any:
        shape = detail["shape"]
        return self.attempt(self._answered[name].read, int(np.prod(shape)), np.dtype(detail["dtype"])).reshape(shape)
