"""The lectures' example step by step, the paper's formula, and who may look at whom."""

import keras
import numpy as np
import pytest
import reference
from harness import assert_near, check_layer, numbers, randomize, to_numpy

from kbert.layers import kernels, masks
from kbert.layers.attention import MultiHeadAttention
from kbert.layers.positions import RotaryPositions

B, T, S, H, K, D, D_MEMORY = 2, 5, 7, 3, 11, 13, 17
X, MEMORY = numbers(B, T, D, seed=1), numbers(B, S, D_MEMORY, seed=2)
PADDING = np.array([[True] * S, [True] * 3 + [False] * (S - 3)])


def self_attention(**settings):
    layer = MultiHeadAttention(H, K, **settings)
    layer.build((None, None, D))
    randomize(layer)
    return layer


def cross_attention(**settings):
    layer = MultiHeadAttention(H, K, **settings)
    layer.build((None, None, D), (None, None, D_MEMORY))
    randomize(layer)
    return layer


def test_the_lectures_three_tokens_in_five_steps():
    # ['Quero', 'um', 'cartão'], width 8, 2 heads.
    embeddings = numbers(97, 8, seed=3)
    x = embeddings[[27, 11, 83]]
    layer = MultiHeadAttention(num_heads=2, head_width=4)
    layer.build((None, 3, 8))
    randomize(layer)
    heads = []
    for columns in (slice(0, 4), slice(4, 8)):
        # (1) queries, keys, values
        q, k, v = (
            (x @ to_numpy(dense.kernel) + to_numpy(dense.bias))[:, columns]
            for dense in (layer.query, layer.key, layer.value)
        )
        scores = q @ k.T  # (2)
        scores = scores / np.sqrt(4)  # (3) the root of d_k
        scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)  # (4) softmax
        heads.append(scores @ v)  # (5) weighted sum of the values
    dense = layer.output_dense
    expected = np.concatenate(heads, axis=1) @ to_numpy(dense.kernel) + to_numpy(dense.bias)
    assert_near(layer(x[None])[0], expected, 1e-5)


@pytest.mark.parametrize("settings", [{}, {"scale": 1.0}])
def test_self_attention_is_the_papers_formula(settings):
    layer = self_attention(**settings)
    assert_near(layer(X), reference.attention(layer, X), 1e-5)


def test_values_may_be_made_of_another_sequence_than_keys():
    layer = MultiHeadAttention(H, K)
    layer.build((None, None, D), values_shape=(None, None, D_MEMORY))
    randomize(layer)
    values = numbers(B, T, D_MEMORY, seed=2)
    got = layer(X, values=values)
    query, key, value = (
        reference.dense(dense, source.astype("float64")).reshape(B, T, H, K)
        for dense, source in ((layer.query, X), (layer.key, X), (layer.value, values))
    )
    exponentials = np.exp(np.einsum("bthk,bshk->bhts", query, key) / np.sqrt(K))
    scores = exponentials / exponentials.sum(-1, keepdims=True)
    rows = np.einsum("bhts,bshk->bthk", scores, value).reshape(B, T, H * K)
    assert_near(got, reference.dense(layer.output_dense, rows), 1e-5)


def test_cross_attention_takes_queries_from_one_sequence_and_the_rest_from_the_other():
    layer = cross_attention()
    mask = to_numpy(masks.padding(PADDING))
    bias = numbers(1, H, T, S, seed=3)
    expected = reference.attention(layer, X, MEMORY, mask, bias)
    assert_near(layer(X, MEMORY, attention_mask=mask, bias=bias), expected, 1e-5)


def test_a_causal_mask_keeps_the_future_out():
    layer = self_attention()
    mask = masks.causal(T, T)
    changed = X.copy()
    changed[:, 3:] += 1
    before, after = (to_numpy(layer(x, attention_mask=mask)) for x in (X, changed))
    np.testing.assert_allclose(after[:, :3], before[:, :3], atol=1e-6)
    assert np.abs(after[:, 3:] - before[:, 3:]).min() > 1e-3
    assert_near(before, reference.attention(layer, X, mask=np.tri(T, dtype=bool)), 1e-5)


def test_masked_keys_do_not_change_the_output():
    layer = cross_attention()
    mask = masks.padding(PADDING)
    changed = np.where(PADDING[..., None], MEMORY, 1000)
    before, after = (to_numpy(layer(X, m, attention_mask=mask)) for m in (MEMORY, changed))
    np.testing.assert_allclose(after, before, atol=1e-6)
    shorter = layer(X[1:], MEMORY[1:, :3])
    np.testing.assert_allclose(to_numpy(shorter), before[1:], atol=1e-5)


def test_a_bias_is_added_to_the_scaled_products():
    # A bias as deep as a mask does what the mask does.
    layer = cross_attention()
    mask = to_numpy(masks.padding(PADDING))
    deep = np.where(mask, 0, -1e9).astype("float32")
    assert_near(layer(X, MEMORY, bias=deep), layer(X, MEMORY, attention_mask=mask), 1e-5)


def test_keys_have_no_order_of_their_own():
    layer = cross_attention()
    assert_near(layer(X, MEMORY[:, ::-1]), layer(X, MEMORY), 1e-5)


def test_scores_sum_to_one_and_their_output_is_the_fused_one():
    layer = cross_attention()
    mask = masks.padding(PADDING)
    bias = numbers(1, H, T, S, seed=3)
    output, scores = layer(X, MEMORY, attention_mask=mask, bias=bias, return_scores=True)
    scores = to_numpy(scores)
    assert scores.shape == (B, H, T, S)
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-6)
    assert (scores[1, :, :, 3:] == 0).all()
    assert_near(output, layer(X, MEMORY, attention_mask=mask, bias=bias), 1e-5)


def test_scores_can_be_asked_for_in_a_graph():
    layer = cross_attention()
    x, memory = keras.Input((None, D)), keras.Input((None, D_MEMORY))
    output, scores = layer(x, memory, return_scores=True)
    assert (output.shape, scores.shape) == ((None, None, D), (None, H, None, None))
    model = keras.Model([x, memory], [output, scores])
    for got, expected in zip(model([X, MEMORY]), layer(X, MEMORY, return_scores=True), strict=True):
        assert_near(got, expected, 1e-6)


def test_dropout_is_active_only_when_training():
    layer, plain = self_attention(dropout=0.5), self_attention()
    layer.set_weights(plain.get_weights())
    for training in (False, None):
        np.testing.assert_array_equal(to_numpy(layer(X, training=training)), to_numpy(plain(X)))
    first, second = (to_numpy(layer(X, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    _, scores = layer(X, return_scores=True, training=True)
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, rtol=1e-6)


def test_dropout_leaves_the_mean_output_where_it_was():
    layer = self_attention(dropout=0.3)
    many = np.repeat(X[:1], 4999, axis=0)
    mean = to_numpy(layer(many, training=True)).mean(axis=0)
    assert_near(mean, to_numpy(layer(X[:1]))[0], 0.05)


def test_the_scores_are_never_made_when_nobody_asks_for_them(monkeypatch):
    monkeypatch.setattr(kernels, "plain_attention", None)
    self_attention(dropout=0.5)(X, attention_mask=masks.padding(PADDING[:, :T]))


# Rotations, windows, no biases


def test_with_a_rotation_tokens_are_told_by_their_distance_wherever_they_stand():
    layer, rotation = MultiHeadAttention(H, 14), RotaryPositions(14)
    layer.build((None, None, D))
    randomize(layer)
    alone = to_numpy(layer(X, rotation=rotation(X)))
    assert np.abs(to_numpy(layer(X)) - alone).max() > 1e-2
    later = np.concatenate([numbers(B, 3, D, seed=9), X], axis=1)
    mask = masks.padding(np.array([[False] * 3 + [True] * T] * B))
    assert_near(layer(later, attention_mask=mask, rotation=rotation(later))[:, 3:], alone, 1e-5)


def test_within_a_window_what_stands_further_changes_nothing():
    layer = self_attention(window=2)
    x = numbers(B, 17, D, seed=4)
    changed = x.copy()
    changed[:, 7] += 1
    before, after = to_numpy(layer(x)), to_numpy(layer(changed))
    far = np.abs(np.arange(17) - 7) > 2
    np.testing.assert_allclose(after[:, far], before[:, far], atol=1e-6)
    assert np.abs(after[:, ~far] - before[:, ~far]).max(-1).min() > 1e-3
    band = to_numpy(masks.band(17, 2))
    assert_near(before, reference.attention(layer, x, mask=band), 1e-5)


def test_scores_within_a_window_are_zero_outside_it():
    layer = self_attention(window=1)
    padding = masks.padding(np.array([[True] * T, [True] * 3 + [False] * 2]))
    output, scores = layer(X, attention_mask=padding, return_scores=True)
    scores = to_numpy(scores)
    assert (scores[0, :, ~to_numpy(masks.band(T, 1))[0, 0]] == 0).all()
    assert (scores[1, :, :3, 3:] == 0).all()
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-6)
    assert_near(output[0], to_numpy(layer(X, attention_mask=padding))[0], 1e-5)


@pytest.mark.parametrize(
    ("given", "what"),
    [({"memory": MEMORY}, "another sequence"), ({"bias": numbers(1, H, T, T)}, "a bias")],
)
def test_a_window_is_for_self_attention_without_a_bias(given, what):
    with pytest.raises(ValueError, match=f"within a window of 2 tokens .*; {what} came"):
        self_attention(window=2)(X, **given)


def test_without_biases_nothing_in_gives_nothing_out():
    layer = self_attention(use_bias=False)
    assert [weight.name for weight in layer.weights] == ["kernel"] * 4
    assert not to_numpy(layer(0 * X)).any()


def test_the_outputs_kernel_is_drawn_as_it_is_told():
    narrow = keras.initializers.TruncatedNormal(stddev=0.002)
    layer = MultiHeadAttention(7, 13, output_initializer=narrow)
    layer.build((None, None, 91))
    assert to_numpy(layer.output_dense.kernel).std() == pytest.approx(0.00176, abs=5e-5)
    assert to_numpy(layer.value.kernel).std() > 0.05


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_a_mask_that_is_not_boolean_is_refused(dtype):
    mask = np.ones((B, 1, 1, T), dtype)
    with pytest.raises(ValueError, match=f"must be boolean, True = may attend; got {dtype}"):
        self_attention()(X, attention_mask=mask)


@pytest.mark.parametrize(
    "initializer",
    ["glorot_uniform", keras.initializers.TruncatedNormal(stddev=0.02)],
    ids=["name", "object"],
)
def test_no_two_kernels_start_equal(initializer):
    layer = MultiHeadAttention(H, K, kernel_initializer=initializer)
    layer.build((None, None, H * K))
    kernels_ = [to_numpy(d.kernel) for d in (layer.query, layer.key, layer.value)]
    kernels_.append(to_numpy(layer.output_dense.kernel))
    for i, kernel in enumerate(kernels_):
        assert all(np.abs(kernel - other).max() > 1e-3 for other in kernels_[:i])


def test_attention_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return MultiHeadAttention(H, K, dtype=dtype)

    def call(layer, x, memory, padding_mask):
        return layer(x, memory, attention_mask=masks.padding(padding_mask))

    inputs = {"x": X, "memory": MEMORY, "padding_mask": PADDING}
    check_layer(make, inputs, tmp_path, call)


def test_attention_within_a_window_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return MultiHeadAttention(H, 14, window=1, use_bias=False, dtype=dtype, name="attention")

    def call(layer, x, padding_mask):
        rotation = RotaryPositions(14, dtype=layer.dtype_policy, name="positions")(x)
        return layer(x, attention_mask=masks.padding(padding_mask), rotation=rotation)

    check_layer(make, {"x": X, "padding_mask": PADDING[:, :T]}, tmp_path, call)
