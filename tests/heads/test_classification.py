"""A label for a text, against transformers' BertForSequenceClassification."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from harness import check_round_trip, check_training, check_xla, randomize, run

from kbert.heads.classification import classification
from kbert.models.bert import (
    HEADS,
    NAMES,
    PREFIX,
    BertConfig,
    bert,
    config_from_hugging_face,
    config_to_hugging_face,
)
from kbert.weights import names, safetensors

ROWS = (*NAMES, *HEADS["SequenceClassification"])
B, T, V, LABELS = 3, 13, 101, 7
CONFIG = BertConfig(
    vocab_size=V, num_layers=3, width=35, num_heads=5, inner_width=53, max_length=17, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip


def random_inputs():
    draw = np.random.default_rng(1)
    padding_mask = np.ones((B, T), bool)
    padding_mask[1, 7:] = False
    return {
        "token_ids": draw.integers(0, V, (B, T), "int32"),
        "segment_ids": draw.integers(0, 2, (B, T), "int32"),
        "padding_mask": padding_mask,
    }


def test_the_logits_are_those_of_transformers_with_its_weights():
    import torch
    from transformers import BertConfig as ReferenceConfig
    from transformers import BertForSequenceClassification

    settings = ReferenceConfig(**config_to_hugging_face(CONFIG), num_labels=LABELS)
    reference = BertForSequenceClassification(settings).eval()
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in reference.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    inputs = random_inputs()
    with torch.no_grad():
        expected = reference(
            input_ids=torch.from_numpy(inputs["token_ids"]).long(),
            token_type_ids=torch.from_numpy(inputs["segment_ids"]).long(),
            attention_mask=torch.from_numpy(inputs["padding_mask"]).long(),
        ).logits.numpy()
    model = classification(bert(CONFIG, "float32"), LABELS)
    tensors = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}
    matched = names.from_checkpoint(tensors, ROWS, PREFIX)
    assert matched.unknown == []
    assert set(matched.arrays) == {weight.path for weight in model.weights}
    names.assign(model.weights, matched.arrays)
    np.testing.assert_allclose(run(model, inputs), expected, rtol=0, atol=2e-5)
    back = names.to_checkpoint(names.take(model.weights), ROWS, PREFIX)
    assert set(back) == set(tensors)
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)


def test_a_published_classifier_gives_its_golden_logits(data_dir):
    folder = data_dir / "weights" / "rxnfp_classifier"
    golden = np.load(data_dir / "weights" / "goldens" / "rxnfp_bert_ft_10k_cls.npz")
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    model = classification(bert(config_from_hugging_face(settings), "float32"), 50)
    tensors = safetensors.read(safetensors.weight_files(folder))
    matched = names.from_checkpoint(tensors, ROWS, PREFIX)
    assert matched.unknown == []
    assert names.differences(model.weights, matched.arrays) == ([], [])
    names.assign(model.weights, matched.arrays)
    token_ids = golden["ids"][None]
    logits = run(
        model,
        {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "padding_mask": np.ones_like(token_ids, bool),
        },
    )
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=2e-5)


def test_the_encoders_graph_is_extended_and_not_nested():
    encoder = bert(CONFIG)
    model = classification(encoder, LABELS)
    assert set(encoder.layers) < set(model.layers)
    assert model.inputs == encoder.inputs
    assert [layer.name for layer in model.layers[-4:]] == [
        "pooler", "pooler_activation", "classifier_dropout", "classifier",
    ]  # fmt: skip
    assert model.output.shape == (None, LABELS)


def test_an_encoder_can_have_two_heads_at_once():
    encoder = bert(CONFIG)
    first, second = classification(encoder, LABELS), classification(encoder, 11, "mean")
    shared = {id(weight) for weight in first.weights} & {id(weight) for weight in second.weights}
    assert shared == {id(weight) for weight in encoder.weights}


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean", "max"])
def test_logits_are_float32_whatever_the_encoder_computes_in(pooling):
    model = classification(bert(CONFIG, "mixed_bfloat16"), LABELS, pooling)
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"


def test_a_classifier_saves_compiles_and_trains(tmp_path):
    config = dataclasses.replace(CONFIG, num_layers=1)
    model = classification(bert(config, "float32"), LABELS, dropout=0.0)
    randomize(model, 0.1)
    inputs = random_inputs()
    logits = run(model, inputs)
    check_round_trip(model, inputs, logits, tmp_path)
    check_xla(model, inputs, logits)
    check_training(model, inputs, np.eye(LABELS, dtype="float32")[[2, 5, 3]])


def test_dropout_is_active_only_when_training():
    model = classification(bert(CONFIG, "float32"), LABELS, dropout=0.5)
    inputs = random_inputs()
    one, two = (run(model, inputs) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(run(model, inputs, training=True) - one).max() > 1e-4


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling must be one of .*; got 'first'"):
        classification(bert(CONFIG), LABELS, "first")
