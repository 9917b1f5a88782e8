"""Embedding tables in a model: which inputs bring the ids, and which layers read the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.narrowing import readers_inside
from edgelstm.converters.stages.surgery import calls, check_graph, graph_of, is_model, named_layers

# What hands rows on unchanged when a model is used.
_ROWS_PASS = ("Dropout", "SpatialDropout1D")


@dataclasses.dataclass(eq=False)
class Table:
    """An Embedding and its surroundings.

    Attributes:
        path: Of the layer, as `named_layers` tells it.
        layer: The Embedding.
        inputs: Names of the model's inputs whose ids it looks up.
        looks_up_more: Whether it also looks up ids that the model computes.
        readers: The layers whose kernels read its rows, by identity.
        read_otherwise: Whether anything else reads them, too, or one of `readers` reads other things.
        is_output: Whether rows are an output of the model.
    """

    path: str
    layer: Any
    inputs: set[str] = dataclasses.field(default_factory=set)
    looks_up_more: bool = False
    readers: dict[int, Any] = dataclasses.field(default_factory=dict)
    read_otherwise: bool = False
    is_output: bool = False


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables of a model.

    Attributes:
        found: The tables.
        read_otherwise: Names of inputs that something else than tables reads.
        out_of_reach: Paths of layers that hold an Embedding inside.
    """

    found: tuple[Table, ...]
    read_otherwise: frozenset[str]
    out_of_reach: tuple[str, ...]

    def groups(self) -> list[list[Table]]:
        """Tables that look up ids of the same inputs, and so must agree on them."""
        groups: list[list[Table]] = []
        for table in self.found:
            joined = [group for group in groups if any(table.inputs & other.inputs for other in group)]
            groups = [group for group in groups if group not in joined]
            groups.append([*(each for group in joined for each in group), table])
        return groups


def find_tables(model: Any) -> Tables:
    """Finds the Embeddings of a model, nested models included, and follows ids to them and rows from them.

    Raises:
        StageError: If the model is subclassed or not built.
    """
    check_graph(model)
    keras = import_keras()
    layers = named_layers(model)
    tables = {id(layer): Table(path, layer) for path, layer in layers.items() if type(layer) is keras.layers.Embedding}
    hidden = [
        path
        for path, layer in layers.items()
        if id(layer) not in tables
        and any(type(each) is keras.layers.Embedding and id(each) not in tables for each in layers_inside(layer))
    ]
    walk = _Walk(tables)
    graph = graph_of(model)
    outputs = walk.graph(graph, [_Ids(frozenset({tensor.name})) for tensor in graph.inputs])
    walk.read_otherwise(outputs)
    for label in outputs:
        if isinstance(label, _Rows):
            tables[label.table].is_output = True
    walk.settle_readers()
    return Tables(tuple(tables.values()), frozenset(walk.inputs_read_otherwise), tuple(hidden))


@dataclasses.dataclass(frozen=True)
class _Ids:
    """A tensor that holds the ids of an input, one and all."""

    inputs: frozenset[str]


@dataclasses.dataclass(frozen=True)
class _Rows:
    """A tensor that holds rows of a table."""

    table: int


class _Other:
    """A tensor that holds anything else."""


_Label = _Ids | _Rows | _Other


class _Walk:
    """Goes along all calls of a model and notes what reaches what."""

    def __init__(self, tables: dict[int, Table]) -> None:
        self.tables = tables
        self.inputs_read_otherwise: set[str] = set()
        self._read_by: dict[int, set[int | None]] = {}

    def graph(self, graph: Any, inputs: Sequence[_Label]) -> list[_Label]:
        """Follows labels through a functional model, from its inputs to its outputs."""
        labels = dict(zip(map(id, graph.inputs), inputs, strict=True))
        for node in calls(graph):
            answers = self._call(node, [labels[id(tensor)] for tensor in node.input_tensors])
            labels.update(zip(map(id, node.outputs), answers, strict=True))
        return [labels[id(tensor)] for tensor in graph.outputs]

    def read_otherwise(self, labels: Iterable[_Label]) -> None:
        """Notes that something reads these which does with them we do not know what."""
        for label in labels:
            if isinstance(label, _Ids):
                self.inputs_read_otherwise |= label.inputs
            elif isinstance(label, _Rows):
                self.tables[label.table].read_otherwise = True

    def settle_readers(self) -> None:
        """Finds readers of rows that read other things, too."""
        for table in self.tables.values():
            if any(self._read_by[reader] != {id(table.layer)} for reader in table.readers):
                table.read_otherwise = True

    def _call(self, node: Any, labels: list[_Label]) -> list[_Label]:
        operation, first = node.operation, labels[0]
        kind = type(operation).__name__
        nothing: list[_Label] = [_Other()] * len(node.outputs)
        if is_model(operation):
            return self._model(operation, labels, nothing)
        if id(operation) in self.tables:
            self.read_otherwise(labels[1:])
            return self._look_up(self.tables[id(operation)], first)
        if isinstance(first, _Ids) and len(labels) == 1 and (kind == "Cast" or _is_mask_of_zeros(node)):
            return [first] if kind == "Cast" else nothing
        if isinstance(first, _Rows) and kind in _ROWS_PASS:
            self.read_otherwise(labels[1:])
            return [first]
        if isinstance(operation, import_keras().Layer) and readers_inside(operation):
            self._read_by.setdefault(id(operation), set()).add(first.table if isinstance(first, _Rows) else None)
            if isinstance(first, _Rows):
                self.tables[first.table].readers[id(operation)] = operation
                labels = labels[1:]
        self.read_otherwise(labels)
        return nothing

    def _model(self, model: Any, labels: list[_Label], nothing: list[_Label]) -> list[_Label]:
        graph = graph_of(model)
        count = len(graph.inputs)
        self.read_otherwise(labels[count:])
        if len(labels) < count:
            self.read_otherwise(labels)
            return nothing
        return self.graph(graph, labels[:count])

    def _look_up(self, table: Table, label: _Label) -> list[_Label]:
        if isinstance(label, _Ids):
            table.inputs |= label.inputs
        else:
            table.looks_up_more = True
            self.read_otherwise([label])
        return [_Rows(id(table.layer))]


def _is_mask_of_zeros(node: Any) -> bool:
    """Whether a call is `ids != 0`, the mask of an Embedding, which other ids for other words do not change."""
    if type(node.operation).__name__ != "NotEqual":
        return False
    values = [*node.arguments.args, *node.arguments.kwargs.values()]
    return any(isinstance(value, int | float | np.generic) and value == 0 for value in values)
