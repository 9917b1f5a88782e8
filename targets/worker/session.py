"""The contract of a model in a runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

Arrays = dict[str, Any]


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
