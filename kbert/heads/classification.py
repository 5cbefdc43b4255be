"""A label, or numbers, for a text: dropout and one dense layer on the pooled vector."""

import keras

from kbert.heads.pooling import pooled
from kbert.layers.dropout import Dropout
from kbert.layers.head_parts import head_parts


def classification(
    encoder: keras.Model, num_labels: int, pooling: str = "pooler", dropout: float = 0.1
) -> keras.Model:
    """Extend an encoder with a classifier (Devlin et al. 2019, 4.1).

    Args:
        encoder: gives `sequence` (B, T, D).
        num_labels: int, C; of a regression, its numbers.
        pooling: see `pooling.pooled`.
        dropout: float, probability of dropping a value of the pooled vector.

    Returns:
        A functional model: the encoder's inputs -> logits, float32 (B, C).
    """
    x = pooled(encoder, pooling)
    x = Dropout(dropout, name="classifier_dropout")(x)
    # Logits in float32 whatever the encoder computes in: a softmax over bfloat16 loses ranks.
    dense = head_parts(encoder).dense(num_labels, "classifier", dtype="float32")
    return keras.Model(encoder.input, dense(x), name="text_classification")
