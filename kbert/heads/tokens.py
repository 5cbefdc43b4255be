"""A label for every token: dropout and one dense layer, the same at every position."""

import keras

from kbert.heads.pooling import pooled_tokens
from kbert.layers.dropout import Dropout
from kbert.layers.head_parts import head_parts


def token_classification(
    encoder: keras.Model, num_labels: int, dropout: float = 0.1
) -> keras.Model:
    """Extend an encoder with a classifier of tokens (named entities in Devlin et al. 2019, 5.3).

    Args:
        encoder: gives `sequence` (B, T, D).
        num_labels: int, C.
        dropout: float, probability of dropping a value of the sequence.

    Returns:
        A functional model: the encoder's inputs -> logits, float32 (B, T, C).
    """
    x = Dropout(dropout, name="classifier_dropout")(pooled_tokens(encoder))
    dense = head_parts(encoder).dense(num_labels, "classifier", dtype="float32")
    return keras.Model(encoder.input, dense(x), name="token_classification")
