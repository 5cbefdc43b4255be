"""Attention within a window: as full attention with a band mask, at the cost of the window."""

import numpy as np
import pytest
from harness import BACKEND, WAYS, numbers, to_numpy, value_and_gradients
from keras import ops

from kbert.layers import kernels, masks
from kbert.layers.local_attention import local_attention

B, H, K, WINDOW, SCALE = 2, 3, 5, 3, 0.29
# One block; five blocks, the last with two places empty; five full ones.
LENGTHS = (11, 13, 15)
SHARE = {"float32": 1e-5, "bfloat16": 0.03}


def arrays_of(length):
    """Query, key and value."""
    return [numbers(B, length, H, K, seed=seed) for seed in range(3)]


def some_padding(length):
    """(B, 1, 1, T): a whole text, and one that ends early and has a hole."""
    real = np.ones((B, length), bool)
    real[1, length - 4 :] = False
    real[1, 2] = False
    return real[:, None, None]


def within_window(mask):
    def function(query, key, value):
        return local_attention(query, key, value, mask, window=WINDOW, scale=SCALE)

    return function


def full_with_band(query, key, value, mask):
    band = masks.band(query.shape[1], WINDOW)
    return kernels.plain_attention(query, key, value, masks.both(band, mask), scale=SCALE)[0]


def test_equal_scores_give_the_mean_of_the_window_by_hand():
    value = np.array([1, 2, 4, 8, 16, 32, 64], "float32").reshape(1, 7, 1, 1)
    zeros = ops.zeros((1, 7, 1, 1))
    output = local_attention(zeros, zeros, ops.convert_to_tensor(value), window=1, scale=1.0)
    expected = [3 / 2, 7 / 3, 14 / 3, 28 / 3, 56 / 3, 112 / 3, 96 / 2]
    np.testing.assert_allclose(to_numpy(output).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", SHARE)
@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_full_attention_with_a_band_mask_with_its_gradients(length, dtype, way):
    arrays, mask = arrays_of(length), some_padding(length)
    # What padding says is for nobody to read: no gradient comes from it.
    cotangent = numbers(B, length, H, K, seed=8) * mask.transpose(0, 3, 1, 2)
    fast = within_window(ops.convert_to_tensor(mask))
    value, gradients = value_and_gradients(fast, arrays, cotangent, dtype=dtype, way=way)
    rounded = [to_numpy(ops.convert_to_tensor(array, dtype)) for array in arrays]
    expected, slopes = value_and_gradients(full_with_band, rounded, cotangent, constants=[mask])
    real = mask[:, 0, 0]
    for ours, theirs in zip((value[real], *gradients), (expected[real], *slopes), strict=True):
        atol = SHARE[dtype] * max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def test_without_a_mask_every_token_is_real():
    tensors = [ops.convert_to_tensor(array) for array in arrays_of(13)]
    everything = ops.ones((1, 1, 1, 13), "bool")
    expected = to_numpy(full_with_band(*tensors, everything))
    for mask in (None, everything):
        np.testing.assert_allclose(to_numpy(within_window(mask)(*tensors)), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", SHARE)
def test_a_text_of_padding_alone_stays_finite(dtype):
    mask = ops.zeros((B, 1, 1, 13), "bool")
    value, gradients = value_and_gradients(
        within_window(mask), arrays_of(13), numbers(B, 13, H, K), dtype=dtype
    )
    assert all(np.isfinite(array).all() for array in (value, *gradients))


def test_the_cost_grows_with_the_length_and_not_with_its_square(monkeypatch):
    scores = []

    def count(query, key, value, **_):
        scores.append(query.shape[0] * query.shape[1] * key.shape[1])
        return query

    monkeypatch.setattr(kernels, "attention", count)
    for length in (101, 1010):
        x = ops.zeros((1, length, 1, 1))
        local_attention(x, x, x, window=7, scale=1.0)
    # Blocks of 7 queries and 21 keys: 15, with 105 places, and 145, with 1015.
    assert scores == [105 * 21, 1015 * 21]


def test_dropout_reaches_the_scores_of_the_blocks():
    tensors = [ops.convert_to_tensor(array) for array in arrays_of(13)]
    shapes = []

    def drop(scores):
        shapes.append(tuple(scores.shape))
        return 2 * scores

    settings = {"window": WINDOW, "scale": SCALE}
    doubled = local_attention(*tensors, drop=drop, **settings)
    assert shapes == [(B * 5, H, WINDOW, 3 * WINDOW)]
    expected = 2 * to_numpy(local_attention(*tensors, **settings))
    np.testing.assert_allclose(to_numpy(doubled), expected, rtol=1e-5, atol=1e-6)


def test_a_mask_that_differs_between_queries_is_refused():
    x = ops.zeros((B, 13, H, K))
    with pytest.raises(ValueError, match=r"takes a mask of keys, \(B, 1, 1, T\); got \(1, 1, 13"):
        local_attention(x, x, x, masks.causal(13, 13), window=3, scale=1.0)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX compiles each length")
@pytest.mark.parametrize("first", [7, 29])
def test_a_graph_of_one_length_serves_all_others(first):
    graph = as_graph(within_window_of, cut(first))
    for length in (1, 4, 12, 13, 15, 29):
        expected = to_numpy(within_window_of(*cut(length)))
        np.testing.assert_allclose(to_numpy(graph(*cut(length))), expected, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others know every length in training")
def test_a_graph_of_open_length_has_the_gradients_of_full_attention():
    import tensorflow as tf

    def gradients(*tensors):
        *tensors, mask, cotangent = tensors
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            output = within_window_of(*tensors, mask)
        return tape.gradient(output, tensors, output_gradients=cotangent)

    for length in (11, 13):
        cotangent = numbers(B, length, H, K, seed=8)
        tensors = [*cut(length), ops.convert_to_tensor(cotangent)]
        found = as_graph(gradients, tensors)(*tensors)
        arrays = [to_numpy(tensor) for tensor in tensors[:3]]
        mask = np.ones((B, 1, 1, length), bool)
        _, expected = value_and_gradients(full_with_band, arrays, cotangent, constants=[mask])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(to_numpy(ours), theirs, atol=1e-5)


def within_window_of(query, key, value, mask):
    return local_attention(query, key, value, mask, window=WINDOW, scale=SCALE)


def cut(length):
    """Query, key, value and a mask of one length."""
    tensors = [numbers(B, 29, H, K, seed=seed)[:, :length] for seed in range(3)]
    return [ops.convert_to_tensor(array) for array in (*tensors, np.ones((B, 1, 1, length), bool))]


def as_graph(function, tensors):
    """A function as a graph whose lengths are open."""
    if BACKEND == "torch":
        import torch

        return torch.jit.trace(function, tensors, check_trace=False)
    import tensorflow as tf

    def opened(shape):
        return [None, *(size if size in (1, H, K) else None for size in shape[1:])]

    specs = [tf.TensorSpec(opened(tensor.shape), tensor.dtype) for tensor in tensors]
    return tf.function(function, input_signature=specs)
