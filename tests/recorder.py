"""A stand-in for a function of the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Recorder:
    """Keeps its arguments and returns or raises what it was made with."""

    def __init__(self, result: Any, during: Callable[..., None] = lambda **_: None):
        self.result, self.during = result, during
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        self.during(**kwargs)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result
