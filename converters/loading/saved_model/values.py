"""What goes through a program while it is run, and what may stand in for parts of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edgelstm.converters.loading.saved_model.program import Body

Path = tuple[str, ...]


class Kind(IntEnum):
    """What a value depends on: of several, the last one counts."""

    STATIC = 0  # constants and static shapes
    WEIGHT = 1  # variables, too
    DYNAMIC = 2  # the model's inputs, too


@dataclass(frozen=True)
class Value:
    """A tensor on its way through the program.

    Attributes:
        tensor: The tensor; None for the handle of a variable, and for a list that is not reserved yet.
        kind: What it depends on.
        variable: Name of the variable that it is the handle or the plain value of.
        items: What is known of the items of a list.
        zeros: Whether all that it holds are zeros, whatever its shape.
    """

    tensor: Any
    kind: Kind
    variable: str | None = None
    items: Items | None = None
    zeros: bool = False


class Items:
    """What is known of the tensors in a list: files leave the batch of their shape free, converters need it."""

    def __init__(
        self,
        shape: Any = None,
        *,
        stacked: Value | None = None,
        count: Value | None = None,
        reserve: Callable[[Any], Any] | None = None,
    ) -> None:
        """Starts with what is known when the list is made.

        Args:
            shape: The items' shape; None before one was seen.
            stacked: All items as one tensor, of a list whose items stay.
            count: How many items a list has whose items are still to come.
            reserve: Makes the list, given the shape of its items, when that is known.
        """
        self.shape = shape
        self.stacked = stacked
        self.count = count
        self.tensor: Any = None
        self._reserve = reserve

    def learn(self, shape: Any) -> None:
        """Takes an item's shape into account."""
        self.shape = shape if self.shape is None else self.shape.most_specific_compatible_shape(shape)

    def reserved(self) -> Any:
        """The list, made at the first call."""
        if self.tensor is None and self._reserve is not None:
            self.tensor = self._reserve(self.shape)
        return self.tensor


@dataclass(frozen=True)
class Loop:
    """A loop.

    Attributes:
        condition: Says whether to go on.
        body: One step.
        changing: Positions of the inputs that the body changes.
    """

    condition: Body
    body: Body
    changing: tuple[int, ...]


@dataclass(frozen=True)
class StandIns:
    """What may stand in for parts of a program outside its loops. Each gives None to have the part run as it is.

    Attributes:
        call: Takes the names of the nodes that lead to a call, the function and its arguments; gives its results.
        loop: Takes the names of the nodes that lead to a loop, the loop and its inputs; gives its results.
        gather: Takes the name of a variable and indices into its first axis; gives the rows.
    """

    call: Callable[[Path, Body, list[Value]], list[Value] | None]
    loop: Callable[[Path, Loop, list[Value]], list[Value] | None]
    gather: Callable[[str, Value], Any]
