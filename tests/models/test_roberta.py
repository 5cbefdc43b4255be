"""RoBERTa, XLM-R and CamemBERT against transformers' models."""

import dataclasses
import json

import numpy as np
import parity
import pytest
from contract import check_encoder, one_text, random_inputs, sequence
from harness import randomize, to_numpy

from kbert.models import roberta as roberta_file
from kbert.models.roberta import (
    CAMEMBERT_BASE,
    HEADS,
    ROBERTA_BASE,
    ROBERTA_LARGE,
    STEMS,
    XLM_ROBERTA_BASE,
    XLM_ROBERTA_LARGE,
    RobertaConfig,
    config_from_hugging_face,
    config_to_hugging_face,
    roberta,
)

V, D, F = 101, 35, 53
CONFIG = RobertaConfig(
    vocab_size=V, num_layers=3, width=D, num_heads=5, inner_width=F, max_length=17
)


@pytest.fixture(scope="module")
def encoder():
    encoder = roberta(CONFIG, "float32")
    randomize(encoder, 0.2)
    return encoder


def changed(encoder, path, rows, inputs):
    """The largest change of the sequence when some rows of a table are negated."""
    (table,) = (weight for weight in encoder.weights if weight.path == path)
    before, old = sequence(encoder, inputs), to_numpy(table)
    new = old.copy()
    new[rows] *= -1  # not += 1, which the normalisation takes away again
    table.assign(new)
    after = sequence(encoder, inputs)
    table.assign(old)
    return np.abs(after - before).max()


# What is RoBERTa's own


def test_the_first_token_stands_at_the_row_after_the_paddings(encoder):
    table = "position_embedding/embeddings"
    text = one_text(encoder, [5] * 17)
    assert changed(encoder, table, slice(0, 2), text) == 0
    for row in (2, 18):
        assert changed(encoder, table, slice(row, row + 1), text) > 1e-2
    assert changed(encoder, table, slice(3, None), one_text(encoder, [5])) == 0


def test_more_tokens_than_positions_are_refused(encoder):
    with pytest.raises(ValueError, match="19 tokens came, .* for at most 17"):
        encoder(one_text(encoder, [5] * 19))


def test_there_are_no_segments_and_the_first_row_of_their_table_is_added(encoder):
    assert set(encoder.input) == {"token_ids", "padding_mask"}
    inputs = random_inputs(encoder, V, pad_id=1)
    assert changed(encoder, "segment_embedding/embeddings", slice(None), inputs) > 1e-2
    three = roberta(dataclasses.replace(CONFIG, num_segments=3), "float32")
    randomize(three, 0.2)
    assert changed(three, "segment_embedding/embeddings", slice(0, 1), inputs) > 1e-2
    assert changed(three, "segment_embedding/embeddings", slice(1, 3), inputs) == 0


def test_the_paths_and_shapes_of_the_weights_are_golden(encoder):
    block = {
        "attention/query/kernel": (35, 35),
        "attention/query/bias": (35,),
        "attention/key/kernel": (35, 35),
        "attention/key/bias": (35,),
        "attention/value/kernel": (35, 35),
        "attention/value/bias": (35,),
        "attention/output/kernel": (35, 35),
        "attention/output/bias": (35,),
        "attention_residual/norm/gamma": (35,),
        "attention_residual/norm/beta": (35,),
        "feed_forward/inner/kernel": (35, 53),
        "feed_forward/inner/bias": (53,),
        "feed_forward/outer/kernel": (53, 35),
        "feed_forward/outer/bias": (35,),
        "feed_forward_residual/norm/gamma": (35,),
        "feed_forward_residual/norm/beta": (35,),
    }
    assert {weight.path: weight.shape for weight in encoder.weights} == {
        "token_embedding/embeddings": (101, 35),
        "position_embedding/embeddings": (19, 35),
        "segment_embedding/embeddings": (1, 35),
        "embedding_norm/gamma": (35,),
        "embedding_norm/beta": (35,),
        **{f"block_{i}/{path}": shape for i in range(3) for path, shape in block.items()},
    }


def test_it_keeps_the_contract_of_encoders(tmp_path):
    check_encoder(roberta, CONFIG, tmp_path, pad_id=1)


# Configs


def reference_config(model_type, **settings):
    from transformers import AutoConfig

    return AutoConfig.for_model(model_type, **settings)


@pytest.mark.parametrize("model_type", STEMS)
def test_the_default_config_is_transformers_own(model_type):
    settings = reference_config(model_type).to_dict()
    config = config_from_hugging_face(settings)
    assert config == config_from_hugging_face({"model_type": model_type})
    assert config.vocab_size == settings["vocab_size"]
    assert config.max_length == 510  # of transformers' 512 rows; published files say 514
    assert config.num_segments == 2


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ROBERTA_BASE, "RobertaModel"),
        (ROBERTA_LARGE, "RobertaModel"),
        (XLM_ROBERTA_BASE, "XLMRobertaModel"),
        (XLM_ROBERTA_LARGE, "XLMRobertaModel"),
        (CAMEMBERT_BASE, "CamembertModel"),
    ],
    ids=["base", "large", "xlm-base", "xlm-large", "camembert"],
)
def test_a_published_config_is_transformers_own_of_its_class(config, name):
    settings = config_to_hugging_face(config)
    assert settings["architectures"] == [name]
    assert settings["max_position_embeddings"] == 514
    reference = reference_config(**settings)
    assert reference.to_dict().items() >= settings.items()
    assert config_from_hugging_face(reference.to_dict()) == config


def test_a_config_goes_to_hugging_face_and_back():
    odd = RobertaConfig(
        101, 3, 35, 5, 53, 17, 3, "gelu_new", 0.11, 0.13, 1e-7, 0.03, 7, "camembert"
    )  # fmt: skip
    assert all(
        getattr(odd, field.name) != field.default for field in dataclasses.fields(RobertaConfig)
    )
    settings = config_to_hugging_face(odd)
    assert settings["max_position_embeddings"] == 17 + 7 + 1
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == odd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key'; RoBERTa here has absolute positions only",
        ),
        ({"is_decoder": True}, "RoBERTa here is an encoder"),
        ({"add_cross_attention": True}, "RoBERTa here is an encoder"),
        (
            {"hidden_size": 37, "num_attention_heads": 5},
            "hidden_size 37 does not divide by num_attention_heads 5",
        ),
        ({"hidden_size": "37"}, "hidden_size is '37'; expected int, such as 768"),
        ({"pad_token_id": None}, "pad_token_id is None; expected int, such as 1"),
        (
            {"max_position_embeddings": 2},
            r"max_position_embeddings 2 leaves no position .* pad_token_id \+ 1 = 2",
        ),
        ({"model_type": "longformer"}, "model_type is 'longformer'; expected one of roberta, xlm-"),
        ({"hidden_act": "gleu"}, "hidden_act is 'gleu'; expected one of gelu, gelu_new, "),
    ],
)
def test_a_config_that_roberta_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)


# Heads

HEAD_SETTINGS = {
    "vocab_size": V, "num_hidden_layers": 2, "hidden_size": D, "num_attention_heads": 5,
    "intermediate_size": F, "max_position_embeddings": 19, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}  # fmt: skip
# XLM-R's and CamemBERT's heads are RoBERTa's: two of them show that names and classes are right.
HEADS_OF_TYPES = [
    *(("roberta", head) for head in HEADS),
    *(
        (other, head)
        for other in list(STEMS)[1:]
        for head in ("MaskedLM", "SequenceClassification")
    ),
]


@pytest.mark.parametrize(("model_type", "head"), HEADS_OF_TYPES)
def test_every_head_agrees_with_transformers_both_ways(model_type, head):
    parity.check_head(roberta_file, {"model_type": model_type, **HEAD_SETTINGS}, head)


@pytest.mark.parametrize("model_type", STEMS)
def test_the_bare_encoder_agrees_with_transformers_both_ways(model_type):
    parity.check_encoder(roberta_file, {"model_type": model_type, **HEAD_SETTINGS})


def test_a_table_of_more_segments_than_one_agrees_too():
    parity.check_encoder(roberta_file, {**HEAD_SETTINGS, "type_vocab_size": 3})
