"""T5's buckets against transformers' own, ALiBi's slopes against the paper's."""

import numpy as np
import pytest
from harness import assert_near, check_layer, numbers, to_numpy
from keras import ops

from kbert.layers.attention import MultiHeadAttention
from kbert.layers.position_biases import LinearBias, RelativeBias

B, T, H, D = 2, 5, 3, 13


def bias_of(layer, length=T):
    return to_numpy(layer(np.zeros((B, length, D), "float32")))


# T5


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (14, 53), (6, 11), (64, 997)])
def test_buckets_are_those_of_transformers(num_buckets, max_distance, bidirectional):
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = np.arange(-1501, 1502)
    expected = T5Attention._relative_position_bucket(
        torch.from_numpy(distances), bidirectional, num_buckets, max_distance
    )
    layer = RelativeBias(H, num_buckets, max_distance, bidirectional)
    buckets = to_numpy(layer.buckets(ops.convert_to_tensor(distances, "int32")))
    np.testing.assert_array_equal(buckets, expected.numpy())


def test_buckets_by_hand():
    # 16 for keys before the query, 16 after; of each, 8 for one distance and 8 for ranges whose
    # bounds grow by the root of 2: 8, 11.3, 16, 22.6, 32, 45.3, 64, 90.5.
    distances = [0, -1, -7, -8, -11, -12, -15, -16, -91, -128, -999, 1, 7, 8, 12, 91, 999]
    expected = [0, 1, 7, 8, 8, 9, 9, 10, 15, 15, 15, 17, 23, 24, 25, 31, 31]
    layer = RelativeBias(H)
    assert to_numpy(layer.buckets(ops.convert_to_tensor(distances))).tolist() == expected


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_bias_of_a_pair_is_the_number_of_its_bucket_for_each_head(bidirectional):
    layer = RelativeBias(H, 6, 11, bidirectional)
    layer.build((None, None, D))
    table = numbers(6, H)
    layer.embeddings.assign(table)
    bias = bias_of(layer)
    assert bias.shape == (1, H, T, T)
    for query, key in np.ndindex(T, T):
        bucket = int(to_numpy(layer.buckets(ops.convert_to_tensor([key - query])))[0])
        np.testing.assert_array_equal(bias[0, :, query, key], table[bucket])


def test_one_direction_does_not_tell_what_stands_after():
    layer = RelativeBias(H, 6, 11, bidirectional=False)
    bias = bias_of(layer)[0, 0]
    assert len({bias[query, key] for query in range(T) for key in range(query, T)}) == 1


# ALiBi


def test_the_slopes_of_eight_heads_are_the_papers():
    # "for a model with 8 heads, the slopes are the geometric sequence 1/2, 1/4, …, 1/256" (3).
    assert LinearBias(8).slopes == [2.0**-n for n in range(1, 9)]
    assert LinearBias(16).slopes == [2.0 ** (-n / 2) for n in range(1, 17)]


def test_the_slopes_of_twelve_heads_are_those_of_eight_and_every_second_of_sixteen():
    # As the authors' get_slopes (github.com/ofirpress/attention_with_linear_biases) gives them.
    expected = [2.0**-n for n in range(1, 9)] + [2.0**-n for n in (0.5, 1.5, 2.5, 3.5)]
    np.testing.assert_allclose(LinearBias(12).slopes, expected, rtol=1e-12)
    for num_heads in range(1, 40):
        slopes = LinearBias(num_heads).slopes
        assert len(set(slopes)) == num_heads
        assert 0 < min(slopes) <= max(slopes) < 1


def test_three_tokens_by_hand():
    # Three heads: the slopes of two, 1/16 and 1/256, and the first of four, 1/4.
    distance = np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    expected = [-distance / 16, -distance / 256, -distance / 4]
    np.testing.assert_allclose(bias_of(LinearBias(3), 3)[0], expected, rtol=1e-6)


def test_the_bias_falls_by_the_same_with_every_token_to_both_sides():
    layer = LinearBias(H)
    bias = bias_of(layer, 17)[0]
    np.testing.assert_array_equal(bias, bias.transpose(0, 2, 1))
    steps = np.diff(bias[:, 0], axis=1)
    np.testing.assert_allclose(steps, np.repeat(steps[:, :1], 16, axis=1), rtol=1e-5)
    np.testing.assert_allclose(-steps[:, 0], layer.slopes, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: RelativeBias(H, 6, 11, dtype=dtype, name="positions"),
        lambda dtype: LinearBias(H, dtype=dtype, name="positions"),
    ],
    ids=["T5", "ALiBi"],
)
def test_biases_save_train_compile_and_compute_in_bfloat16(make, tmp_path):
    def attend(layer, x):
        attention = MultiHeadAttention(H, 7, dtype=layer.dtype_policy, name="attention")
        return attention(x, bias=layer(x))

    check_layer(make, {"x": numbers(B, T, D)}, tmp_path, attend)


def test_a_bias_tells_attention_the_order_it_does_not_know():
    attention, x = MultiHeadAttention(H, 7), numbers(B, T, D)
    order = [3, 0, 4, 2, 1]
    assert_near(attention(x[:, order]), to_numpy(attention(x))[:, order], 1e-5)
    bias = LinearBias(H)(x)
    told, shuffled = to_numpy(attention(x, bias=bias)), to_numpy(attention(x[:, order], bias=bias))
    assert np.abs(shuffled - told[:, order]).max() > 1e-3
