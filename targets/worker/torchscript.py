"""Models in PyTorch, as TorchScript files."""

from __future__ import annotations

import json
import time
from typing import Any

from .plan import PlanError, first_line, read_key
from .session import Arrays, Session, by_name, plain_tensor

DESCRIPTION = "edgelstm.json"
"""Extra file in the archive: {"inputs": [{"name", "shape", "dtype"}], "outputs": [the same]}, -1 for a free size."""


class TorchscriptSession(Session):
    """A TorchScript model on the CPU, frozen where it can be. It keeps nothing from call to call."""

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        self._torch = module
        module.set_num_threads(read_key(plan, "threads", int, 1))
        extra = {DESCRIPTION: ""}
        started = time.perf_counter_ns()
        try:
            self._model = module.jit.load(plan["model"], map_location="cpu", _extra_files=extra).eval()
        except Exception as error:  # a damaged archive raises what it likes
            raise PlanError(f"pytorch refuses the file: {first_line(error)}") from error
        self.load_us = (time.perf_counter_ns() - started) / 1e3
        try:
            described = json.loads(extra[DESCRIPTION])
            self.inputs, self.outputs = (
                {entry["name"]: plain_tensor(index, entry["shape"], entry["dtype"]) for index, entry in enumerate(side)}
                for side in (described["inputs"], described["outputs"])
            )
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"the file has no description of its inputs in {DESCRIPTION}") from error
        self._fed: Arrays = {}
        self._answers: list[Any] = []

    def resize(self, feeds: Arrays) -> None:
        """Notes the sizes: they come with every call."""
        for name, array in feeds.items():
            self.inputs[name]["shape"] = list(array.shape[1:])

    def feed(self, arrays: Arrays) -> None:
        """Shares the inputs with the model."""
        for name, array in arrays.items():
            self._fed[name] = self._torch.from_numpy(array)

    def invoke(self) -> None:
        """Runs the model."""
        with self._torch.inference_mode():
            answer = self._model(*(self._fed[name] for name in self.inputs))
        self._answers = list(answer) if isinstance(answer, (tuple, list)) else [answer]

    def reset(self) -> None:
        """Does nothing: states do not outlive a call."""

    def read_outputs(self) -> Arrays:
        """Returns copies of the outputs."""
        return by_name(self.outputs, [answer.numpy().copy() for answer in self._answers])
