"""ELECTRA against transformers' ElectraModel, and published sizes."""

import dataclasses
import json

import numpy as np
import parity
import pytest
from contract import check_encoder, one_text, random_inputs, sequence
from harness import randomize

from kbert.models import electra as electra_file
from kbert.models.electra import (
    ELECTRA_BASE,
    ELECTRA_BASE_GENERATOR,
    ELECTRA_LARGE,
    ELECTRA_LARGE_GENERATOR,
    ELECTRA_SMALL,
    ELECTRA_SMALL_GENERATOR,
    HEADS,
    ElectraConfig,
    config_from_hugging_face,
    config_to_hugging_face,
    electra,
)

V, E, D, F = 101, 23, 35, 53
CONFIG = ElectraConfig(
    vocab_size=V, num_layers=3, width=D, num_heads=5, inner_width=F, embedding_width=E,
    max_length=17, num_segments=2,
)  # fmt: skip
ALIKE = dataclasses.replace(CONFIG, num_layers=1, embedding_width=D)


@pytest.fixture(scope="module")
def encoder():
    encoder = electra(CONFIG, "float32")
    randomize(encoder, 0.2)
    return encoder


# Names and shapes


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
        "token_embedding/embeddings": (101, 23),
        "position_embedding/embeddings": (17, 23),
        "segment_embedding/embeddings": (2, 23),
        "embedding_norm/gamma": (23,),
        "embedding_norm/beta": (23,),
        "embedding_projection/kernel": (23, 35),
        "embedding_projection/bias": (35,),
        **{f"block_{i}/{path}": shape for i in range(3) for path, shape in block.items()},
    }


def test_embeddings_as_wide_as_the_blocks_are_not_projected():
    paths = {weight.path for weight in electra(ALIKE).weights}
    assert not any("projection" in path for path in paths)


# The contract


@pytest.mark.parametrize("config", [CONFIG, ALIKE], ids=["primes", "without projection"])
def test_it_keeps_the_contract_of_encoders(config, tmp_path):
    check_encoder(electra, config, tmp_path)


def test_more_tokens_than_positions_are_refused(encoder):
    with pytest.raises(ValueError, match="19 tokens came, .* for at most 17"):
        encoder(one_text(encoder, [5] * 19))


def test_segments_are_told_apart(encoder):
    inputs = random_inputs(encoder, V)
    other = dict(inputs, segment_ids=1 - inputs["segment_ids"])
    assert np.abs(sequence(encoder, other) - sequence(encoder, inputs)).max() > 1e-2


# Sizes


def count(config):
    """Parameters by hand."""
    width, inner, narrow = config.width, config.inner_width, config.embedding_width
    embeddings = (config.vocab_size + config.max_length + config.num_segments + 2) * narrow
    projection = (narrow + 1) * width if narrow != width else 0
    block = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    return embeddings + projection + config.num_layers * block


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (ELECTRA_SMALL, 13_483_008),  # published as 14 M
        (ELECTRA_BASE, 108_891_648),  # 110 M
        (ELECTRA_LARGE, 334_092_288),  # 335 M
        (ELECTRA_SMALL_GENERATOR, 13_483_008),
        (ELECTRA_BASE_GENERATOR, 33_511_168),
        (ELECTRA_LARGE_GENERATOR, 50_999_552),
    ],
    ids=["small", "base", "large", "small generator", "base generator", "large generator"],
)
def test_published_sizes_have_the_parameters_of_transformers(config, parameters):
    import torch
    import transformers

    with torch.device("meta"):
        reference = transformers.ElectraModel(
            transformers.ElectraConfig(**config_to_hugging_face(config))
        )
    assert reference.num_parameters() == count(config) == parameters


@pytest.mark.parametrize("config", [CONFIG, ALIKE], ids=["primes", "without projection"])
def test_a_model_has_as_many_parameters_as_its_config_says(config):
    assert electra(config).count_params() == count(config)


# Configs


def test_the_default_config_is_transformers_own():
    from transformers import ElectraConfig as ReferenceConfig

    assert config_from_hugging_face(ReferenceConfig().to_dict()) == ELECTRA_SMALL
    assert config_from_hugging_face({}) == ELECTRA_SMALL


def test_a_config_goes_to_hugging_face_and_back():
    odd = ElectraConfig(101, 3, 35, 5, 53, 23, 17, 3, "gelu_new", 0.11, 0.13, 1e-7, 0.03)
    fields = dataclasses.fields(ElectraConfig)
    assert all(getattr(odd, field.name) != field.default for field in fields)
    settings = config_to_hugging_face(odd)
    assert settings["model_type"] == "electra"
    assert settings["architectures"] == ["ElectraModel"]
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == odd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "ELECTRA here has absolute positions only"),
        ({"is_decoder": True}, "ELECTRA here is an encoder"),
        ({"summary_type": "mean"}, "summary_type is 'mean'; ELECTRA here has 'first' only"),
        ({"summary_activation": None}, "summary_activation is None; ELECTRA here has 'gelu' only"),
        ({"hidden_size": 37}, "hidden_size 37 does not divide by num_attention_heads 4"),
        ({"embedding_size": "37"}, "embedding_size is '37'; expected int, such as 128"),
        ({"hidden_act": "gleu"}, "hidden_act is 'gleu'; expected one of gelu, gelu_new, "),
    ],
)
def test_a_config_that_electra_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)


# Agreement with transformers

SETTINGS = config_to_hugging_face(dataclasses.replace(CONFIG, num_layers=2))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees_with_transformers_both_ways(head):
    parity.check_head(electra_file, SETTINGS, head)


@pytest.mark.parametrize("config", [CONFIG, ALIKE], ids=["primes", "without projection"])
def test_the_bare_encoder_agrees_with_transformers_both_ways(config):
    parity.check_encoder(electra_file, config_to_hugging_face(config))


@pytest.mark.parametrize("head", ["MaskedLM", "PreTraining"])
def test_the_generators_head_has_gelu_and_the_discriminators_what_the_config_says(head):
    parity.check_head(electra_file, {**SETTINGS, "hidden_act": "relu"}, head)
