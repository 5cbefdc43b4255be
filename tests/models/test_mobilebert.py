"""MobileBERT against transformers' MobileBertModel, and published sizes."""

import dataclasses
import json

import numpy as np
import parity
import pytest
from harness import assert_near, check_round_trip, check_xla, randomize, run

from kbert.models import mobilebert as mobilebert_file
from kbert.models.mobilebert import (
    HEADS,
    MOBILE_BERT,
    MOBILE_BERT_TINY,
    MobileBertConfig,
    config_from_hugging_face,
    config_to_hugging_face,
    mobilebert,
)

B, T, V, E, D, K, F = 3, 13, 101, 23, 37, 35, 53
CONFIG = MobileBertConfig(
    vocab_size=V, num_layers=2, width=D, num_heads=5, inner_width=F, embedding_width=E,
    bottleneck_width=K, num_feed_forwards=3, max_length=17,
)  # fmt: skip
TINY = dataclasses.replace(CONFIG, num_layers=1, num_feed_forwards=1, shares_keys_and_queries=False)
# Nothing normalises here: with the harness' usual numbers they would grow a hundredfold a block.
SCALE = 0.05


def random_inputs():
    """Token ids, segments and padding; one row whole, one padded, one with a hole."""
    draw = np.random.default_rng(1)
    padding_mask = np.ones((B, T), bool)
    padding_mask[1, 7:] = False
    padding_mask[2, [3, 5, 11]] = False
    return {
        "token_ids": np.where(padding_mask, draw.integers(1, V, (B, T), "int32"), 0),
        "segment_ids": draw.integers(0, 2, (B, T), "int32"),
        "padding_mask": padding_mask,
    }


def sequence(encoder, inputs):
    return run(encoder, inputs)["sequence"]


@pytest.fixture(scope="module")
def encoder():
    encoder = mobilebert(CONFIG, "float32")
    randomize(encoder, SCALE)
    return encoder


# Names and shapes


def test_the_paths_and_shapes_of_the_weights_are_golden(encoder):
    def norm(path, width):
        return {f"{path}/gamma": (width,), f"{path}/beta": (width,)}

    def dense(path, inputs, outputs):
        return {f"{path}/kernel": (inputs, outputs), f"{path}/bias": (outputs,)}

    block = {
        **dense("bottleneck/dense", 37, 35),
        **norm("bottleneck/norm", 35),
        **dense("attention_bottleneck/dense", 37, 35),
        **norm("attention_bottleneck/norm", 35),
        **dense("attention/query", 35, 35),
        **dense("attention/key", 35, 35),
        **dense("attention/value", 37, 35),
        **dense("attention/output", 35, 35),
        **norm("attention_residual/norm", 35),
        **dense("output", 35, 37),
        **norm("output_residual/norm", 37),
    }
    for j in ("_0", "_1", ""):
        block |= dense(f"feed_forward{j}/inner", 35, 53) | dense(f"feed_forward{j}/outer", 53, 35)
        block |= norm(f"feed_forward_residual{j}/norm", 35)
    assert {weight.path: weight.shape for weight in encoder.weights} == {
        "token_embedding/embeddings": (101, 23),
        **dense("embedding_projection", 69, 37),
        "position_embedding/embeddings": (17, 37),
        "segment_embedding/embeddings": (2, 37),
        **norm("embedding_norm", 37),
        **{f"block_{i}/{path}": shape for i in range(2) for path, shape in block.items()},
    }


def test_without_shared_keys_and_queries_a_block_has_one_bottleneck():
    shapes = {weight.path: weight.shape for weight in mobilebert(TINY).weights}
    assert not any("attention_bottleneck" in path for path in shapes)
    assert shapes["block_0/attention/value/kernel"] == (35, 35)


# The contract


def test_any_batch_and_length_up_to_max_length_give_a_vector_per_token(encoder):
    assert encoder.output["sequence"].shape == (None, None, D)
    inputs = random_inputs()
    assert sequence(encoder, inputs).shape == (B, T, D)
    with pytest.raises(ValueError, match="19 tokens came, .* for at most 17"):
        encoder({name: np.resize(array, (1, 19)) for name, array in inputs.items()})


def test_padding_is_seen_by_its_neighbours_alone(encoder):
    """As one of three embeddings, never through attention."""
    inputs = random_inputs()
    other = {name: array.copy() for name, array in inputs.items()}
    other["token_ids"][1, 7] = 3
    other["token_ids"][1, 11] = 5
    change = np.abs(sequence(encoder, other) - sequence(encoder, inputs)).max(-1)
    assert change[1, 6] > 1e-3
    # The neighbour is a token like others, so that through it all change; other padding is not.
    other["token_ids"][1, 7] = 0
    change = np.abs(sequence(encoder, other) - sequence(encoder, inputs)).max(-1)
    np.testing.assert_allclose(change[1, :7], 0, atol=1e-5)
    assert change[1, 10:].min() > 1e-3


def test_positions_and_segments_are_told_apart(encoder):
    inputs = {name: array[:1] for name, array in random_inputs().items()}
    inputs["token_ids"] = np.full((1, T), 5, "int32")
    got = sequence(encoder, inputs)[0]
    assert min(np.abs(got[i] - got[j]).max() for i in range(T) for j in range(i)) > 1e-2
    other = sequence(encoder, dict(inputs, segment_ids=1 - inputs["segment_ids"]))
    assert np.abs(other - got).max() > 1e-2


# Saving, types, compilation


def test_an_encoder_is_saved_and_loaded_with_its_names(encoder, tmp_path):
    inputs = random_inputs()
    check_round_trip(encoder, inputs, run(encoder, inputs), tmp_path)


def test_bfloat16_is_finite_and_near_float32(encoder):
    mixed = mobilebert(CONFIG, "mixed_bfloat16")
    for weight, wide in zip(mixed.weights, encoder.weights, strict=True):
        assert weight.dtype == "float32"
        weight.assign(wide)
    inputs = random_inputs()
    real = inputs["padding_mask"]
    assert_near(sequence(mixed, inputs)[real], sequence(encoder, inputs)[real], 0.05)


def test_an_encoder_compiles_under_xla_with_static_shapes(encoder):
    inputs = random_inputs()
    check_xla(encoder, inputs, run(encoder, inputs))


# Sizes


def count(config):
    """Parameters by hand."""
    d, k, f = config.width, config.bottleneck_width, config.inner_width
    embeddings = config.vocab_size * config.embedding_width
    embeddings += (config.max_length + config.num_segments + 2) * d
    embeddings += (3 * config.embedding_width + 1) * d
    value = d if config.shares_keys_and_queries else k
    block = (2 if config.shares_keys_and_queries else 1) * (d * k + 3 * k)
    block += 3 * (k * k + k) + value * k + k + 2 * k
    block += config.num_feed_forwards * (2 * k * f + f + k + 2 * k)
    block += k * d + d + 2 * d
    return embeddings + config.num_layers * block


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (MOBILE_BERT, 24_581_888),  # the paper prints 25.3 M, of which heads are a part
        (MOBILE_BERT_TINY, 15_485_696),  # the paper prints 15.1 M, its published config has this
    ],
    ids=["mobilebert", "tiny"],
)
def test_published_sizes_have_the_parameters_of_transformers(config, parameters):
    import torch
    import transformers

    with torch.device("meta"):
        reference = transformers.MobileBertModel(
            transformers.MobileBertConfig(**config_to_hugging_face(config))
        )
    assert reference.num_parameters() == count(config) == parameters


@pytest.mark.parametrize("config", [CONFIG, TINY], ids=["primes", "tiny"])
def test_a_model_has_as_many_parameters_as_its_config_says(config):
    assert mobilebert(config).count_params() == count(config)


# Configs


def test_the_default_config_is_transformers_own():
    from transformers import MobileBertConfig as ReferenceConfig

    assert config_from_hugging_face(ReferenceConfig().to_dict()) == MobileBertConfig()
    assert config_from_hugging_face({}) == MobileBertConfig()
    assert dataclasses.replace(MOBILE_BERT, pools_with_dense=True) == MobileBertConfig()


def test_a_config_goes_to_hugging_face_and_back():
    odd = MobileBertConfig(
        101, 3, 37, 5, 53, 23, 35, 3, 17, 3, "gelu_new", 0.11, 0.13, 0.03, False, False
    )
    fields = dataclasses.fields(MobileBertConfig)
    assert all(getattr(odd, field.name) != field.default for field in fields)
    settings = config_to_hugging_face(odd)
    assert settings["model_type"] == "mobilebert"
    assert settings["architectures"] == ["MobileBertModel"]
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == odd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_bottleneck": False}, "use_bottleneck is False; MobileBERT here has True only"),
        ({"trigram_input": False}, "trigram_input is False; MobileBERT here has True only"),
        ({"normalization_type": "layer_norm"}, "'layer_norm'; MobileBERT here has 'no_norm' only"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05; MobileBERT here has 1e-12 only"),
        ({"use_bottleneck_attention": True}, "are both True; expected one of the two"),
        ({"key_query_shared_bottleneck": False}, "are both False; expected one of the two"),
        ({"num_attention_heads": 3}, "intra_bottleneck_size 128 does not divide by .*heads 3"),
        ({"num_feedforward_networks": 0}, "num_feedforward_networks is 0; expected 1 up"),
        ({"intra_bottleneck_size": "37"}, "intra_bottleneck_size is '37'; expected int"),
        ({"hidden_act": "gleu"}, "hidden_act is 'gleu'; expected one of gelu, gelu_new, "),
    ],
)
def test_a_config_that_mobilebert_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)


# Agreement with transformers

SETTINGS = config_to_hugging_face(CONFIG)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees_with_transformers_both_ways(head):
    parity.check_head(mobilebert_file, SETTINGS, head, scale=2 * SCALE)


def test_a_head_without_dense_pooler_agrees_with_transformers_both_ways():
    settings = {**SETTINGS, "classifier_activation": False}
    parity.check_head(mobilebert_file, settings, "SequenceClassification", scale=2 * SCALE)


@pytest.mark.parametrize("config", [CONFIG, TINY], ids=["primes", "tiny"])
def test_the_bare_encoder_agrees_with_transformers_both_ways(config):
    parity.check_encoder(mobilebert_file, config_to_hugging_face(config), scale=2 * SCALE)
