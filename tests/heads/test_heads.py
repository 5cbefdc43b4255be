"""Every head on one encoder: its graph, its types, its saving, its training."""

import keras
import numpy as np
import pytest
from harness import check_round_trip, check_xla, randomize, run

from kbert.heads.classification import classification
from kbert.heads.masked_lm import masked_lm
from kbert.heads.multiple_choice import multiple_choice
from kbert.heads.next_sentence import next_sentence
from kbert.heads.replaced_token import replaced_token
from kbert.heads.sentence_order import sentence_order
from kbert.heads.span import span
from kbert.heads.tokens import token_classification
from kbert.layers.head_parts import HeadParts
from kbert.models.bert import BertConfig, bert

B, T, V, D, M = 6, 13, 101, 35, 3
CONFIG = BertConfig(
    vocab_size=V, num_layers=1, width=D, num_heads=5, inner_width=53, max_length=17, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip
# Encoder → model, and the shape of its logits.
HEADS = {
    "classification": (lambda encoder: classification(encoder, 7), (B, 7)),
    "multiple choice": (lambda encoder: multiple_choice(encoder, 3), (B // 3, 3)),
    "tokens": (lambda encoder: token_classification(encoder, 7), (B, T, 7)),
    "span": (span, (B, T, 2)),
    "masked words": (masked_lm, (B, T, V)),
    "masked words at places": (lambda encoder: masked_lm(encoder, True), (B, M, V)),
    "next sentence": (next_sentence, (B, 2)),
    "sentence order": (sentence_order, (B, 2)),
    "replaced tokens": (replaced_token, (B, T)),
}
heads = pytest.mark.parametrize(("build", "shape"), HEADS.values(), ids=HEADS)


def inputs_of(model):
    draw = np.random.default_rng(1)
    lengths = np.array([13, 7, 11, 2, 13, 5])[:, None]
    inputs = {
        "token_ids": draw.integers(0, V, (B, T), "int32"),
        "segment_ids": draw.integers(0, 2, (B, T), "int32"),
        "padding_mask": np.arange(T) < lengths,
        "masked_positions": draw.integers(0, 2, (B, M), "int32"),
    }
    return {name: inputs[name] for name in model.input}


@heads
def test_a_head_extends_the_graph_gives_float32_and_is_saved(build, shape, tmp_path):
    encoder = bert(CONFIG, "mixed_bfloat16")
    model = build(encoder)
    assert set(encoder.layers) < set(model.layers)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    randomize(model)
    inputs = inputs_of(model)
    output = run(model, inputs)
    assert output.shape == shape
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
    check_round_trip(model, inputs, output, tmp_path)


@heads
def test_a_head_compiles_and_does_not_read_the_padding(build, shape):
    model = build(bert(CONFIG, "float32"))
    randomize(model)
    inputs = inputs_of(model)
    output = run(model, inputs)
    check_xla(model, inputs, output)
    other = {**inputs, "token_ids": np.where(inputs["padding_mask"], inputs["token_ids"], 97)}
    real = inputs["padding_mask"] if output.shape[:2] == (B, T) else np.full(output.shape[:1], True)
    difference = np.abs(run(model, other) - output)[real]
    assert difference.max() < 1e-5


def test_masked_words_at_places_are_those_of_the_whole_sequence():
    encoder = bert(CONFIG, "float32")
    whole, places = masked_lm(encoder), masked_lm(encoder, at_positions=True)
    randomize(whole)
    for mine, theirs in zip(places.weights, whole.weights, strict=True):
        mine.assign(theirs)
    inputs = inputs_of(places)
    expected = np.take_along_axis(
        run(whole, inputs_of(whole)), inputs["masked_positions"][:, :, None], 1
    )
    np.testing.assert_allclose(run(places, inputs), expected, rtol=0, atol=1e-5)


def test_the_masked_words_table_is_the_embedding():
    encoder = bert(CONFIG, "float32")
    model = masked_lm(encoder)
    paths = [weight.path for weight in model.weights]
    assert paths.count("token_embedding/embeddings") == 1
    new = D * D + D + 2 * D + V  # hidden layer, normalisation, bias
    assert model.count_params() == encoder.count_params() + new


def test_a_choice_is_scored_whatever_stands_beside_it():
    model = multiple_choice(bert(CONFIG, "float32"), 3)
    randomize(model)
    inputs = inputs_of(model)
    turned = {name: x.reshape(2, 3, T)[:, ::-1].reshape(B, T) for name, x in inputs.items()}
    np.testing.assert_allclose(run(model, turned), run(model, inputs)[:, ::-1], atol=1e-5)


def test_parts_of_an_architecture_change_its_heads():
    encoder = bert(CONFIG, "float32")
    encoder.head_parts = HeadParts(
        pooling="mean", pooler_activation="relu", pooler_bias=False, pooler_norm=True,
        pooler_dropout=0.5, pool_tokens=True, transform_bias=False,
    )  # fmt: skip
    paths = {weight.path for weight in classification(encoder, 7).weights}
    assert {"pooler/kernel", "pooler_norm/gamma", "classifier/bias"} < paths
    assert "pooler/bias" not in paths
    assert "pooler/kernel" in {weight.path for weight in token_classification(encoder, 7).weights}
    assert "masked_lm_transform/bias" not in {weight.path for weight in masked_lm(encoder).weights}
