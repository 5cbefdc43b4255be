"""A sub-layer with its residual connection, normalised after or before."""

import numpy as np
import pytest
import reference
from harness import assert_near, numbers, randomize, to_numpy

from kbert.layers.normalization import LayerNormalization
from kbert.layers.residual import PostNorm, PreNorm

B, T, D = 2, 5, 13
X = numbers(B, T, D)

# The norm of (1, 3) is (-1, 1): mean 2, variance 1.
ONE_THREE = np.array([[[1, 3]]], "float32")


def built(residual, width=D):
    residual.build((None, None, width))
    randomize(residual)
    return residual


def test_post_norm_by_hand():
    # (1, 3) + 10 · (1, 3) + 7 = (18, 40), normalised (-1, 1).
    layer = PostNorm(LayerNormalization())
    result = layer(ONE_THREE, sublayer=lambda x: 10 * x + 7)
    np.testing.assert_allclose(to_numpy(result), [[[-1, 1]]], atol=1e-6)


def test_pre_norm_by_hand():
    # (1, 3) normalised (-1, 1); 10 · (-1, 1) + 7 = (-3, 17); with (1, 3) added (-2, 20).
    layer = PreNorm(LayerNormalization())
    result = layer(ONE_THREE, sublayer=lambda x: 10 * x + 7)
    np.testing.assert_allclose(to_numpy(result), [[[-2, 20]]], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "formula"), [(PostNorm, reference.post_norm), (PreNorm, reference.pre_norm)]
)
def test_the_norms_own_weights_are_used(kind, formula):
    layer = built(kind(LayerNormalization()))
    expected = formula(layer, X.astype("float64"), lambda x: 3 * x - 1)
    assert_near(layer(X, sublayer=lambda x: 3 * x - 1), expected, 1e-5)


def test_pre_norm_leaves_a_clear_path_and_post_norm_does_not():
    def nothing(x):
        return 0 * x

    np.testing.assert_array_equal(to_numpy(PreNorm(LayerNormalization())(X, sublayer=nothing)), X)
    rows = to_numpy(PostNorm(LayerNormalization())(X, sublayer=nothing))
    np.testing.assert_allclose(rows.mean(-1), 0, atol=1e-6)


@pytest.mark.parametrize("kind", [PostNorm, PreNorm])
def test_only_the_sublayers_output_is_dropped_and_only_when_training(kind):
    layer = kind(LayerNormalization(), dropout=0.5)
    seen = []

    def one(x):
        seen.append(to_numpy(x))
        return 0 * x + 1

    def difference(training):
        result = to_numpy(layer(X, sublayer=one, training=training))
        return np.abs(result - to_numpy(layer(X, sublayer=one))).max()

    assert difference(training=False) == 0
    assert difference(training=True) > 0.1
    assert all(np.array_equal(x, seen[0]) for x in seen)
