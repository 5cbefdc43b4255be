"""A sub-layer with its residual connection, and normalisation after or before it."""

import keras

from kbert.layers import parts
from kbert.layers.dropout import Dropout


@keras.saving.register_keras_serializable("kbert")
class PostNorm(keras.layers.Layer):
    """norm(x + dropout(sublayer(x))), as in Vaswani et al. 2017 (5.4) and BERT.

    Args:
        norm: keras.Layer, (B, T, D) -> (B, T, D).
        dropout: float, probability of dropping a value of the sub-layer's output.

    Call: x, float (B, T, D); sublayer, a function (B, T, D) -> (B, T, D). Returns (B, T, D).
    """

    def __init__(self, norm, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.norm = norm
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, x, sublayer, training=None):
        return self.norm(x + self.drop(sublayer(x), training=training))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        return {**config, "dropout": self.dropout, **parts.to_config(self, ("norm",))}

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config, ("norm",)))


@keras.saving.register_keras_serializable("kbert")
class PreNorm(keras.layers.Layer):
    """x + dropout(sublayer(norm(x))), as in GPT-2 and ModernBERT.

    Arguments and call as `PostNorm`.
    """

    def __init__(self, norm, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.norm = norm
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, x, sublayer, training=None):
        return x + self.drop(sublayer(self.norm(x)), training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        return {**config, "dropout": self.dropout, **parts.to_config(self, ("norm",))}

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config, ("norm",)))
