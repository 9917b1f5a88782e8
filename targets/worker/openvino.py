"""Models in OpenVINO, on the CPU."""

from __future__ import annotations

import time
from typing import Any

from .plan import PlanError, first_line, read_key
from .session import Arrays, Session, plain_tensor

PRECISIONS = {"float32": "f32", "float16": "f16"}
"""Names of OpenVINO's inference precisions. Its own choice may be bfloat16, whose answers differ."""


class OpenvinoSession(Session):
    """A model in OpenVINO, tuned for the latency of one call. It keeps nothing from call to call."""

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        self._module = module
        self._config = {
            "INFERENCE_NUM_THREADS": read_key(plan, "threads", int, 1),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISIONS[plan.get("dtype") or "float32"],
        }
        self._core = module.Core()
        started = time.perf_counter_ns()
        try:
            self._model = self._core.read_model(plan["model"])
            self._compile()
        except Exception as error:  # one class for whatever went wrong
            raise PlanError(f"openvino refuses the file: {first_line(error)}") from error
        self.load_us = (time.perf_counter_ns() - started) / 1e3

    def _compile(self) -> None:
        self._request = self._core.compile_model(self._model, "CPU", self._config).create_infer_request()
        self.inputs, self.outputs = self._details(self._model.inputs), self._details(self._model.outputs)

    def _details(self, ports: Any) -> Arrays:
        return {
            port.get_any_name(): plain_tensor(
                index,
                [size.get_length() if size.is_static else None for size in port.get_partial_shape()],
                port.get_element_type().to_dtype().name,
            )
            for index, port in enumerate(ports)
        }

    def resize(self, feeds: Arrays) -> None:
        """Compiles again for other sizes."""
        if self.needs_resize(feeds) or any(-1 in detail["shape_signature"] for detail in self.inputs.values()):
            self._model.reshape({name: list(array.shape[1:]) for name, array in feeds.items()})
            self._compile()

    def feed(self, arrays: Arrays) -> None:
        """Copies the inputs into the request."""
        for name, array in arrays.items():
            self._request.set_tensor(name, self._module.Tensor(array))

    def invoke(self) -> None:
        """Runs the graph."""
        self._request.infer()

    def reset(self) -> None:
        """Does nothing: there are no variables in what is exported here."""

    def read_outputs(self) -> Arrays:
        """Returns copies of the outputs."""
        return {name: self._request.get_tensor(name).data.copy() for name in self.outputs}
