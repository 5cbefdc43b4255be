"""Buckets of distances, and attention that reads them, against the paper's formula in loops."""

import keras
import numpy as np
import pytest
import reference
from harness import (
    as_model,
    assert_near,
    check_layer,
    numbers,
    randomize,
    run,
    to_numpy,
)

from kbert.layers import disentangled, masks
from kbert.layers.attention import MultiHeadAttention
from kbert.layers.disentangled import DisentangledAttention, RelativePositions, bucket
from kbert.layers.normalization import LayerNormalization

B, T, H, K, D = 2, 7, 3, 5, 13
X = numbers(B, T, D, seed=1)
PADDING = np.array([[True] * T, [True, False, True, True, True, False, False]])
TERMS = [("c2p", "p2c"), ("c2p",), ("p2c",)]
MAX_DISTANCE, BUCKETS = 11, 6


def relative_positions(max_distance=MAX_DISTANCE, num_buckets=BUCKETS, norm=True, dtype=None):
    norm = LayerNormalization(1e-7, dtype=dtype, name="norm") if norm else None
    return RelativePositions(max_distance, num_buckets, norm, "uniform", dtype=dtype, name="r")


def built(layer):
    layer.build((None, None, D))
    randomize(layer)
    return layer


# Buckets


def test_near_distances_have_a_bucket_each_and_far_ones_share_by_hand():
    # 8 buckets for 32 tokens: up to 4 the distance itself, then 4 + ⌈3 · log(d/4) / log(31/4)⌉:
    # 3 · log(5/4) / log(31/4) = 0.33, of 7: 0.82, of 8: 1.02, of 15: 1.94, of 16: 2.03, of 31: 3.
    distances = [0, 1, 3, 4, 5, 7, 8, 15, 16, 31]
    assert [bucket(d, 8, 32) for d in distances] == [0, 1, 3, 4, 5, 5, 6, 6, 7, 7]
    assert [bucket(-d, 8, 32) for d in distances] == [0, -1, -3, -4, -5, -5, -6, -6, -7, -7]


def test_without_buckets_every_distance_is_its_own():
    assert [bucket(d, 0, 32) for d in (-97, -5, 0, 31)] == [-97, -5, 0, 31]


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(256, 512), (8, 32), (6, 11), (32, 33)])
def test_buckets_are_those_of_transformers(num_buckets, max_distance):
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distances = range(-2 * max_distance, 2 * max_distance)
    theirs = make_log_bucket_position(torch.tensor(distances), num_buckets, max_distance)
    ours = [bucket(d, num_buckets, max_distance) for d in distances]
    assert ours == theirs.long().tolist()


# Relative positions


@pytest.mark.parametrize("num_buckets", [0, BUCKETS])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("length", [1, 2, 5, 29])
def test_every_distance_has_the_vector_of_its_bucket(length, norm, num_buckets):
    layer = built(relative_positions(num_buckets=num_buckets, norm=norm))
    rows, places = map(to_numpy, layer(numbers(B, length, D)))
    table = to_numpy(layer.embeddings).astype("float64")
    table = reference.layer_norm(layer.norm, table) if norm else table
    span = num_buckets or MAX_DISTANCE
    assert table.shape == (2 * span, D)
    assert places.shape == (2 * length + 1,)
    assert len(rows) <= min(2 * length + 1, 2 * span)
    for distance in range(-length, length + 1):
        row = np.clip(bucket(distance, num_buckets, MAX_DISTANCE) + span, 0, 2 * span - 1)
        assert_near(rows[places[distance + length]], table[row], 1e-5)


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(7, 32), (2, 32), (32, 31)])
def test_buckets_that_cannot_be_are_refused(num_buckets, max_distance):
    message = f"{num_buckets} buckets for distances up to {max_distance} tokens; expected an even"
    with pytest.raises(ValueError, match=message):
        relative_positions(max_distance, num_buckets)


# Attention


def formula(layer, positions, x, mask):
    """He et al. 2021, equation 4, one pair of tokens at a time."""
    rows, places = (to_numpy(part) for part in positions(x))

    def heads(dense, x):
        return reference.dense(dense, x.astype("float64")).reshape(*x.shape[:-1], H, K)

    query, key, length = heads(layer.query, x), heads(layer.key, x), x.shape[1]
    bias = np.zeros((len(x), H, length, length))
    for t, s in np.ndindex(length, length):
        position = rows[places[t - s + length]]
        if "c2p" in layer.terms:
            bias[:, :, t, s] += (query[:, t] * heads(layer.position_key, position)).sum(-1)
        if "p2c" in layer.terms:
            bias[:, :, t, s] += (key[:, s] * heads(layer.position_query, position)).sum(-1)
    scale = 1 / np.sqrt((1 + len(layer.terms)) * K)
    assert layer.scale == pytest.approx(scale)
    return reference.attention(layer, x, mask=mask, bias=scale * bias)


@pytest.mark.parametrize("terms", TERMS, ids="-".join)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_attention_is_the_papers_formula(terms, shared):
    positions = built(relative_positions())
    layer = built(DisentangledAttention(H, K, terms, shared))
    own = {"position_key": "c2p" in terms, "position_query": "p2c" in terms}
    paths = {weight.path.split("/")[-2] for weight in layer.weights}
    assert paths == {"query", "key", "value", "output", *(n for n in own if own[n] and not shared)}
    for length in (1, T, 17):  # below what the buckets tell apart, and above
        x = numbers(B, length, D, seed=3)
        mask = np.resize(PADDING, (B, length))[:, None, None]
        mask[..., 0] = True
        got = layer(x, relative=positions(x), attention_mask=keras.ops.convert_to_tensor(mask))
        assert_near(got, formula(layer, positions, x, mask), 1e-5)


def test_without_terms_it_is_plain_attention():
    layer, plain = built(DisentangledAttention(H, K, ())), built(MultiHeadAttention(H, K))
    for weight, other in zip(layer.weights, plain.weights, strict=True):
        weight.assign(other)
    assert_near(layer(X), plain(X), 1e-6)


def test_only_the_distance_between_tokens_counts():
    """Moved to the right by padding, a text gives what it gave."""
    positions, layer = built(relative_positions()), built(DisentangledAttention(H, K))
    moved = np.concatenate([numbers(B, 3, D, seed=5), X], axis=1)
    mask = masks.padding(np.arange(T + 3)[None] >= 3)
    before = to_numpy(layer(X, relative=positions(X)))
    after = to_numpy(layer(moved, relative=positions(moved), attention_mask=mask))
    np.testing.assert_allclose(after[:, 3:], before, atol=1e-5)
    backwards = to_numpy(layer(X[:, ::-1], relative=positions(X)))[:, ::-1]
    assert np.abs(backwards - before).max() > 0.01


def test_a_bias_is_added_and_scores_sum_to_one():
    positions, layer = built(relative_positions()), built(DisentangledAttention(H, K))
    deep = np.where(PADDING, 0, -1e9).astype("float32")[:, None, None]
    relative, mask = positions(X), masks.padding(PADDING)
    masked = layer(X, relative=relative, attention_mask=mask)
    assert_near(layer(X, relative=relative, bias=deep), masked, 1e-5)
    output, scores = layer(X, relative=relative, attention_mask=mask, return_scores=True)
    assert_near(output, masked, 1e-5)
    assert scores.shape == (B, H, T, T)
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-5)
    assert np.abs(to_numpy(scores)[1][..., ~PADDING[1]]).max() == 0


def test_dropout_falls_on_scores_and_on_positions():
    x = keras.ops.convert_to_tensor(X)
    relative = built(relative_positions())(x)
    for dropout in ({"dropout": 0.5}, {"position_dropout": 0.5}):
        layer = built(DisentangledAttention(H, K, **dropout))
        first, second = (to_numpy(layer(x, relative=relative, training=True)) for _ in range(2))
        assert np.abs(first - second).max() > 0.01
        assert_near(layer(x, relative=relative), layer(x, relative=relative, training=False), 0)


def test_what_is_no_mask_and_no_term_is_refused():
    positions, layer = built(relative_positions()), built(DisentangledAttention(H, K))
    with pytest.raises(ValueError, match="attention_mask must be boolean, .* got float32"):
        layer(X, relative=positions(X), attention_mask=np.ones((B, 1, 1, T), "float32"))
    with pytest.raises(ValueError, match="terms are .'c2c',.; expected some of c2p, p2c"):
        DisentangledAttention(H, K, ("c2c",))


@pytest.mark.parametrize("length", [1, 2, 7])
def test_diagonals_begin_where_each_row_stands(length):
    x = numbers(2, 3, length, 2 * length + 1)
    got = to_numpy(disentangled.diagonals(keras.ops.convert_to_tensor(x)))
    for t, s in np.ndindex(length, length):
        np.testing.assert_array_equal(got[..., t, s], x[..., t, length + s - t])


def attend(layer, x, padding_mask):
    positions = relative_positions(dtype=layer.dtype_policy)
    return layer(x, relative=positions(x), attention_mask=masks.padding(padding_mask))


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_it_does_what_every_layer_must(shared, tmp_path):
    def make(dtype):
        return DisentangledAttention(H, K, shared=shared, dtype=dtype)

    check_layer(make, {"x": X, "padding_mask": PADDING}, tmp_path, attend)


def test_one_graph_serves_every_length():
    """On TensorFlow with its length left open; elsewhere as the model is called."""
    inputs = {"x": X, "padding_mask": PADDING}
    model = as_model(DisentangledAttention(H, K), inputs, attend)
    randomize(model)
    function = model
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        specs = {
            "x": tf.TensorSpec([None, None, D], tf.float32),
            "padding_mask": tf.TensorSpec([None, None], tf.bool),
        }
        function = tf.function(model, input_signature=[specs], autograph=False)
    for length in (1, 3, T):
        part = {name: keras.ops.convert_to_tensor(a[:, :length]) for name, a in inputs.items()}
        part["padding_mask"] = keras.ops.ones_like(part["padding_mask"])
        expected = run(model, {name: to_numpy(a) for name, a in part.items()})
        assert_near(function(part), expected, 1e-5)
