"""A signature of a SavedModel as a Keras model.

Called on values, the model runs the operations of the SavedModel as they stand: that is what converted files are
compared with. While a graph is traced, real Keras layers stand in for functions and loops that are LSTM layers, and for
tables of embeddings, so that they are lowered as in any other Keras model.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.reasons import reason
from edgelstm.converters.loading.saved_model.folder import SavedModelFolder
from edgelstm.converters.loading.saved_model.parts import build_parts, clean
from edgelstm.converters.loading.saved_model.plan import Plan, make_plan
from edgelstm.converters.loading.saved_model.replay import Replay
from edgelstm.converters.loading.saved_model.signature import ServingSignature
from edgelstm.converters.loading.saved_model.values import StandIns
from edgelstm.errors import LoadError


def serve(folder: SavedModelFolder, signature: ServingSignature, *, for_conversion: bool = True) -> Any:
    """Wraps a signature as a built Keras model, whose inputs and outputs are named as the signature's.

    Args:
        folder: The folder.
        signature: The signature.
        for_conversion: Whether Keras layers stand in for LSTMs while a graph is traced; finding them takes time.

    Raises:
        LoadError: If the program is damaged.
    """
    with _told(folder):
        plan = make_plan(signature) if for_conversion else Plan()
        return _model_class()(signature, plan, clean(folder.path.resolve().name) or "saved_model")


@contextmanager
def _told(folder: SavedModelFolder) -> Iterator[None]:
    """Turns what TensorFlow raises about a damaged program into one sentence."""
    import tensorflow as tf

    try:
        yield
    except (ValueError, TypeError, IndexError, KeyError, RecursionError, MemoryError, tf.errors.OpError) as error:
        raise LoadError(
            f"Cannot load {folder.path}: the graph of its signature cannot be run ({reason(error)}). Save it again."
        ) from error


@functools.cache
def _model_class() -> Any:
    keras: Any = import_keras()
    import tensorflow as tf

    class ServedModel(keras.Model):  # type: ignore[misc]
        """A signature of a SavedModel.

        Attributes:
            other_types: Types in which it computes, other than float32 and integers.
        """

        def __init__(self, signature: ServingSignature, plan: Plan, name: str) -> None:
            super().__init__(name=name, dtype="float32", autocast=False)
            self.other_types = frozenset(plan.other_types)
            self._signature = signature
            self._specs = {
                entry.name: keras.KerasTensor(entry.shape, entry.dtype, name=entry.name) for entry in signature.inputs
            }
            self._parts = build_parts(self, signature, plan)
            self._as_it_stands = tf.function(self._run, autograph=False)
            self._layers_run = False
            self.built = True

        @property
        def inputs(self) -> list[Any]:
            """The inputs as Keras tensors."""
            return list(self._specs.values())

        @property
        def _inputs_struct(self) -> dict[str, Any]:
            """The inputs by name, as `call` takes them."""
            return dict(self._specs)

        @contextmanager
        def running_layers(self) -> Iterator[None]:
            """Lets Keras layers stand in on values, too, for whoever watches the states of recurrent layers."""
            self._layers_run = True
            try:
                yield
            finally:
                self._layers_run = False

        def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
            del training  # a signature has only one way to run
            if not isinstance(inputs, Mapping) and len(self._specs) == 1:
                inputs = dict.fromkeys(self._specs, inputs)
            if self._layers_run or not tf.executing_eagerly():
                return self._run(inputs, self._parts.stand_ins())
            tensors = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
            answers: dict[str, Any] = self._as_it_stands(tensors)
            return answers

        def _run(self, inputs: Mapping[str, Any], stand_ins: StandIns | None = None) -> dict[str, Any]:
            given = {entry.placeholder: inputs[entry.name] for entry in self._signature.inputs}
            replay = Replay(self._signature.program, read_variable=self._parts.read, stand_ins=stand_ins)
            return dict(zip(self._signature.outputs, replay.run(given), strict=True))

    return ServedModel
