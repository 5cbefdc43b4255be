"""From a sequence to one vector per text."""

import keras
from keras import ops

from kbert.layers.activations import Activation
from kbert.layers.dropout import Dropout
from kbert.layers.head_parts import head_parts, policy

POOLINGS = ("pooler", "cls", "mean", "max")


def pooled(encoder: keras.Model, pooling: str):
    """One vector per text, as a tensor of the encoder's graph.

    Args:
        encoder: takes `padding_mask` among its inputs, gives `sequence` (B, T, D).
        pooling: "pooler", what the architecture's own classifiers take (`encoder.head_parts`):
            for BERT tanh(W h₀ + b) on the first token ([CLS]) (Devlin et al. 2019, 3.2, and their
            code); "cls", the first token as it is; "mean" and "max", over the real tokens of each
            text.

    Returns:
        A symbolic tensor, float (B, D).

    Raises:
        ValueError: another name came.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}; got {pooling!r}.")
    parts = head_parts(encoder)
    kind = parts.pooling if pooling == "pooler" else pooling
    sequence = encoder.output["sequence"]
    if kind == "cls":
        x = sequence[:, 0]
    else:
        padding_mask = encoder.input["padding_mask"]
        x = PoolTokens(kind, dtype=sequence.dtype, name=kind)(sequence, padding_mask)
    return pooler(x, parts, policy(sequence)) if pooling == "pooler" else x


def pooled_tokens(encoder: keras.Model):
    """What a head of tokens takes: the sequence, through the pooler's layers where that is so.

    Returns:
        A symbolic tensor, float (B, T, D).
    """
    parts, sequence = head_parts(encoder), encoder.output["sequence"]
    return pooler(sequence, parts, policy(sequence)) if parts.pool_tokens else sequence


def pooler(x, parts, dtype):
    """The dense layer before a classifier, with what stands around it; float (…, D), as it came."""
    if not parts.pooler_dense:
        return x
    if parts.pooler_dropout:
        x = Dropout(parts.pooler_dropout, dtype=dtype, name="pooler_dropout")(x)
    dense = parts.dense(x.shape[-1], "pooler", use_bias=parts.pooler_bias, dtype=dtype)
    x = Activation(parts.pooler_activation, dtype=dtype, name="pooler_activation")(dense(x))
    return parts.norm(name="pooler_norm", dtype=dtype)(x) if parts.pooler_norm else x


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
