"""What can stand in for parts of a program: found by tracing it once, with the values of all variables known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.saved_model import recurrent
from edgelstm.converters.loading.saved_model.loops import LoopRoles, recognize_loop
from edgelstm.converters.loading.saved_model.program import Body
from edgelstm.converters.loading.saved_model.recurrent import LstmForm
from edgelstm.converters.loading.saved_model.replay import Replay
from edgelstm.converters.loading.saved_model.signature import ServingSignature
from edgelstm.converters.loading.saved_model.values import Kind, Loop, Path, StandIns, Value

_WEIGHTS = (recurrent.KERNEL, recurrent.RECURRENT_KERNEL, recurrent.BIAS)


@dataclass(frozen=True)
class LstmSite:
    """A call of a function or a loop that is an LSTM layer.

    Attributes:
        form: How it runs.
        weights: kernel, recurrent kernel and bias, if it has one.
        variables: Names of the variables that they are; None for computed ones.
        roles: Which input of a loop is what; None for a function.
    """

    form: LstmForm
    weights: tuple[Array, ...]
    variables: tuple[str | None, ...]
    roles: LoopRoles | None = None


@dataclass
class Plan:
    """What can stand in for parts of a program.

    Attributes:
        lstms: LSTM functions and loops, by the names of the nodes that lead to them.
        tables: Variables whose rows are gathered by indices that follow from the inputs.
        other_types: Types in which the program computes, other than float32 and integers.
    """

    lstms: dict[Path, LstmSite] = field(default_factory=dict)
    tables: dict[str, Array] = field(default_factory=dict)
    other_types: set[str] = field(default_factory=set)

    @property
    def masked(self) -> bool:
        """Whether an LSTM takes a mask."""
        return any(site.form.masked for site in self.lstms.values())


def make_plan(signature: ServingSignature) -> Plan:
    """Traces the program once, with the values of all variables known, and notes what can be stood in for."""
    import tensorflow as tf

    plan = Plan()
    forms: dict[tuple[str, int, int], LstmForm | None] = {}
    variables = {name: tf.constant(value) for name, value in signature.variables.items()}

    def note_lstm(path: Path, body: Body, arguments: list[Value]) -> None:
        if not recurrent.is_marked(body) or len(arguments) <= recurrent.BIAS:
            return
        weights = [arguments[position] for position in _WEIGHTS]
        shapes = [tuple(value.tensor.shape) for value in weights]
        if any(value.kind is not Kind.STATIC or value.tensor.dtype != tf.float32 for value in weights):
            return
        units, features = shapes[1][0], shapes[0][0]
        key = (body.name, features, units)
        if key not in forms:
            forms[key] = recurrent.recognize(signature.program, body, features, units)
        form = forms[key]
        if form is not None:
            arrays = tuple(value.tensor.numpy() for value in weights)
            plan.lstms[path] = LstmSite(form, arrays, tuple(value.variable for value in weights))

    def note_loop(path: Path, loop: Loop, inputs: list[Value]) -> None:
        if any(path[: len(known)] == known for known in plan.lstms):
            return  # the loop of a function that is known to be an LSTM
        found = recognize_loop(signature.program, loop, inputs, variables.__getitem__)
        if found is None:
            return
        weights = [inputs[position] for position in found.roles.weights]
        arrays = tuple(
            (variables[value.variable or ""] if value.tensor is None else value.tensor).numpy() for value in weights
        )
        plan.lstms[path] = LstmSite(found.form, arrays, tuple(value.variable for value in weights), found.roles)

    def note_table(variable: str, _: Value) -> None:
        value = signature.variables[variable]
        if value.ndim == 2 and value.dtype == np.float32:
            plan.tables[variable] = value

    def trace(*tensors: Any) -> Any:
        stand_ins = StandIns(note_lstm, note_loop, note_table)
        replay = Replay(
            signature.program, read_variable=variables.__getitem__, variable_kind=Kind.STATIC, stand_ins=stand_ins
        )
        names = [entry.placeholder for entry in signature.inputs]
        results = replay.run(dict(zip(names, tensors, strict=True)))
        plan.other_types |= replay.other_types
        return results

    specs = [tf.TensorSpec(entry.shape, entry.dtype) for entry in signature.inputs]
    tf.function(trace, autograph=False).get_concrete_function(*specs)
    return plan
