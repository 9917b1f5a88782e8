"""Training tasks: data, model, training and score of each, behind one contract (`edgelstm.tasks.base.Task`).

A task's module is imported when the task is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgelstm.tasks.base import Task

# Name -> module:class. A new task is one file and one line here.
TASKS = {
    "rows": "edgelstm.tasks.rows:RowsTask",
    "text": "edgelstm.tasks.text:TextTask",
}


def load_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        ValueError: If no task has this name.
    """
    if name not in TASKS:
        raise ValueError(f"There is no task {name!r}. The tasks are {', '.join(TASKS)}.")
    module, _, attribute = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), attribute)()
    return task
