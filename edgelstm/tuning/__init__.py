"""Search for good settings with Optuna."""

from __future__ import annotations

from edgelstm.tuning.results import Found
from edgelstm.tuning.search import tune

__all__ = ["Found", "tune"]
