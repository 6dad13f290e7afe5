"""What the commands do for each task: one file a task."""

from __future__ import annotations

from typing import Any

from spherecnn.cli.tasks.base import TaskCommands
from spherecnn.cli.tasks.classify import Classify
from spherecnn.cli.tasks.inpaint import Inpaint
from spherecnn.cli.tasks.regress import Regress
from spherecnn.cli.tasks.segment import Segment

TASKS: dict[str, TaskCommands] = {t.name: t for t in (Classify(), Segment(), Regress(), Inpaint())}


def task_of(config: dict[str, Any]) -> TaskCommands:
    """The task of a run, from its config."""
    return TASKS[config.get("task", "classify")]
