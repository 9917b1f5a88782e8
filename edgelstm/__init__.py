"""Keras LSTMs on devices: trained, converted, verified, inspected and timed.

The names below are fetched from their modules when they are first used, so that `import edgelstm` stays light: it
brings neither TensorFlow nor a TFLite runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgelstm.artifact import Artifact
    from edgelstm.conversion import convert
    from edgelstm.errors import EdgeLSTMError
    from edgelstm.runtime.inspection import inspect
    from edgelstm.runtime.model import load
    from edgelstm.targets.bench import bench
    from edgelstm.training.evaluation import evaluate
    from edgelstm.training.runs import train
    from edgelstm.verifying import verify

    __version__: str

__all__ = [
    "Artifact",
    "EdgeLSTMError",
    "__version__",
    "bench",
    "convert",
    "evaluate",
    "inspect",
    "load",
    "train",
    "verify",
]

_HOMES = {
    "Artifact": "edgelstm.artifact",
    "EdgeLSTMError": "edgelstm.errors",
    "bench": "edgelstm.targets.bench",
    "convert": "edgelstm.conversion",
    "evaluate": "edgelstm.training.evaluation",
    "inspect": "edgelstm.runtime.inspection",
    "load": "edgelstm.runtime.model",
    "train": "edgelstm.training.runs",
    "verify": "edgelstm.verifying",
}


def __getattr__(name: str) -> Any:
    """Fetches a public name on first use and keeps it."""
    if name == "__version__":
        # Reading the metadata costs 30 ms, more than the rest of the package: only who asks pays.
        from importlib.metadata import version

        value: Any = version("edgelstm")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, fetched or not."""
    return sorted({*globals(), *__all__})
