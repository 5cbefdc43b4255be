"""Activations under the names that checkpoints call them by."""

import numpy as np
import pytest
from harness import to_numpy

from kbert.layers.activations import ACTIVATIONS, activation_function

# The value at 1 and at -2.
BY_HAND = {
    "gelu": (0.8413447461, -0.0455002639),  # x · Φ(x)
    "gelu_new": (0.8411919906, -0.0454023059),  # 0.5x(1 + tanh(√(2/π)(x + 0.044715x³)))
    "gelu_pytorch_tanh": (0.8411919906, -0.0454023059),
    "relu": (1.0, 0.0),
    "silu": (0.7310585786, -0.2384058440),  # x / (1 + exp(-x))
    "swish": (0.7310585786, -0.2384058440),
    "tanh": (0.7615941560, -0.9640275801),
}


def test_every_activation_has_a_value_by_hand():
    assert set(BY_HAND) == set(ACTIVATIONS)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_an_activation_has_its_value_by_hand(name, training):
    result = to_numpy(activation_function(name)(np.array([1, -2], "float32"), training))
    np.testing.assert_allclose(result, BY_HAND[name], atol=1e-6)


@pytest.mark.parametrize("name", BY_HAND)
def test_an_activation_is_the_one_that_transformers_knows_by_this_name(name):
    torch = pytest.importorskip("torch")
    from transformers.activations import ACT2FN

    x = np.linspace(-7, 7, 101, dtype="float32")
    theirs = ACT2FN[name](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(to_numpy(activation_function(name)(x, False)), theirs, atol=1e-6)


def test_an_unknown_activation_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="activation 'gleu' is not known; expected one of gelu, "):
        activation_function("gleu")
