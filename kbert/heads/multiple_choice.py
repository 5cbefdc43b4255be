"""A score for each choice of a question; the choices of one question are rows one after another."""

import keras
from keras import ops

from kbert.heads.pooling import pooled
from kbert.layers.dropout import Dropout
from kbert.layers.head_parts import head_parts


def multiple_choice(
    encoder: keras.Model, num_choices: int, pooling: str = "pooler", dropout: float = 0.1
) -> keras.Model:
    """Extend an encoder with a score per choice (SWAG in Devlin et al. 2019, 4.4).

    Every choice is a row of its own, (question, choice), and the C rows of a question stand one
    after another: row b·C + c is choice c of question b.

    Args:
        encoder: gives `sequence` (B·C, T, D).
        num_choices: int, C.
        pooling, dropout: as in `classification`.

    Returns:
        A functional model: the encoder's inputs, (B·C, T) each -> logits, float32 (B, C).
    """
    x = Dropout(dropout, name="classifier_dropout")(pooled(encoder, pooling))
    scores = head_parts(encoder).dense(1, "classifier", dtype="float32")(x)  # (B·C, 1)
    logits = ops.reshape(scores, (-1, num_choices))
    return keras.Model(encoder.input, logits, name="multiple_choice")
