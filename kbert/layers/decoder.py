"""One block of a decoder."""

import keras
from keras import ops

from kbert.layers import masks, parts


@keras.saving.register_keras_serializable("kbert")
class DecoderBlock(keras.layers.Layer):
    """Causal self-attention, attention to the encoder, feed-forward (Vaswani et al. 2017, 3.1).

    The queries of the second attention come from the decoder, its keys and values from the
    encoder's output, `memory`.

    Args:
        self_attention, cross_attention: `MultiHeadAttention` or layers that are called like it.
        feed_forward: `FeedForward` or a layer that is called like it.
        self_attention_residual, cross_attention_residual, feed_forward_residual: `PostNorm` or
            `PreNorm`.

    Call:
        x: float (B, T, D).
        memory: float (B, S, D'), the encoder's sequence.
        attention_mask: bool, broadcastable to (B, H, T, T), joined with the causal mask.
        memory_mask: bool, broadcastable to (B, H, T, S).

    Returns:
        float (B, T, D).
    """

    def __init__(
        self,
        self_attention,
        self_attention_residual,
        cross_attention,
        cross_attention_residual,
        feed_forward,
        feed_forward_residual,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.self_attention = self_attention
        self.self_attention_residual = self_attention_residual
        self.cross_attention = cross_attention
        self.cross_attention_residual = cross_attention_residual
        self.feed_forward = feed_forward
        self.feed_forward_residual = feed_forward_residual

    def build(self, x_shape, memory_shape):
        self.cross_attention.build(x_shape, memory_shape)
        for part in PARTS:
            if part != "cross_attention":
                getattr(self, part).build(x_shape)

    def call(self, x, memory, attention_mask=None, memory_mask=None, training=None):
        length = ops.shape(x)[1]
        mask = masks.both(masks.causal(length, length), attention_mask)

        def attend(x):
            return self.self_attention(x, attention_mask=mask, training=training)

        def attend_to_memory(x):
            return self.cross_attention(x, memory, attention_mask=memory_mask, training=training)

        def think(x):
            return self.feed_forward(x, training=training)

        x = self.self_attention_residual(x, sublayer=attend, training=training)
        x = self.cross_attention_residual(x, sublayer=attend_to_memory, training=training)
        return self.feed_forward_residual(x, sublayer=think, training=training)

    def compute_output_shape(self, x_shape, memory_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), **parts.to_config(self, PARTS)}

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config, PARTS))


PARTS = (
    "self_attention",
    "self_attention_residual",
    "cross_attention",
    "cross_attention_residual",
    "feed_forward",
    "feed_forward_residual",
)
