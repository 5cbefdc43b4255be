"""Dropout, the layer; its numbers are held against Keras's in test_kernels.py."""

import numpy as np
import pytest
from harness import numbers, to_numpy

from kbert.layers.dropout import Dropout

X = numbers(7, 11, 13)


def test_a_value_is_dropped_or_divided_by_what_is_kept():
    dropped = to_numpy(Dropout(0.25)(X, training=True))
    kept = dropped != 0
    assert 0.6 < kept.mean() < 0.9
    np.testing.assert_allclose(dropped[kept], X[kept] / 0.75, rtol=1e-6)


@pytest.mark.parametrize("training", [False, None])
def test_nothing_is_dropped_unless_training(training):
    np.testing.assert_array_equal(to_numpy(Dropout(0.5)(X, training=training)), X)


def test_a_rate_of_zero_drops_nothing_and_holds_no_seed():
    layer = Dropout(0.0)
    np.testing.assert_array_equal(to_numpy(layer(X, training=True)), X)
    assert not layer.variables


def test_one_seed_drops_the_same_values():
    first, second = (to_numpy(Dropout(0.5, seed=3)(X, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_a_rate_that_is_no_probability_below_one_is_refused(rate):
    with pytest.raises(ValueError, match=f"a probability from 0 up to 1; got {rate}"):
        Dropout(rate)
