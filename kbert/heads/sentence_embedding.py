"""One vector per text, of length one: texts are compared by the cosine between theirs."""

import keras

from kbert.heads.pooling import pooled


def sentence_embedding(
    encoder: keras.Model, pooling: str = "mean", normalize: bool = True
) -> keras.Model:
    """Extend an encoder with a pooled vector (Reimers and Gurevych 2019, Sentence-BERT).

    Args:
        encoder: gives `sequence` (B, T, D).
        pooling: see `pooling.pooled`.
        normalize: whether vectors are divided by their length.

    Returns:
        A functional model: the encoder's inputs -> vectors, float32 (B, D).
    """
    x = pooled(encoder, pooling)
    # In float32 whatever the encoder computes in: nearest neighbours differ by little.
    layer = keras.layers.UnitNormalization if normalize else keras.layers.Identity
    x = layer(dtype="float32", name="sentence_embedding")(x)
    return keras.Model(encoder.input, x, name="sentence_embedding")
