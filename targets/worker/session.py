"""The contract of a model in a runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Arrays = dict[str, Any]


class Session(ABC):
    """A model in a runtime.

    A subclass is made with a plan and the runtime's module.

    Attributes:
        inputs: Tensor details by input name, as an Interpreter gives them.
        outputs: Tensor details by output name.
        load_us: Time to load the model until it can be called.
        import_us: Time to import the runtime.
        version: The runtime's.
    """

    inputs: Arrays
    outputs: Arrays
    load_us: float
    import_us: float
    version: str

    @classmethod
    def prepare(cls, plan: dict[str, Any]) -> None:
        """Sets what has to be set before the runtime is imported; most need nothing."""
        del plan

    @abstractmethod
    def resize(self, feeds: Arrays) -> None:
        """Gives free dimensions the sizes of feeds, arrays of shape (calls, *tensor shape) by input name."""

    @abstractmethod
    def feed(self, arrays: Arrays) -> None:
        """Sets inputs of the next call, by name; each of them must be set for every call."""

    @abstractmethod
    def invoke(self) -> None:
        """Makes the call, to its end: a device that computes on its own is waited for."""

    def bare_call(self) -> Callable[[], None]:
        """Returns what to time: `invoke`, or what it calls if that is all it does."""
        return self.invoke

    @abstractmethod
    def reset(self) -> None:
        """Puts all variables back to their initial values."""

    @abstractmethod
    def read_outputs(self) -> Arrays:
        """Returns copies of the outputs by name."""

    def arena_bytes(self) -> int | None:
        """Returns the memory for all tensors and bookkeeping as the runtime measured it, None if it does not."""
        return None

    def masks(self) -> bool:
        """Says whether the model leaves out steps for the values of its inputs."""
        return False

    def profile(self, calls: int) -> list[dict[str, Any]] | None:
        """Makes calls with the inputs of the last one and returns the time of each operator, as op "bench" does.

        Args:
            calls: How many.

        Returns:
            None if the runtime offers no profile.
        """
        del calls
        return None

    def describe(self) -> dict[str, Any]:
        """Returns the part of a result that all operations share."""
        return {"inputs": describe_tensors(self.inputs), "outputs": describe_tensors(self.outputs)}

    def needs_resize(self, feeds: Arrays) -> bool:
        """Says whether feeds have other shapes than the inputs."""
        return any(tuple(self.inputs[name]["shape"]) != array.shape[1:] for name, array in feeds.items())


def plain_tensor(index: int, shape: Any, dtype: str) -> dict[str, Any]:
    """Returns the details of a tensor that is not quantized.

    Args:
        index: The number of the input or output.
        shape: Sizes; whatever is no number is a free dimension, and counts as one until it is resized.
        dtype: Name of a numpy dtype.
    """
    sizes = [size if isinstance(size, int) and size >= 0 else -1 for size in shape]
    return {
        "index": index,
        "shape": [max(size, 1) if size < 0 else size for size in sizes],
        "shape_signature": sizes,
        "dtype": dtype,
        "quantization": (0.0, 0),
    }


def by_name(names: Iterable[str], values: Iterable[Any]) -> Arrays:
    """Returns values by names; there are as many of both."""
    return dict(zip(names, values))  # noqa: B905 (Python 3.9 cannot check)


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
