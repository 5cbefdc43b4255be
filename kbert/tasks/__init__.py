"""One file per task: features, head, loss, metrics, answer.

A task is a frozen dataclass in `tasks/<name>.py`, named as the file is (text_classification.py:
`TextClassification`, "text-classification" in commands). Its fields are its settings, and the
options of `kbert finetune <name>` (`parts.setting` gives them their help). It has

    name, head             its name in commands; its head's in the tables of `models/`
    monitor                the figure of the validation that is best when highest, "val_accuracy"
    inputs                 the columns that are asked, such as ("text",)

    read(path, **settings)            a file → records, mappings with the task's columns
    read_inputs(path)                 what is asked in a file, where that is no table of texts; a
                                      task may do without
    from_records(records, **settings) the task, with what it learns of the records (its labels)
    settings(of_encoder)              config.json with this head; from_settings, the other way
    check(records)                    an InputError names the record that cannot be learned
    model(encoder)                    the encoder with the head: features → outputs
    loss(), metrics()                 for model.compile
    label_counts(records)             how often each label is there, where the loss can weigh
                                      them; a task may do without
    dataset(records, tokenizer, …)    tf.data batches for model.fit

    prepare(inputs, tokenizer)        what is asked → a `parts.Prepared`: rows for the model
    packer(tokenizer)                 pads those rows
    merged(outputs, prepared)         outputs, one a row → results, one an input
    answers(results, prepared)        → one dict of words and numbers an input
    scores(results, records)          → figures
    examples(records, tokenizer)      what is measured, where that is not what is asked (masks): as
                                      `prepare`; a task may do without
    reduced(output, row)              what is kept of a row's output, where not all of it can be;
                                      a task may do without
    signatures(model, encode, tokenizer)  the served functions, as TensorFlow operations

and, where it needs them, `asked(texts)`, words of the command line → inputs that hold lists, and
`from_folder(folder, settings)`, of what stands in files beside config.json.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kbert.errors import InputError
from kbert.tasks import modules

TEXT_CLASSIFICATION = "text-classification"
# What a ForPreTraining is asked, where that is not fill-mask.
PRETRAINED_ON = {"albert": "sentence-order", "electra": "replaced-token"}
# Files here that are no task.
SHARED = {"__init__", "answers", "correlation", "entities", "labels", "modules", "pairs"}
SHARED |= {"parts", "texts"}


def names() -> tuple[str, ...]:
    """The names of all tasks: a file each."""
    files = sorted(file.stem for file in Path(__file__).parent.glob("*.py"))
    return tuple(file.replace("_", "-") for file in files if file not in SHARED)


def task_class(name: str):
    """The class of a task's name.

    Raises:
        InputError: there is no such task.
    """
    if name not in names():
        raise InputError(f"there is no task {name!r}; there are {', '.join(names())}.")
    home = import_module(f"kbert.tasks.{name.replace('-', '_')}")
    return getattr(home, name.title().replace("-", ""))


def from_folder(folder, settings: Mapping[str, Any], name: str | None = None):
    """The task of a checkpoint folder: `from_settings`, or where the folder says more, of that.

    Args:
        folder: of kbert, transformers or sentence-transformers.
        settings: its `config.json`.
        name: the task that is asked; None for the one that the folder describes.
    """
    if name is None:
        is_theirs = modules.are_in(folder) and "kbert" not in settings
        name = "sentence-embedding" if is_theirs else None
    if name is None:
        return from_settings(settings)
    kind = task_class(name)
    if hasattr(kind, "from_folder"):
        return kind.from_folder(folder, settings)
    return kind.from_settings(settings)


def from_settings(settings: Mapping[str, Any]):
    """The task that a saved `config.json` describes, with its labels.

    Raises:
        InputError: it describes no task that this version knows.
    """
    name = name_of(settings)
    if name not in names():
        raise InputError(f"config.json: task {name!r}; this version knows {', '.join(names())}.")
    return task_class(name).from_settings(settings)


def name_of(settings: Mapping[str, Any]) -> str:
    """The task of a `config.json`; of a model that kbert did not save, by its class."""
    if name := settings.get("kbert", {}).get("task"):
        return name
    if settings.get("problem_type") == "regression":
        return "regression"
    classes = settings.get("architectures") or ["ForSequenceClassification"]
    of_class = {
        "ForMaskedLM": "fill-mask",
        "ForMultipleChoice": "multiple-choice",
        "ForNextSentencePrediction": "next-sentence",
        "ForQuestionAnswering": "question-answering",
        "ForTokenClassification": "token-classification",
        "ForPreTraining": PRETRAINED_ON.get(settings.get("model_type"), "fill-mask"),
    }
    ending = "For" + classes[0].rpartition("For")[2]
    return of_class.get(ending, TEXT_CLASSIFICATION)
