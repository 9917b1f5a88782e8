"""LiteRT's newer way to run a file: CompiledModel, and LiteRT.js, which is the same for browsers."""

from __future__ import annotations

from edgelstm.runtime.runtimes import FAMILIES, RuntimeFamily
from edgelstm.runtime.support.base import RIGHT, Runtime, Verdict, listed, not_known, refused
from edgelstm.runtime.support.facts import Facts
from edgelstm.runtime.support.interpreters import missing_operators
from edgelstm.runtime.support.versions import CUSTOM_OPERATORS, LITERT

_LOADER = "https://github.com/google-ai-edge/LiteRT/blob/main/litert/core/model/model_load.cc"


def compiled_rule(facts: Facts) -> Verdict:
    """The rule of CompiledModel."""
    family = FAMILIES["compiled"]
    return _no_variables(facts, family) or _wrong_interface(facts, family) or _operators(facts) or _answers(facts)


def web_rule(facts: Facts) -> Verdict:
    """The rule of LiteRT.js, which cannot resize inputs and takes fewer types."""
    family = FAMILIES["web"]
    refusal = _no_variables(facts, family) or _wrong_interface(facts, family)
    if refusal is None and facts.has_open_sizes:
        return refused("an input leaves a size open, and all sizes must be fixed", family.name)
    return refusal or _operators(facts) or _answers(facts)


def _no_variables(facts: Facts, family: RuntimeFamily) -> Verdict | None:
    return refused(family.why_form, family.name) if facts.num_variables else None


def _wrong_interface(facts: Facts, family: RuntimeFamily) -> Verdict | None:
    assert family.interface_types is not None
    tensors = [*facts.inspection.inputs, *facts.inspection.outputs]
    wrong = sorted({tensor.dtype for tensor in tensors} - family.interface_types)
    return refused(f"it takes no inputs or outputs of {listed(wrong)}") if wrong else None


def _answers(facts: Facts) -> Verdict:
    if facts.shares_outputs:
        return Verdict("yes", "no", "of several outputs that are one tensor it gives only one")
    return RIGHT


def _operators(facts: Facts) -> Verdict | None:
    missing = missing_operators(facts, LITERT)
    if missing:
        return refused(missing)
    custom = sorted({operator.name for operator in facts.operators if operator.is_custom} & CUSTOM_OPERATORS)
    if custom:
        return not_known(f"whether it has the custom operator {custom[0]} was not tried")
    if facts.state == "unknown":
        return Verdict("unknown", "unknown", "it has a memory that is no variable tensor, or random numbers")
    return None


COMPILED_MODEL = Runtime("litert-compiled", "LiteRT CompiledModel", compiled_rule, "litert-compiled", (_LOADER,))
LITERT_JS = Runtime("litertjs", "LiteRT.js (browser)", web_rule, "litertjs", (_LOADER,))
