"""Following the units of a model from the layers that make them to the weights that read them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.surgery import calls, check_graph, graph_of, is_model, named_layers
from edgelstm.converters.stages.units.ties import Axes, Ids, Ties

Shape = tuple[int | None, ...]
Keys = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What is known of a tensor.

    Attributes:
        shape: Batch included, None where free.
        axes: Numbers of the channels along each axis that has any, of a length of the axis each.
    """

    shape: Shape
    axes: Axes


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a layer stands.

    Attributes:
        owner: The layer that has a path of its own: itself, or the wrapper around it.
        keys: From the owner's configuration to that of the layer.
    """

    owner: Any
    keys: Keys = ()

    def inside(self, *keys: str | int) -> Place:
        """The place of a layer inside this one."""
        return Place(self.owner, (*self.keys, *keys))


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or an operation.

    Attributes:
        layer: What is called.
        place: Where it stands.
        inputs: Tensors in its first argument; of an operation, in all of its arguments.
        others: Tensors in each other argument that has any.
        arguments: All arguments by name; of an operation, by number, too.
        shapes: Of its answers.
    """

    layer: Any
    place: Place
    inputs: tuple[Tensor, ...]
    others: Mapping[str, tuple[Tensor, ...]]
    arguments: Mapping[str, Any]
    shapes: tuple[Shape, ...]

    @property
    def name(self) -> str:
        """For sentences."""
        return f"{type(self.layer).__name__} {self.layer.name!r}"


Rule = Callable[["Trace", Call], Sequence[Axes]]


@dataclasses.dataclass(frozen=True)
class Source:
    """Channels that a layer makes.

    Attributes:
        path: Of the layer that has a path of its own.
        part: Name of the layer inside it that makes them; empty where it does itself.
        kind: "lstm", "rnn", "dense", "conv", or "other" for what is cut only together with those.
        ids: Their numbers, shape (units,).
    """

    path: str
    part: str
    kind: str
    ids: Ids

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.path}/{self.part}" if self.part else self.path


class Trace:
    """All channels of a model, and where each is found.

    Args:
        model: A built model, Functional or Sequential.

    Raises:
        StageError: If the model is subclassed or not built.

    Attributes:
        ties: What was found out about the channels.
        sources: What makes them, in the order of the calls.
        variables: Numbers along the axes of a variable, by its `id`.
        sizes: By `id` of a layer with a path: keys into its configuration, and the channels that the number there
            counts.
        uncounted: Those of them that are no weights: statistics and states, by `id`.
        inputs: Numbers along the axes of an InputLayer of a nested model, by its `id`.
        even: Pairs of channels of which as many must go.
    """

    def __init__(self, model: Any) -> None:
        check_graph(model)
        self.model, self.ties = model, Ties()
        self.sources: list[Source] = []
        self.variables: dict[int, Axes] = {}
        self.sizes: dict[int, dict[Keys, Ids]] = {}
        self.uncounted: set[int] = set()
        self.inputs: dict[int, Axes] = {}
        self.even: list[tuple[Ids, Ids]] = []
        self._paths = {id(layer): path for path, layer in named_layers(model).items()}
        self._own: dict[int, Ids] = {}
        graph = graph_of(model)
        outputs = self.graph(graph, [Tensor(tuple(each.shape), {}) for each in graph.inputs])
        for each in outputs:
            self.keep([each], "it is an output of the model")

    def graph(self, model: Any, given: Sequence[Tensor]) -> list[Tensor]:
        """Follows one call of a functional model."""
        tree = import_keras().tree
        known = {id(tensor): self._enter(tensor, each) for tensor, each in zip(model.inputs, given, strict=True)}
        for node in calls(model):
            args, kwargs = node.arguments.fill_in(known)
            shapes = tuple(tuple(each.shape) for each in node.outputs)
            call = _call_of(node.operation, Place(node.operation), args, kwargs, shapes, tree)
            known.update(zip(map(id, node.outputs), self.follow(call), strict=True))
        return [known[id(tensor)] for tensor in model.outputs]

    def follow(self, call: Call) -> list[Tensor]:
        """Follows one call."""
        from edgelstm.converters.stages.units.rules import rule_for

        if is_model(call.layer):
            inside = self.graph(graph_of(call.layer), call.inputs)
            axes: Sequence[Axes] = [each.axes for each in inside]
        else:
            rule, taken = rule_for(call.layer)
            for name, tensors in call.others.items():
                if name not in taken:
                    self.keep(tensors, f"{call.name} takes it as {name}")
            axes = rule(self, call)
        answers = [Tensor(shape, dict(each)) for shape, each in zip(call.shapes, axes, strict=True)]
        for each in answers:
            for axis, ids in each.axes.items():
                assert each.shape[axis] in (None, len(ids)), (call.name, each.shape, axis, len(ids))
        # An axis that is known to stay is like any other from here on.
        return [
            Tensor(each.shape, {axis: ids for axis, ids in each.axes.items() if not self.ties.all_stay(ids)})
            for each in answers
        ]

    def own(self, call: Call, maker: Any, count: int, kind: str, part: str = "") -> Ids:
        """Returns the numbers of the channels that a layer makes, the same at every call.

        Args:
            call: A call of it, or of the layer around it.
            maker: The layer or cell.
            count: How many.
            kind: As in `Source`.
            part: As in `Source`.
        """
        if id(maker) not in self._own:
            self._own[id(maker)] = ids = self.ties.new(count)
            owner = call.place.owner
            inner = part or (call.layer.name if call.place.keys else "")
            self.sources.append(Source(self._paths[id(owner)], inner, kind, ids))
        return self._own[id(maker)]

    def of_lstms(self, ids: Ids) -> bool:
        """Whether an LSTM makes some of these channels."""
        return any(np.isin(ids, source.ids).any() for source in self.sources if source.kind == "lstm")

    def bind(self, variable: Any, axis: int, ids: Ids, reason: str) -> None:
        """Notes the channels along an axis of a variable; where they are noted already, both are tied."""
        if variable is None:
            return
        axis %= len(variable.shape)
        assert variable.shape[axis] == len(ids), (variable.path, variable.shape, axis, len(ids))
        there = self.variables.setdefault(id(variable), {}).setdefault(axis, ids)
        self.ties.tie(there, ids, reason)

    def size(self, place: Place, ids: Ids) -> None:
        """Notes that a number in a configuration counts channels; the keys of the place lead to the number."""
        there = self.sizes.setdefault(id(place.owner), {}).setdefault(place.keys, ids)
        self.ties.tie(there, ids, f"the shape in {place.owner.name!r} is fixed")

    def keep(self, tensors: Sequence[Tensor], reason: str, axes: Iterator[int] | Sequence[int] | None = None) -> None:
        """Notes that the channels of tensors, or of some of their axes, must stay, and why, a clause."""
        chosen = None if axes is None else set(axes)
        for tensor in tensors:
            for axis, ids in tensor.axes.items():
                if chosen is None or axis in chosen:
                    self.ties.keep(ids, reason)

    def unknown(self, call: Call) -> list[Axes]:
        """The rule for what cannot be cut: it keeps all that it reads."""
        for tensors in (call.inputs, *call.others.values()):
            self.keep(tensors, f"{call.name} reads it, which cannot be cut")
        return [{} for _ in call.shapes]

    def read(self, call: Call, tensor: Tensor, *weights: tuple[Any, int]) -> Axes:
        """Notes the channels that weights read from the last axis of a tensor; returns those of its other axes."""
        last = len(tensor.shape) - 1
        for variable, axis in weights:
            if variable is not None:
                size = variable.shape[axis]
                ids = tensor.axes.get(last, np.zeros(size, np.int64))
                self.bind(variable, axis, ids, f"{call.name} reads something else with the same weights")
        return {axis: ids for axis, ids in tensor.axes.items() if axis != last}

    def _enter(self, tensor: Any, given: Tensor) -> Tensor:
        layer = tensor._keras_history.operation
        there = self.inputs.setdefault(id(layer), given.axes)
        for axis in there.keys() | given.axes.keys():
            first, second = (each.get(axis) for each in (there, given.axes))
            count = len(first if first is not None else second if second is not None else ())
            zeros = np.zeros(count, np.int64)
            self.ties.tie(
                zeros if first is None else first,
                zeros if second is None else second,
                f"the model around {layer.name!r} is also called on something else",
            )
        return Tensor(tuple(tensor.shape), there)


def _call_of(layer: Any, place: Place, args: Any, kwargs: Any, shapes: tuple[Shape, ...], tree: Any) -> Call:
    def tensors(value: Any) -> tuple[Tensor, ...]:
        return tuple(each for each in tree.flatten(value) if isinstance(each, Tensor))

    if not isinstance(layer, import_keras().Layer):
        arguments = {**{str(number): each for number, each in enumerate(args)}, **kwargs}
        return Call(layer, place, tensors(arguments), {}, arguments, shapes)
    arguments = dict(inspect.signature(layer.call).bind(*args, **kwargs).arguments)
    first, *others = arguments
    found = {name: tensors(arguments[name]) for name in others}
    others_found = {name: each for name, each in found.items() if each}
    return Call(layer, place, tensors(arguments[first]), others_found, arguments, shapes)
