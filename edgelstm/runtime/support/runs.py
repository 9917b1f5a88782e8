"""Runs a file on every engine that is installed, and holds what is seen against the rules."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime.engines import ENGINES, Engine, run_on, run_sequences_on
from edgelstm.runtime.inspection import TensorSummary
from edgelstm.runtime.support.base import Runtime, Verdict
from edgelstm.runtime.support.facts import Facts
from edgelstm.runtime.support.interpreters import KERNEL_TRAPS
from edgelstm.runtime.support.table import RUNTIMES

REFERENCE = "ai-edge-litert"
NUM_CALLS = 5  # the last one repeats the first
TIMEOUT_S = 120.0
TOLERANCE = 1e-4  # of the largest output: sums in another order, carried on by the recurrence
COARSE_TOLERANCE = 0.1  # where int8 takes part: one kernel rounds where another one does not, by a few steps of 1/127
MAX_VALUES = 2**26  # in one input of all calls; what is larger does not fit into small devices, or is a bad joke
_MAX_REASON = 160

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Runs:
    """What was seen.

    Attributes:
        verdicts: By engine that was there.
        contradictions: Sentences about runs that ended otherwise than the rule says.
    """

    verdicts: dict[str, Verdict]
    contradictions: tuple[str, ...]


def run_everywhere(
    facts: Facts, path: Path, *, engines: Collection[str] = tuple(ENGINES), timeout_s: float = TIMEOUT_S
) -> Runs:
    """Runs a file on every engine that is installed: calls in a row on random inputs, the first one again at the end.

    Answers are held against those of the LiteRT Interpreter after a reset. Sizes that the file leaves open are one,
    integers that are not quantized are 0 or 1, so that they are in every vocabulary.

    Args:
        facts: About the file.
        path: The file. It is run in processes of their own.
        engines: Names of those to run it on; those that are not installed are left out.
        timeout_s: Seconds for each engine.

    Raises:
        ModelRunError: If the file has several signatures, so that there is no telling what to call.
    """
    if len(facts.inspection.signatures) > 1:
        raise ModelRunError(
            f"{path} has {len(facts.inspection.signatures)} signatures, and only files with one are run."
        )
    calls = random_calls(facts.inspection.inputs)
    reference = _reference(facts, path, calls, timeout_s)
    verdicts: dict[str, Verdict] = {}
    for runtime in RUNTIMES.values():
        engine = ENGINES.get(runtime.engine or "")
        if engine is not None and engine.name in engines and engine.is_here():
            verdict = _run(engine, runtime, facts, path, calls, reference, timeout_s)
            if verdict is not None:
                verdicts[engine.name] = verdict
    return Runs(verdicts, tuple(_contradictions(facts, verdicts)))


def random_calls(inputs: Iterable[TensorSummary]) -> dict[str, Any]:
    """Returns inputs by name, shape (NUM_CALLS, *input shape); the last call is the first one again."""
    calls = {tensor.name: _random(tensor) for tensor in inputs}
    return {name: np.concatenate([array, array[:1]]) for name, array in calls.items()}


def _random(tensor: TensorSummary) -> Any:
    rng = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    shape = (NUM_CALLS - 1, *(1 if size < 0 else size for size in tensor.shape))
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:
        raise ModelRunError(
            f"Input {tensor.name!r} is {tensor.dtype}, which this command has no numbers for."
        ) from None
    if math.prod(shape) > MAX_VALUES:
        raise ModelRunError(f"Input {tensor.name!r} has {math.prod(shape[1:])} values, too many to be run here.")
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if dtype.kind in "iu" and tensor.scale is not None:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)


def _reference(facts: Facts, path: Path, calls: Arrays, timeout_s: float) -> Arrays | None:
    """Returns what the LiteRT Interpreter answers after a reset before each call; a stream is reset at its start."""
    try:
        return _after_resets(REFERENCE, facts, path, calls, timeout_s)
    except (ModelRunError, MissingExtraError):
        return None


def _after_resets(engine: str, facts: Facts, path: Path, calls: Arrays, timeout_s: float) -> Arrays:
    sequence = NUM_CALLS if facts.state == "streaming" else 1
    return run_sequences_on(engine, path, calls, sequence=sequence, carry={}, timeout_s=timeout_s)[0]


def _run(
    engine: Engine,
    runtime: Runtime,
    facts: Facts,
    path: Path,
    calls: Arrays,
    reference: Arrays | None,
    timeout_s: float,
) -> Verdict | None:
    rule = runtime.rule(facts)
    try:
        answers, _ = run_on(engine.name, path, calls, timeout_s=timeout_s)
    except MissingExtraError:
        return None
    except ModelRunError as error:
        return Verdict("no", "no", _reason(error, path) if _usable(rule) else rule.why, rule.cure)
    if _is_trapped(facts) or reference is None:
        return replace(rule, loads="yes", right=rule.right if rule.loads == "yes" else "unknown")
    if _agree(facts, answers, reference):
        return Verdict("yes", "yes", rule.why if rule.right == "yes" else "")
    if runtime.has_reset and _agree(facts, _after_resets(engine.name, facts, path, calls, timeout_s), reference):
        return Verdict("yes", "reset", rule.why or "the state survives from call to call", "interpreter")
    expected = (rule.loads, rule.right) == ("yes", "no")
    return Verdict("yes", "no", rule.why if expected else "it does not answer as the LiteRT Interpreter", rule.cure)


def _is_trapped(facts: Facts) -> bool:
    """Returns whether the LiteRT Interpreter itself is known to answer wrongly, so that it is no reference."""
    return any(warning.code in KERNEL_TRAPS for warning in facts.inspection.warnings)


def _agree(facts: Facts, answers: Arrays, reference: Arrays) -> bool:
    return answers.keys() == reference.keys() and all(
        _is_same(facts, answers[name], reference[name]) for name in answers
    )


def _is_same(facts: Facts, got: Any, wanted: Any) -> bool:
    """Returns whether two outputs agree, in every element of every call, and the last call repeats the first."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if facts.state != "streaming" and not np.array_equal(got[0], got[-1], equal_nan=got.dtype.kind == "f"):
        return False
    if got.dtype.kind == "b":
        return bool(np.array_equal(got, wanted))
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(got[~finite], wanted[~finite], equal_nan=True):
        return False
    scale = float(np.abs(wanted[finite]).max(initial=0.0)) or 1.0
    tolerance = COARSE_TOLERANCE if _is_coarse(facts) else TOLERANCE
    return bool((np.abs(got[finite] - wanted[finite]) <= tolerance * scale).all())


def _is_coarse(facts: Facts) -> bool:
    return any(dtype in ("int8", "uint8", "int4") for operator in facts.operators for dtype in operator.inputs)


def _reason(error: ModelRunError, path: Path) -> str:
    """Returns what an engine said, as a clause."""
    text = " ".join(str(error).removeprefix(f"{path}: ").split()).rstrip(".")
    return text if len(text) <= _MAX_REASON else f"{text[: _MAX_REASON - 1]}…"


def _contradictions(facts: Facts, verdicts: Mapping[str, Verdict]) -> Iterable[str]:
    for runtime in RUNTIMES.values():
        run = verdicts.get(runtime.engine or "")
        rule = runtime.rule(facts)
        if run is not None and contradicts(run, rule):
            yield (
                f"{runtime.title}: a run ended otherwise than the rule says. Run: {_said(run)}. Rule: {_said(rule)}. "
                "The run is shown; please report the file."
            )


def contradicts(run: Verdict, rule: Verdict) -> bool:
    """Returns whether a run shows that a rule is wrong; a rule that knows nothing cannot be."""
    if rule.loads == "no" or run.loads == "no":
        return (
            rule.loads != "unknown" and (run.loads == "yes") != (rule.loads == "yes") and _usable(run) != _usable(rule)
        )
    return "unknown" not in (rule.right, run.right) and run.right != rule.right


def _usable(verdict: Verdict) -> bool:
    return verdict.loads != "no" and verdict.right != "no"


def _said(verdict: Verdict) -> str:
    loads = {"yes": "loads", "no": "does not load", "unknown": "not known"}[verdict.loads]
    if verdict.loads != "yes":
        return loads + (f", {verdict.why}" if verdict.why else "")
    right = {"yes": "right on every call", "reset": "right after a reset only", "no": "wrong", "unknown": "not known"}
    return f"{loads}, {right[verdict.right]}" + (f", {verdict.why}" if verdict.why else "")
