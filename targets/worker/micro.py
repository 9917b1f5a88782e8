"""Models in TensorFlow Lite Micro."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from .declared import declared_tensors
from .logs import LoggingSession, reason_of
from .plan import PlanError, first_line, read_key
from .session import Arrays

FIRST_ARENA_BYTES = 2**24

MAX_ARENA_BYTES = 2**30
"""Of tflite-micro: what is tried first, and at most. Memory that the model does not need is never touched."""


class MicroSession(LoggingSession):
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
        """Refuses other shapes than the file's."""
        if self.needs_resize(feeds):
            shapes = {name: list(detail["shape"]) for name, detail in self.inputs.items()}
            raise PlanError(f"it cannot resize the inputs: their shapes are {shapes} per call")

    def feed(self, arrays: Arrays) -> None:
        """Sets the input tensors."""
        for name, array in arrays.items():
            self.attempt(self._interpreter.set_input, np.ascontiguousarray(array), self.inputs[name]["position"])

    def invoke(self) -> None:
        """Invokes the interpreter."""
        self.attempt(self._interpreter.invoke)

    def reset(self) -> None:
        """Resets the variable tensors."""
        self.attempt(self._interpreter.reset)

    def read_outputs(self) -> Arrays:
        """Gets the output tensors."""
        return {name: self._interpreter.get_output(tensor["position"]) for name, tensor in self.outputs.items()}

    def arena_bytes(self) -> int | None:
        """Returns what the runtime logs."""
        self.log.read()
        self._interpreter.print_allocations()
        found = re.search(r"Arena allocation total (\d+) bytes", "\n".join(self.log.read()))
        return int(found.group(1)) if found else None

    def describe(self) -> dict[str, Any]:
        """Adds "arena_bytes"."""
        return {**super().describe(), "arena_bytes": self.arena_bytes()}


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
