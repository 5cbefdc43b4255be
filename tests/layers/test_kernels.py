"""Every fast form against its plain form, in value and gradient, and both against plain Python."""

import inspect
import math

import keras
import numpy as np
import pytest
from harness import BACKEND, WAYS, numbers, to_numpy, value_and_gradients
from keras import ops

from kbert.layers import kernels

B, T, S, H, K, D = 2, 5, 7, 3, 11, 13
SCALE = 0.29  # Not K**-0.5, so that a form which forgets it is found out.

# bfloat16 keeps 8 bits: a share of 2**-8 per rounding, and a handful of roundings.
SHARE = {"float32": 1e-5, "bfloat16": 0.03}

every_way = pytest.mark.parametrize("way", WAYS)
every_dtype = pytest.mark.parametrize("dtype", SHARE)


def assert_agree(got, expected, dtype):
    """A value and its gradients agree within what `dtype` holds."""
    for ours, theirs in zip((got[0], *got[1]), (expected[0], *expected[1]), strict=True):
        assert np.isfinite(ours).all()
        atol = SHARE[dtype] * max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def rounded(arrays, dtype):
    return [to_numpy(ops.convert_to_tensor(array, dtype)) for array in arrays]


def test_every_plain_form_is_held_against_its_fast_forms_here():
    plain = {name for name, _ in inspect.getmembers(kernels) if name.startswith("plain_")}
    assert plain == {
        "plain_attention",
        "plain_dropout",
        "plain_gelu",
        "plain_layer_normalization",
    }


# Layer normalization


@every_way
@every_dtype
@pytest.mark.parametrize("shape", [(B, D), (B, T, D), (B, T, H, D)])
def test_layer_normalization_equals_its_plain_form_with_its_gradients(shape, dtype, way):
    arrays = (3 + 2 * numbers(*shape, seed=1), 1 + numbers(D, seed=2), numbers(D, seed=3))

    cotangent = numbers(*shape, seed=4)

    def fast(*tensors):
        return kernels.layer_normalization(*tensors, 1e-5)

    got = value_and_gradients(fast, arrays, cotangent, dtype=dtype, way=way)
    expected = value_and_gradients(plain_normalization, rounded(arrays, dtype), cotangent)
    assert_agree(got, expected, dtype)


def plain_normalization(*tensors):
    return kernels.plain_layer_normalization(*tensors, 1e-5)


@pytest.mark.parametrize("form", ["layer_normalization", "plain_layer_normalization"])
def test_layer_normalization_of_three_numbers_by_hand(form):
    # 1, 2, 6: mean 3, variance (4 + 1 + 9) / 3 = 14/3; with epsilon 1/3 the root of 5.
    x = np.array([[1, 2, 6]], "float32")
    gamma, beta = np.array([1, 10, 100], "float32"), np.array([0.5, 0, -1], "float32")
    result = to_numpy(getattr(kernels, form)(*map(ops.convert_to_tensor, (x, gamma, beta)), 1 / 3))
    root = math.sqrt(5)
    expected = [[-2 / root + 0.5, -10 / root, 300 / root - 1]]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


# XLA takes the variance of TensorFlow's batch normalisation as the mean of squares less the square
# of the mean, which cancels where the mean is far from zero.
@every_way
@every_dtype
def test_layer_normalization_of_equal_numbers_is_beta_and_its_gradients_are_finite(dtype, way):
    arrays = (np.full((B, D), 7, "float32"), 1 + numbers(D, seed=1), numbers(D, seed=2))
    for epsilon in (1e-5, 1e-12):
        value, gradients = value_and_gradients(
            lambda *tensors, epsilon=epsilon: kernels.layer_normalization(*tensors, epsilon),
            arrays,
            numbers(B, D, seed=3),
            dtype=dtype,
            way=way,
        )
        assert all(np.isfinite(array).all() for array in (value, *gradients))
        if epsilon == 1e-5:  # Above the rounding of a mean of sevens; 1e-12 is below it.
            np.testing.assert_allclose(value, np.tile(arrays[2], (B, 1)), rtol=2**-8, atol=1e-3)


@every_way
@every_dtype
def test_layer_normalization_without_beta_is_that_with_zeros(dtype, way):
    arrays, cotangent = (3 + 2 * numbers(B, T, D, seed=1), 1 + numbers(D, seed=2)), numbers(B, T, D)
    zeros = np.zeros(D, "float32")
    got = value_and_gradients(
        lambda x, gamma: kernels.layer_normalization(x, gamma, None, 1e-5),
        arrays, cotangent, dtype=dtype, way=way,
    )  # fmt: skip
    value, gradients = value_and_gradients(
        plain_normalization, (*rounded(arrays, dtype), zeros), cotangent
    )
    assert_agree(got, (value, gradients[:2]), dtype)
    plain = kernels.plain_layer_normalization(*map(ops.convert_to_tensor, arrays), None, 1e-5)
    assert_agree((to_numpy(plain), []), (value, []), dtype)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="oneDNN's operation is TensorFlow's")
@pytest.mark.parametrize("has_beta", [True, False])
def test_tensorflow_makes_one_operation_of_layer_normalization(has_beta):
    """The pattern is easily broken: this form alone is slower than the plain one."""
    import tensorflow as tf
    from tensorflow.python.eager import context
    from tensorflow.python.util import _pywrap_util_port

    if not _pywrap_util_port.IsMklEnabled():
        pytest.skip("TensorFlow uses oneDNN on CPUs with AVX512_VNNI or better only")
    specs = [tf.TensorSpec(shape) for shape in ([None, None, D], [D], [D])]
    function = tf.function(
        lambda x, gamma, beta: kernels.layer_normalization(
            tf.nn.relu(x), gamma, beta if has_beta else None, 1e-12
        )
    ).get_concrete_function(*specs)
    context.enable_run_metadata()
    try:
        function(tf.ones([2, 3, D]), tf.ones([D]), tf.ones([D]))
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    operations = [node.op for graph in graphs for node in graph.node]
    assert "_MklLayerNorm" in operations


@every_way
def test_layer_normalization_keeps_its_precision_far_from_zero(way):
    x = 1000 + numbers(B, D, seed=1)
    wide = x.astype("float64")
    centred = wide - wide.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    value, _ = value_and_gradients(
        lambda x, gamma, beta: kernels.layer_normalization(x, gamma, beta, 1e-12),
        (x, np.ones(D), np.zeros(D)),
        np.ones_like(x),
        way=way,
    )
    # float32 holds 1000 to 6e-5.
    np.testing.assert_allclose(value, expected, rtol=0, atol=5e-4)


# GELU


@every_way
@every_dtype
@pytest.mark.parametrize("training", [False, True])
def test_gelu_and_its_gradient_are_those_of_the_exact_error_function(training, dtype, way):
    x = np.concatenate([np.linspace(-11, 11, 223), [0.0, -40.0, 40.0]]).astype("float32")
    x = to_numpy(ops.convert_to_tensor(x, dtype))
    value, (slope,) = value_and_gradients(
        lambda x: kernels.gelu(x, training), [x], np.ones_like(x), dtype=dtype, way=way
    )
    wide = x.astype("float64")
    phi = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in wide])
    density = np.exp(-(wide**2) / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(value, wide * phi, rtol=SHARE[dtype], atol=SHARE[dtype] / 2)
    np.testing.assert_allclose(slope, phi + wide * density, rtol=0, atol=SHARE[dtype])


def test_gelu_is_not_its_tanh_approximation():
    result = to_numpy(kernels.gelu(ops.convert_to_tensor(np.array([-2.0], "float32"))))
    assert result == pytest.approx(-0.0455002639, abs=1e-7)  # tanh gives -0.0454023.


# Dropout


@every_way
@every_dtype
@pytest.mark.parametrize("form", ["dropout", "plain_dropout"])
def test_dropout_keeps_its_share_scaled_up_and_passes_gradients_where_it_kept(form, dtype, way):
    x = np.full((101, 103), 3, "float32")
    seed = keras.random.SeedGenerator(7)

    def drop(x):
        return getattr(kernels, form)(x, 0.3, seed)

    value, (gradient,) = value_and_gradients(
        drop, [x], np.ones_like(x), dtype=dtype, way="eager" if BACKEND == "jax" else way
    )
    kept = value != 0
    np.testing.assert_allclose(value[kept], 3 / 0.7, rtol=SHARE[dtype])
    np.testing.assert_allclose(gradient, kept / 0.7, rtol=SHARE[dtype])
    # Four standard deviations of the mean of 10,403 coins; a row or column has 5 of its own.
    assert kept.mean() == pytest.approx(0.7, abs=0.018)
    assert np.abs(kept.mean(axis=0) - 0.7).max() < 0.23
    assert np.abs(kept.mean(axis=1) - 0.7).max() < 0.23


@pytest.mark.parametrize("shape", [(1,), (2, 3, 5)])
def test_dropout_drops_other_values_at_every_call_and_the_same_from_one_seed(shape):
    x = ops.ones((13, *shape))
    seed, again = keras.random.SeedGenerator(5), keras.random.SeedGenerator(5)
    first, second, third = (to_numpy(kernels.dropout(x, 0.5, s)) for s in (seed, seed, again))
    assert first.shape == (13, *shape)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, third)


# Attention


def some_padding():
    return np.arange(S)[None, None, None] < np.array([S, 3])[:, None, None, None]


def some_pairs():
    """Every query may attend to something, each to other keys."""
    mask = np.random.default_rng(5).random((B, 1, T, S)) < 0.5
    mask[..., 2] = True
    return mask


def one_row_forbidden():
    mask = np.broadcast_to(some_padding(), (B, 1, T, S)).copy()
    mask[1, 0, 3] = False
    return mask


def causal(length):
    return np.tril(np.ones((length, length), bool))


# name: (key length, mask, bias)
CASES = {
    "all keys": (S, None, None),
    "padding": (S, some_padding(), None),
    "pairs of each head": (S, np.random.default_rng(6).random((B, H, T, S)) < 0.8, None),
    "causal": (T, causal(T)[None, None], None),
    "causal, two axes": (T, causal(T), None),
    "one query may see nothing": (S, one_row_forbidden(), None),
    "bias": (S, None, numbers(1, H, T, S, seed=7)),
    "bias of each key": (S, None, numbers(B, 1, 1, S, seed=7)),
    "bias, two axes": (S, None, numbers(T, S, seed=7)),
    "bias and padding": (S, some_padding(), numbers(1, H, T, S, seed=7)),
    "bias and a query that may see nothing": (S, one_row_forbidden(), numbers(B, H, T, S, seed=7)),
}


def attention_arrays(key_length):
    """Query, key and value."""
    return [
        numbers(B, length, H, K, seed=seed)
        for seed, length in enumerate((T, key_length, key_length))
    ]


def seeing(mask):
    """1 where a query may attend to something, 0 where its output is for nobody to read."""
    if mask is None:
        return np.ones((B, T, H, 1), "float32")
    sees = np.broadcast_to(mask, np.broadcast_shapes(mask.shape, (B, H, T, 1))).any(-1)
    return sees.transpose(0, 2, 1)[..., None].astype("float32")


def fast_attention(mask, bias, drop=None):
    """The fast form as a function of query, key and value."""
    extra = [None if array is None else ops.convert_to_tensor(array) for array in (mask, bias)]

    def fast(query, key, value):
        return kernels.attention(query, key, value, *extra, scale=SCALE, drop=drop)

    return fast


def plain_attention(query, key, value, mask, bias, kept):
    def drop(scores):
        return scores * kept

    return kernels.plain_attention(query, key, value, mask, bias, scale=SCALE, drop=drop)[0]


def expected_attention(arrays, mask, bias, cotangent, kept=1.0):
    """By the plain form, with every argument in full."""
    shape = (B, H, T, arrays[1].shape[1])
    mask = np.broadcast_to(True if mask is None else mask, shape)
    bias = np.broadcast_to(np.float32(0) if bias is None else bias, shape)
    kept = np.broadcast_to(np.float32(kept), shape)
    return value_and_gradients(plain_attention, arrays, cotangent, constants=(mask, bias, kept))


NARROW_CASES = ("pairs of each head", "one query may see nothing", "bias and padding")


@every_way
@pytest.mark.parametrize(
    ("dtype", "case"),
    [("float32", case) for case in CASES] + [("bfloat16", case) for case in NARROW_CASES],
)
def test_attention_equals_its_plain_form_with_its_gradients(dtype, case, way):
    key_length, mask, bias = CASES[case]
    # A row that may attend to nothing is read by nobody: no gradient comes from it.
    cotangent = numbers(B, T, H, K, seed=8) * seeing(mask)
    arrays = attention_arrays(key_length)
    got = value_and_gradients(fast_attention(mask, bias), arrays, cotangent, dtype=dtype, way=way)
    assert_agree(got, expected_attention(rounded(arrays, dtype), mask, bias, cotangent), dtype)


@every_way
def test_attention_with_dropped_scores_equals_its_plain_form(way):
    kept = (np.random.default_rng(9).random((B, H, T, S)) < 0.7).astype("float32") / 0.7
    mask, arrays, cotangent = some_padding(), attention_arrays(S), numbers(B, T, H, K, seed=8)
    factor = ops.convert_to_tensor(kept)
    fast = fast_attention(mask, None, drop=lambda scores: scores * factor)
    got = value_and_gradients(fast, arrays, cotangent, way=way)
    assert_agree(got, expected_attention(arrays, mask, None, cotangent, kept), "float32")


@every_way
@every_dtype
def test_a_query_that_may_attend_to_nothing_gets_the_mean_of_all_values(dtype, way):
    arrays = attention_arrays(S)
    fast = fast_attention(one_row_forbidden(), None)
    output, gradients = value_and_gradients(fast, arrays, numbers(B, T, H, K), dtype=dtype, way=way)
    expected = rounded(arrays, dtype)[2][1].mean(axis=0)
    np.testing.assert_allclose(output[1, 3], expected, rtol=0, atol=SHARE[dtype])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@every_dtype
def test_a_text_of_padding_alone_stays_finite(dtype):
    mask, bias = np.zeros((B, 1, 1, S), bool), numbers(B, H, T, S)
    arrays, cotangent = attention_arrays(S), numbers(B, T, H, K)
    output, gradients = value_and_gradients(
        fast_attention(mask, bias), arrays, cotangent, dtype=dtype
    )
    plain, plain_gradients = expected_attention(arrays, mask, bias, cotangent)
    for array in (output, plain, *gradients, *plain_gradients):
        assert np.isfinite(array).all()


@every_way
def test_large_products_do_not_overflow(way):
    query, key, value = attention_arrays(S)
    arrays, cotangent = (100 * query, 100 * key, value), numbers(B, T, H, K, seed=8)
    output, gradients = value_and_gradients(
        fast_attention(some_padding(), None), arrays, cotangent, way=way
    )
    expected, _ = expected_attention(arrays, some_padding(), None, cotangent)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-3)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_scores_of_plain_attention_are_a_distribution_over_what_the_mask_allows():
    _, scores = kernels.plain_attention(
        *map(ops.convert_to_tensor, attention_arrays(S)),
        ops.convert_to_tensor(some_pairs()),
        scale=SCALE,
    )
    scores = to_numpy(scores)
    assert scores.shape == (B, H, T, S)
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-6)
    assert (scores[~np.broadcast_to(some_pairs(), scores.shape)] == 0).all()
