"""Models in the class Interpreter."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .plan import PlanError, check_keys, first_line, read_key
from .session import Arrays, Session


class InterpreterSession(Session):
    """A model in the class Interpreter.

    Attributes:
        interpreter: The runtime's interpreter, tensors allocated.
        num_tensors: Tensors of the first subgraph in the file, scratch tensors of the runtime not counted.
    """

    def __init__(self, plan: dict[str, Any], module: Any) -> None:
        options = interpreter_options(plan, module)
        started = time.perf_counter_ns()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's tells that it will move
            self.interpreter = module.Interpreter(
                model_path=plan["model"], num_threads=read_key(plan, "threads", int, 1), **options
            )
        created = time.perf_counter_ns()
        # Before allocation, which appends the scratch tensors of the kernels.
        self.num_tensors = 1 + max(detail["index"] for detail in self.interpreter.get_tensor_details())
        self.inputs, self.outputs = tensors_by_name(self.interpreter)
        allocation_started = time.perf_counter_ns()
        self.interpreter.allocate_tensors()
        self.load_us = (time.perf_counter_ns() - allocation_started + created - started) / 1e3

    def resize(self, feeds: Arrays) -> None:
        """Resizes the inputs and allocates again."""
        if self.needs_resize(feeds):
            for name, array in feeds.items():
                self.interpreter.resize_tensor_input(self.inputs[name]["index"], array.shape[1:])
            self.interpreter.allocate_tensors()
            self.inputs, self.outputs = tensors_by_name(self.interpreter)

    def feed(self, arrays: Arrays) -> None:
        """Sets the input tensors."""
        for name, array in arrays.items():
            self.interpreter.set_tensor(self.inputs[name]["index"], array)

    def invoke(self) -> None:
        """Invokes the interpreter."""
        self.interpreter.invoke()

    def bare_call(self) -> Callable[[], None]:
        """Returns the interpreter's own method."""
        call: Callable[[], None] = self.interpreter.invoke
        return call

    def reset(self) -> None:
        """Resets the variable tensors."""
        self.interpreter.reset_all_variables()

    def read_outputs(self) -> Arrays:
        """Gets the output tensors."""
        return {name: self.interpreter.get_tensor(detail["index"]) for name, detail in self.outputs.items()}

    def describe(self) -> dict[str, Any]:
        """Describes the tensors anew: sizes that only the graph knows are settled by the first call."""
        self.inputs, self.outputs = tensors_by_name(self.interpreter)
        return super().describe()


class TensorFlowSession(InterpreterSession):
    """A model in the Interpreter inside TensorFlow."""

    @classmethod
    def prepare(cls, plan: dict[str, Any]) -> None:
        """Has TensorFlow look for no GPU, which its Interpreter cannot use, and not speak of it."""
        del plan
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def interpreter_options(plan: dict[str, Any], module: Any) -> dict[str, Any]:
    """Returns the keyword arguments of Interpreter that depend on the operation and on the delegate."""
    options: dict[str, Any] = {}
    if plan.get("delegate") is not None:
        delegate = read_key(plan, "delegate", dict)
        check_keys("delegate", delegate, {"library", "options"})
        library = read_key(delegate, "library", str)
        if not Path(library).is_file():
            raise PlanError(f"the delegate {library} does not exist: give the path of a shared library")
        try:
            options["experimental_delegates"] = [module.load_delegate(library, delegate.get("options") or {})]
        except Exception as error:
            raise PlanError(f"the delegate {library} cannot be loaded: {first_line(error)}") from error
    if plan["op"] == "observe":
        # A delegate keeps its intermediate tensors to itself.
        options["experimental_preserve_all_tensors"] = True
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return options


def tensors_by_name(interpreter: Any) -> tuple[Arrays, Arrays]:
    """Returns the tensor details of the inputs and of the outputs by their public names.

    Raises:
        PlanError: If the file has more than one signature.
    """
    signatures = interpreter.get_signature_list()
    if len(signatures) > 1:
        raise PlanError(f"the file has {len(signatures)} signatures ({', '.join(signatures)}), not one")
    if signatures:
        # The runner must not outlive this function: while it exists, the interpreter refuses to allocate and to invoke.
        runner = interpreter.get_signature_runner()
        return dict(sorted(runner.get_input_details().items())), dict(sorted(runner.get_output_details().items()))
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}
