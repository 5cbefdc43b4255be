"""Learning vectors from pairs of texts: two rows of one example, through one encoder.

The two vectors of example b are rows 2b and 2b + 1 of what the model gives. Letters: B pairs, D
the width of a vector.
"""

import keras
import numpy as np
from keras import ops

SCALE = 20.0  # of cosines before a softmax, sentence-transformers' own


def both(vectors):
    """Vectors (2B, D) → those of the first and of the second texts, (B, D) each, of length one."""
    pairs = ops.reshape(ops.cast(vectors, "float32"), (-1, 2, vectors.shape[-1]))
    pairs = ops.normalize(pairs, axis=-1)
    return pairs[:, 0], pairs[:, 1]


def cosines(vectors):
    """Vectors (2B, D) → the cosine between those of each pair, (B, 1)."""
    first, second = both(vectors)
    return ops.sum(first * second, axis=-1, keepdims=True)


def ranked(numbers, vectors, scale=SCALE):
    """The cosines of each first text with all second texts of its batch, times `scale`.

    Args:
        numbers: int (B, 2), of each pair's texts, the same for the same text. Of two pairs with a
            text in common none is wrong for the other, and a pair that comes again (to fill a
            batch) is wrong once: their cosines are set far below all others.
        vectors: float (2B, D).

    Returns:
        float (B, B); the right one for row b is column b.
    """
    first, second = both(vectors)
    numbers = ops.cast(numbers, "int32")
    equal = numbers[:, None] == numbers[None]  # (B, B, 2)
    place = ops.arange(ops.shape(numbers)[0])
    before = place[:, None] < place
    again = ops.any(ops.logical_and(ops.all(equal, axis=-1), before), axis=0)  # (B,)
    out = ops.logical_or(ops.any(equal, axis=-1), again)
    out = ops.logical_and(out, place[:, None] != place)
    return ops.where(out, -1e4, scale * ops.matmul(first, ops.transpose(second)))


class CosineError(keras.losses.Loss):
    """(cosine − target)², targets from 0 to 1 (Sentence-BERT's regression, 3.0)."""

    def __init__(self, name="cosine_error", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(cosines(y_pred) - y_true), axis=-1)


class InBatchNegatives(keras.losses.Loss):
    """Cross-entropy of a pair's own second text among all of its batch.

    Henderson et al. 2017 (1705.00652), 4.4; "multiple negatives ranking".
    """

    def __init__(self, scale: float = SCALE, name="in_batch_negatives", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale = scale

    def call(self, y_true, y_pred):
        logits = ranked(y_true, y_pred, self.scale)
        return ops.sparse_categorical_crossentropy(
            ops.arange(ops.shape(logits)[0]), logits, from_logits=True
        )


class InBatchAccuracy(keras.metrics.Mean):
    """The share of pairs whose own second text is the nearest of all in their batch."""

    def __init__(self, name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        logits = ranked(y_true, y_pred)
        right = ops.argmax(logits, axis=-1) == ops.arange(ops.shape(logits)[0])
        super().update_state(ops.cast(right, "float32"), sample_weight)


def of_length_one(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, D) divided by their lengths."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def nearest(questions: np.ndarray, vectors: np.ndarray, number: int = 5):
    """The nearest vectors of each question, by cosine.

    Args:
        questions: float (Q, D), vectors of length one.
        vectors: float (N, D), of length one.
        number: how many; all where there are fewer.

    Returns:
        (places, cosines): int and float, (Q, number), the nearest first.
    """
    found = questions @ vectors.T
    number = min(number, len(vectors))
    places = np.argpartition(-found, number - 1, axis=1)[:, :number]
    order = np.argsort(-np.take_along_axis(found, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return places, np.take_along_axis(found, places, axis=1)


def ranks(first: np.ndarray, second: np.ndarray, rows_at_once: int = 1024) -> np.ndarray:
    """At which place each pair's own second text stands among all second texts, int (N,), 1 best.

    Args:
        first, second: float (N, D), vectors of length one.
    """
    found = []
    for start in range(0, len(first), rows_at_once):
        scores = first[start : start + rows_at_once] @ second.T
        own = scores[np.arange(len(scores)), start + np.arange(len(scores))]
        # A little above, or the same text further down would come before by a rounding.
        found.append(1 + (scores > own[:, np.newaxis] + 1e-6).sum(axis=1))
    return np.concatenate(found) if found else np.zeros(0, int)
