"""The parts of MobileBERT (Sun et al. 2020, 2004.02984), whose blocks are narrow inside.

Letters: D width between blocks, K width within a block (the bottleneck's).
"""

import keras
from keras import ops

from kbert.layers import parts


@keras.saving.register_keras_serializable("kbert")
class NoNorm(keras.layers.Layer):
    """gamma · x + beta: what takes the place of layer normalisation (section 3.3).

    Call: x, float (…, D) -> float (…, D).
    """

    def build(self, input_shape):
        width = input_shape[-1]
        self.gamma = self.add_weight(shape=(width,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(width,), initializer="zeros", name="beta")

    def call(self, x):
        return x * self.gamma + self.beta

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("kbert")
class Trigrams(keras.layers.Layer):
    """Each token's vector between those of its neighbours: next, own, previous; no weights.

    A dense layer behind it makes of them a convolution over three tokens (section 3.3). Before the
    first token and after the last stand zeros.

    Call: x, float (B, T, E) -> float (B, T, 3E).
    """

    def call(self, x):
        following = ops.pad(x[:, 1:], [[0, 0], [0, 1], [0, 0]])
        previous = ops.pad(x[:, :-1], [[0, 0], [1, 0], [0, 0]])
        return ops.concatenate([following, x, previous], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3 * input_shape[-1])


@keras.saving.register_keras_serializable("kbert")
class Bottleneck(keras.layers.Layer):
    """norm(x W + b): into the narrow width of a block (figure 1c).

    Args:
        width: int, K.
        norm: keras.Layer, (B, T, K) -> (B, T, K).
        kernel_initializer: a Keras initializer.

    Call: x, float (B, T, D) -> float (B, T, K).
    """

    def __init__(self, width, norm, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.norm = norm
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.dense = keras.layers.Dense(
            width,
            kernel_initializer=parts.fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name="dense",
        )

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.norm.build((*input_shape[:-1], self.width))

    def call(self, x):
        return self.norm(self.dense(x))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        return {
            **super().get_config(),
            **parts.to_config(self, ("norm",)),
            "width": self.width,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config, ("norm",)))


@keras.saving.register_keras_serializable("kbert")
class BottleneckBlock(keras.layers.Layer):
    """Self-attention, then feed-forward networks in a stack, narrower than the width between blocks
    (figure 1c and table 1).

    Queries, keys and what the attention is added to are K wide. With an `attention_bottleneck`,
    queries and keys come through it, and values are made of the wide x; without, all three come
    through `bottleneck`.

    Args:
        bottleneck: `Bottleneck`, (B, T, D) -> (B, T, K).
        attention_bottleneck: another, or None.
        attention: `MultiHeadAttention`.
        attention_residual: `PostNorm`.
        feed_forwards: list of `FeedForward`, one after the other.
        feed_forward_residuals: list of `PostNorm`, one for each.
        output_residual: `PostNorm` around the way back to D.
        kernel_initializer: a Keras initializer, of the way back to D.

    Call:
        x: float (B, T, D).
        attention_mask: bool, broadcastable to (B, H, T, T); True = may attend.

    Returns:
        float (B, T, D).
    """

    def __init__(
        self, bottleneck, attention_bottleneck, attention, attention_residual, feed_forwards,
        feed_forward_residuals, output_residual, kernel_initializer="glorot_uniform", **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.bottleneck = bottleneck
        self.attention_bottleneck = attention_bottleneck
        self.attention = attention
        self.attention_residual = attention_residual
        self.feed_forwards = feed_forwards
        self.feed_forward_residuals = feed_forward_residuals
        self.output_residual = output_residual
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, x_shape):
        narrow = self.bottleneck.compute_output_shape(x_shape)
        self.bottleneck.build(x_shape)
        if self.attention_bottleneck is None:
            self.attention.build(narrow)
        else:
            self.attention_bottleneck.build(x_shape)
            self.attention.build(narrow, values_shape=x_shape)
        self.attention_residual.build(narrow)
        for layer in (*self.feed_forwards, *self.feed_forward_residuals):
            layer.build(narrow)
        self.output_dense = keras.layers.Dense(
            x_shape[-1],
            kernel_initializer=parts.fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name="output",
        )
        self.output_dense.build(narrow)
        self.output_residual.build(x_shape)

    def call(self, x, attention_mask=None, training=None):
        def attend(narrow):
            if self.attention_bottleneck is None:
                queries, values = narrow, None
            else:
                queries, values = self.attention_bottleneck(x), x
            return self.attention(
                queries, values=values, attention_mask=attention_mask, training=training
            )

        h = self.attention_residual(self.bottleneck(x), sublayer=attend, training=training)
        for think, residual in zip(self.feed_forwards, self.feed_forward_residuals, strict=True):
            h = residual(h, sublayer=think, training=training)
        return self.output_residual(x, sublayer=lambda _: self.output_dense(h), training=training)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            **parts.to_config(self, PARTS),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config, PARTS))


PARTS = (
    "bottleneck", "attention_bottleneck", "attention", "attention_residual", "feed_forwards",
    "feed_forward_residuals", "output_residual",
)  # fmt: skip
