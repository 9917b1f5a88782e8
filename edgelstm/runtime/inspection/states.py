"""Tells whether the state of an operator is written anew on every call, or survives from call to call."""

from __future__ import annotations

from edgelstm.runtime.inspection.records import NO_TENSOR, DamagedError, GraphRecord

# Of all searches in a file together. Hundreds of LSTMs among thousands of operators need fewer, and this many take
# seconds.
MAX_SEARCH_STEPS = 2_000_000

# Runtimes take the shape of their input, not its value, and do so once, while they prepare the graph.
_SHAPE_ONLY = frozenset({"SHAPE", "RANK"})


class SearchBudget:
    """Counts the steps of searches, so that a hostile graph cannot make them endless."""

    def __init__(self) -> None:
        self._steps_left = MAX_SEARCH_STEPS

    def spend(self, steps: int) -> None:
        """Takes steps off the budget.

        Raises:
            DamagedError: If the budget is used up.
        """
        self._steps_left -= steps
        if self._steps_left < 0:
            raise DamagedError("its operators are tangled beyond what any model needs")


class Writers:
    """Knows which operators of a graph write which tensors, and which operators run on every call.

    Runtimes compute an operator whose inputs are all constant once and for all, so only one that depends on an input of
    the graph is sure to run on every call.
    """

    def __init__(self, graph: GraphRecord, budget: SearchBudget) -> None:
        self.graph = graph
        self._budget = budget
        self._positions: dict[int, list[int]] = {}
        self._live = set(graph.inputs)
        for position, operator in enumerate(graph.operators):
            is_live = operator.name not in _SHAPE_ONLY and self.runs_on_every_call(position)
            for tensor in operator.outputs:
                self._positions.setdefault(tensor, []).append(position)
                if is_live:
                    self._live.add(tensor)

    def runs_on_every_call(self, position: int) -> bool:
        """Returns whether the operator at a position depends on the value of a graph input."""
        return not self._live.isdisjoint(self.graph.operators[position].inputs)

    def last_before(self, position: int, tensor: int) -> int | None:
        """Returns the position of the last operator before another one that writes a tensor, None without one."""
        positions = self._positions.get(tensor, [])
        self._budget.spend(len(positions))
        return max((candidate for candidate in positions if candidate < position), default=None)

    def ancestors(self, position: int) -> set[int]:
        """Returns all tensors that the operator at a position reads, directly or through operators before it."""
        seen: set[int] = set()
        pending = [position]
        while pending:
            current = pending.pop()
            inputs = self.graph.operators[current].inputs
            self._budget.spend(len(inputs) + 1)
            for tensor in set(inputs) - seen:
                seen.add(tensor)
                writer = self.last_before(current, tensor)
                if writer is not None:
                    pending.append(writer)
        return seen


def is_written_on_every_call(writers: Writers, position: int, states: set[int]) -> bool:
    """Returns whether each state is set on every call before the operator at a position runs, to a value of its own.

    Args:
        writers: The writers of the operator's graph.
        position: Position of the operator.
        states: Tensor indices of the states; a value computed from one of them carries the last call on.
    """
    if NO_TENSOR in states:
        return False
    last = [writers.last_before(position, state) for state in states]
    return all(
        writer is not None and states.isdisjoint(writers.ancestors(writer)) and writers.runs_on_every_call(writer)
        for writer in last
    )
