"""Channels under recurrent layers: units of their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgelstm.converters.stages.units.activations import elementwise
from edgelstm.converters.stages.units.shaping import joined
from edgelstm.converters.stages.units.ties import Axes, Ids, ids_or_zeros
from edgelstm.converters.stages.units.trace import Call, Place, Rule, Tensor, Trace

# By the name of a cell: how many blocks of units its weights have side by side (of an LSTM the gates i, f, c, o), how
# many states it keeps, and what it is cut as.
CELLS = {"LSTMCell": (4, 2, "lstm"), "GRUCell": (3, 1, "rnn"), "SimpleRNNCell": (1, 1, "rnn")}


def _recurrent(trace: Trace, call: Call) -> list[Axes]:
    """LSTM, GRU, SimpleRNN, and RNN around their cells."""
    layer = call.layer
    cells = _cells(layer, call.place)
    if not all(_known(cell) for cell, _ in cells):
        return trace.unknown(call)
    (sequence,) = call.inputs
    trace.keep([sequence], f"{call.name} runs along it", [1])
    states: list[Ids] = []
    reads = sequence
    for cell, place in cells:
        ids = _cell(trace, call, cell, place, reads)
        states += [ids] * CELLS[type(cell).__name__][1]
        reads = Tensor((*sequence.shape[:-1], cell.units), {len(sequence.shape) - 1: ids})
    _states(trace, call, states)
    last = len(call.shapes[0]) - 1
    answers = [{last: states[-1]}]
    return answers + ([{1: ids} for ids in states] if layer.return_state else [])


def _cells(layer: Any, place: Place) -> list[tuple[Any, Place]]:
    """Returns the cells of a recurrent layer, each with its place."""
    cell = layer.cell
    if type(layer).__name__ != "RNN":
        return [(cell, place)]
    inside = place.inside("cell", "config")
    if type(cell).__name__ != "StackedRNNCells":
        return [(cell, inside)]
    return [(each, inside.inside("cells", number, "config")) for number, each in enumerate(cell.cells)]


def _known(cell: Any) -> bool:
    return type(cell).__module__.startswith("keras.") and type(cell).__name__ in CELLS


def _cell(trace: Trace, call: Call, cell: Any, place: Place, reads: Tensor) -> Ids:
    blocks, _, kind = CELLS[type(cell).__name__]
    part = cell.name if type(call.layer).__name__ == "RNN" else ""
    ids = trace.own(call, cell, cell.units, kind, part)
    trace.size(place.inside("units"), ids)
    reason = "its weights are shared"
    trace.read(call, reads, (cell.kernel, 0))
    trace.bind(cell.kernel, 1, np.tile(ids, blocks), reason)
    trace.bind(cell.recurrent_kernel, 0, ids, reason)
    trace.bind(cell.recurrent_kernel, 1, np.tile(ids, blocks), reason)
    # A GRU with reset_after has one bias for the kernel and one for the recurrent kernel, shape (2, 3 units).
    trace.bind(cell.bias, -1, np.tile(ids, blocks), reason)
    activations = (cell.activation, getattr(cell, "recurrent_activation", cell.activation))
    if not all(map(elementwise, activations)):
        trace.ties.keep(ids, "its activation mixes its units")
    return ids


def _states(trace: Trace, call: Call, states: Sequence[Ids]) -> None:
    """Ties the units to the initial states, and notes the variables that keep states from call to call."""
    if call.arguments.get("initial_state") is not None:
        given = call.others.get("initial_state", ())
        reason = f"the initial state of {call.layer.name!r} comes from outside"
        if len(given) != len(states):
            trace.keep(given, reason)
            given = ()
        for number, ids in enumerate(states):
            axes = given[number].axes if given else {}
            trace.ties.tie(ids, ids_or_zeros(axes, 1, len(ids)), reason)
    if call.layer.stateful and call.layer.states is not None:
        kept = [
            each for state in call.layer.states for each in (state if isinstance(state, (list, tuple)) else [state])
        ]
        for variable, ids in zip(kept, states, strict=True):
            trace.bind(variable, -1, ids, "its state is shared")
            trace.uncounted.add(id(variable))


def _bidirectional(trace: Trace, call: Call) -> list[Axes]:
    layer = call.layer
    initial = call.others.get("initial_state", ())
    given = call.arguments.get("initial_state") is not None
    kept = call.shapes[2 if layer.merge_mode is None else 1 :]
    answers = []
    for number, key in enumerate(("layer", "backward_layer")):
        inner = (layer.forward_layer, layer.backward_layer)[number]
        part, states = (_half(each, number) for each in (initial, kept))
        width = getattr(inner.cell, "output_size", None) if hasattr(inner, "cell") else None
        inside = Call(
            inner,
            call.place.inside(key, "config"),
            call.inputs,
            {"initial_state": part} if part else {},
            {"initial_state": part if given else None},
            ((*call.shapes[0][:-1], width), *states),
        )
        answers.append(trace.follow(inside))
    (forward, *forward_states), (backward, *backward_states) = answers
    if not _even(trace, call, forward, backward):
        return [{} for _ in call.shapes]
    states = [each.axes for each in (*forward_states, *backward_states)]
    return [*_merged(trace, call, forward, backward), *states]


def _half(each: Any, number: int) -> Any:
    half = len(each) // 2
    return each[number * half : (number + 1) * half]


def _even(trace: Trace, call: Call, forward: Tensor, backward: Tensor) -> bool:
    """Sees to it that both directions keep as many units: Keras takes the width of one for that of the other."""
    last = len(forward.shape) - 1
    ids = [each.axes.get(last, np.zeros(0, np.int64)) for each in (forward, backward)]
    if len(ids[0]) != len(ids[1]):
        for each in ids:
            trace.ties.keep(each, f"the directions of {call.name} have unlike units")
        return False
    trace.even.append((ids[0], ids[1]))
    return True


def _merged(trace: Trace, call: Call, forward: Tensor, backward: Tensor) -> list[Axes]:
    mode = call.layer.merge_mode
    if mode is None:
        return [forward.axes, backward.axes]
    if mode == "concat":
        return [joined(trace, call, (forward, backward), -1)]
    last = len(forward.shape) - 1
    size = forward.shape[-1]
    reason = f"{call.name} meets it with something that cannot be cut"
    trace.ties.tie(ids_or_zeros(forward.axes, last, size), ids_or_zeros(backward.axes, last, size), reason)
    return [forward.axes]


RECURRENT: dict[str, Rule] = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN"), _recurrent),
    "Bidirectional": _bidirectional,
}
