"""Activation functions under the names that checkpoints call them by (`hidden_act`)."""

import keras
from keras import ops

from kbert.layers import kernels

# Each takes (x, training): float (…) and whether gradients will be taken.
ACTIVATIONS = {
    "gelu": kernels.gelu,  # with the error function
    "gelu_new": lambda x, training: ops.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x, training: ops.gelu(x, approximate=True),
    "relu": lambda x, training: keras.activations.relu(x),
    "silu": lambda x, training: keras.activations.silu(x),
    "swish": lambda x, training: keras.activations.silu(x),
    "tanh": lambda x, training: keras.activations.tanh(x),
}


def activation_function(name):
    """The function (x, training) that a checkpoint's `hidden_act` names.

    Raises:
        ValueError: the name is not in `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"activation {name!r} is not known; expected one of {known}.")
    return ACTIVATIONS[name]


@keras.saving.register_keras_serializable("kbert")
class Activation(keras.layers.Layer):
    """An activation function of `ACTIVATIONS` as a layer, float (…) -> float (…); no weights."""

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = activation
        self.activate = activation_function(activation)

    def call(self, x, training=None):
        return self.activate(x, bool(training))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}
