"""Layer normalisation."""

import numpy as np
import pytest
import reference
from harness import assert_near, check_layer, numbers, randomize, to_numpy

from kbert.layers.normalization import BiaslessLayerNormalization, LayerNormalization

B, T, D = 2, 5, 13


def test_three_numbers_by_hand():
    # 1, 2, 6: mean 3, variance 14/3; with epsilon 1/3 the root of 5.
    layer = LayerNormalization(epsilon=1 / 3)
    result = to_numpy(layer(np.array([[1, 2, 6]], "float32")))
    np.testing.assert_allclose(result, [[-2 / 5**0.5, -1 / 5**0.5, 3 / 5**0.5]], rtol=1e-6)


def test_gamma_and_beta_scale_and_shift_each_column():
    layer = LayerNormalization()
    layer.build((None, None, D))
    randomize(layer)
    x = 3 + numbers(B, T, D)
    assert_near(layer(x), reference.layer_norm(layer, x.astype("float64")), 1e-5)


def test_every_row_has_mean_0_and_variance_1_whatever_its_own_were():
    layer = LayerNormalization()
    x = numbers(B, T, D)
    rows = to_numpy(layer(x))
    np.testing.assert_allclose(rows.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(rows.var(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(layer(7 * x + 11)), rows, atol=1e-5)


def test_without_beta_it_is_the_same_with_a_beta_of_zero():
    layer, other = BiaslessLayerNormalization(1e-7), LayerNormalization(1e-7)
    for one in (layer, other):
        one.build((None, None, D))
    assert [weight.path.split("/")[-1] for weight in layer.weights] == ["gamma"]
    layer.gamma.assign(1 + numbers(D))
    other.gamma.assign(1 + numbers(D))
    x = 3 + numbers(B, T, D, seed=1)
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(other(x)))


@pytest.mark.parametrize("kind", [LayerNormalization, BiaslessLayerNormalization])
def test_layer_normalization_saves_trains_compiles_and_computes_in_bfloat16(kind, tmp_path):
    def make(dtype):
        return kind(1e-7, dtype=dtype)

    check_layer(make, {"x": numbers(B, T, D)}, tmp_path)
