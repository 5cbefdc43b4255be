"""What tasks have in common."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kbert.errors import InputError
from kbert.inputs.packer import Row
from kbert.inputs.records import read_texts, stream


@dataclass
class Prepared:
    """What is asked, as rows for a model.

    Attributes:
        rows: packed rows; a list of rows in place of one where they belong together (the choices
            of a question).
        numbers: int (R,), for each row the number of the input it is of.
        inputs: what was asked.
        details: what the task needs to read its answers off the outputs.
        cut: how many inputs were longer than the model takes, and lost what was too much.
    """

    rows: list[Row]
    numbers: np.ndarray
    inputs: Sequence[Any]
    details: Any = None
    cut: int = 0


def setting(
    default, help: str, *, kind=None, least=None, choices: Sequence[str] = (), metavar=None
):
    """A field of a task that is an option of `kbert finetune`, too.

    Args:
        default: its value when it is not given.
        help: what the command's help says.
        kind: int, float, str or bool where the default does not tell it.
        least: the smallest number that is allowed.
        choices: the words that are allowed.
        metavar: what the help calls its value.
    """
    option = {"help": help, "kind": kind or type(default), "least": least}
    return field(default=default, metadata={**option, "choices": choices, "metavar": metavar})


def saved(task, *fields: str) -> dict[str, Any]:
    """The entry "kbert" of config.json: task, head, and the named settings."""
    settings = {name: getattr(task, name) for name in fields}
    return {"task": task.name, "head": task.head, "settings": settings}


def restored(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings that `saved` wrote for the task of that name, and the head's dropout."""
    own, dropout = own_settings(settings, name), head_dropout(settings, name)
    return own if dropout is None else {**own, "dropout": dropout}


def head_dropout(settings: Mapping[str, Any], name: str) -> float | None:
    """The dropout before the classifier of a task of that name, as transformers reads config.json.

    It takes the encoder's where the classifier has none of its own. None where neither is told.
    """
    # DistilBERT's classifiers of texts have one of their own, ALBERT's another name for the first.
    keys = ("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout")
    of_heads = keys[:2] if name == "token-classification" else keys
    for key in (*of_heads, "dropout", "hidden_dropout_prob"):
        if settings.get(key) is not None:
            return settings[key]
    return None


def own_settings(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings that `saved` wrote for the task of that name; none of another's."""
    entry = settings.get("kbert", {})
    return dict(entry.get("settings", {})) if entry.get("task") == name else {}


def label_settings(labels: Sequence[str]) -> dict[str, dict]:
    """id2label and label2id of config.json."""
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def restored_labels(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of config.json, in the order of their numbers.

    Raises:
        InputError: it has none, or their numbers have gaps.
    """
    by_id = settings.get("id2label")
    if not by_id:
        raise InputError("config.json has no id2label: not a text classifier that was saved.")
    numbers = sorted(by_id, key=int)
    if [int(number) for number in numbers] != list(range(len(numbers))):
        raise InputError(f"config.json: id2label has the numbers {numbers}; expected 0, 1, 2 ….")
    return tuple(by_id[number] for number in numbers)


def label_numbers(labels: Sequence[str], came: Sequence[Any], rows=None) -> np.ndarray:
    """Labels of records → their numbers, int32 (N,).

    Args:
        labels: those that are known.
        came: the labels of records.
        rows: the record that each is of, from 0; None for one label a record.

    Raises:
        InputError: a record has a label that is not in `labels`.
    """
    number = {label: i for i, label in enumerate(labels)}
    came = [str(label) for label in came]
    strange = sorted({label for label in came if label not in number})
    if strange:
        first = next(i for i, label in enumerate(came) if label not in number)
        row = 1 + (first if rows is None else rows[first])
        raise InputError(
            f"labels that training never saw: {', '.join(map(repr, strange[:5]))}"
            f"{' …' if len(strange) > 5 else ''} ({len(strange)} in all; first in record "
            f"{row}). Known are {len(number)} labels; remove or rename these."
        )
    return np.array([number[label] for label in came], "int32")


def numbers_of(records: Sequence[Mapping[str, Any]], columns: Sequence[str], missing=()):
    """Numbers of records, float64 (N, C), as they stand there or as strings.

    Args:
        columns: C of them.
        missing: the values that say that none is given; NaN then.

    Raises:
        InputError: something else came.
    """
    found = np.full((len(records), len(columns)), np.nan)
    for row, record in enumerate(records):
        for place, column in enumerate(columns):
            value = record[column]
            if value in missing:
                continue
            try:
                found[row, place] = float(value)
            except (TypeError, ValueError):
                raise InputError(
                    f"expected a number in column {column!r}, came {value!r} in record {row + 1}: "
                    "write it as 4 or 4.5."
                ) from None
    return found


def columns_of(inputs: Iterable[Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Inputs as tuples in the order of `names`: a record gives its columns, a text stands alone."""
    return [
        tuple(x[name] for name in names) if isinstance(x, Mapping)
        else (x,) if isinstance(x, str) else tuple(x)
        for x in inputs
    ]  # fmt: skip


def asked(task, texts: Sequence[str]) -> list[Any]:
    """Texts one after another as a task's inputs: each alone, or as many as it asks together.

    Raises:
        InputError: they do not come out even.
    """
    if hasattr(task, "asked"):  # it has a list among its inputs
        return task.asked(texts)
    number = len(task.inputs)
    if number == 1:
        return list(texts)
    if len(texts) % number:
        raise InputError(
            f"{task.name} asks {number} texts together ({', '.join(task.inputs)}); came "
            f"{len(texts)}: give every one of them."
        )
    groups = zip(*[iter(texts)] * number, strict=True)
    return [dict(zip(task.inputs, group, strict=True)) for group in groups]


# The settings that tell how tables are written, see `inputs.tables.TableForm`.
TABLE = ("delimiter", "quoting", "header")


def delimiter(names: Iterable[str]):
    """The setting `delimiter` of a task that reads tables."""
    return setting(
        None, "Of tables.  [default: as the file's ending says]", kind=str, choices=tuple(names)
    )


def quoting():
    """The setting `quoting` of a task that reads tables."""
    return setting(True, "Whether tables quote as RFC 4180; GLUE's do not.")


def header():
    """The setting `header` of a task that reads tables."""
    return setting(True, "Whether tables begin with names; if not, columns are 1, 2, 3 ….")


def form_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a task's settings that tell how tables are written."""
    return {name: settings[name] for name in TABLE if name in settings}


def read_inputs(task, path=None, column: str | None = None) -> Iterator[Any]:
    """What a task is asked, from a file or, without a path, from standard input.

    Texts alone: one a line, or a table with that column. Else records with the task's columns; on
    standard input as JSON Lines. A task may read files of its own (`read_inputs`).
    """
    if path and hasattr(task, "read_inputs"):
        return task.read_inputs(Path(path))
    if len(task.inputs) == 1:
        form = form_of(vars(task))
        return read_texts(path or sys.stdin.buffer, column or task.inputs[0], **form)
    if path:
        return (record for _, record in stream(path, task.inputs, **form_of(vars(task))))
    return (_record(line, number, task) for number, line in enumerate(sys.stdin.buffer, 1))


def _record(line: bytes, number: int, task) -> dict[str, Any]:
    try:
        record = json.loads(line)
        return {name: record[name] for name in task.inputs}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"line {number} of input: expected a JSON object with {', '.join(task.inputs)}, came "
            f"{line[:60]!r} ({type(error).__name__}: {error})."
        ) from error


def check_texts(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Raises an InputError if a column of a record is no string."""
    for number, record in enumerate(records, 1):
        for name in names:
            if not isinstance(record[name], str):
                raise InputError(
                    f"expected texts in column {name!r}, came {record[name]!r} in record {number}: "
                    "write them as strings, or name the column that holds the texts."
                )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (…, C) → probabilities, float64 (…, C)."""
    exponentials = np.exp(logits.astype("float64") - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits → probabilities of each for itself, float64."""
    # By tanh, which does not overflow.
    return 0.5 * (1 + np.tanh(0.5 * logits.astype("float64")))


def features_in_graph(token_ids, tokenizer, segment_ids=None) -> dict:
    """Padded ids, int32 (B, T), as a model's features, in TensorFlow operations.

    An id outside the vocabulary fails with its number: a GPU would take zeros for its embedding.

    Args:
        token_ids: with the special ones.
        tokenizer: its padding and vocabulary.
        segment_ids: None where all tokens are of the first text.
    """
    import tensorflow as tf

    last = tokenizer.vocab_size - 1
    outside = tf.boolean_mask(token_ids, (token_ids < 0) | (token_ids > last))
    message = f"expected token ids from 0 to {last}, came"
    with tf.control_dependencies([tf.debugging.Assert(tf.size(outside) == 0, [message, outside])]):
        token_ids = tf.identity(token_ids)
    features = {"token_ids": token_ids, "padding_mask": token_ids != tokenizer.pad_id}
    if tokenizer.with_segments:
        features["segment_ids"] = tf.zeros_like(token_ids) if segment_ids is None else segment_ids
    return features


def text_signatures(serve, encode, logits, tokenizer, num_texts: int = 1) -> dict:
    """`serving_default` (raw text) and `tokens` (ids) of a task whose answer is one a text.

    Args:
        serve: logits → a dict of tensors, the answers.
        encode: string (B,) → int32 `tf.RaggedTensor` (B, None): the tokenizer in the graph.
        logits: a pair of functions: texts' ids → logits; features → logits.
        tokenizer: its padding.
        num_texts: 1, or 2 for a task of pairs, whose second text is `text_pair`.
    """
    import tensorflow as tf

    from_ids, from_features = logits
    names = ("text", "text_pair")[:num_texts]
    specs = [tf.TensorSpec([None], tf.string, name=name) for name in names]

    @tf.function(autograph=False, input_signature=specs)
    def serving_default(*texts):
        return serve(from_ids(*(encode(text) for text in texts)))

    # Whose text a token is cannot be told from its id: of pairs the segments are asked, too.
    asks_segments = num_texts > 1 and tokenizer.with_segments
    names = ["token_ids", "segment_ids"][: 1 + asks_segments]
    ids_specs = [tf.TensorSpec([None, None], tf.int32, name=name) for name in names]

    @tf.function(autograph=False, input_signature=ids_specs)
    def tokens(token_ids, *segment_ids):
        return serve(from_features(**features_in_graph(token_ids, tokenizer, *segment_ids)))

    return {"serving_default": serving_default, "tokens": tokens}
