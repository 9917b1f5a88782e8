"""Where an artifact runs and is timed. `base` holds the contract, `worker` the program that all targets start."""

from __future__ import annotations

from edgelstm.targets.base import Target
from edgelstm.targets.cpu import CpuTarget

TARGETS: dict[str, type[Target]] = {target.name: target for target in (CpuTarget,)}
"""All targets, by name."""
