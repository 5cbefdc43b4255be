"""Where an answer begins and ends: two numbers for every token."""

import keras

from kbert.heads.pooling import pooled_tokens
from kbert.layers.dropout import Dropout
from kbert.layers.head_parts import head_parts


def span(encoder: keras.Model, dropout: float = 0.0) -> keras.Model:
    """Extend an encoder with the start and end of an answer (SQuAD in Devlin et al. 2019, 4.2).

    Args:
        encoder: gives `sequence` (B, T, D).
        dropout: float, probability of dropping a value of the sequence (BERT has none here).

    Returns:
        A functional model: the encoder's inputs -> logits, float32 (B, T, 2), start and end.
    """
    x = Dropout(dropout, name="span_dropout")(pooled_tokens(encoder))
    dense = head_parts(encoder).dense(2, "span", dtype="float32")
    return keras.Model(encoder.input, dense(x), name="span")
