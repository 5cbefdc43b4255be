"""One block of an encoder, put together of parts."""

import numpy as np
import pytest
import reference
from harness import (
    as_model,
    assert_near,
    check_int8,
    check_layer,
    check_lora,
    numbers,
    randomize,
    to_numpy,
)

from kbert.layers import masks
from kbert.layers.attention import MultiHeadAttention
from kbert.layers.encoder import EncoderBlock
from kbert.layers.feed_forward import FeedForward
from kbert.layers.normalization import LayerNormalization
from kbert.layers.positions import RotaryPositions
from kbert.layers.residual import PostNorm, PreNorm

B, T, H, K, D, F = 2, 5, 3, 11, 13, 17
X = numbers(B, T, D)
PADDING = np.array([[True] * T, [True] * 3 + [False] * (T - 3)])


def encoder_block(residual=PostNorm, dropout=0.0, dtype=None):
    return EncoderBlock(
        MultiHeadAttention(H, K, dropout, dtype=dtype, name="attention"),
        residual(LayerNormalization(dtype=dtype, name="norm"), dropout, dtype=dtype, name="first"),
        FeedForward(F, dtype=dtype, name="feed_forward"),
        residual(LayerNormalization(dtype=dtype, name="norm"), dropout, dtype=dtype, name="second"),
        dtype=dtype,
        name="block",
    )


def built(*settings):
    block = encoder_block(*settings)
    block.build((None, None, D))
    randomize(block)
    return block


@pytest.mark.parametrize(
    ("residual", "formula"), [(PostNorm, reference.post_norm), (PreNorm, reference.pre_norm)]
)
def test_a_block_is_attention_and_then_feed_forward_each_with_its_residual(residual, formula):
    block = built(residual)
    mask = to_numpy(masks.padding(PADDING))
    bias = numbers(1, H, T, T, seed=2)

    def attend(x):
        return reference.attention(block.attention, x, mask=mask, bias=bias)

    def think(x):
        return reference.feed_forward(block.feed_forward, x)

    x = formula(block.attention_residual, X.astype("float64"), attend)
    expected = formula(block.feed_forward_residual, x, think)
    assert_near(block(X, attention_mask=mask, bias=bias), expected, 1e-5)


def test_padding_does_not_change_the_real_tokens():
    block = built()
    changed = np.where(PADDING[..., None], X, 1000)
    mask = masks.padding(PADDING)
    before, after = (to_numpy(block(x, attention_mask=mask)) for x in (X, changed))
    np.testing.assert_allclose(after[PADDING], before[PADDING], atol=1e-5)
    np.testing.assert_allclose(to_numpy(block(X[1:, :3])), before[1:, :3], atol=1e-5)


def test_without_positions_a_block_knows_no_order():
    block = built()
    order = [3, 0, 4, 2, 1]
    assert_near(block(X[:, order]), to_numpy(block(X))[:, order], 1e-5)


def test_dropout_is_active_only_when_training():
    block = built(PostNorm, 0.5)
    plain = to_numpy(block(X))
    np.testing.assert_array_equal(to_numpy(block(X, training=False)), plain)
    first, second = (to_numpy(block(X, training=True)) for _ in range(2))
    assert np.abs(first - plain).max() > 0.1
    assert np.abs(first - second).max() > 0.1


def test_the_paths_of_the_weights_are_the_parts_names():
    assert [weight.path for weight in built().weights] == [
        *(f"block/attention/{d}/{w}" for d in DENSE[:4] for w in ("kernel", "bias")),
        *("block/first/norm/gamma", "block/first/norm/beta"),
        *(f"block/feed_forward/{d}/{w}" for d in DENSE[4:] for w in ("kernel", "bias")),
        *("block/second/norm/gamma", "block/second/norm/beta"),
    ]


def test_a_rotation_reaches_the_attention():
    block = EncoderBlock(MultiHeadAttention(H, 14), PostNorm(LayerNormalization()), FeedForward(F),
                         PostNorm(LayerNormalization()))  # fmt: skip
    rotation = RotaryPositions(14)(X)
    told, plain = to_numpy(block(X, rotation=rotation)), to_numpy(block(X))
    assert np.abs(told - plain).max() > 1e-3
    attended = block.attention(X, rotation=rotation)
    rest = block.attention_residual(X, sublayer=lambda x: attended)
    assert_near(told, block.feed_forward_residual(rest, sublayer=block.feed_forward), 1e-6)


DENSE = ("query", "key", "value", "output", "inner", "outer")
INPUTS = {"x": X, "padding_mask": PADDING}


def call_with_padding(layer, x, padding_mask):
    return layer(x, attention_mask=masks.padding(padding_mask))


def test_a_block_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return encoder_block(dtype=dtype)

    check_layer(make, INPUTS, tmp_path, call_with_padding)


def test_the_dense_layers_of_a_block_take_lora_through_keras(tmp_path):
    block = built()
    dense = [block.attention.query, block.attention.value, block.feed_forward.inner]
    check_lora(as_model(block, INPUTS, call_with_padding), INPUTS, dense, tmp_path)


def test_the_dense_layers_of_a_block_take_int8_through_keras():
    block = built()
    attention, feed_forward = block.attention, block.feed_forward
    dense = [attention.query, attention.key, attention.value, attention.output_dense]
    dense += [feed_forward.inner, feed_forward.outer]
    check_int8(as_model(block, INPUTS, call_with_padding), INPUTS, dense)
