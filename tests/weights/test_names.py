"""Tables of names, read and written."""

import keras
import numpy as np
import pytest

from kbert.weights import names

TABLE = (
    names.Row("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    *names.norm("embedding_norm", "embeddings.LayerNorm"),
    *names.dense("block_{i}/query", "layer.{i}.query"),
    *names.dense("classifier", "classifier", head=True),
    *names.left_out("embeddings.position_ids"),
    *names.left_out("cls.bias", head=True),
)
ARRAYS = {
    "token_embedding/embeddings": np.arange(14.0).reshape(7, 2),
    "embedding_norm/gamma": np.array([1.0, 2.0]),
    "embedding_norm/beta": np.array([3.0, 4.0]),
    "block_0/query/kernel": np.arange(6.0).reshape(2, 3),
    "block_11/query/bias": np.arange(3.0),
    "classifier/kernel": np.arange(10.0).reshape(2, 5),
}


def read(*tensor_names, shape=(2, 3)):
    tensors = {name: np.arange(6.0).reshape(shape) for name in tensor_names}
    return names.from_checkpoint(tensors, TABLE, "bert.")


def test_names_are_written_with_the_prefix_but_a_heads_without():
    assert set(names.to_checkpoint(ARRAYS, TABLE, "bert.")) == {
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.LayerNorm.weight",
        "bert.embeddings.LayerNorm.bias",
        "bert.layer.0.query.weight",
        "bert.layer.11.query.bias",
        "classifier.weight",
    }


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_what_is_written_is_read_back_bit_equal(prefix):
    matched = names.from_checkpoint(names.to_checkpoint(ARRAYS, TABLE, prefix), TABLE, "bert.")
    assert matched.unknown == []
    assert set(matched.arrays) == set(ARRAYS)
    for path, array in ARRAYS.items():
        np.testing.assert_array_equal(matched.arrays[path], array, path)


def test_a_dense_kernel_is_transposed_and_nothing_else_is():
    tensors = names.to_checkpoint(ARRAYS, TABLE, "")
    assert tensors["layer.0.query.weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["layer.0.query.weight"].flags.c_contiguous
    assert tensors["embeddings.word_embeddings.weight"].shape == (7, 2)


def test_a_row_may_carry_two_numbers_over_in_any_order():
    table = names.dense("block_{i}_{j}", "groups.{j}.layers.{i}")
    tensors = {"groups.3.layers.11.bias": np.arange(3.0)}
    matched = names.from_checkpoint(tensors, table, "")
    assert set(matched.arrays) == {"block_11_3/bias"}
    assert set(names.to_checkpoint(matched.arrays, table, "")) == set(tensors)


JOINED = (
    names.Row(
        tuple(f"block_{{i}}/{part}/kernel" for part in ("query", "key", "value")),
        "layers.{i}.Wqkv.weight",
        transpose=True,
    ),
)


def test_a_tensor_may_join_several_variables_one_below_the_other():
    tensors = {"layers.5.Wqkv.weight": np.arange(12.0).reshape(6, 2)}
    matched = names.from_checkpoint(tensors, JOINED, "")
    assert {path: array.tolist() for path, array in matched.arrays.items()} == {
        "block_5/query/kernel": [[0, 2], [1, 3]],
        "block_5/key/kernel": [[4, 6], [5, 7]],
        "block_5/value/kernel": [[8, 10], [9, 11]],
    }
    backwards = dict(reversed(matched.arrays.items()))
    (written,) = names.to_checkpoint(backwards, JOINED, "model.").items()
    assert written[0] == "model.layers.5.Wqkv.weight"
    np.testing.assert_array_equal(written[1], tensors["layers.5.Wqkv.weight"])
    assert written[1].flags.c_contiguous


def test_a_joined_tensor_that_lacks_a_part_is_refused():
    arrays = {f"block_3/{part}/kernel": np.zeros((2, 2)) for part in ("query", "value")}
    with pytest.raises(KeyError, match="Wqkv.weight joins .*; block_3/key/kernel is not there"):
        names.to_checkpoint(arrays, JOINED, "")


def test_a_joined_tensor_that_cannot_be_shared_out_is_misshapen():
    tensors = {"layers.0.Wqkv.weight": np.zeros((7, 2))}
    matched = names.from_checkpoint(tensors, JOINED, "")
    assert matched.arrays["block_0/query/kernel"].shape == (2, 3)
    assert matched.arrays["block_0/value/kernel"].shape == (2, 2)


def test_a_blocks_number_is_carried_over():
    matched = read("bert.layer.7.query.weight", "layer.13.query.weight")
    assert set(matched.arrays) == {"block_7/query/kernel", "block_13/query/kernel"}


def test_older_names_are_read_and_never_written():
    matched = read("embeddings.LayerNorm.gamma", "embeddings.LayerNorm.beta")
    assert set(matched.arrays) == {"embedding_norm/gamma", "embedding_norm/beta"}
    written = names.to_checkpoint(matched.arrays, TABLE, "")
    assert set(written) == {"embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"}


def test_tensors_that_no_layer_takes_are_known_and_left_out():
    matched = read("bert.embeddings.position_ids", "cls.bias")
    assert matched == names.Matched()


@pytest.mark.parametrize(
    "name",
    [
        "bert.pooler.dense.weight",
        "layer.x.query.weight",
        "layer.0.query.weights",
        "my.layer.0.query.weight",
        "layer/0/query.weight",
        "bert.classifier.weight",
    ],
)
def test_a_name_without_a_row_is_listed_as_unknown(name):
    matched = read(name, "layer.0.query.weight")
    assert matched.unknown == [name]
    assert set(matched.arrays) == {"block_0/query/kernel"}


@pytest.mark.parametrize("path", ["pooler/kernel", "block_x/query/kernel", "block_0/query/kernel_"])
def test_a_variable_without_a_row_is_refused(path):
    with pytest.raises(KeyError, match=f"{path} has no row in the table of names"):
        names.to_checkpoint({path: np.zeros(3)}, TABLE, "")


def dense_model():
    x = keras.Input((2,))
    return keras.Model(x, keras.layers.Dense(3, name="query")(x))


def test_differences_list_what_is_missing_and_what_is_misshapen():
    weights = dense_model().weights
    fits = {"query/kernel": np.zeros((2, 3)), "query/bias": np.zeros(3), "other": np.zeros(5)}
    assert names.differences(weights, fits) == ([], [])
    assert names.differences(weights, {"query/kernel": np.zeros((3, 2))}) == (
        ["query/bias"],
        ["query/kernel (3, 2), expected (2, 3)"],
    )


def test_what_is_assigned_is_what_is_taken():
    weights = dense_model().weights
    arrays = {"query/kernel": np.arange(6.0).reshape(2, 3), "query/bias": np.arange(3.0)}
    names.assign(weights, arrays)
    taken = names.take(weights)
    assert {path: array.dtype for path, array in taken.items()} == dict.fromkeys(arrays, "float32")
    for path, array in arrays.items():
        np.testing.assert_array_equal(taken[path], array)


def test_weights_kept_in_bfloat16_are_taken_as_float32():
    layer = keras.layers.Dense(3, dtype="bfloat16", name="query")
    layer.build((None, 2))
    assert {array.dtype.name for array in names.take(layer.weights).values()} == {"float32"}
