"""What decides where a file runs, read from the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgelstm.errors import LoadError
from edgelstm.runtime.inspection import Inspection
from edgelstm.runtime.inspection.reader import DAMAGE, parse, read_bytes
from edgelstm.runtime.inspection.records import (
    NO_TENSOR,
    DamagedError,
    GraphRecord,
    ModelRecord,
    OperatorRecord,
)
from edgelstm.runtime.inspection.states import SearchBudget, Writers, is_written_on_every_call

State = Literal["none", "self-resetting", "streaming", "leaking", "unknown"]

# They write a resource, which no rule follows: whether it survives from call to call depends on who writes it when.
_RESOURCE_WRITERS = frozenset({"ASSIGN_VARIABLE", "HASHTABLE_IMPORT"})
_COPIES = frozenset({"DEQUANTIZE", "EXPAND_DIMS", "QUANTIZE", "RESHAPE", "SQUEEZE"})
MAX_COPIES = 8  # of them one after the other behind the last operator
_RANDOM = frozenset({"MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "STABLEHLO_RNG_BIT_GENERATOR"})


@dataclass(frozen=True)
class OperatorUse:
    """One way in which a file uses an operator.

    Attributes:
        name: Name of a built-in operator, the custom code of a custom one.
        version: Its version.
        is_custom: Whether it is a custom one.
        inputs: Element types of the inputs, None for one that is left out.
        outputs: Element types of the outputs.
        rank: Most axes of any input.
    """

    name: str
    version: int
    is_custom: bool
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    rank: int


@dataclass(frozen=True)
class Facts:
    """What the rules look at.

    Attributes:
        inspection: What `inspect` says about the file.
        num_graphs: Subgraphs; more than one if the file has loops, branches or several signatures.
        operators: Every way in which an operator is used, once each, in the order of first use.
        operator_counts: How often each operator occurs, by name.
        num_variables: Variable tensors.
        variable_writers: Operators that have a variable tensor among their outputs.
        state: "none" if nothing survives a call; "self-resetting" if all variable tensors are written on every call
            before they are read; "streaming" if they survive and are meant to; "leaking" if they survive; "unknown" if
            there is other memory, or random numbers.
        has_open_sizes: Whether an input leaves a size open.
        has_computed_sizes: Whether a tensor has a size that is known only while the file runs, though all inputs are
            fixed.
        shares_outputs: Whether several outputs are one tensor.
        last_operators: Operators that compute the outputs, by name, behind those that only copy or dequantize.
        metadata: Names of the metadata in the file.
    """

    inspection: Inspection
    num_graphs: int
    operators: tuple[OperatorUse, ...]
    operator_counts: dict[str, int]
    num_variables: int
    variable_writers: frozenset[str]
    state: State
    has_open_sizes: bool
    has_computed_sizes: bool
    shares_outputs: bool
    last_operators: frozenset[str]
    metadata: frozenset[str]


def read_facts(inspection: Inspection, path: Path) -> Facts:
    """Reads what decides where a file runs.

    Args:
        inspection: What `inspect` says about the file.
        path: The file.

    Raises:
        LoadError: If the file cannot be read, or is damaged.
    """
    try:
        model = parse(read_bytes(path))
        return _facts(inspection, model)
    except (DamagedError, *DAMAGE) as error:
        raise LoadError(f"{path} is damaged, or was changed while it was read: {error}. Inspect it again.") from error


def _facts(inspection: Inspection, model: ModelRecord) -> Facts:
    uses = dict.fromkeys(_uses(model))
    graph, outputs = _outputs(model)
    has_open_sizes = any(size < 0 for tensor in inspection.inputs for size in tensor.shape)
    counts: dict[str, int] = {}
    for graph in model.graphs:
        for operator in graph.operators:
            counts[operator.name] = counts.get(operator.name, 0) + 1
    return Facts(
        inspection=inspection,
        num_graphs=len(model.graphs),
        operators=tuple(uses),
        operator_counts=counts,
        num_variables=sum(tensor.is_variable for graph in model.graphs for tensor in graph.tensors),
        variable_writers=frozenset(_variable_writers(model)),
        state=_state(inspection, model, counts),
        has_open_sizes=has_open_sizes,
        has_computed_sizes=not has_open_sizes and _leaves_sizes_open(model),
        shares_outputs=len(set(outputs)) < len(outputs),
        last_operators=frozenset(_last_operators(graph, outputs)),
        metadata=model.metadata_names,
    )


def _uses(model: ModelRecord) -> Iterator[OperatorUse]:
    for graph in model.graphs:
        for operator in graph.operators:
            yield OperatorUse(
                operator.name,
                operator.version,
                operator.is_custom,
                _dtypes(graph, operator.inputs),
                _dtypes(graph, operator.outputs),
                max((len(graph.tensors[index].shape) for index in operator.inputs if index != NO_TENSOR), default=0),
            )


def _dtypes(graph: GraphRecord, indices: tuple[int, ...]) -> tuple[str | None, ...]:
    return tuple(None if index == NO_TENSOR else graph.tensors[index].dtype for index in indices)


def _variable_writers(model: ModelRecord) -> Iterator[str]:
    for graph in model.graphs:
        for operator in graph.operators:
            if any(index != NO_TENSOR and graph.tensors[index].is_variable for index in operator.outputs):
                yield operator.name


def _outputs(model: ModelRecord) -> tuple[GraphRecord, tuple[int, ...]]:
    """Returns the graph of the first signature, or the first graph, and its outputs."""
    if not model.signatures:
        return model.graphs[0], model.graphs[0].outputs
    signature = model.signatures[0]
    return model.graphs[signature.graph], tuple(tensor for _, tensor in signature.outputs)


def _last_operators(graph: GraphRecord, outputs: tuple[int, ...]) -> Iterator[str]:
    writers = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
    for tensor in outputs:
        operator = writers.get(tensor)
        for _ in range(MAX_COPIES):
            if operator is None or operator.name not in _COPIES or not operator.inputs:
                break
            operator = writers.get(operator.inputs[0])
        if operator is not None:
            yield operator.name


def _leaves_sizes_open(model: ModelRecord) -> bool:
    return any(size < 0 for graph in model.graphs for tensor in graph.tensors for size in tensor.shape)


def _state(inspection: Inspection, model: ModelRecord, counts: dict[str, int]) -> State:
    if not counts.keys().isdisjoint(_RESOURCE_WRITERS | _RANDOM):
        return "unknown"
    budget = SearchBudget()
    kept = [_keeps_variables(graph, budget) for graph in model.graphs]
    if any(kept) or any(lstm.state in ("leaking", "streaming") for lstm in inspection.lstms):
        return "streaming" if inspection.streaming else "leaking"
    return "none" if all(keeps is None for keeps in kept) else "self-resetting"


def _keeps_variables(graph: GraphRecord, budget: SearchBudget) -> bool | None:
    """Returns whether a variable tensor is read before it is written on a call; None if the graph reads none."""
    readers = [
        (position, variables)
        for position, operator in enumerate(graph.operators)
        if (variables := _variable_inputs(graph, operator))
    ]
    if not readers:
        return None
    writers = Writers(graph, budget)
    return not all(is_written_on_every_call(writers, position, variables) for position, variables in readers)


def _variable_inputs(graph: GraphRecord, operator: OperatorRecord) -> set[int]:
    return {index for index in operator.inputs if index != NO_TENSOR and graph.tensors[index].is_variable}
