"""One block of a decoder: what it sees of itself and of the encoder."""

import numpy as np
import pytest
import reference
from harness import assert_near, check_layer, numbers, randomize, to_numpy

from kbert.layers import masks
from kbert.layers.attention import MultiHeadAttention
from kbert.layers.decoder import DecoderBlock
from kbert.layers.feed_forward import FeedForward
from kbert.layers.normalization import LayerNormalization
from kbert.layers.residual import PostNorm, PreNorm

B, T, S, H, K, D, D_MEMORY, F = 2, 5, 7, 3, 11, 13, 19, 17
X, MEMORY = numbers(B, T, D, seed=1), numbers(B, S, D_MEMORY, seed=2)
PADDING = np.array([[True] * T, [True] * 3 + [False] * (T - 3)])
MEMORY_PADDING = np.array([[True] * S, [True] * 2 + [False] * (S - 2)])


def decoder_block(residual=PostNorm, dropout=0.0, dtype=None):
    def normed(name):
        norm = LayerNormalization(dtype=dtype, name="norm")
        return residual(norm, dropout, dtype=dtype, name=name)

    return DecoderBlock(
        MultiHeadAttention(H, K, dropout, dtype=dtype, name="self_attention"),
        normed("self_attention_residual"),
        MultiHeadAttention(H, K, dropout, dtype=dtype, name="cross_attention"),
        normed("cross_attention_residual"),
        FeedForward(F, "relu", dtype=dtype, name="feed_forward"),
        normed("feed_forward_residual"),
        dtype=dtype,
        name="block",
    )


def built(*settings):
    block = decoder_block(*settings)
    block.build((None, None, D), (None, None, D_MEMORY))
    randomize(block)
    return block


@pytest.mark.parametrize(
    ("residual", "formula"), [(PostNorm, reference.post_norm), (PreNorm, reference.pre_norm)]
)
def test_a_block_attends_to_itself_then_to_the_memory_then_thinks(residual, formula):
    block = built(residual)
    memory_mask = to_numpy(masks.padding(MEMORY_PADDING))

    def attend(x):
        mask = np.tri(T, dtype=bool) & to_numpy(masks.padding(PADDING))
        return reference.attention(block.self_attention, x, mask=mask)

    def attend_to_memory(x):
        return reference.attention(block.cross_attention, x, MEMORY, memory_mask)

    def think(x):
        return reference.feed_forward(block.feed_forward, x, lambda y: np.maximum(y, 0))

    x = formula(block.self_attention_residual, X.astype("float64"), attend)
    x = formula(block.cross_attention_residual, x, attend_to_memory)
    expected = formula(block.feed_forward_residual, x, think)
    got = block(
        X, MEMORY, attention_mask=masks.padding(PADDING), memory_mask=masks.padding(MEMORY_PADDING)
    )
    assert_near(got, expected, 1e-5)


def test_future_tokens_do_not_change_earlier_outputs():
    block = built()
    changed = X.copy()
    changed[:, 3:] += 1
    before, after = (to_numpy(block(x, MEMORY)) for x in (X, changed))
    np.testing.assert_allclose(after[:, :3], before[:, :3], atol=1e-5)
    assert np.abs(after[:, 3:] - before[:, 3:]).max() > 0.1


def test_the_padding_of_the_memory_is_ignored():
    block = built()
    mask = masks.padding(MEMORY_PADDING)
    changed = np.where(MEMORY_PADDING[..., None], MEMORY, 1000)
    before, after = (to_numpy(block(X, m, memory_mask=mask)) for m in (MEMORY, changed))
    np.testing.assert_allclose(after, before, atol=1e-5)
    np.testing.assert_allclose(to_numpy(block(X[1:], MEMORY[1:, :2])), before[1:], atol=1e-5)


def test_every_position_reads_the_whole_memory():
    block = built()
    changed = MEMORY.copy()
    changed[:, -1] += 1
    difference = np.abs(to_numpy(block(X, changed)) - to_numpy(block(X, MEMORY)))
    assert difference.max(axis=-1).min() > 1e-4


def test_dropout_is_active_only_when_training():
    block = built(PostNorm, 0.5)
    plain = to_numpy(block(X, MEMORY))
    np.testing.assert_array_equal(to_numpy(block(X, MEMORY, training=False)), plain)
    assert np.abs(to_numpy(block(X, MEMORY, training=True)) - plain).max() > 0.1


def test_a_block_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return decoder_block(PreNorm, dtype=dtype)

    def call(layer, x, memory, memory_padding):
        return layer(x, memory, memory_mask=masks.padding(memory_padding))

    inputs = {"x": X, "memory": MEMORY, "memory_padding": MEMORY_PADDING}
    check_layer(make, inputs, tmp_path, call)
