"""Two recurrent operators on the same input, one forward and one backwards, become one bidirectional operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.converters.exporters.onnx.program import ABSENT, RECURRENT, Node, Program
from edgelstm.converters.exporters.onnx.recurrent import DEFAULT_ACTIVATIONS

X, WEIGHTS, RECURRENT_WEIGHTS, BIAS, LENGTHS, FIRST_STATE = range(6)
DIRECTION_AXIS = (1, 0, 0)  # of all steps, of the final hidden state, of the final cell state


def merge_directions(program: Program) -> None:
    """Merges every pair that can be one operator: same cell, size, input and lengths, independent of each other."""
    backwards = [node for node in program.nodes if node.attributes.get("direction") == "reverse"]
    for forward in [node for node in program.nodes if node.attributes.get("direction") == "forward"]:
        partners = [node for node in backwards if _fit(forward, node)]
        partners.sort(key=lambda node: _parent(node.layer) != _parent(forward.layer))  # those of one layer first
        for backward in partners:
            if not (_depends(program, forward, backward) or _depends(program, backward, forward)):
                _merge(program, forward, backward)
                backwards = [node for node in backwards if node is not backward]
                break
    program.sort()


def _fit(forward: Node, backward: Node) -> bool:
    same = ("hidden_size", "linear_before_reset")
    return (
        forward.op == backward.op
        and forward.op in RECURRENT
        and all(forward.attributes.get(name) == backward.attributes.get(name) for name in same)
        and forward.inputs[X] == backward.inputs[X]
        and _optional(forward, LENGTHS) == _optional(backward, LENGTHS)
    )


def _optional(node: Node, position: int) -> str:
    return node.inputs[position] if position < len(node.inputs) else ABSENT


def _parent(layer: str) -> str:
    return layer.rpartition("/")[0]


def _depends(program: Program, node: Node, source: Node) -> bool:
    """Whether a node reads, directly or through others, what another one writes."""
    producers = program.producers()
    pending, seen = list(node.inputs), set()
    while pending:
        value = pending.pop()
        producer = producers.get(value)
        if producer is source:
            return True
        if producer is not None and value not in seen:
            seen.add(value)
            pending += producer.inputs
    return False


def _merge(program: Program, forward: Node, backward: Node) -> None:
    pair = (forward, backward)
    inputs = [
        forward.inputs[X],
        *(_stacked(program, pair, position) for position in (WEIGHTS, RECURRENT_WEIGHTS, BIAS)),
    ]
    inputs.append(_optional(forward, LENGTHS))
    inputs += [_states(program, pair, FIRST_STATE + state) for state in range(2 if forward.op == "LSTM" else 1)]
    while inputs[-1] == ABSENT:
        inputs.pop()
    attributes = {**forward.attributes, "direction": "bidirectional", **_activations(pair)}
    layer = _parent(forward.layer)
    if not layer or layer != _parent(backward.layer):
        layer = f"{forward.layer} + {backward.layer}"
    merged = Node(forward.op, inputs, [], attributes, layer)
    splits = []
    for position in range(max(len(forward.outputs), len(backward.outputs))):
        parts = [node.outputs[position] if position < len(node.outputs) else ABSENT for node in pair]
        if parts == [ABSENT, ABSENT]:
            merged.outputs.append(ABSENT)
            continue
        merged.outputs.append(program.new_value(merged.op))
        sizes = program.add_constant(np.asarray([1, 1], np.int64))
        named = [part or program.new_value("Split") for part in parts]
        splits.append(Node("Split", [merged.outputs[-1], sizes], named, {"axis": DIRECTION_AXIS[position]}))
    place = next(index for index, node in enumerate(program.nodes) if node is forward)
    program.nodes[place : place + 1] = [merged, *splits]
    program.nodes = [node for node in program.nodes if node is not backward]


def _stacked(program: Program, pair: tuple[Node, Node], position: int) -> str:
    """Constants of both directions as one; a missing bias is zeros where the other one is there."""
    arrays = [program.constants.get(_optional(node, position)) for node in pair]
    found = next((array for array in arrays if array is not None), None)
    if found is None:
        return ABSENT
    name = next(_optional(node, position) for node in pair if _optional(node, position))
    filled = [np.zeros_like(found) if array is None else array for array in arrays]
    return program.add_constant(np.concatenate(filled), name.rpartition(":")[0])


def _states(program: Program, pair: tuple[Node, Node], position: int) -> str:
    """Initial states of both directions as one; one that is missing is zeros where the other one is there."""
    given = [_optional(node, position) for node in pair]
    if given == [ABSENT, ABSENT]:
        return ABSENT
    known = next(value for value in given if value)
    values = [value or _zeros_like(program, known) for value in given]
    return _add(program, "Concat", values, axis=0)


def _zeros_like(program: Program, value: str) -> str:
    zero = program.add_constant(np.zeros([1, 1, 1], np.float32))
    return _add(program, "Expand", [zero, _add(program, "Shape", [value])])


def _add(program: Program, op: str, inputs: list[str], **attributes: Any) -> str:
    return program.add_node(op, inputs, **attributes)[0]


def _activations(pair: tuple[Node, Node]) -> dict[str, Any]:
    if not any("activations" in node.attributes for node in pair):
        return {}
    merged: dict[str, Any] = {}
    merged["activations"] = [
        name for node in pair for name in node.attributes.get("activations", DEFAULT_ACTIVATIONS[node.op])
    ]
    for name in ("activation_alpha", "activation_beta"):
        values = [value for node in pair for value in node.attributes.get(name, [])]
        if values:
            merged[name] = values
    return merged
