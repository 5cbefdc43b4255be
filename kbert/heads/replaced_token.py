"""Which tokens somebody else put there: one logit for every token."""

import keras
from keras import ops

from kbert.layers.activations import Activation
from kbert.layers.head_parts import head_parts, policy


def replaced_token(encoder: keras.Model) -> keras.Model:
    """Extend an encoder with ELECTRA's discriminator (Clark et al. 2020, section 2).

    Args:
        encoder: gives `sequence` (B, T, D).

    Returns:
        A functional model: the encoder's inputs -> logits, float32 (B, T); above 0, replaced.
    """
    parts, sequence = head_parts(encoder), encoder.output["sequence"]
    dtype = policy(sequence)
    x = parts.dense(sequence.shape[-1], "replaced_token_transform", dtype=dtype)(sequence)
    x = Activation(parts.replaced_token_activation, dtype=dtype, name="replaced_token_activation")(
        x
    )
    logits = parts.dense(1, "replaced_token", dtype="float32")(x)  # (B, T, 1)
    return keras.Model(encoder.input, logits[:, :, 0], name="replaced_token")


class TokenCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of logits (B, T), one for each token: Keras's own takes rows' means."""

    def call(self, y_true, y_pred):
        return ops.binary_crossentropy(ops.cast(y_true, y_pred.dtype), y_pred, from_logits=True)


def is_right(y_true, y_pred):
    """Whether targets (B, T), 1 = replaced, are what logits (B, T) say: float32 (B, T)."""
    return ops.cast(ops.equal(ops.cast(y_true, "bool"), y_pred > 0), "float32")
