"""Keras layers that stand in for the LSTMs and tables of a program, and weights for its other variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.saved_model import recurrent
from edgelstm.converters.loading.saved_model.kernels import is_eager
from edgelstm.converters.loading.saved_model.plan import LstmSite, Plan
from edgelstm.converters.loading.saved_model.program import Body
from edgelstm.converters.loading.saved_model.recurrent import LstmForm
from edgelstm.converters.loading.saved_model.signature import ServingSignature
from edgelstm.converters.loading.saved_model.values import Items, Kind, Loop, Path, StandIns, Value


@dataclass(frozen=True)
class Parts:
    """Layers and weights of a served model; one object, so that Keras does not take its dictionaries apart.

    Attributes:
        lstms: Layers for LSTM functions and loops, by the names of the nodes that lead to them.
        embeddings: Layers for tables, by the names of their variables.
        variables: Weights by the names of their variables.
        constants: Values of variables that are no weights.
    """

    lstms: Mapping[Path, tuple[Any, LstmSite]]
    embeddings: Mapping[str, Any]
    variables: Mapping[str, Any]
    constants: Mapping[str, Array]

    def stand_ins(self) -> StandIns:
        """The layers as what may stand in for parts of a program."""
        return StandIns(self.call, self.loop, self.gather)

    def read(self, name: str) -> Any:
        """The tensor of a variable."""
        import tensorflow as tf

        if name in self.variables:
            return tf.convert_to_tensor(self.variables[name])
        return tf.constant(self.constants[name])

    def call(self, path: Path, _: Body, arguments: list[Value]) -> list[Value] | None:
        """Lets a Keras layer run in place of an LSTM function."""
        import tensorflow as tf

        if path not in self.lstms:
            return None
        layer, site = self.lstms[path]
        tensors = [_in_graph(value.tensor) for value in arguments]
        mask = tensors[recurrent.MASK] if site.form.masked else None
        x, hidden, cell = tensors[: recurrent.KERNEL]
        results = _run(layer, site.form, x, hidden, cell, mask)
        return [Value(tensor, Kind.DYNAMIC) for tensor in (*results, tf.constant(0.0))]

    def loop(self, path: Path, _: Loop, inputs: list[Value]) -> list[Value] | None:
        """Lets a Keras layer run in place of an LSTM loop."""
        if path not in self.lstms:
            return None
        layer, site = self.lstms[path]
        roles = site.roles
        assert roles is not None
        mask = None if roles.mask is None else _flat_mask(_stacked(inputs[roles.mask]))
        x = _stacked(inputs[roles.x])
        hidden, cell = (_in_graph(inputs[position].tensor) for position in (roles.hidden, roles.cell))
        last, sequence, hidden, cell = _run(layer, site.form, x, hidden, cell, mask)
        results = list(inputs)
        for position, tensor in ((roles.hidden, hidden), (roles.cell, cell), (roles.output, last)):
            if position is not None:
                results[position] = Value(tensor, Kind.DYNAMIC)
        results[roles.outputs] = _list_of(sequence)
        return results

    def gather(self, variable: str, indices: Value) -> Any:
        """Lets an Embedding gather the rows of its table."""
        if variable not in self.embeddings:
            return None
        return self.embeddings[variable].call(_in_graph(indices.tensor))


def _run(layer: Any, form: LstmForm, x: Any, hidden: Any, cell: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """Runs a Keras LSTM: last output, outputs of all steps, h, c; in the layout of what it stands in for."""
    import tensorflow as tf

    if form.time_major:
        x, mask = _swapped(x), None if mask is None else _swapped(mask)
    sequence, hidden, cell = layer.call(x, initial_state=[hidden, cell], mask=mask, training=False)
    last = sequence[:, -1]
    if form.last_only:
        sequence = last[:, tf.newaxis]
    return last, _swapped(sequence) if form.time_major else sequence, hidden, cell


def _stacked(value: Value) -> Any:
    """All items of a list that was made of one tensor."""
    assert value.items is not None
    assert value.items.stacked is not None
    return _in_graph(value.items.stacked.tensor)


def _list_of(tensor: Any) -> Value:
    """A list of the rows of a tensor, which is only made if it is asked for anything but all of them."""
    import tensorflow as tf

    def reserve(_: Any) -> Any:
        return tf.raw_ops.TensorListFromTensor(tensor=tensor, element_shape=tf.shape(tensor)[1:])

    items = Items(tensor.shape[1:], stacked=Value(tensor, Kind.DYNAMIC), reserve=reserve)
    return Value(None, Kind.DYNAMIC, items=items)


def _flat_mask(mask: Any) -> Any:
    return mask[..., 0] if mask.shape.rank == 3 else mask


def _in_graph(tensor: Any) -> Any:
    import tensorflow as tf

    if tensor is None or not is_eager(tensor):
        return tensor
    return tf.constant(tensor.numpy())


def _swapped(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.transpose(tensor, [1, 0, *range(2, len(tensor.shape))])


def build_parts(model: Any, signature: ServingSignature, plan: Plan) -> Parts:
    """Gives a model its layers, and weights for all other variables."""
    variables: dict[str, Any] = {}
    layers: dict[Any, Any] = {}
    names: set[str] = set()
    for path, site in plan.lstms.items():
        key = (site.form, site.variables) if None not in site.variables else path
        if key not in layers:
            layers[key] = _lstm(site, _layer_name(site.variables[0] or "", "lstm", names))
            owned = zip(site.variables, layers[key].cell.trainable_weights, strict=True)
            variables |= {name: weight for name, weight in owned if name is not None}
    tables = {name: table for name, table in plan.tables.items() if name not in variables}
    embeddings = {
        name: _embedding(table, _layer_name(name, "embedding", names), plan) for name, table in tables.items()
    }
    variables |= {name: layer.weights[0] for name, layer in embeddings.items()}
    model.lstms, model.embeddings = list(layers.values()), list(embeddings.values())
    constants = {}
    for name, value in signature.variables.items():
        if name not in variables and value.dtype == np.float32:
            weight = model.add_weight(shape=value.shape, initializer="zeros", name=clean(name), dtype="float32")
            weight.assign(value)
            variables[name] = weight
        elif name not in variables:
            constants[name] = value
    lstms = {
        path: (layers[(site.form, site.variables) if None not in site.variables else path], site)
        for path, site in plan.lstms.items()
    }
    return Parts(lstms, embeddings, variables, constants)


def _lstm(site: LstmSite, name: str) -> Any:
    keras = import_keras()
    kernel, recurrent_kernel, *bias = site.weights
    layer = keras.layers.LSTM(
        recurrent_kernel.shape[0],
        return_sequences=True,
        return_state=True,
        use_bias=bool(bias),
        go_backwards=site.form.go_backwards,
        zero_output_for_mask=site.form.zero_output_for_mask,
        dtype="float32",
        name=name,
    )
    layer.build((None, None, kernel.shape[0]))
    layer.set_weights(list(site.weights))
    return layer


def _embedding(table: Array, name: str, plan: Plan) -> Any:
    """An Embedding; it says that it masks where an LSTM takes a mask, so that data generated for tests has padding."""
    layer = import_keras().layers.Embedding(*table.shape, mask_zero=plan.masked, dtype="float32", name=name)
    layer.build()
    layer.set_weights([table])
    return layer


def _layer_name(variable: str, kind: str, taken: set[str]) -> str:
    """A name for a layer, after its variable: of "bidirectional/forward_lstm/lstm_cell/kernel" the first parts."""
    parts = [part for part in variable.split("/")[:-1] if not re.fullmatch(r"lstm_cell(_\d+)?", part)]
    name = candidate = clean("_".join(parts)) or kind
    number = 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def clean(name: str) -> str:
    """A name of letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")
