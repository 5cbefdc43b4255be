"""The position-wise feed-forward network."""

import keras
import numpy as np
import pytest
import reference
from harness import assert_near, check_layer, numbers, randomize, to_numpy

from kbert.layers.feed_forward import FeedForward, GatedFeedForward

B, T, D, F = 2, 5, 13, 17
X = numbers(B, T, D)


def feed_forward(*settings, **more):
    layer = FeedForward(F, *settings, **more)
    layer.build((None, None, D))
    randomize(layer)
    return layer


def test_one_position_by_hand():
    # x = (1, 2): inner (1·1 + 2·0, 1·0 - 2·1, 1·1 + 2·1 - 1) = (1, -2, 2), relu (1, 0, 2);
    # outer (1 + 2·3, 0·5 - 2 + 0.5) = (7, -1.5).
    layer = FeedForward(3, "relu")
    layer.build((None, None, 2))
    layer.set_weights(
        [
            np.array([[1, 0, 1], [0, -1, 1]]),
            np.array([0, 0, -1]),
            np.array([[1, 0], [0, 5], [3, -1]]),
            np.array([0, 0.5]),
        ]
    )
    assert to_numpy(layer(np.array([[[1, 2]]], "float32"))).tolist() == [[[7, -1.5]]]


def test_the_default_is_berts_gelu():
    layer = feed_forward()
    assert_near(layer(X), reference.feed_forward(layer, X.astype("float64")), 1e-5)


def test_every_position_is_treated_alike():
    layer = feed_forward()
    whole = to_numpy(layer(X))
    np.testing.assert_allclose(to_numpy(layer(X[:, ::-1])), whole[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(to_numpy(layer(X[:, 2:3])), whole[:, 2:3], atol=1e-6)


def test_dropout_is_active_only_when_training():
    layer = feed_forward("relu", 0.5)
    plain = to_numpy(layer(X))
    np.testing.assert_array_equal(to_numpy(layer(X, training=False)), plain)
    assert np.abs(to_numpy(layer(X, training=True)) - plain).max() > 1e-3


def test_two_kernels_of_one_shape_do_not_start_equal():
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    layer = FeedForward(D, kernel_initializer=initializer)
    layer.build((None, None, D))
    difference = to_numpy(layer.inner.kernel) - to_numpy(layer.outer.kernel)
    assert np.abs(difference).max() > 1e-3


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation 'gleu' is not known"):
        FeedForward(F, "gleu")


def test_feed_forward_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return FeedForward(F, "gelu_new", dtype=dtype)

    check_layer(make, {"x": X}, tmp_path)


# Gated


def test_a_gated_position_by_hand():
    # x = (1, 2): W gives (1·1 + 2·0, 1·0 - 2·1) = (1, -2), relu (1, 0); V gives (1 + 4, 0 + 14) =
    # (5, 14); the product (5, 0); W₂ (5·1, 5·3) = (5, 15).
    layer = GatedFeedForward(2, "relu")
    layer.build((None, None, 2))
    layer.set_weights([np.array([[1, 0, 1, 0], [0, -1, 2, 7]]), np.array([[1, 3], [11, 13]])])
    assert to_numpy(layer(np.array([[[1, 2]]], "float32"))).tolist() == [[[5, 15]]]


def test_the_default_gate_is_that_of_geglu():
    layer = GatedFeedForward(F)
    layer.build((None, None, D))
    randomize(layer)
    inner, outer = (
        to_numpy(dense.kernel).astype("float64") for dense in (layer.inner, layer.outer)
    )
    expected = (reference.gelu(X @ inner[:, :F]) * (X @ inner[:, F:])) @ outer
    assert_near(layer(X), expected, 1e-5)


def test_dropout_of_a_gated_network_is_active_only_when_training():
    layer = GatedFeedForward(F, dropout=0.5)
    plain = to_numpy(layer(X))
    np.testing.assert_array_equal(to_numpy(layer(X, training=False)), plain)
    assert np.abs(to_numpy(layer(X, training=True)) - plain).max() > 1e-3


def test_a_gated_network_draws_its_second_matrix_as_it_is_told():
    wide, narrow = (keras.initializers.TruncatedNormal(stddev=s) for s in (0.2, 0.002))
    layer = GatedFeedForward(97, kernel_initializer=wide, outer_initializer=narrow)
    layer.build((None, None, 89))
    assert to_numpy(layer.inner.kernel).std() == pytest.approx(0.176, abs=5e-3)
    assert to_numpy(layer.outer.kernel).std() == pytest.approx(0.00176, abs=5e-5)
    assert [weight.name for weight in layer.weights] == ["kernel", "kernel"]


def test_gated_feed_forward_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return GatedFeedForward(F, "silu", dtype=dtype)

    check_layer(make, {"x": X}, tmp_path)
