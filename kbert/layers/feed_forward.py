"""The position-wise feed-forward network."""

import keras
from keras import ops

from kbert.layers import parts
from kbert.layers.activations import activation_function
from kbert.layers.dropout import Dropout


@keras.saving.register_keras_serializable("kbert")
class FeedForward(keras.layers.Layer):
    """activation(x W₁ + b₁) W₂ + b₂, the same at every position (Vaswani et al. 2017, eq. 2).

    Args:
        inner_width: int, F.
        activation: str, a name of `activations.ACTIVATIONS`; "relu" in the paper, "gelu" in BERT.
        dropout: float, probability of dropping an inner value (0 in BERT).
        kernel_initializer: a Keras initializer.

    Call: x, float (B, T, D) -> float (B, T, D).
    """

    def __init__(
        self,
        inner_width,
        activation="gelu",
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.inner_width = inner_width
        self.activation = activation
        self.activate = activation_function(activation)
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.inner = keras.layers.Dense(
            inner_width,
            kernel_initializer=parts.fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name="inner",
        )
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def build(self, input_shape):
        width = input_shape[-1]
        self.outer = keras.layers.Dense(
            width,
            kernel_initializer=parts.fresh(self.kernel_initializer),
            dtype=self.dtype_policy,
            name="outer",
        )
        self.inner.build((None, width))
        self.outer.build((None, self.inner_width))

    def call(self, x, training=None):
        # Rows in a matrix: one plain product per layer on every backend, which TensorFlow fuses
        # with its bias and activation.
        rows = ops.reshape(x, (-1, x.shape[-1]))
        inner = self.activate(self.inner(rows), bool(training))
        rows = self.outer(self.drop(inner, training=training))
        return ops.reshape(rows, ops.shape(x))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "inner_width": self.inner_width,
            "activation": self.activation,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("kbert")
class GatedFeedForward(keras.layers.Layer):
    """(activation(x W) ⊙ x V) W₂ (Shazeer 2020, eq. 6: GEGLU if the activation is GELU); no biases.

    W and V are one matrix, [W V], and one product.

    Args:
        inner_width: int, F: the columns of W, and of V.
        activation: str, a name of `activations.ACTIVATIONS`.
        dropout: float, probability of dropping an inner value.
        kernel_initializer: a Keras initializer.
        outer_initializer: that of W₂; default the same.

    Call: x, float (B, T, D) -> float (B, T, D).
    """

    def __init__(
        self,
        inner_width,
        activation="gelu",
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        outer_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.inner_width = inner_width
        self.activation = activation
        self.activate = activation_function(activation)
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.outer_initializer = keras.initializers.get(outer_initializer)
        self.inner = self._dense(2 * inner_width, "inner", self.kernel_initializer)
        self.drop = Dropout(dropout, dtype=self.dtype_policy, name="drop")

    def _dense(self, units, name, initializer):
        return keras.layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=parts.fresh(initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape):
        width = input_shape[-1]
        initializer = self.outer_initializer or self.kernel_initializer
        self.outer = self._dense(width, "outer", initializer)
        self.inner.build((None, width))
        self.outer.build((None, self.inner_width))

    def call(self, x, training=None):
        rows = ops.reshape(x, (-1, x.shape[-1]))  # one plain product of matrices, as FeedForward
        inner, gate = ops.split(self.inner(rows), 2, axis=-1)
        inner = self.activate(inner, bool(training)) * gate
        rows = self.outer(self.drop(inner, training=training))
        return ops.reshape(rows, ops.shape(x))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "inner_width": self.inner_width,
            "activation": self.activation,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "outer_initializer": keras.initializers.serialize(self.outer_initializer),
        }
