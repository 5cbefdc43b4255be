"""Multi-head attention."""

import keras
from keras import ops

from kbert.layers import kernels, masks, parts
from kbert.layers.dropout import Dropout
from kbert.layers.local_attention import local_attention
from kbert.layers.positions import rotate


@keras.saving.register_keras_serializable("kbert")
class MultiHeadAttention(keras.layers.Layer):
    """softmax(scale · QKᵀ + bias) V for H heads side by side (Vaswani et al. 2017, 3.2.2).

    Self-attention takes one sequence; cross-attention takes its queries from the first and its
    keys and values from `memory`. The fused kernel of the backend runs unless scores are asked for
    or dropout is really active, which is decided at each call.

    Args:
        num_heads: int, H.
        head_width: int, K, the paper's d_k and d_v.
        dropout: float, probability of dropping a score.
        scale: float, what QKᵀ is multiplied by; default K**-0.5.
        window: int, how many tokens to either side a query may attend to; default all. The cost
            then grows with window · T (`local_attention`).
        use_bias: bool, whether the four products add one.
        kernel_initializer: a Keras initializer.
        output_initializer: that of the output's kernel; default the same.

    Call:
        x: float (B, T, D).
        memory: float (B, S, D'), or None for self-attention (then S = T).
        values: float (B, S, D''), what values are made of where it is not what keys are made of.
        attention_mask: bool, broadcastable to (B, H, T, S); True = may attend.
        bias: float, broadcastable to (B, H, T, S), added to the scaled products.
        rotation: float (2, T, K), turns queries and keys (`positions.rotate`).
        return_scores: bool.

    Returns:
        float (B, T, D); with `return_scores` also the scores, float (B, H, T, S), rows sum to 1.

    Raises:
        ValueError: `attention_mask` is not boolean; with a `window`, another sequence, a bias or a
            mask that differs between queries came.
    """

    def __init__(
        self,
        num_heads,
        head_width,
        dropout=0.0,
        scale=None,
        window=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_width = head_width
        self.dropout = dropout
        self.scale = head_width**-0.5 if scale is None else scale
        self.window = window
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.query = self._dense(num_heads * head_width, "query", self.kernel_initializer)
        self.key = self._dense(num_heads * head_width, "key", self.kernel_initializer)
        self.value = self._dense(num_heads * head_width, "value", self.kernel_initializer)
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def _dense(self, units, name, initializer):
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=parts.fresh(initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, x_shape, memory_shape=None, values_shape=None):
        width = x_shape[-1]
        memory_width = width if memory_shape is None else memory_shape[-1]
        values_width = memory_width if values_shape is None else values_shape[-1]
        self.output_dense = self._dense(
            width, "output", self.output_initializer or self.kernel_initializer
        )
        self.query.build((None, width))
        self.key.build((None, memory_width))
        self.value.build((None, values_width))
        self.output_dense.build((None, self.num_heads * self.head_width))

    def call(
        self, x, memory=None, attention_mask=None, bias=None, rotation=None, return_scores=False,
        training=None, values=None,
    ):  # fmt: skip
        masks.check(attention_mask)
        if self.window is not None and (memory is not None or bias is not None):
            what = "another sequence" if memory is not None else "a bias"
            raise ValueError(
                f"Attention within a window of {self.window} tokens is self-attention with a "
                f"padding mask; {what} came. Leave it out, or make the layer without `window`."
            )
        source = x if memory is None else memory
        query = self._project(self.query, x)
        key = self._project(self.key, source)
        value = self._project(self.value, source if values is None else values)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        dropping = bool(training) and self.dropout > 0
        drop = (lambda scores: self.drop(scores, training=True)) if dropping else None
        output, scores = self._attend(query, key, value, attention_mask, bias, drop, return_scores)
        rows = ops.reshape(output, (-1, self.num_heads * self.head_width))
        output = ops.reshape(self.output_dense(rows), ops.shape(x))
        return (output, scores) if return_scores else output

    def _attend(self, query, key, value, mask, bias, drop, return_scores):
        """Output (B, T, H, K), and the scores (B, H, T, S) or None."""
        settings = {"scale": self.scale, "drop": drop}
        if return_scores:
            if self.window is not None:
                mask = masks.both(masks.band(ops.shape(query)[1], self.window), mask)
            return kernels.plain_attention(query, key, value, mask, bias, **settings)
        if self.window is not None:
            return local_attention(query, key, value, mask, window=self.window, **settings), None
        return kernels.attention(query, key, value, mask, bias, **settings), None

    def _project(self, dense, x):
        """(B, T, D) -> (B, T, H, K), as one product of matrices."""
        rows = dense(ops.reshape(x, (-1, x.shape[-1])))
        batch, length = ops.shape(x)[:2]
        return ops.reshape(rows, (batch, length, self.num_heads, self.head_width))

    def compute_output_spec(
        self, x, memory=None, attention_mask=None, bias=None, rotation=None, return_scores=False,
        training=None, values=None,
    ):  # fmt: skip
        output = keras.KerasTensor(x.shape, self.compute_dtype)
        if not return_scores:
            return output
        key_length = (x if memory is None else memory).shape[1]
        scores = (x.shape[0], self.num_heads, x.shape[1], key_length)
        return output, keras.KerasTensor(scores, self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "head_width": self.head_width,
            "dropout": self.dropout,
            "scale": self.scale,
            "window": self.window,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": keras.initializers.serialize(self.output_initializer),
        }
