"""The backends of Keras: what is set before they are imported, and JAX and PyTorch as far as stand-ins can tell."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from edgelstm.targets.worker import keras_backends, keras_models
from edgelstm.targets.worker.plan import PlanError
from tests.targets.worker.fake_jax import FakeJax


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize("kind", [keras_models.JaxSession, keras_models.TorchSession, keras_models.TensorflowSession])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_backend_and_the_device_are_chosen_before_the_import(kind, device):
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    kind.prepare({"device": device, "threads": 3})
    assert os.environ["KERAS_BACKEND"] == kind.backend.name
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == ("-1" if device == "cpu" else None)
    if kind is keras_models.TorchSession:
        assert os.environ["KERAS_TORCH_DEVICE"] == {"cpu": "cpu", "gpu": "cuda"}[device]
    if kind is keras_models.JaxSession and device == "cpu":
        assert (os.environ["JAX_PLATFORMS"], os.environ["NPROC"]) == ("cpu", "3")


@pytest.mark.parametrize("backend", [keras_backends.JaxBackend, keras_backends.TorchBackend])
def test_graphs_are_for_tensorflow_alone(backend):
    with pytest.raises(PlanError, match=f"keras-{backend.name} has no mode 'graph', only 'jit' and 'eager'"):
        backend.check_mode(SimpleNamespace(name=backend.name, modes=backend.modes), "graph")


def test_jax_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", FakeJax("cpu"))
    with pytest.raises(PlanError, match="keras-jax sees no GPU: use device 'cpu', or install jax with CUDA"):
        keras_backends.JaxBackend({"device": "gpu"})


def fake_torch(*, gpu: bool) -> SimpleNamespace:
    """PyTorch, as far as the worker uses it."""
    log: list[Any] = []

    class NoGrad:
        def __enter__(self) -> None:
            log.append("no_grad")

        def __exit__(self, *_: Any) -> None:
            log.append("grad")

    def compile_function(function: Any, *, fullgraph: bool) -> Any:
        log.append(("compile", fullgraph))
        return function

    return SimpleNamespace(
        log=log,
        no_grad=NoGrad,
        compile=compile_function,
        as_tensor=lambda array, device: log.append(device) or array,
        set_num_threads=lambda number: log.append(("threads", number)),
        set_num_interop_threads=lambda number: None,
        cuda=SimpleNamespace(is_available=lambda: gpu, synchronize=lambda: log.append("synchronize")),
    )


@pytest.mark.parametrize("device, waits", [("cpu", []), ("gpu", ["synchronize"])])
def test_torch_compiles_a_model_as_a_whole_and_waits_for_the_gpu(monkeypatch, device, waits):
    torch = fake_torch(gpu=True)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(tree=SimpleNamespace(flatten=list)))
    backend = keras_backends.TorchBackend({"device": device, "threads": 3})

    class Doubling:
        def eval(self) -> None:
            torch.log.append("eval")

        def __call__(self, inputs: Any, *, training: bool) -> Any:
            assert training is False
            torch.log.append("call")
            return [2 * inputs, 3 * inputs]

    invoke = backend.compile(Doubling(), lambda tensors, call: call(tensors[0]), "jit")
    assert invoke([backend.tensor(4.0)]) == [8.0, 12.0]
    on = {"cpu": "cpu", "gpu": "cuda"}[device]
    assert torch.log == [("threads", 3), "eval", ("compile", True), on, "no_grad", "call", *waits, "grad"]


def test_torch_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(gpu=False))
    with pytest.raises(PlanError, match="keras-torch sees no GPU: use device 'cpu', or install torch with CUDA"):
        keras_backends.TorchBackend({"device": "gpu"})
