"""Training tasks: data, variants and score of each, behind one contract (`edgelstm.tasks.base.Task`).

A task's module is imported when the task is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edgelstm.errors import SettingError

if TYPE_CHECKING:
    from edgelstm.tasks.base import Task

# Name -> module:class. A new task is one file and one line here.
TASKS = {
    "text": "edgelstm.tasks.text:TextTask",
    "topic": "edgelstm.tasks.topic:TopicTask",
    "tags": "edgelstm.tasks.tags:TagsTask",
    "rows": "edgelstm.tasks.rows:RowsTask",
    "video": "edgelstm.tasks.video:VideoTask",
    "pixels": "edgelstm.tasks.pixels:PixelsTask",
    "forecast": "edgelstm.tasks.forecast:ForecastTask",
    "fault": "edgelstm.tasks.fault:FaultTask",
    "trend": "edgelstm.tasks.trend:TrendTask",
    "speech": "edgelstm.tasks.speech:SpeechTask",
    "multimodal": "edgelstm.tasks.multimodal:MultimodalTask",
    "hybrid": "edgelstm.tasks.hybrid:HybridTask",
}


def load_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        SettingError: If no task has this name.
    """
    if name not in TASKS:
        raise SettingError(f"There is no task {name!r}. The tasks are {', '.join(TASKS)}.")
    module, _, attribute = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), attribute)()
    return task
