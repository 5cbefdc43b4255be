"""What a text's labels may be: one of C, or any number of them.

`OneLabel` and `ManyLabels` are what a classifier is handed: targets, loss, metrics, answers and
the served answer. Both turn logits into votes, which long texts take the mean of, and back.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kbert.errors import InputError
from kbert.tasks import parts

SMALLEST = 1e-37  # probability that a logarithm is taken of, within float32
SEPARATOR = ";"


@dataclass(frozen=True)
class OneLabel:
    """One of C labels: softmax and cross-entropy.

    Attributes:
        labels: the C labels, in the order of the logits.
        column: the records' column with the label.
    """

    labels: tuple[str, ...]
    column: str
    problem_type: ClassVar[str] = "single_label_classification"
    monitor: ClassVar[str] = "val_accuracy"
    fewest: ClassVar[int] = 2

    def of_record(self, record: Mapping[str, Any]) -> tuple[str]:
        """The label of a record.

        Raises:
            InputError: there is none, or a list of them.
        """
        label = record[self.column]
        if label is None or isinstance(label, list | tuple | set | dict):
            raise InputError(
                f"expected one label in column {self.column!r}, came {label!r}: write one, or "
                "train with --multi-label (multi_label=True), which takes lists."
            )
        return (str(label),)

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Label numbers, int32 (N,).

        Raises:
            InputError: a record has a label that is not among `labels`, or a list.
        """
        return parts.label_numbers(
            self.labels, [label for found in labels_of(self, records) for label in found]
        )

    def loss(self) -> keras.losses.Loss:
        """Cross-entropy of the logits."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def votes(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities of logits (N, C)."""
        return parts.softmax(logits)

    def logits(self, votes: np.ndarray) -> np.ndarray:
        """The other way of `votes`."""
        return np.log(np.maximum(votes, SMALLEST))

    def votes_in_graph(self, logits):
        """`votes` as TensorFlow operations, float32."""
        import tensorflow as tf

        return tf.nn.softmax(tf.cast(logits, tf.float32))

    def logits_in_graph(self, votes):
        """`logits` as TensorFlow operations."""
        import tensorflow as tf

        return tf.math.log(tf.maximum(votes, SMALLEST))

    def answers(self, logits: np.ndarray) -> Iterator[dict[str, Any]]:
        """One `{"label", "score"}` each; the score is the label's probability."""
        scores = self.votes(logits)
        for row, best in zip(scores, scores.argmax(axis=-1), strict=True):
            yield {"label": self.labels[best], "score": float(row[best])}

    def scores(self, logits: np.ndarray, records) -> dict[str, Any]:
        """Accuracy, F1, Matthews correlation, loss. `f1` is that of the second of two labels."""
        from sklearn.metrics import accuracy_score, matthews_corrcoef

        targets, chosen = self.targets(records), logits.argmax(axis=-1)
        right = self.votes(logits)[np.arange(len(targets)), targets]
        found = {"accuracy": float(accuracy_score(targets, chosen))}
        if len(self.labels) == 2:
            found["f1"] = _f1(targets, chosen, average="binary")
        return {
            **found,
            "micro_f1": _f1(targets, chosen, average="micro"),
            "macro_f1": _f1(targets, chosen, average="macro"),
            "matthews": float(matthews_corrcoef(targets, chosen)),
            "loss": float(np.mean(-np.log(np.maximum(right, 1e-300)))),
            "examples": len(targets),
        }

    def serve(self, logits):
        """Logits (B, C) → what the served signatures give, as TensorFlow operations."""
        import tensorflow as tf

        probabilities = self.votes_in_graph(logits)
        best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return {
            "label": tf.gather(tf.constant(self.labels), best),
            "score": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }


@dataclass(frozen=True)
class ManyLabels:
    """Any number of C labels: sigmoid and binary cross-entropy for each.

    Attributes:
        labels: the C labels, in the order of the logits.
        column: the records' column with a list, or a string that `separator` splits.
        threshold: the probability above which a label is an answer.
        separator: of labels in one string.
    """

    labels: tuple[str, ...]
    column: str
    threshold: float = 0.5
    separator: str = SEPARATOR
    problem_type: ClassVar[str] = "multi_label_classification"
    monitor: ClassVar[str] = "val_micro_f1"
    fewest: ClassVar[int] = 1

    def __post_init__(self):
        if not 0 < self.threshold < 1:
            raise InputError(
                f"threshold {self.threshold} is no probability between 0 and 1; 0.5 is usual."
            )

    def of_record(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """The labels of a record, each once; there may be none."""
        labels = record[self.column]
        if labels is None:
            return ()
        if isinstance(labels, str):
            labels = [label.strip() for label in labels.split(self.separator)]
        elif not isinstance(labels, list | tuple | set):
            labels = [labels]
        return tuple(dict.fromkeys(str(label) for label in labels if label not in (None, "")))

    def targets(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """1 for each label that a record has, float32 (N, C).

        Raises:
            InputError: a record has a label that is not among `labels`.
        """
        found = labels_of(self, records)
        rows = np.repeat(np.arange(len(found)), [len(labels) for labels in found])
        labels = [label for labels in found for label in labels]
        targets = np.zeros((len(found), len(self.labels)), "float32")
        targets[rows, parts.label_numbers(self.labels, labels, rows)] = 1.0
        return targets

    def loss(self) -> keras.losses.Loss:
        """Binary cross-entropy of the logits, the mean over the labels."""
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Micro F1 at the threshold."""
        logit = float(np.log(self.threshold / (1 - self.threshold)))
        return [MicroF1(logit, name="micro_f1")]

    def votes(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities of logits (N, C)."""
        return parts.sigmoid(logits)

    def logits(self, votes: np.ndarray) -> np.ndarray:
        """The other way of `votes`."""
        return np.log(np.maximum(votes, SMALLEST)) - np.log(np.maximum(1 - votes, SMALLEST))

    def votes_in_graph(self, logits):
        """`votes` as TensorFlow operations, float32."""
        import tensorflow as tf

        return tf.sigmoid(tf.cast(logits, tf.float32))

    def logits_in_graph(self, votes):
        """`logits` as TensorFlow operations."""
        import tensorflow as tf

        return tf.math.log(tf.maximum(votes, SMALLEST)) - tf.math.log(
            tf.maximum(1 - votes, SMALLEST)
        )

    def answers(self, logits: np.ndarray) -> Iterator[dict[str, Any]]:
        """One `{"labels", "scores"}` each: the labels above the threshold, the surest first."""
        for row in self.votes(logits):
            best = [i for i in np.argsort(-row, kind="stable") if row[i] > self.threshold]
            yield {
                "labels": [self.labels[i] for i in best],
                "scores": [float(row[i]) for i in best],
            }

    def scores(self, logits: np.ndarray, records) -> dict[str, Any]:
        """F1; accuracy, the share of texts with all labels right and no other; loss."""
        from sklearn.metrics import accuracy_score

        targets, votes = self.targets(records), self.votes(logits)
        chosen = votes > self.threshold
        right = np.where(targets > 0, votes, 1 - votes)
        return {
            "micro_f1": _f1(targets, chosen, average="micro"),
            "macro_f1": _f1(targets, chosen, average="macro"),
            "accuracy": float(accuracy_score(targets, chosen)),
            "loss": float(np.mean(-np.log(np.maximum(right, 1e-300)))),
            "examples": len(targets),
        }

    def serve(self, logits):
        """Logits (B, C) → what the served signatures give, as TensorFlow operations.

        `labels` and `scores` (B, C) hold the answer in their first `count` (B,) columns, the
        surest first; "" and 0 follow.
        """
        import tensorflow as tf

        probabilities = self.votes_in_graph(logits)
        order = tf.argsort(-probabilities, axis=-1, stable=True)
        scores = tf.gather(probabilities, order, batch_dims=1)
        chosen = scores > self.threshold
        return {
            "labels": tf.where(chosen, tf.gather(tf.constant(self.labels), order), ""),
            "scores": tf.where(chosen, scores, 0.0),
            "count": tf.reduce_sum(tf.cast(chosen, tf.int32), axis=-1),
            "probabilities": probabilities,
        }


def labels_of(form, records: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The labels of every record; an error names the record."""
    found = []
    for number, record in enumerate(records, 1):
        try:
            found.append(form.of_record(record))
        except InputError as error:
            raise InputError(f"record {number}: {error}") from None
    return found


def in_order(labels) -> tuple[str, ...]:
    """Labels sorted: as numbers if they all are, else as words."""
    labels = {str(label) for label in labels}
    if all(label.removeprefix("-").isdecimal() for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


class MicroF1(keras.metrics.Metric):
    """F1 over all labels of all texts together.

    Args:
        logit: the number above which a logit says yes.
    """

    def __init__(self, logit: float, name="micro_f1", **kwargs):
        super().__init__(name=name, **kwargs)
        self.logit = logit
        # Right, said and due, so that F1 = 2 · right / (said + due).
        self.right, self.said, self.due = (
            self.add_variable((), initializer="zeros", name=name)
            for name in ("right", "said", "due")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        said = ops.cast(y_pred > self.logit, "float32")
        due = ops.cast(y_true, "float32")
        weight = 1.0 if sample_weight is None else ops.cast(sample_weight, "float32")[:, None]
        self.right.assign_add(ops.sum(weight * said * due))
        self.said.assign_add(ops.sum(weight * said))
        self.due.assign_add(ops.sum(weight * due))

    def result(self):
        return 2 * self.right / ops.maximum(self.said + self.due, 1.0)


def _f1(targets, chosen, average: str) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(targets, chosen, average=average, zero_division=0.0))
