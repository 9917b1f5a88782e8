"""Stages of compression, by the names that recipes and flags have for them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from edgelstm.converters.stages.base import Stage, nearest
from edgelstm.errors import SettingError

STAGES = {
    "prune": "edgelstm.converters.stages.prune:Prune",
    "prune-units": "edgelstm.converters.stages.prune_units:PruneUnits",
    "factorize": "edgelstm.converters.stages.factorize:Factorize",
    "shrink-embedding": "edgelstm.converters.stages.shrink_embedding:ShrinkEmbedding",
    "cluster": "edgelstm.converters.stages.cluster:Cluster",
    "distill": "edgelstm.converters.stages.distill:Distill",
    "qat": "edgelstm.converters.stages.qat:Qat",
}
"""Where each stage is defined."""


def find_stage(name: str) -> type[Stage]:
    """Returns the class of a stage.

    Raises:
        SettingError: If there is none of that name.
    """
    if name not in STAGES:
        raise SettingError(f"There is no stage {name!r}.{nearest(name, STAGES)} Stages are {', '.join(STAGES)}.")
    module, _, attribute = STAGES[name].partition(":")
    found: type[Stage] = getattr(importlib.import_module(module), attribute)
    return found


def make_stage(name: str, values: Mapping[str, Any]) -> Stage:
    """Makes a stage with settings.

    Raises:
        SettingError: If the stage or a setting is unknown, or a value impossible.
    """
    return find_stage(name)(**values)
