"""The backends of Keras: how each is prepared, compiles a model, and is waited for."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from .plan import PlanError, read_choice, read_key

Compiled = Callable[[list[Any]], list[Any]]
"""Tensors in the order of the inputs to tensors in the order of the outputs, when these are computed."""

Call = Callable[[list[Any], Callable[[Any], Any]], Any]
"""Calls a function with tensors, structured as the model takes them."""


class Backend(ABC):
    """A backend of Keras, imported, on the device of a plan.

    Attributes:
        name: As Keras calls it.
        modes: How it can run a model.
    """

    name: str
    modes: tuple[str, ...] = ("jit", "eager")

    @classmethod
    def prepare(cls, plan: dict[str, Any]) -> None:
        """Sets what is read when Keras and the backend are imported."""
        os.environ["KERAS_BACKEND"] = cls.name
        if read_choice(plan, "device") == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

    @abstractmethod
    def __init__(self, plan: dict[str, Any]) -> None:
        """Takes threads and device; a PlanError if the backend sees no such device."""

    @abstractmethod
    def tensor(self, array: Any) -> Any:
        """Returns an array as a tensor on the device."""

    @abstractmethod
    def array(self, tensor: Any) -> Any:
        """Returns a tensor as an array of its own."""

    @abstractmethod
    def compile(self, model: Any, call: Call, mode: str) -> Compiled:
        """Returns what calls the model."""

    def reset(self, model: Any) -> None:
        """Puts the states of stateful layers back to zero."""
        for layer in model._flatten_layers():
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
                layer.reset_state()

    def check_mode(self, mode: str) -> None:
        """Refuses modes that the backend does not have.

        Raises:
            PlanError: If it does not have this one.
        """
        if mode not in self.modes:
            raise PlanError(f"keras-{self.name} has no mode {mode!r}, only {' and '.join(map(repr, self.modes))}")

    def no_gpu(self) -> PlanError:
        """Returns the error for a plan that asks for a GPU where the backend sees none."""
        return PlanError(f"keras-{self.name} sees no GPU: use device 'cpu', or install {self.name} with CUDA")


class TensorFlowBackend(Backend):
    """TensorFlow: compiled by XLA, as a graph without it, or operator by operator."""

    name = "tensorflow"
    modes = ("jit", "graph", "eager")

    @classmethod
    def prepare(cls, plan: dict[str, Any]) -> None:
        """Has TensorFlow not speak of what it finds: what goes wrong is an exception, too."""
        super().prepare(plan)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def __init__(self, plan: dict[str, Any]) -> None:
        self._tensorflow = tensorflow = importlib.import_module("tensorflow")
        tensorflow.config.threading.set_intra_op_parallelism_threads(read_key(plan, "threads", int, 1))
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        gpus = tensorflow.config.list_physical_devices("GPU")
        self._on_gpu = read_choice(plan, "device") == "gpu"
        if self._on_gpu and not gpus:
            raise self.no_gpu()

    def tensor(self, array: Any) -> Any:
        """Returns a tensor on the first device."""
        return self._tensorflow.convert_to_tensor(array)

    def array(self, tensor: Any) -> Any:
        """Returns a copy."""
        return tensor.numpy()

    def compile(self, model: Any, call: Call, mode: str) -> Compiled:
        """Makes a tf.function, unless eager. The end of a call is known by reading an output back."""
        flatten, sync = self._tensorflow.nest.flatten, self._tensorflow.test.experimental.sync_devices
        on_gpu, least = self._on_gpu, least_rank(model.outputs)

        def forward(tensors: list[Any]) -> list[Any]:
            return list(flatten(call(tensors, lambda inputs: model(inputs, training=False))))

        if mode != "eager":
            forward = self._tensorflow.function(forward, jit_compile=mode == "jit", autograph=False)

        def invoke(tensors: list[Any]) -> list[Any]:
            outputs: list[Any] = forward(tensors)
            if on_gpu:
                sync()
            else:
                outputs[least].numpy()
            return outputs

        return invoke


class JaxBackend(Backend):
    """JAX: compiled by XLA, or operator by operator."""

    name = "jax"

    @classmethod
    def prepare(cls, plan: dict[str, Any]) -> None:
        """Chooses the platform, and the threads of XLA on the CPU, the size of its pool."""
        super().prepare(plan)
        if read_choice(plan, "device") == "cpu":
            os.environ["JAX_PLATFORMS"] = "cpu"
            threads = read_key(plan, "threads", int, 1)
            os.environ["NPROC"] = str(threads)
            if threads == 1:
                flags = "--xla_cpu_multi_thread_eigen=false"
                os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

    def __init__(self, plan: dict[str, Any]) -> None:
        self._jax = jax = importlib.import_module("jax")
        try:
            self._device = jax.devices(read_choice(plan, "device"))[0]
        except RuntimeError as error:  # what it raises for a platform that is not there
            raise (self.no_gpu() if read_choice(plan, "device") == "gpu" else error) from error
        self._initial: list[Any] = []
        self._state: list[Any] = []

    def tensor(self, array: Any) -> Any:
        """Puts the array on the device."""
        return self._jax.device_put(array, self._device)

    def array(self, tensor: Any) -> Any:
        """Returns a copy."""
        return np.array(tensor)

    def compile(self, model: Any, call: Call, mode: str) -> Compiled:
        """Makes a pure function of the state and the inputs; weights are part of it."""
        keras = importlib.import_module("keras")
        trained = [(variable, variable.value) for variable in model.trainable_variables]
        variables = state_of(model, keras)
        self._state = self._initial = [variable.value for variable in variables]
        flatten, wait = self._jax.tree_util.tree_leaves, self._jax.block_until_ready

        def forward(state: list[Any], tensors: list[Any]) -> Any:
            given = [(variable, state[k]) for k, variable in enumerate(variables)]
            # Not `stateless_call`, which leaves out states that the model does not count among its variables.
            with keras.StatelessScope(state_mapping=trained + given) as scope:
                outputs = call(tensors, lambda inputs: model(inputs, training=False))
            return outputs, [scope.get_current_value(variable) for variable in variables]

        if mode == "jit":
            forward = self._jax.jit(forward)

        def invoke(tensors: list[Any]) -> list[Any]:
            outputs, self._state = wait(forward(self._state, tensors))
            return list(flatten(outputs))

        return invoke

    def reset(self, model: Any) -> None:
        """Takes the state as it was loaded."""
        del model
        self._state = self._initial


class TorchBackend(Backend):
    """PyTorch: compiled by its compiler, or operator by operator."""

    name = "torch"

    @classmethod
    def prepare(cls, plan: dict[str, Any]) -> None:
        """Tells Keras the device."""
        super().prepare(plan)
        os.environ["KERAS_TORCH_DEVICE"] = "cuda" if read_choice(plan, "device") == "gpu" else "cpu"

    def __init__(self, plan: dict[str, Any]) -> None:
        self._torch = torch = importlib.import_module("torch")
        torch.set_num_threads(read_key(plan, "threads", int, 1))
        torch.set_num_interop_threads(1)
        self._on_gpu = read_choice(plan, "device") == "gpu"
        if self._on_gpu and not torch.cuda.is_available():
            raise self.no_gpu()

    def tensor(self, array: Any) -> Any:
        """Puts the array on the device."""
        return self._torch.as_tensor(array, device="cuda" if self._on_gpu else "cpu")

    def array(self, tensor: Any) -> Any:
        """Returns a copy."""
        return tensor.detach().cpu().numpy().copy()

    def compile(self, model: Any, call: Call, mode: str) -> Compiled:
        """Compiles the model as a whole: one that falls back to Python in places is an error, not a slow success."""
        torch, on_gpu = self._torch, self._on_gpu
        flatten = importlib.import_module("keras").tree.flatten
        model.eval()

        def forward(tensors: list[Any]) -> Any:
            return call(tensors, lambda inputs: model(inputs, training=False))

        if mode == "jit":
            forward = torch.compile(forward, fullgraph=True)

        def invoke(tensors: list[Any]) -> list[Any]:
            with torch.no_grad():
                outputs = forward(tensors)
                if on_gpu:
                    torch.cuda.synchronize()
            return list(flatten(outputs))

        return invoke


def state_of(model: Any, keras: Any) -> list[Any]:
    """Returns the variables that a call may change, each once: those that are not trained, and states of layers."""
    states = [layer.states for layer in model._flatten_layers() if getattr(layer, "stateful", False)]
    variables = [*model.non_trainable_variables, *keras.tree.flatten(states)]
    return list({id(variable): variable for variable in variables}.values())


def least_rank(tensors: list[Any]) -> int:
    """Returns the position of the tensor with the fewest dimensions, the cheapest to read."""
    return min(range(len(tensors)), key=lambda k: len(tensors[k].shape))
