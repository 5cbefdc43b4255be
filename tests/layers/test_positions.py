"""Sinusoidal positions against section 3.5 in float64, and learned ones."""

import keras
import numpy as np
import pytest
from harness import check_layer, numbers, run, to_numpy
from keras import ops

from kbert.layers.positions import LearnedPositions, SinusoidalPositions, sinusoidal

B, T, D = 2, 5, 13


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
