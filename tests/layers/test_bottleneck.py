"""The parts of MobileBERT: by hand, and against the paper's formulas."""

import keras
import numpy as np
import pytest
import reference
from harness import assert_near, check_layer, numbers, randomize, to_numpy

from kbert.layers.attention import MultiHeadAttention
from kbert.layers.bottleneck import Bottleneck, BottleneckBlock, NoNorm, Trigrams
from kbert.layers.feed_forward import FeedForward
from kbert.layers.residual import PostNorm

B, T, D, K, H, F = 2, 5, 13, 21, 3, 17
X = numbers(B, T, D)
PADDING = np.array([[True] * T, [True] * 3 + [False] * (T - 3)])[:, None, None]


def no_norm(layer, x):
    gamma, beta = reference.weights(layer)
    return x * gamma + beta


# NoNorm and Trigrams


def test_no_norm_scales_and_shifts_each_column():
    layer = NoNorm()
    layer.build((None, 3))
    layer.set_weights([np.array([2, 0, -1]), np.array([0, 5, 0.5])])
    assert to_numpy(layer(np.array([[1, 2, 3]], "float32"))).tolist() == [[2, 5, -2.5]]


def test_no_norm_starts_as_nothing():
    np.testing.assert_array_equal(to_numpy(NoNorm()(X)), X)


def test_trigrams_of_three_tokens_by_hand():
    x = np.array([[[1, 2], [3, 4], [5, 6]]], "float32")
    assert to_numpy(Trigrams()(x)).tolist() == [
        [[3, 4, 1, 2, 0, 0], [5, 6, 3, 4, 1, 2], [0, 0, 5, 6, 3, 4]]
    ]


def test_one_token_has_no_neighbours():
    x = numbers(B, 1, D)
    got = to_numpy(Trigrams()(x))
    np.testing.assert_array_equal(got[..., D : 2 * D], x)
    assert not got[..., :D].any() and not got[..., 2 * D :].any()


# Bottleneck


def test_a_bottleneck_is_a_dense_layer_with_its_norm():
    layer = Bottleneck(K, NoNorm())
    layer.build((None, None, D))
    randomize(layer)
    expected = no_norm(layer.norm, reference.dense(layer.dense, X.astype("float64")))
    assert_near(layer(X), expected, 1e-5)


# The block


def block(shares=True, dtype="float32", stack=("_0", "")):
    def residual(name):
        return PostNorm(NoNorm(dtype=dtype, name="norm"), dtype=dtype, name=name)

    def bottleneck(name):
        return Bottleneck(K, NoNorm(dtype=dtype, name="norm"), dtype=dtype, name=name)

    return BottleneckBlock(
        bottleneck("bottleneck"),
        bottleneck("attention_bottleneck") if shares else None,
        MultiHeadAttention(H, K // H, dtype=dtype, name="attention"),
        residual("attention_residual"),
        [FeedForward(F, "relu", dtype=dtype, name=f"feed_forward{j}") for j in stack],
        [residual(f"feed_forward_residual{j}") for j in stack],
        residual("output_residual"),
        dtype=dtype,
    )


def built(*settings):
    layer = block(*settings)
    layer.build((None, None, D))
    randomize(layer, 0.1)
    return layer


def formula(layer, x, mask=None):
    """Figure 1c of the paper, in float64."""
    x = x.astype("float64")

    def bottleneck(part):
        return no_norm(part.norm, reference.dense(part.dense, x))

    narrow = bottleneck(layer.bottleneck)
    shared = layer.attention_bottleneck
    queries = narrow if shared is None else bottleneck(shared)
    values = narrow if shared is None else x
    rows = []
    for b in range(len(x)):
        query, key, value = (
            reference.dense(getattr(layer.attention, name), source[b]).reshape(T, H, K // H)
            for name, source in (("query", queries), ("key", queries), ("value", values))
        )
        logits = np.einsum("thk,shk->hts", query, key) / (K // H) ** 0.5
        if mask is not None:
            logits = np.where(mask[b], logits, -np.inf)
        scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        rows.append(np.einsum("hts,shk->thk", scores, value).reshape(T, K))
    attended = reference.dense(layer.attention.output_dense, np.stack(rows))
    h = no_norm(layer.attention_residual.norm, narrow + attended)
    for think, residual in zip(layer.feed_forwards, layer.feed_forward_residuals, strict=True):
        inner = np.maximum(reference.dense(think.inner, h), 0)
        h = no_norm(residual.norm, h + reference.dense(think.outer, inner))
    return no_norm(layer.output_residual.norm, x + reference.dense(layer.output_dense, h))


@pytest.mark.parametrize("shares", [True, False])
def test_a_block_is_the_papers_figure(shares):
    layer = built(shares)
    assert_near(layer(X), formula(layer, X), 1e-5)
    got = layer(X, attention_mask=PADDING)
    assert_near(got, formula(layer, X, PADDING), 1e-5)


def test_values_are_made_of_what_is_wide_where_keys_and_queries_share():
    assert built(True).attention.value.kernel.shape == (D, K)
    assert built(False).attention.value.kernel.shape == (K, K)


def test_masked_tokens_do_not_change_the_others():
    layer = built()
    before = to_numpy(layer(X, attention_mask=PADDING))
    changed = X.copy()
    changed[1, 3:] = 7
    after = to_numpy(layer(changed, attention_mask=PADDING))
    np.testing.assert_allclose(after[1, :3], before[1, :3], atol=1e-6)
    assert np.abs(after[1, 3:] - before[1, 3:]).max() > 1e-2


def test_two_bottlenecks_do_not_start_equal():
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    first, second = (Bottleneck(K, NoNorm(), initializer) for _ in range(2))
    for layer in (first, second):
        layer.build((None, None, D))
    assert np.abs(to_numpy(first.dense.kernel) - to_numpy(second.dense.kernel)).max() > 1e-3


@pytest.mark.parametrize("shares", [True, False])
def test_a_block_saves_trains_compiles_and_computes_in_bfloat16(shares, tmp_path):
    def make(dtype):
        return block(shares, dtype)

    check_layer(make, {"x": X}, tmp_path)


def test_no_norm_and_trigrams_save_compile_and_compute_in_bfloat16(tmp_path):
    check_layer(lambda dtype: NoNorm(dtype=dtype), {"x": X}, tmp_path)
    check_layer(lambda dtype: Trigrams(dtype=dtype), {"x": X}, tmp_path)


def test_a_bottleneck_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return Bottleneck(K, NoNorm(dtype=dtype), dtype=dtype)

    check_layer(make, {"x": X}, tmp_path)
