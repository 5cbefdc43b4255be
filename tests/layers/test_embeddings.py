"""Token embeddings, read by id and multiplied by in reverse."""

import keras
import numpy as np
from harness import as_model, assert_near, check_int8, check_layer, numbers, to_numpy

from kbert.layers.embeddings import TokenEmbedding

B, T, V, D = 2, 5, 101, 13
TOKEN_IDS = np.random.default_rng(1).integers(0, V, (B, T), "int32")


def token_embedding():
    layer = TokenEmbedding(V, D)
    layer.build((None, None))
    layer.embeddings.assign(numbers(V, D))
    return layer


def test_the_lectures_three_tokens_are_three_rows_of_the_table():
    rows = to_numpy(token_embedding()(np.array([[27, 11, 83]])))
    assert rows.tolist() == numbers(V, D)[[[27, 11, 83]]].tolist()


def test_in_reverse_a_vector_is_multiplied_by_every_tokens_row():
    x = numbers(B, T, D, seed=2)
    logits = to_numpy(token_embedding()(x, reverse=True))
    assert logits.shape == (B, T, V)
    np.testing.assert_allclose(logits, x @ numbers(V, D).T, atol=1e-5)


def test_one_table_serves_both_ways():
    layer = token_embedding()
    assert [weight.path for weight in layer.weights] == [f"{layer.name}/embeddings"]


def there_and_back(layer, token_ids):
    return layer(layer(token_ids), reverse=True)


def test_token_embedding_saves_trains_compiles_and_computes_in_bfloat16(tmp_path):
    def make(dtype):
        return TokenEmbedding(V, D, dtype=dtype)

    check_layer(make, {"token_ids": TOKEN_IDS}, tmp_path, there_and_back)


def test_token_embedding_takes_int8_through_keras():
    layer = token_embedding()
    inputs = {"token_ids": TOKEN_IDS}
    check_int8(as_model(layer, inputs, there_and_back), inputs, [])
    assert keras.backend.standardize_dtype(layer._embeddings.dtype) == "int8"


def test_token_embedding_takes_lora_through_keras():
    layer = token_embedding()
    before = to_numpy(layer(TOKEN_IDS))
    layer.enable_lora(2)
    assert_near(layer(TOKEN_IDS), before, 1e-6)
    layer.lora_embeddings_b.assign(numbers(2, D, seed=3))
    assert np.abs(to_numpy(layer(TOKEN_IDS)) - before).max() > 1e-3
