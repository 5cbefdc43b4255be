"""From a sequence to one vector per text."""

import keras
from keras import ops

POOLINGS = ("pooler", "cls", "mean", "max")


def pooled(encoder: keras.Model, pooling: str):
    """One vector per text, as a tensor of the encoder's graph.

    Args:
        encoder: takes `padding_mask` among its inputs, gives `sequence` (B, T, D).
        pooling: "pooler", tanh(W h₀ + b) on the first token ([CLS]), as BERT's own heads do
            (Devlin et al. 2019, 3.2, and their code); "cls", the first token as it is; "mean" and
            "max", over the real tokens of each text.

    Returns:
        A symbolic tensor, float (B, D).

    Raises:
        ValueError: another name came.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}; got {pooling!r}.")
    sequence = encoder.output["sequence"]
    if pooling in ("pooler", "cls"):
        first = sequence[:, 0]
        return first if pooling == "cls" else _pooler(sequence)(first)
    padding_mask = encoder.input["padding_mask"]
    return PoolTokens(pooling, dtype=sequence.dtype, name=pooling)(sequence, padding_mask)


def _pooler(sequence):
    return keras.layers.Dense(
        sequence.shape[-1],
        activation="tanh",
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        dtype=_policy(sequence),
        name="pooler",
    )


def _policy(tensor):
    """The dtype policy of the layer that made a tensor, so that a head computes as its encoder."""
    return tensor._keras_history.operation.dtype_policy


@keras.saving.register_keras_serializable("kbert")
class PoolTokens(keras.layers.Layer):
    """Mean or maximum over the real tokens.

    Call: sequence, float (B, T, D); padding_mask, bool (B, T), True = a real token -> (B, D),
    computed in float32. A text without tokens gives zeros.
    """

    def __init__(self, pooling, **kwargs):
        super().__init__(**kwargs)
        self.pooling = pooling

    def call(self, sequence, padding_mask):
        real = ops.cast(padding_mask, "float32")[:, :, None]
        wide = ops.cast(sequence, "float32")
        count = ops.sum(real, axis=1)
        if self.pooling == "mean":
            result = ops.sum(wide * real, axis=1) / ops.maximum(count, 1.0)
        else:
            result = ops.max(ops.where(real > 0, wide, -1e30), axis=1)
            result = ops.where(count > 0, result, 0.0)
        return ops.cast(result, self.compute_dtype)

    def compute_output_shape(self, sequence_shape, padding_mask_shape):
        return (sequence_shape[0], sequence_shape[-1])

    def get_config(self):
        return {**super().get_config(), "pooling": self.pooling}
