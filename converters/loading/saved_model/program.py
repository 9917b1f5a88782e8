"""The computation behind one signature of a SavedModel, as data: nodes in order, nothing of TensorFlow's in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: Its name, unique in its body.
        operation: Name of the operation, or of a function.
        inputs: Where its inputs come from, as `Body.source` takes it.
        attributes: Protocol buffers by name.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def called(self) -> list[str]:
        """Names of the functions that its attributes name."""
        functions = [value.func.name for value in self.attributes.values() if value.WhichOneof("value") == "func"]
        functions += [
            inner.name
            for value in self.attributes.values()
            if value.WhichOneof("value") == "list"
            for inner in value.list.func
        ]
        return functions


@dataclass(frozen=True)
class Body:
    """A function, or the graph around all functions.

    Attributes:
        name: Name of the function.
        nodes: All operations by name.
        arguments: Names of the arguments.
        results: Where the results come from.
        attributes: Protocol buffers by name.
    """

    name: str
    nodes: Mapping[str, Node]
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def source(self, reference: str) -> tuple[str, str | None, int]:
        """The node or argument that a reference names, the node's output by name (None: all of them), and the index."""
        name, *rest = reference.split(":")
        if name not in self.nodes and name not in self.arguments:
            raise ValueError(f"{self.name!r} refers to {name!r}, which it does not hold")
        if len(rest) == 2:
            return name, rest[0], int(rest[1])
        return name, None, int(rest[0]) if rest else 0

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """The nodes that the results are computed from, each behind what it reads.

        Raises:
            ValueError: If a node reads itself through others, or something that is not there.
        """
        ordered: dict[str, Node] = {}
        open_nodes: set[str] = set()
        waiting = [self.source(reference)[0] for reference in reversed(self.results)]
        while waiting:
            name = waiting[-1]
            if name in ordered or name not in self.nodes:
                waiting.pop()
                continue
            needed = [self.source(reference)[0] for reference in self.nodes[name].inputs]
            missing = [source for source in needed if source in self.nodes and source not in ordered]
            if not missing:
                open_nodes.discard(name)
                ordered[waiting.pop()] = self.nodes[name]
            elif name in open_nodes:
                raise ValueError(f"{name!r} in {self.name!r} reads its own result")
            else:
                open_nodes.add(name)
                waiting += reversed(missing)
        return tuple(ordered.values())


class Program:
    """The main body of a signature and the functions that it calls; `checks` decides whether it is run."""

    def __init__(self, main: Body, library: Sequence[Any]) -> None:
        """Takes the main body and the functions of the file."""
        self.main = main
        self._definitions = {function.signature.name: function for function in library}
        self._bodies: dict[str, Body] = {}

    def function(self, name: str) -> Body | None:
        """A function by its name; None if there is none of that name."""
        if name not in self._bodies and name in self._definitions:
            self._bodies[name] = function_body(self._definitions[name])
        return self._bodies.get(name)


def graph_body(graph: Any, results: Sequence[str]) -> Body:
    """The graph around all functions, of which only what the results are computed from counts."""
    return Body("the graph", _nodes(graph.node), (), tuple(results))


def function_body(definition: Any) -> Body:
    """A function of the file."""
    signature = definition.signature
    return Body(
        signature.name,
        _nodes(definition.node_def),
        tuple(argument.name for argument in signature.input_arg),
        tuple(definition.ret[result.name] for result in signature.output_arg),
        definition.attr,
    )


def _nodes(definitions: Sequence[Any]) -> dict[str, Node]:
    return {
        node.name: Node(
            node.name, node.op, tuple(source for source in node.input if not source.startswith("^")), node.attr
        )
        for node in definitions
    }
