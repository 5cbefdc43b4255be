"""Sinusoidal positions against section 3.5 in float64, learned ones, and rotations."""

import keras
import numpy as np
import pytest
from harness import assert_near, check_layer, numbers, run, to_numpy
from keras import ops

from kbert.layers.position_biases import LinearBias
from kbert.layers.positions import (
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    placed,
    rotate,
    sinusoidal,
)

B, T, H, K, D = 2, 5, 3, 14, 13


def vaswani(length, width, base=10000.0):
    """PE(pos, 2i) = sin(pos / base^(2i/D)), PE(pos, 2i+1) = cos(pos / base^(2i/D))."""
    encoding = np.zeros((length, width))
    for pos in range(length):
        for column in range(width):
            angle = pos / base ** ((column - column % 2) / width)
            encoding[pos, column] = np.cos(angle) if column % 2 else np.sin(angle)
    return encoding


def test_the_first_sinusoidal_positions_by_hand():
    # Width 4: one pair turns by 1 per position, the other by 1/100.
    positions = to_numpy(SinusoidalPositions()(np.zeros((1, 3, 4), "float32")))
    expected = [
        [0, 1, 0, 1],
        [0.8414709848, 0.5403023059, 0.0099998333, 0.9999500004],
        [0.9092974268, -0.4161468365, 0.0199986667, 0.9998000067],
    ]
    np.testing.assert_allclose(positions, expected, atol=1e-7)


@pytest.mark.parametrize(("length", "width"), [(11, 13), (53, 32), (512, 37)])
@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_sinusoidal_positions_are_the_papers_at_odd_widths_too(length, width, base):
    x = np.zeros((1, length, width), "float32")
    positions = to_numpy(SinusoidalPositions(base)(x))
    # An angle near 511 is known to 511 · 2**-24 = 3e-5 in float32.
    np.testing.assert_allclose(positions, vaswani(length, width, base), rtol=0, atol=5e-5)


def test_sinusoidal_positions_have_no_weights_and_do_not_depend_on_the_values():
    layer = SinusoidalPositions()
    one, other = (to_numpy(layer(numbers(B, T, D, seed=seed))) for seed in (1, 2))
    assert one.shape == (T, D)
    np.testing.assert_array_equal(one, other)
    assert not layer.weights


def test_the_product_of_two_sinusoidal_positions_depends_on_their_distance_alone():
    # "PE(pos + k) can be represented as a linear function of PE(pos)" (3.5).
    positions = to_numpy(SinusoidalPositions()(np.zeros((1, 31, 14), "float32")))
    products = positions @ positions.T
    for distance in range(7):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)


def test_learned_positions_are_the_first_rows_of_their_table():
    layer = LearnedPositions(7)
    layer.build((None, None, D))
    table = numbers(7, D)
    layer.embeddings.assign(table)
    assert to_numpy(layer(numbers(B, T, D))).tolist() == table[:T].tolist()
    assert to_numpy(layer(numbers(B, 7, D))).tolist() == table.tolist()


def test_learned_positions_may_begin_at_a_later_row_of_a_longer_table():
    layer = LearnedPositions(7, first=3)
    layer.build((None, None, D))
    table = numbers(3 + 7, D)
    layer.embeddings.assign(table)
    assert to_numpy(layer(numbers(B, T, D))).tolist() == table[3 : 3 + T].tolist()
    assert to_numpy(layer(numbers(B, 7, D))).tolist() == table[3:].tolist()
    with pytest.raises(ValueError, match="8 tokens came, .* at most 7"):
        layer(numbers(B, 8, D))


def test_learned_positions_may_begin_as_the_sinusoidal_ones():
    layer = LearnedPositions(11, sinusoidal)
    layer.build((None, None, D))
    np.testing.assert_allclose(to_numpy(layer.embeddings), vaswani(11, D), rtol=0, atol=1e-6)
    assert layer.embeddings.trainable


def test_more_tokens_than_learned_positions_are_refused():
    with pytest.raises(ValueError, match="11 tokens came, .* at most 7. Truncate the text"):
        LearnedPositions(7)(numbers(B, 11, D))


def test_learned_positions_of_a_graph_follow_the_length_of_each_batch():
    layer = LearnedPositions(7)
    x = keras.Input((None, D), name="x")
    model = keras.Model({"x": x}, x + layer(x))
    table = to_numpy(layer.embeddings)
    for length in (3, 5):
        x = numbers(B, length, D)
        np.testing.assert_allclose(run(model, {"x": x}), x + table[:length], atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: SinusoidalPositions(997.0, dtype=dtype),
        lambda dtype: LearnedPositions(T, dtype=dtype),
        lambda dtype: LearnedPositions(T, sinusoidal, first=2, dtype=dtype),
    ],
    ids=["sinusoidal", "learned", "learned from sinusoidal"],
)
def test_positions_save_train_compile_and_compute_in_bfloat16(make, tmp_path):
    def add(layer, x):
        return ops.cast(x, layer.compute_dtype) + layer(x)

    check_layer(make, {"x": numbers(B, T, D)}, tmp_path, add)


# Rotations


def rotation(length, width=K, base=10000.0):
    return RotaryPositions(width, base)(np.zeros((1, length, 1), "float32"))


def test_a_rotation_by_hand():
    # Base 4, width 4: the pair of columns 0 and 2 turns by 1 per position, that of 1 and 3 by 1/2.
    x = np.array([[1, 10, 2, 20]] * 3, "float32").reshape(1, 3, 1, 4)
    c, s, c2, s2 = 0.5403023059, 0.8414709848, 0.8775825619, 0.4794255386  # of 1, of 1/2
    d, t = -0.4161468365, 0.9092974268  # of 2
    expected = [
        [1, 10, 2, 20],
        [c - 2 * s, 10 * c2 - 20 * s2, 2 * c + s, 20 * c2 + 10 * s2],
        [d - 2 * t, 10 * c - 20 * s, 2 * d + t, 20 * c + 10 * s],
    ]
    turned = to_numpy(rotate(ops.convert_to_tensor(x), rotation(3, 4, base=4.0)))
    np.testing.assert_allclose(turned.reshape(3, 4), expected, rtol=0, atol=1e-5)


def test_the_product_of_a_query_and_a_key_depends_on_their_distance_alone():
    # Beginning 11 tokens later, all products stay.
    length, later = 13, 11
    query, key = (ops.convert_to_tensor(numbers(B, length, H, K, seed=seed)) for seed in (1, 2))

    def products(turn):
        return to_numpy(ops.einsum("bthk,bshk->bhts", rotate(query, turn), rotate(key, turn)))

    whole = rotation(length + later)
    here, there = products(whole[:, :length]), products(whole[:, later:])
    assert_near(there, here, 1e-5)
    still = to_numpy(ops.einsum("bthk,bshk->bhts", query, key))
    assert np.abs(here - still).max() > 1


def test_a_rotation_keeps_every_length_and_the_first_token_as_it_is():
    x = ops.convert_to_tensor(numbers(B, T, H, K))
    turned = to_numpy(rotate(x, rotation(T)))
    np.testing.assert_allclose((turned**2).sum(-1), (to_numpy(x) ** 2).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(turned[:, 0], to_numpy(x)[:, 0])


@pytest.mark.parametrize("base", [10000.0, 160000.0])
def test_rotations_are_those_of_transformers_at_the_last_of_8192_positions(base):
    import torch
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    length, width = 8192, 64
    angle = np.arange(length)[:, None] * base ** -(np.arange(0, width, 2) / width)
    cosine, sine = (torch.tensor(np.tile(f(angle), 2)[None]) for f in (np.cos, np.sin))
    x = numbers(1, length, 1, width)
    expected, _ = apply_rotary_pos_emb(*[torch.tensor(x)] * 2, cosine, sine, unsqueeze_dim=2)
    turned = to_numpy(rotate(ops.convert_to_tensor(x), rotation(length, width, base)))
    # An angle near 8191 is known to 8191 · 2**-24 = 5e-4 in float32; numbers up to 5.
    np.testing.assert_allclose(turned, expected.numpy(), rtol=0, atol=5e-3)
    np.testing.assert_allclose(turned[:, :100], expected.numpy()[:, :100], rtol=0, atol=5e-5)


def test_pairs_need_an_even_width():
    with pytest.raises(ValueError, match="head_width must be even; got 13"):
        RotaryPositions(13)


def test_a_rotation_saves_compiles_and_computes_in_bfloat16(tmp_path):
    def turn(layer, x):
        return rotate(ops.cast(x, layer.compute_dtype), layer(x[:, :, 0]))

    check_layer(lambda dtype: RotaryPositions(K, dtype=dtype), {"x": numbers(B, T, H, K)}, tmp_path,
                turn)  # fmt: skip


# Which way positions are told


def test_what_a_layer_gives_is_added_or_handed_to_the_blocks():
    x = ops.convert_to_tensor(numbers(B, T, D))
    for layer in (SinusoidalPositions(), LearnedPositions(T)):
        told, given = placed(x, layer)
        assert given == {}
        np.testing.assert_allclose(to_numpy(told), to_numpy(x) + to_numpy(layer(x)), atol=1e-6)
    for layer, name in ((RotaryPositions(K), "rotation"), (LinearBias(H), "bias")):
        told, given = placed(x, layer)
        assert told is x
        assert list(given) == [name]
        np.testing.assert_array_equal(to_numpy(given[name]), to_numpy(layer(x)))


def test_a_layer_that_does_not_say_what_it_gives_is_refused():
    with pytest.raises(ValueError, match="`gives` is None, expected one of sum, bias, rotation"):
        placed(numbers(B, T, D), keras.layers.Dense(D))
