"""Which word stands at a place: a hidden layer, then the token embedding in reverse."""

import keras
from keras import ops

from kbert.layers.activations import Activation
from kbert.layers.head_parts import head_parts, policy


def masked_lm(encoder: keras.Model, at_positions: bool = False) -> keras.Model:
    """Extend an encoder with the masked-LM head (Devlin et al. 2019, 3.1), weights tied.

    The hidden layer brings the sequence to the width E of the token embedding (where E < D and the
    architecture keeps D, as MobileBERT, the columns beyond E have a table of their own).

    Args:
        encoder: gives `sequence` (B, T, D); its layer "token_embedding" is called in reverse.
        at_positions: whether the model takes one input more, `masked_positions` int32 (B, M), and
            computes logits there only: T·V numbers a text are most of the work of pretraining.

    Returns:
        A functional model: the encoder's inputs -> logits, float32 (B, T, V), or (B, M, V).
    """
    parts, sequence = head_parts(encoder), encoder.output["sequence"]
    embedding, dtype = encoder.get_layer("token_embedding"), policy(sequence)
    inputs, x = encoder.input, sequence
    if at_positions:
        positions = keras.Input((None,), dtype="int32", name="masked_positions")
        inputs = {**inputs, "masked_positions": positions}
        x = ops.take_along_axis(x, positions[:, :, None], axis=1)  # (B, M, D)
    width = parts.transform_width or sequence.shape[-1]
    use_bias = parts.transform_bias
    x = parts.dense(width, "masked_lm_transform", use_bias=use_bias, dtype=dtype)(x)
    x = Activation(parts.transform_activation, dtype=dtype, name="masked_lm_activation")(x)
    x = parts.norm(name="masked_lm_norm", dtype=dtype)(x)
    embedding_width = embedding.output_dim
    logits = embedding(x[:, :, :embedding_width] if width > embedding_width else x, reverse=True)
    if width > embedding_width:
        extra = parts.dense(embedding.input_dim, "masked_lm_extra", use_bias=False, dtype=dtype)
        logits = logits + extra(x[:, :, embedding_width:])
    logits = Bias(dtype="float32", name="masked_lm_bias")(ops.cast(logits, "float32"))
    return keras.Model(inputs, logits, name="masked_lm")


@keras.saving.register_keras_serializable("kbert")
class Bias(keras.layers.Layer):
    """x + bias, float (…, V) -> float (…, V)."""

    def build(self, input_shape):
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, x):
        return x + self.bias

    def compute_output_shape(self, input_shape):
        return input_shape
