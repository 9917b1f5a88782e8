"""What a program must not hold, decided before anything of it is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgelstm.converters.loading.saved_model import operations
from edgelstm.converters.loading.saved_model.folder import damaged
from edgelstm.converters.loading.saved_model.program import Body, Node, Program
from edgelstm.errors import LoadError

MAX_OPERATIONS = 100_000
"""Of all functions, counted at each call: functions that call others twice grow without bound."""
MAX_VISITS = 20_000
"""Functions that are called with other variables each time are visited each time."""


def check_program(program: Program, path: Path) -> None:
    """Reads everything that a program calls, and refuses what must not or cannot be run.

    Args:
        program: The program.
        path: The folder, for messages.

    Raises:
        LoadError: If its outputs need operations that are not taken, it does something beside computing them, or they
            depend on variables that it changes.
    """
    visitor = _Visitor(program)
    try:
        if (size := _size(program, program.main, {}, ())) > MAX_OPERATIONS:
            raise ValueError(f"its functions call each other so often that they have {size:,} operations")
        visitor.visit(program.main, {}, needed=True)
    except (ValueError, RecursionError) as error:
        raise damaged(path, "graph", error) from error
    old = visitor.foreign & operations.OLD_CONTROL_FLOW
    if old:
        raise LoadError(
            f"Cannot load {path}: its signature uses loops of TensorFlow 1 ({_listed(old)}). Save the model again with "
            "TensorFlow 2."
        )
    if visitor.foreign:
        raise LoadError(
            f"Cannot load {path}: its signature uses {_listed(visitor.foreign)}, which TensorFlow Lite has no operator "
            "for or which is never run from a file. Export a signature that computes with numbers only."
        )
    if visitor.effects:
        raise LoadError(
            f"Cannot load {path}: its signature does more than to compute its outputs: it uses "
            f"{_listed(visitor.effects)}, which is never run from a file. Export a signature without."
        )
    state = visitor.assigned & (visitor.read | {_UNKNOWN})
    if state:
        raise LoadError(
            f"Cannot load {path}: its signature changes variables that it reads ({_listed(state)}), so its answers "
            "depend on earlier calls. Export a signature that takes the state as an input and gives it back."
        )


def _size(program: Program, body: Body, sizes: dict[str, int], callers: tuple[str, ...]) -> int:
    """Number of operations that a body has with everything that it calls."""
    if body.name in callers:
        raise ValueError(f"the function {body.name!r} calls itself")
    if body.name not in sizes:
        nodes = body.order if body is program.main else tuple(body.nodes.values())
        names = [name for node in nodes for name in (*node.called(), node.operation)]
        called = [function for name in names if (function := program.function(name)) is not None]
        callers = (*callers, body.name)
        sizes[body.name] = len(nodes) + sum(_size(program, function, sizes, callers) for function in called)
    return sizes[body.name]


_UNKNOWN = "a variable that is chosen while it runs"


class _Visitor:
    """Walks through all bodies and keeps track of which variable each handle is."""

    def __init__(self, program: Program) -> None:
        self.foreign: set[str] = set()
        self.effects: set[str] = set()
        self.read: set[str] = set()
        self.assigned: set[str] = set()
        self._program = program
        self._seen: set[tuple[str, tuple[tuple[str, str], ...], bool]] = set()

    def visit(self, body: Body, handles: Mapping[str, str], *, needed: bool) -> None:
        """Visits a body and what it calls.

        Args:
            body: The body.
            handles: Variables by the arguments that are their handles.
            needed: Whether outputs are computed from its results.
        """
        key = (body.name, tuple(sorted(handles.items())), needed)
        if key in self._seen:
            return
        self._seen.add(key)
        if len(self._seen) > MAX_VISITS:
            raise ValueError("its functions call each other too often")
        ordered = body.order if needed or body is self._program.main else ()
        wanted = {node.name for node in ordered}
        for node in ordered if body is self._program.main else body.nodes.values():
            self._node(body, node, handles, needed=node.name in wanted)

    def _node(self, body: Body, node: Node, handles: Mapping[str, str], *, needed: bool) -> None:
        is_call = self._program.function(node.operation) is not None
        if needed and node.operation not in operations.TAKEN and not is_call:
            self.foreign.add(node.operation)
        elif not needed and not is_call and _has_effects(node.operation):
            self.effects.add(node.operation)
        if node.operation in operations.ASSIGNMENTS:
            self.assigned.add(self._variable(body, node, 0, handles) or _UNKNOWN)
        elif needed and node.operation in operations.READS:
            self.read.add(self._variable(body, node, 0, handles) or _UNKNOWN)
        for name in [*node.called(), *([node.operation] if is_call else [])]:
            function = self._program.function(name)
            if function is None:
                raise ValueError(f"the function {name!r} is missing")
            first = 1 if node.operation in operations.BRANCHES else 0  # the condition is no argument
            passed = {
                argument: variable
                for position, argument in enumerate(function.arguments, first)
                if (variable := self._variable(body, node, position, handles)) is not None
            }
            self.visit(function, passed, needed=needed)

    def _variable(self, body: Body, node: Node, position: int, handles: Mapping[str, str]) -> str | None:
        """The variable whose handle an input of a node is, None for everything else."""
        for _ in range(len(body.nodes) + 1):
            if position >= len(node.inputs):
                return None
            source, _, _ = body.source(node.inputs[position])
            if source not in body.nodes:
                return handles.get(source)
            node, position = body.nodes[source], 0
            if node.operation == "VarHandleOp":
                return node.name
            if node.operation not in operations.PASSING:
                return None
        raise ValueError(f"{node.name!r} reads its own result")


def _has_effects(operation: str) -> bool:
    """Whether an operation does something beside giving results; what TensorFlow does not know, does."""
    from tensorflow.python.framework import op_def_registry

    if operation in operations.WITHOUT_CONSEQUENCE or operation in operations.ASSIGNMENTS:
        return False
    definition = op_def_registry.get(operation)
    return definition is None or bool(definition.is_stateful)


def _listed(names: set[str], limit: int = 6) -> str:
    first = sorted(names)[:limit]
    return ", ".join(first) + (f" and {len(names) - limit} more" if len(names) > limit else "")
