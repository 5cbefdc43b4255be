"""Whether the second text follows the first, or stands in its right order: two logits."""

import keras

from kbert.heads.pooling import pooled
from kbert.layers.head_parts import head_parts


def next_sentence(encoder: keras.Model) -> keras.Model:
    """Extend an encoder with next-sentence prediction (Devlin et al. 2019, 3.1, task 2).

    ALBERT's sentence order (Lan et al. 2020, 3.1) has the same form: 0, in order; 1, exchanged.

    Args:
        encoder: gives `sequence` (B, T, D).

    Returns:
        A functional model: the encoder's inputs -> logits, float32 (B, 2): 0, the second text
        follows; 1, it does not.
    """
    x = pooled(encoder, "pooler")
    logits = head_parts(encoder).dense(2, "next_sentence", dtype="float32")(x)
    return keras.Model(encoder.input, logits, name="next_sentence")
