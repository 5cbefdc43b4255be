"""From a sequence to one vector, by hand."""

import keras
import numpy as np
import pytest
from harness import as_model, assert_near, check_layer, numbers, randomize, run, to_numpy

from kbert.heads.pooling import PoolTokens, pooled
from kbert.models.bert import BertConfig, bert

B, T, D = 2, 5, 13
CONFIG = BertConfig(
    vocab_size=101, num_layers=2, width=35, num_heads=5, inner_width=53, max_length=17
)
# Three tokens of width 2; the third is padding in the second text.
SEQUENCE = np.array([[[1, -2], [3, 5], [8, -6]], [[1, -2], [3, 5], [100, 100]]], "float32")
MASK = np.array([[True, True, True], [True, True, False]])


@pytest.fixture(scope="module")
def encoder():
    encoder = bert(CONFIG, "float32")
    randomize(encoder)
    return encoder


def inputs():
    padding_mask = np.array([[True] * 7, [True] * 3 + [False] * 4])
    token_ids = np.random.default_rng(1).integers(0, 101, (2, 7), "int32")
    return {
        "token_ids": token_ids,
        "segment_ids": np.zeros((2, 7), "int32"),
        "padding_mask": padding_mask,
    }


def pool(encoder, pooling):
    """The pooled vectors of `inputs`, the sequences, and the model."""
    model = keras.Model(encoder.input, [pooled(encoder, pooling), encoder.output["sequence"]])
    return (*run(model, inputs()), model)


def test_the_mean_counts_real_tokens_alone():
    result = to_numpy(PoolTokens("mean")(SEQUENCE, MASK))
    np.testing.assert_allclose(result, [[4, -1], [2, 1.5]])


def test_the_maximum_looks_at_real_tokens_alone():
    assert to_numpy(PoolTokens("max")(SEQUENCE, MASK)).tolist() == [[8, 5], [3, 5]]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_text_without_tokens_gives_zeros(pooling):
    result = to_numpy(PoolTokens(pooling)(SEQUENCE, np.array([[False] * 3, [True] * 3])))
    assert result[0].tolist() == [0, 0]
    assert result[1].all()


def test_cls_is_the_first_token_as_it_is(encoder):
    vector, sequence, model = pool(encoder, "cls")
    np.testing.assert_array_equal(vector, sequence[:, 0])
    assert len(model.weights) == len(encoder.weights)


def test_pooler_is_a_tanh_layer_on_the_first_token(encoder):
    vector, sequence, model = pool(encoder, "pooler")
    kernel, bias = (to_numpy(weight) for weight in model.get_layer("pooler").weights)
    np.testing.assert_allclose(vector, np.tanh(sequence[:, 0] @ kernel + bias), atol=1e-6)
    new = {weight.path for weight in model.weights} - {w.path for w in encoder.weights}
    assert new == {"pooler/kernel", "pooler/bias"}


@pytest.mark.parametrize(("pooling", "take"), [("mean", np.mean), ("max", np.max)])
def test_mean_and_max_of_an_encoder_leave_its_padding_out(encoder, pooling, take):
    vector, sequence, _ = pool(encoder, pooling)
    expected = [take(sequence[0], axis=0), take(sequence[1, :3], axis=0)]
    np.testing.assert_allclose(vector, expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean", "max"])
def test_a_pooled_vector_has_the_type_that_its_encoder_computes_in(pooling):
    mixed = bert(CONFIG, "mixed_bfloat16")
    vector = pooled(mixed, pooling)
    assert vector.shape == (None, 35)
    assert keras.backend.standardize_dtype(vector.dtype) == "bfloat16"


def test_a_mean_of_bfloat16_is_taken_in_float32():
    # A running sum in bfloat16 stops at 256, where 1 is half of the last of its 8 bits.
    sequence = np.ones((1, 1009, 3), "float32")
    layer = PoolTokens("mean", dtype="bfloat16")
    assert to_numpy(layer(sequence, np.ones((1, 1009), bool))).tolist() == [[1, 1, 1]]


def test_an_unknown_pooling_is_refused(encoder):
    with pytest.raises(ValueError, match="one of pooler, cls, mean, max; got 'average'"):
        pooled(encoder, "average")


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_saves_compiles_and_computes_in_bfloat16(pooling, tmp_path):
    def make(dtype):
        return PoolTokens(pooling, dtype=dtype)

    mask = np.array([[True] * T, [True] * 3 + [False] * (T - 3)])
    check_layer(make, {"sequence": numbers(B, T, D), "padding_mask": mask}, tmp_path)


def test_pooling_in_any_order_of_the_tokens_is_the_same():
    mask = np.array([[True] * T, [True] * 3 + [False] * (T - 3)])
    model = as_model(PoolTokens("mean"), {"sequence": numbers(B, T, D), "padding_mask": mask})
    x = numbers(B, T, D)
    order = [3, 0, 4, 2, 1]
    one = run(model, {"sequence": x, "padding_mask": mask})
    other = run(model, {"sequence": x[:, order], "padding_mask": mask[:, order]})
    assert_near(other, one, 1e-6)
