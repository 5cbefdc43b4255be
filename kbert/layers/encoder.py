"""One block of an encoder, and the blocks of a whole one."""

import re

import keras

from kbert.layers import parts

# As every file of models/ names them; a group of ALBERT's has several: block_0, block_0_1.
BLOCK = re.compile(r"block_(\d+)(?:_\d+)?")


def blocks(encoder: keras.Model) -> dict[int, list[keras.layers.Layer]]:
    """The blocks of a model of `kbert.models` by their numbers; of a group, all its layers."""
    found: dict[int, list] = {}
    for layer in encoder.layers:
        if match := BLOCK.fullmatch(layer.name):
            found.setdefault(int(match[1]), []).append(layer)
    return dict(sorted(found.items()))


@keras.saving.register_keras_serializable("kbert")
class EncoderBlock(keras.layers.Layer):
    """Self-attention, then a feed-forward network (Vaswani et al. 2017, 3.1 and figure 1, left).

    Parts are handed in: which attention, which feed-forward network, and, by the residuals,
    whether normalisation stands before or after each.

    Args:
        attention: `MultiHeadAttention` or a layer that is called like it.
        attention_residual: `PostNorm` or `PreNorm`.
        feed_forward: `FeedForward` or a layer that is called like it.
        feed_forward_residual: `PostNorm` or `PreNorm`.

    Call:
        x: float (B, T, D).
        attention_mask: bool, broadcastable to (B, H, T, T); True = may attend.
        bias: float, broadcastable to (B, H, T, T), added to the scaled products.
        rotation: float (2, T, K), turns queries and keys; see `positions.rotate`.
        relative: what `RelativePositions` gives, for `DisentangledAttention`.

    Returns:
        float (B, T, D).
    """

    def __init__(
        self, attention, attention_residual, feed_forward, feed_forward_residual, **kwargs
    ):
        super().__init__(**kwargs)
        self.attention = attention
        self.attention_residual = attention_residual
        self.feed_forward = feed_forward
        self.feed_forward_residual = feed_forward_residual

    def build(self, x_shape):
        for part in PARTS:
            getattr(self, part).build(x_shape)

    def call(self, x, attention_mask=None, bias=None, rotation=None, relative=None, training=None):
        # An attention with positions of its own need not know of these.
        given = {"bias": bias, "rotation": rotation, "relative": relative}
        given = {name: tensor for name, tensor in given.items() if tensor is not None}

        def attend(x):
            return self.attention(x, attention_mask=attention_mask, training=training, **given)

        def think(x):
            return self.feed_forward(x, training=training)

        x = self.attention_residual(x, sublayer=attend, training=training)
        return self.feed_forward_residual(x, sublayer=think, training=training)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), **parts.to_config(self, PARTS)}

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config, PARTS))


PARTS = ("attention", "attention_residual", "feed_forward", "feed_forward_residual")
