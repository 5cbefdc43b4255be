"""A convolution over neighbours against the formula, token by token."""

import keras
import numpy as np
import pytest
import reference
from harness import assert_near, check_layer, numbers, randomize, to_numpy

from kbert.layers.convolution import NeighbourConvolution
from kbert.layers.normalization import LayerNormalization

B, T, D = 2, 7, 15
X, RESIDUAL = numbers(B, T, D, seed=1), numbers(B, T, D, seed=2)
PADDING = np.array([[True] * T, [True, True, False, True, True, False, False]])


def convolution(size=3, activation="tanh", num_groups=1, dropout=0.0, dtype=None):
    norm = LayerNormalization(1e-7, dtype=dtype, name="norm")
    return NeighbourConvolution(norm, size, activation, num_groups, dropout, dtype=dtype, name="c")


def built(*settings):
    layer = convolution(*settings)
    layer.build((None, None, D))
    randomize(layer)
    return layer


@pytest.mark.parametrize(("size", "num_groups"), [(1, 1), (3, 1), (3, 5), (5, 3)])
def test_a_token_reads_its_neighbours_of_its_own_group(size, num_groups):
    layer = built(size, "tanh", num_groups)
    kernel, bias = to_numpy(layer.kernel), to_numpy(layer.bias)
    group, half = D // num_groups, size // 2
    assert kernel.shape == (size, group, D)
    expected = np.zeros((B, T, D))
    for b, t, g in np.ndindex(B, T, num_groups):
        channels = slice(g * group, (g + 1) * group)
        found = bias[channels].astype("float64")
        for place in range(max(0, t - half), min(T, t + half + 1)):
            if PADDING[b, place]:
                found = found + X[b, place, channels] @ kernel[place - t + half][:, channels]
        expected[b, t, channels] = np.tanh(found)
    expected = reference.layer_norm(layer.norm, RESIDUAL + expected * PADDING[..., None])
    assert_near(layer(X, RESIDUAL, PADDING), expected * PADDING[..., None], 1e-5)


def test_it_is_pytorchs_convolution_with_the_kernel_transposed():
    import torch

    layer = built(3, "relu", 5)
    theirs = torch.nn.Conv1d(D, D, 3, padding=1, groups=5)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(to_numpy(layer.kernel).T))
        theirs.bias.copy_(torch.tensor(to_numpy(layer.bias)))
        found = theirs(torch.tensor(X).transpose(1, 2)).transpose(1, 2).relu().numpy()
    expected = reference.layer_norm(layer.norm, RESIDUAL + found)
    assert_near(layer(X, RESIDUAL, np.ones((B, T), bool)), expected, 1e-5)


def test_padding_gives_zeros_and_is_read_as_zeros():
    layer = built()
    other = np.where(PADDING[..., None], X, 97).astype("float32")
    before, after = (to_numpy(layer(x, RESIDUAL, PADDING)) for x in (X, other))
    np.testing.assert_array_equal(after, before)
    assert np.abs(before[~PADDING]).max() == 0
    assert np.abs(before[PADDING]).min() > 0


def test_dropout_is_there_in_training_only():
    layer = built(3, "tanh", 1, 0.5)
    x = keras.ops.convert_to_tensor(X)
    first, second = (to_numpy(layer(x, RESIDUAL, PADDING, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.01
    assert_near(layer(x, RESIDUAL, PADDING), layer(x, RESIDUAL, PADDING, training=False), 0)


def test_an_even_size_and_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="over 4 tokens came; expected an odd number"):
        convolution(4)
    with pytest.raises(ValueError, match="width 15 does not divide into 7 groups"):
        built(3, "tanh", 7)


def test_it_does_what_every_layer_must(tmp_path):
    inputs = {"x": X, "residual": RESIDUAL, "padding_mask": PADDING}
    check_layer(lambda dtype: convolution(3, "gelu", 3, dtype=dtype), inputs, tmp_path)
