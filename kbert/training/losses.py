"""The loss of a run: the task's own, or one that weighs its classes or smooths its labels."""

import math
import re

import keras
import numpy as np
from keras import ops

from kbert.errors import InputError

BALANCED = "balanced"
# "dog=2,vogel, ö=0.5": a label ends at the = of its number, so that it may have commas itself.
WEIGHT = re.compile(r"\s*(.+?)\s*=\s*([^\s=,]+)\s*(?:,|\Z)")


@keras.saving.register_keras_serializable("kbert")
class ClassCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits to smoothed labels, weighed by class.

    With q = (1 - s) · [c is the label] + s / C (Szegedy et al. 2016, 7), a row's loss is

        - sum over c of w_c · q_c · log p_c

    which is PyTorch's `CrossEntropyLoss(weight=w, label_smoothing=s, reduction="none")`. The mean
    is taken as the reduction says, over rows or tokens; PyTorch's divides by the weights of a
    batch's labels. So two batches together are the mean of both here, on devices and accumulated.

    Args:
        weights: C numbers, w.
        smoothing: float, s.
        others: as in `keras.losses.Loss`.

    Call: y_true, int (B, …); y_pred, float (B, …, C), logits.
    """

    def __init__(self, weights, smoothing=0.0, **others):
        super().__init__(**others)
        self.weights = [float(weight) for weight in weights]
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        number = len(self.weights)
        is_label = ops.one_hot(ops.cast(y_true, "int32"), number, dtype=y_pred.dtype)
        due = (1.0 - self.smoothing) * is_label + self.smoothing / number
        weighed = due * ops.convert_to_tensor(self.weights, y_pred.dtype)
        return -ops.sum(weighed * ops.log_softmax(y_pred), axis=-1)

    def get_config(self):
        return {**super().get_config(), "weights": self.weights, "smoothing": self.smoothing}


def loss_of(task, records, class_weights: str = "", smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss to train a task with.

    Args:
        task: knows its labels, and how often records have each (`label_counts`), if there are any.
        records: the training records.
        class_weights: see `weights_of`; "" for none.
        smoothing: share of a label that all labels have in common; 0 for none.

    Raises:
        InputError: the task's loss has no classes; a weight cannot be.
    """
    loss = task.loss()
    if not class_weights and not smoothing:
        return loss
    has_classes = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    if not (has_classes and hasattr(task, "label_counts")):
        several = " with several labels a text" if getattr(task, "multi_label", False) else ""
        raise InputError(
            "class_weights and label_smoothing are for tasks with one label a text or token "
            f"(text-classification, token-classification); this is {task.name}{several}. Leave "
            "them away."
        )
    weights = weights_of(class_weights, task.labels, task.label_counts(records))
    return ClassCrossentropy(weights, smoothing, reduction=loss.reduction)


def weights_of(given: str, labels: tuple[str, ...], counts: np.ndarray) -> list[float]:
    """A weight for each label.

    Args:
        given: "balanced", n / (C · count) each, so that every label weighs the same in all and the
            mean over the records is 1 (King and Zeng 2001; scikit-learn's); or "label=weight" with
            commas between, 1 for the others; or "".
        labels: C of them.
        counts: int (C,), how often each is there.

    Raises:
        InputError: a label is unknown, a weight is no number from 0.
    """
    if given.strip() == BALANCED:
        # A label that training does not have weighs as if it came once.
        return [float(w) for w in counts.sum() / (len(labels) * np.maximum(counts, 1))]
    weights = dict.fromkeys(labels, 1.0)
    end = 0
    while end < len(given):
        match = WEIGHT.match(given, end)
        if not match or not _is_weight(match[2]):
            raise InputError(
                f"class_weights: expected {BALANCED}, or label=weight with commas between and "
                f"weights from 0; came {given!r}, which cannot be read at {given[end:]!r}."
            )
        if match[1] not in weights:
            raise InputError(
                f"class_weights: there is no label {match[1]!r}; the training records have "
                f"{', '.join(map(repr, labels))}."
            )
        weights[match[1]] = float(match[2])
        end = match.end()
    return list(weights.values())


def _is_weight(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False
