"""Training: one loop for every task, checkpoints, and the folder that a training leaves behind."""

from __future__ import annotations

from edgelstm.training.runs import Run, open_run, train

__all__ = ["Run", "open_run", "train"]
