"""Whether two texts stand in their order: two logits."""

import keras

from kbert.heads.pooling import pooled
from kbert.layers.head_parts import head_parts


def sentence_order(encoder: keras.Model) -> keras.Model:
    """Extend an encoder with sentence-order prediction (Lan et al. 2020, 3.1).

    Args:
        encoder: gives `sequence` (B, T, D).

    Returns:
        A functional model: the encoder's inputs -> logits, float32 (B, 2): 0, the second text
        follows the first; 1, they are exchanged.
    """
    x = pooled(encoder, "pooler")
    logits = head_parts(encoder).dense(2, "sentence_order", dtype="float32")(x)
    return keras.Model(encoder.input, logits, name="sentence_order")
