"""DistilBERT against transformers' models."""

import dataclasses
import json

import numpy as np
import parity
import pytest
from contract import check_encoder, one_text
from harness import randomize, to_numpy

from kbert.models import distilbert as distilbert_file
from kbert.models.distilbert import (
    DISTILBERT_BASE_CASED,
    DISTILBERT_BASE_MULTILINGUAL_CASED,
    DISTILBERT_BASE_UNCASED,
    HEADS,
    DistilBertConfig,
    config_from_hugging_face,
    config_to_hugging_face,
    distilbert,
)

V, D, F = 101, 35, 53
CONFIG = DistilBertConfig(
    vocab_size=V, num_layers=3, width=D, num_heads=5, inner_width=F, max_length=17
)


@pytest.fixture(scope="module")
def encoder():
    encoder = distilbert(CONFIG, "float32")
    randomize(encoder, 0.2)
    return encoder


# What is DistilBERT's own


def test_there_are_no_segments(encoder):
    assert set(encoder.input) == {"token_ids", "padding_mask"}


def test_more_tokens_than_positions_are_refused(encoder):
    with pytest.raises(ValueError, match="19 tokens came, .* for at most 17"):
        encoder(one_text(encoder, [5] * 19))


def test_positions_may_begin_as_sines_and_are_learned_all_the_same():
    def positions(**changes):
        model = distilbert(dataclasses.replace(CONFIG, num_layers=1, **changes), "float32")
        return model.get_layer("position_embedding").embeddings

    sines = positions(sinusoidal_start=True)
    assert sines.trainable
    # Columns 0 and 1 turn by 1 per position, in sine and cosine.
    expected = np.stack([np.sin(np.arange(17)), np.cos(np.arange(17))], axis=1)
    np.testing.assert_allclose(to_numpy(sines)[:, :2], expected, atol=1e-6)
    assert np.abs(to_numpy(positions())).max() <= 0.04  # cut at two deviations of 0.02


def test_dropout_stands_after_the_feed_forward_network_but_not_after_the_attention():
    config = dataclasses.replace(CONFIG, dropout=0.23, attention_dropout=0.29)
    model = distilbert(config, "float32")
    assert model.get_layer("embedding_dropout").rate == 0.23
    for i in range(3):
        block = model.get_layer(f"block_{i}")
        assert block.attention.dropout == 0.29
        assert block.attention_residual.dropout == 0
        assert block.feed_forward_residual.dropout == 0.23


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
        "position_embedding/embeddings": (17, 35),
        "embedding_norm/gamma": (35,),
        "embedding_norm/beta": (35,),
        **{f"block_{i}/{path}": shape for i in range(3) for path, shape in block.items()},
    }


def test_it_keeps_the_contract_of_encoders(tmp_path):
    check_encoder(distilbert, CONFIG, tmp_path)


# Configs


def reference_config(**settings):
    from transformers import DistilBertConfig as ReferenceConfig

    return ReferenceConfig(**settings)


def test_the_default_config_is_transformers_own():
    assert config_from_hugging_face(reference_config().to_dict()) == DISTILBERT_BASE_UNCASED
    assert config_from_hugging_face({}) == DISTILBERT_BASE_UNCASED


@pytest.mark.parametrize(
    "config",
    [DISTILBERT_BASE_UNCASED, DISTILBERT_BASE_CASED, DISTILBERT_BASE_MULTILINGUAL_CASED],
    ids=["uncased", "cased", "multilingual"],
)
def test_a_published_config_is_transformers_own_of_its_class(config):
    settings = config_to_hugging_face(config)
    reference = reference_config(**settings).to_dict()
    assert reference.items() >= settings.items()
    assert config_from_hugging_face(reference) == config


def test_a_config_goes_to_hugging_face_and_back():
    odd = DistilBertConfig(101, 3, 35, 5, 53, 17, "gelu_new", 0.11, 0.13, 0.03, True)
    assert all(
        getattr(odd, field.name) != field.default for field in dataclasses.fields(DistilBertConfig)
    )
    settings = config_to_hugging_face(odd)
    assert settings["model_type"] == "distilbert"
    assert settings["architectures"] == ["DistilBertModel"]
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == odd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 37, "n_heads": 5}, "dim 37 does not divide by n_heads 5"),
        ({"dim": "37"}, "dim is '37'; expected int, such as 768"),
        ({"sinusoidal_pos_embds": "no"}, "sinusoidal_pos_embds is 'no'; expected bool"),
        ({"activation": "gleu"}, "activation is 'gleu'; expected one of gelu, gelu_new, "),
    ],
)
def test_a_config_that_distilbert_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)


# Heads

HEAD_SETTINGS = {
    "model_type": "distilbert", "vocab_size": V, "n_layers": 2, "dim": D, "n_heads": 5,
    "hidden_dim": F, "max_position_embeddings": 17,
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees_with_transformers_both_ways(head):
    parity.check_head(distilbert_file, HEAD_SETTINGS, head)


def test_the_bare_encoder_agrees_with_transformers_both_ways():
    parity.check_encoder(distilbert_file, {**HEAD_SETTINGS, "sinusoidal_pos_embds": True})
