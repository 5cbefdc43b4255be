"""Activation functions under the names that checkpoints call them by (`hidden_act`)."""

import keras
from keras import ops

from kbert.layers import kernels


@keras.saving.register_keras_serializable("kbert")
def gelu_exact(x):
    """GELU with the error function, BERT's `gelu`."""
    return kernels.gelu(x)


@keras.saving.register_keras_serializable("kbert")
def gelu_tanh(x):
    """GELU by its tanh approximation, `gelu_new` and `gelu_pytorch_tanh`."""
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": gelu_exact,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
    "swish": keras.activations.silu,
    "tanh": keras.activations.tanh,
}


def activation_function(name):
    """The function that a checkpoint's `hidden_act` names.

    Raises:
        ValueError: the name is not in `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"activation {name!r} is not known; expected one of {known}.")
    return ACTIVATIONS[name]
