"""A stand-in for JAX."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


class FakeJax(SimpleNamespace):
    """JAX, as far as the worker uses it."""

    def __init__(self, *platforms: str) -> None:
        super().__init__(platforms=platforms, compiled=0, waited=0)
        self.tree_util = SimpleNamespace(tree_leaves=lambda tree: tree if isinstance(tree, list) else [tree])

    def devices(self, platform: str) -> list[str]:
        if platform not in self.platforms:
            raise RuntimeError(f"Unknown backend: '{platform}'")
        return [f"{platform}:0"]

    def device_put(self, array: Any, device: str) -> Any:
        assert device == "cpu:0"
        return np.array(array)

    def jit(self, function: Any) -> Any:
        self.compiled += 1
        return function

    def block_until_ready(self, tree: Any) -> Any:
        self.waited += 1
        return tree
