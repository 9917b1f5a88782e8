"""Building a Keras model again with some of its layers replaced, all else as it was: weights, names and calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgelstm.converters.layers import layers_inside, own_objects
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.reasons import reason
from edgelstm.errors import StageError

Change = Callable[[Any], Sequence[Any] | None]
Shape = Callable[[Any], Sequence[int | None] | None]


def rebuild(model: Any, change: Change, shape: Shape = lambda _: None) -> tuple[Any, dict[str, tuple[Any, ...]]]:
    """Builds a model again, with other layers in the place of some.

    Shared layers stay shared; what a call was given (masks, initial states, several inputs, `training`) is given again;
    structure and names of inputs and outputs stay, as do the trainable flags of unchanged layers. Their weights are
    copied. New layers are built, and their weights are the caller's to set.

    Where several layers take the place of one, the first is called with the first argument of the old call, each other
    one with the answer of the one before; every other argument goes to those whose `call` takes one of that name. So
    that the names of outputs stay, the last should bear the name of the old layer.

    Args:
        model: A built model, Functional or Sequential; not changed, and no variable is shared with it.
        change: Called once for each layer, those of nested models included, with models themselves and the insides of
            wrappers left out: returns the new, unbuilt layers in the order of their calls, or None for the same layer.
        shape: Called with each InputLayer; returns another shape for it, batch included, or None for the same. For
            inputs of nested models, whose widths follow what they read.

    Returns:
        The new model, not compiled, and the new layers by the path of the old one, as `named_layers` tells it. Models
        and inputs are no layers here.

    Raises:
        StageError: If the model is subclassed or not built, or a layer cannot be built again from its configuration.
    """
    keras = import_keras()
    check_graph(model)
    named = named_layers(model)
    surgeon = _Surgeon(keras, change, shape)
    with keras.saving.custom_object_scope(own_objects(layers_inside(model))):
        new = surgeon.model(model)
    return new, {path: surgeon.became[id(layer)] for path, layer in named.items()}


def check_graph(model: Any) -> None:
    """Checks that the calls inside a model are known.

    Raises:
        StageError: If the model is subclassed or not built.
    """
    if not is_model(model):
        raise StageError(
            f"Model {model.name!r} is a {type(model).__name__}: the layers of a subclassed model cannot be replaced. "
            "Build it with Keras' functional API, or as a Sequential."
        )
    if getattr(model, "_functional", model) is None:
        raise StageError(f"Model {model.name!r} is not built. Give it an Input, or call it once.")


def is_model(layer: Any) -> bool:
    """Whether a layer is a model whose calls are known: Functional or Sequential, and no subclass of these."""
    return type(layer).__module__.startswith("keras.") and type(layer).__name__ in ("Functional", "Sequential")


def graph_of(model: Any) -> Any:
    """Returns the functional model that a model is or, a Sequential, holds inside."""
    return getattr(model, "_functional", None) or model


def calls(model: Any) -> Iterator[Any]:
    """Yields the nodes of a functional model, each after those whose answers it takes; inputs are left out.

    Args:
        model: As `graph_of` returns it.
    """
    depths = model._nodes_by_depth
    for depth in sorted(depths, reverse=True):
        yield from (node for node in depths[depth] if not node.is_input)


def named_layers(model: Any) -> dict[str, Any]:
    """Returns every layer by its path, "encoder/lstm" for `lstm` inside the nested model `encoder`.

    Models and inputs are left out, and so are layers inside wrappers, except those of a wrapped model. A shared layer
    stands under the first of its paths.
    """
    keras = import_keras()
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def visit(model: Any, prefix: str) -> None:
        for layer in model.layers:
            if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
                continue
            seen.add(id(layer))
            if not is_model(layer):
                found[prefix + layer.name] = layer
            inside = layer if is_model(layer) else getattr(layer, "layer", None)
            if is_model(inside) and (inside is layer or id(inside) not in seen):
                seen.add(id(inside))
                visit(inside, f"{prefix}{layer.name}/")

    visit(model, "")
    return found


def copy_weights(source: Any, target: Any) -> None:
    """Gives a layer the weights, states and trainable flags of another of the same configuration.

    Args:
        source: A built layer.
        target: A built layer.

    Raises:
        StageError: If the two do not hold the same weights.
    """
    for old, new in _pairs(source, target):
        _copy_own(old, new)
    copy_flags(source, target)


def copy_flags(source: Any, target: Any) -> None:
    """Gives a layer, its layers and its variables the trainable flags of another of the same kind.

    Raises:
        StageError: If the two do not hold the same layers.
    """
    for old, new in _pairs(source, target):
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    for old, new in zip(source.variables, target.variables, strict=True):
        new.trainable = old.trainable


def _pairs(source: Any, target: Any) -> list[tuple[Any, Any]]:
    old, new = layers_inside(source), layers_inside(target)
    if len(old) != len(new):
        raise StageError(f"Layer {source.name!r} cannot be built again: its configuration leaves out layers inside it.")
    return [(source, target), *zip(old, new, strict=True)]


def _copy_own(old: Any, new: Any) -> None:
    store: dict[str, Any] = {}
    old.save_own_variables(store)
    kept = {name: getattr(value, "numpy", lambda value=value: value)() for name, value in store.items()}
    try:
        new.load_own_variables(kept)
    except (ValueError, KeyError) as error:
        raise StageError(f"Layer {old.name!r} cannot be built again with its weights: {reason(error)}.") from error


class _Surgeon:
    """Builds models again; remembers what became of each layer, so that shared ones stay shared."""

    def __init__(self, keras: Any, change: Change, shape: Shape) -> None:
        self.keras, self.change, self.shape = keras, change, shape
        self.became: dict[int, tuple[Any, ...]] = {}
        self._unchanged: list[tuple[Any, Any]] = []

    def model(self, model: Any) -> Any:
        """Returns a model, nested or not, built again, the weights of its unchanged layers copied."""
        before = len(self._unchanged)
        new = self._sequential(model) if type(model).__name__ == "Sequential" else self._functional(model)
        for old_layer, new_layer in self._unchanged[before:]:
            copy_weights(old_layer, new_layer)
        del self._unchanged[before:]
        return new

    def _sequential(self, model: Any) -> Any:
        first, *_ = model._layers
        start = [self._input(first)] if isinstance(first, self.keras.layers.InputLayer) else []
        made = [new for layer in model.layers for new in self._layers(layer)]
        return self.keras.Sequential([*start, *made], trainable=model.trainable, name=model.name)

    def _functional(self, model: Any) -> Any:
        tree = self.keras.tree
        tensors = {id(tensor): self._input(tensor._keras_history.operation).output for tensor in model.inputs}
        for node in calls(model):
            args, kwargs = node.arguments.fill_in(tensors)
            answers = _call(self._layers(node.operation), node.operation, args, kwargs)
            tensors.update(zip(map(id, node.outputs), tree.flatten(answers), strict=True))
        inputs, outputs = (
            tree.map_structure(lambda tensor: tensors[id(tensor)], each) for each in (model.input, model.output)
        )
        return self.keras.Model(inputs, outputs, name=model.name, trainable=model.trainable)

    def _input(self, layer: Any) -> Any:
        shape = self.shape(layer)
        changed = {} if shape is None else {"batch_shape": tuple(shape)}
        new = type(layer).from_config({**layer.get_config(), **changed})
        # Keras calls the tensor of a nameless Input otherwise than its layer.
        new.output.name = layer.output.name
        return new

    def _layers(self, layer: Any) -> tuple[Any, ...]:
        if id(layer) not in self.became:
            self.became[id(layer)] = self._make(layer)
        return self.became[id(layer)]

    def _make(self, layer: Any) -> tuple[Any, ...]:
        if is_model(layer):
            return (self.model(layer),)
        if not isinstance(layer, self.keras.Layer):
            return (self._again(layer),)
        changed = self.change(layer)
        if changed is not None:
            return tuple(changed)
        if is_model(getattr(layer, "layer", None)):
            config = {name: value for name, value in layer.get_config().items() if name != "layer"}
            return (type(layer)(self.model(layer.layer), **config),)
        new = self._again(layer)
        self._unchanged.append((layer, new))
        return (new,)

    def _again(self, layer: Any) -> Any:
        try:
            if type(layer) is self.keras.layers.Lambda:
                return _lambda_again(layer)
            new = type(layer).from_config(layer.get_config())
        except Exception as error:
            raise StageError(
                f"Layer {layer.name!r} ({type(layer).__name__}) cannot be built again from its configuration: "
                f"{reason(error)}. Give its class get_config() and from_config()."
            ) from error
        return new


def _call(layers: Sequence[Any], old: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if len(layers) == 1:
        return layers[0](*args, **kwargs)
    # A layer may get its first argument by name.
    bound = inspect.signature(old.call).bind(*args, **kwargs).arguments
    first, *others = bound.items()
    value = first[1]
    for layer in layers:
        taken = inspect.signature(layer.call).parameters
        value = layer(value, **{name: given for name, given in others if name in taken})
    return value


def _lambda_again(layer: Any) -> Any:
    """Keras does not read a configuration with a Python function; the function itself is at hand here."""
    return type(layer)(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=dict(layer.arguments),
        name=layer.name,
        dtype=layer.dtype_policy,
        trainable=layer.trainable,
    )
