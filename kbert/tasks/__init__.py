"""One file per task: features, head, loss, metrics, answer."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from kbert.errors import InputError

# Task name → (file, class); a class has `from_settings`, the other way of its `settings`.
TASKS = {"text-classification": ("kbert.tasks.text_classification", "TextClassification")}


def from_settings(settings: Mapping[str, Any]):
    """The task that a saved `config.json` describes, with its labels.

    Raises:
        InputError: it describes no task that this version knows.
    """
    name = settings.get("kbert", {}).get("task", "text-classification")
    if name not in TASKS:
        raise InputError(f"config.json: task {name!r}; this version knows {', '.join(TASKS)}.")
    home, task = TASKS[name]
    return getattr(import_module(home), task).from_settings(settings)
