"""A checkpoint with the model of a task: `kbert.load(path, task="fill-mask")`."""

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kbert import checkpoint, tasks
from kbert.errors import InputError
from kbert.weights import names

if TYPE_CHECKING:
    import keras


@dataclass
class TaskCheckpoint(checkpoint.Checkpoint):
    """A checkpoint, and a task's model on its encoder.

    Attributes:
        task: the task, with the labels and settings that config.json has for it.
        model: functional `keras.Model`, the encoder with the task's head.
        new: the head's variables that the folder has no weights for; they are random.
    """

    task: Any
    model: "keras.Model"
    new: list[str]


def load(path: str | os.PathLike, task: str | None = None, **settings):
    """Load a checkpoint folder, or a model of the Hugging Face hub; with the model of a task.

    Args:
        path: a folder, or a hub name ("bert-base-uncased", "org/name").
        task: a task's name as in the commands, "fill-mask"; None for the encoder alone.
        settings: see `checkpoint.load`: dtype, dropout, revision.

    Returns:
        A `checkpoint.Checkpoint`; with `task`, a `TaskCheckpoint`. Where the folder has no weights
        for the head, they are new, and a warning names them.

    Raises:
        InputError: as `checkpoint.load`; there is no such task.
    """
    if task is None:
        return checkpoint.load(path, **settings)
    tasks.task_class(task)  # a name that is unknown is told before the weights are read
    where = {name: settings[name] for name in ("revision", "allow_pickle") if name in settings}
    folder = checkpoint.find_folder(path, **where)
    loaded = checkpoint.load(folder, **settings)
    described = tasks.from_folder(folder, {"id2label": TWO_LABELS, **loaded.settings}, task)
    model = described.model(loaded.encoder)
    new = names.load_head(model, loaded.encoder, described.head)
    if tasks.name_of(loaded.settings) == task:
        _check_width(folder, loaded.settings, new)
    if new:
        warnings.warn(
            f"{path} has no weights for {task}: {'; '.join(new)}. These are new and know nothing. "
            "Fine-tune the model before you trust its answers.",
            stacklevel=2,
        )
    return TaskCheckpoint(**vars(loaded), task=described, model=model, new=new)


# What transformers takes where a config names no labels.
TWO_LABELS = {"0": "LABEL_0", "1": "LABEL_1"}


def task_model(loaded: checkpoint.Checkpoint, folder):
    """The task that a run folder describes, and its model; every head weight must be there.

    Raises:
        InputError: not a run folder: no labels, or no weights for the head.
    """
    try:
        task = tasks.from_folder(folder, loaded.settings)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    model = task.model(loaded.encoder)
    new = names.load_head(model, loaded.encoder, task.head)
    _check_width(folder, loaded.settings, new)
    if new:
        raise InputError(
            f"{folder}: the weights of the head do not fit: {'; '.join(new)}. Is it a run folder, "
            "or a checkpoint that is still to be fine-tuned?"
        )
    return task, model


def _check_width(folder, settings, new: list[str]):
    """Raises an InputError if a folder's own head is there, and not as wide as its labels say."""
    misshapen = [text for text in new if not text.endswith(" missing")]
    if misshapen and (labels := settings.get("id2label")):
        raise InputError(
            f"{folder}: config.json has {len(labels)} labels (id2label), the head is of another "
            f"width: {'; '.join(misshapen)}. Correct id2label, or take the weights that belong to "
            "it."
        )
