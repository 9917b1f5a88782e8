"""An LSTM without variable tensors: its steps in a loop, or one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.converters.lowering.cells import Cell
from edgelstm.converters.lowering.operators import Operators

LARGEST_BLOCK = 4  # fastest of 1, 2, 4, 8 and 20 for 64 units: benchmarks/results/forms.json
LARGEST_BLOCK_WEIGHTS = 1 << 20  # recurrent weights in one turn; runtimes keep a packed copy for each step


@dataclass(frozen=True)
class Sequence:
    """What a sequence of steps gives: h of all steps (batch, time, units), or None if not asked for; last h, last c."""

    outputs: int | None
    hidden: int
    cell: int


def unroll(operators: Operators, cell: Cell, x: int, hidden: int, state: int, *, outputs: bool) -> Sequence:
    """Writes out every step.

    Args:
        operators: Where the operators go.
        cell: The cell.
        x: Input, shape (batch, time, features), in the type that the cell takes.
        hidden: Initial hidden state, shape (batch, units).
        state: Initial cell state, shape (batch, units).
        outputs: Whether h of all steps is wanted.
    """
    batch, time, _ = operators.shape(x)
    gates = 4 * cell.call.units
    projected = operators.reshape(cell.project(operators, x), [batch, time * gates])
    steps = []
    for step in range(time):
        part = operators.slice(projected, [0, step * gates], [batch, gates])
        hidden, state = cell.step(operators, part, hidden, state)
        steps.append(hidden)
    return Sequence(_stacked(operators, steps) if outputs else None, hidden, state)


def _stacked(operators: Operators, steps: list[int]) -> int:
    """Hidden states of (batch, units) as (batch, time, units)."""
    batch, units = operators.shape(steps[0])
    return operators.reshape(operators.concat(steps, axis=1), [batch, len(steps), units])


def loop(operators: Operators, cell: Cell, x: int, hidden: int, state: int, *, outputs: bool) -> Sequence:
    """Runs the steps in a WHILE loop, a block of them in each turn; arguments and result as for `unroll`.

    The projected inputs of all steps enter and leave the body as one and the same tensor, which runtimes then do
    not copy. Steps that fill no block are written out behind the loop, and a single block needs none.
    """
    batch, time, _ = operators.shape(x)
    units = cell.call.units
    gates = 4 * units
    block = block_size(units)
    if time <= block:
        return unroll(operators, cell, x, hidden, state, outputs=outputs)
    blocks, rest = divmod(time, block)
    projected = operators.reshape(cell.project(operators, x), [batch, time * gates])
    looped = operators.slice(projected, [0, 0], [batch, (time - rest) * gates]) if rest else projected
    inputs = [operators.constant(0), operators.reshape(looped, [batch, blocks, block * gates]), hidden, state]
    if outputs:
        inputs.append(operators.fill([batch, blocks, block * units], cell.dtype, scale=cell.hidden_scale))
    _, _, hidden, state, *collected = _while(operators, cell, inputs, blocks, block)
    steps = []
    for step in range(time - rest, time):
        part = operators.slice(projected, [0, step * gates], [batch, gates])
        hidden, state = cell.step(operators, part, hidden, state)
        steps.append(hidden)
    if not outputs:
        return Sequence(None, hidden, state)
    flat = operators.reshape(collected[0], [batch, (time - rest) * units])
    return Sequence(operators.reshape(operators.concat([flat, *steps], axis=1), [batch, time, units]), hidden, state)


def _while(operators: Operators, cell: Cell, inputs: list[int], blocks: int, block: int) -> list[int]:
    graph = operators.graph
    condition = Operators(graph.add_subgraph(f"{cell.call.layer}/condition"))
    body = Operators(graph.add_subgraph(f"{cell.call.layer}/body"))
    for inner in (condition, body):
        inner.graph.subgraph.inputs = [_like(operators, tensor, inner) for tensor in inputs]
    condition.graph.subgraph.outputs = [condition.less(condition.graph.subgraph.inputs[0], condition.constant(blocks))]
    _fill_body(body, cell, block)
    return operators.while_loop(inputs, condition.graph, body.graph)


def block_size(units: int) -> int:
    """Steps in one turn of the loop: fewer for large layers, whose weights runtimes pack once for each step."""
    return max(1, min(LARGEST_BLOCK, LARGEST_BLOCK_WEIGHTS // (4 * units * units)))


def _like(operators: Operators, tensor: int, other: Operators) -> int:
    entry = operators.graph.tensor(tensor)
    return other.graph.add_tensor("", operators.shape(tensor), operators.dtype(tensor), quantization=entry.quantization)


def _fill_body(body: Operators, cell: Cell, block: int) -> None:
    turn, projected, hidden, state, *collected = body.graph.subgraph.inputs
    steps = []
    for part in body.split(body.gather(projected, turn, axis=1), block):
        hidden, state = cell.step(body, part, hidden, state)
        steps.append(hidden)
    results = [body.add(turn, body.constant(1)), projected, hidden, state]
    if collected:
        batch, units = body.shape(hidden)
        joined = body.reshape(body.concat(steps, axis=1), [batch, 1, len(steps) * units])
        zero = body.constant([0])
        begin = body.concat([zero, body.reshape(turn, [1]), zero], axis=0)
        results.append(body.update_slice(collected[0], joined, begin))
    body.graph.subgraph.outputs = results
    body.graph.sort()
