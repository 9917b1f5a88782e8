"""An ONNX graph while it is made: nodes, constants and the shapes of values, in plain Python."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgelstm.converters.graph import Array

RECURRENT = ("LSTM", "GRU", "RNN")  # operators all of whose outputs are optional
ABSENT = ""  # how ONNX writes an optional input or output that is not there

Dim = int | str
"""A size, or the name of a free axis."""


@dataclass
class Node:
    """One operator.

    Attributes:
        op: Its ONNX type.
        inputs: Names of the values it reads; `ABSENT` for an optional one that is not given.
        outputs: Names of the values it writes.
        attributes: Its attributes, Python values.
        layer: Path of the Keras layer that it stands for; empty for all but recurrent operators.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: str = ""


@dataclass(frozen=True)
class Port:
    """An input or output of the model.

    Attributes:
        name: The name that users see.
        value: The value it stands for.
        dtype: Its element type.
        shape: Sizes, and names of free axes.
    """

    name: str
    value: str
    dtype: Any
    shape: tuple[Dim, ...]


@dataclass
class Program:
    """A graph under construction.

    Attributes:
        inputs: The model's inputs in the model's order.
        outputs: The model's outputs in the model's order.
        nodes: In an order in which they can run.
        constants: Arrays by value name.
        shapes: Shapes of values, where known.
    """

    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_value(self, hint: str) -> str:
        """A name that no other value has."""
        return f"{hint}:{next(self._numbers)}"

    def add_constant(self, array: Array, hint: str = "constant") -> str:
        """Adds a constant and returns its name."""
        name = self.new_value(hint)
        self.constants[name] = np.ascontiguousarray(array).reshape(np.shape(array))
        self.shapes[name] = tuple(self.constants[name].shape)
        return name

    def add_node(
        self, op: str, inputs: Sequence[str], *, outputs: int = 1, layer: str = "", **attributes: Any
    ) -> list[str]:
        """Appends a node and returns the names of its outputs."""
        names = [self.new_value(op) for _ in range(outputs)]
        self.nodes.append(Node(op, list(inputs), names, attributes, layer))
        return names

    def producers(self) -> dict[str, Node]:
        """The node that writes each value, by the value's name."""
        return {value: node for node in self.nodes for value in node.outputs if value}

    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, by the value's name, each once per reading."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value:
                    found.setdefault(value, []).append(node)
        return found

    def rename(self, replaced: Mapping[str, str]) -> None:
        """Lets nodes and outputs read other values, following chains of replacements."""

        def final(value: str) -> str:
            while value in replaced:
                value = replaced[value]
            return value

        for node in self.nodes:
            node.inputs = [final(value) for value in node.inputs]
        self.outputs = [Port(port.name, final(port.value), port.dtype, port.shape) for port in self.outputs]

    def drop_unread(self) -> None:
        """Drops nodes and constants that nobody reads, and single outputs of recurrent operators."""
        wanted = {port.value for port in self.outputs}
        kept = []
        for node in reversed(self.nodes):
            if wanted.isdisjoint(node.outputs):
                continue
            kept.append(node)
            wanted.update(node.inputs)
        self.nodes = kept[::-1]
        self.constants = {name: array for name, array in self.constants.items() if name in wanted}
        for node in self.nodes:
            if node.op in RECURRENT:
                outputs = [value if value in wanted else ABSENT for value in node.outputs]
                while outputs[-1] == ABSENT:
                    outputs.pop()
                node.outputs = outputs

    def sort(self) -> None:
        """Sorts nodes so that each stands behind what it reads, otherwise keeping their order."""
        position = {value: index for index, node in enumerate(self.nodes) for value in node.outputs if value}
        sources = [{position[value] for value in node.inputs if value in position} for node in self.nodes]
        readers: list[list[int]] = [[] for _ in self.nodes]
        for index, before in enumerate(sources):
            for source in before:
                readers[source].append(index)
        waiting = [len(before) for before in sources]
        ready = [index for index, count in enumerate(waiting) if count == 0]
        order = []
        while ready:
            order.append(heapq.heappop(ready))
            for reader in readers[order[-1]]:
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    heapq.heappush(ready, reader)
        assert len(order) == len(self.nodes), "the graph has a cycle"
        self.nodes = [self.nodes[index] for index in order]
