"""DeBERTa v2 and v3 against transformers' models."""

import dataclasses
import json

import keras
import numpy as np
import parity
import pytest
from contract import check_encoder, one_text, random_inputs, sequence
from harness import randomize, to_numpy

from kbert import checkpoint
from kbert.inference import inference_function
from kbert.models import deberta as deberta_file
from kbert.models.deberta import (
    DEBERTA_V2_XLARGE,
    DEBERTA_V3_BASE,
    DEBERTA_V3_LARGE,
    DEBERTA_V3_SMALL,
    DEBERTA_V3_XSMALL,
    HEADS,
    MDEBERTA_V3_BASE,
    Convolution,
    DebertaConfig,
    Pooler,
    Positions,
    config_from_hugging_face,
    config_to_hugging_face,
    deberta,
)

V, E, D, F = 101, 19, 35, 53
# Up to 3 tokens apart a bucket for each distance; 5 and 7 share one, as do all from 11 on.
CONFIG = DebertaConfig(
    vocab_size=V,
    num_layers=2,
    width=D,
    num_heads=5,
    inner_width=F,
    max_length=29,
    embedding_width=D,
    positions=Positions(max_distance=11, num_buckets=6),
)


def positions(**changes):
    return dataclasses.replace(
        CONFIG, positions=dataclasses.replace(CONFIG.positions, **changes)
    )  # fmt: skip


VARIANTS = {
    "v3": CONFIG,
    "v2": dataclasses.replace(CONFIG, convolution=Convolution()),
    "own-projections": positions(shared=False),
    "c2p-without-buckets": positions(terms=("c2p",), num_buckets=0, norm=False),
    "p2c-own-projection": positions(terms=("p2c",), shared=False),
    "as-long-as-the-text": positions(num_buckets=0, max_distance=29),
    "all-that-there-is": DebertaConfig(
        V, 3, D, 5, F, 29, 2, E, "relu", 0.11, 0.13, 1e-6, 0.03,
        Positions(("p2c", "c2p"), 17, 8, False, False, True), Convolution(5, "tanh", 7),
        Pooler("tanh", 0.17),
    ),
    "without-relative-positions": positions(terms=(), norm=False, absolute=True),
}  # fmt: skip
VARIANT = pytest.mark.parametrize("variant", VARIANTS)


def settings_of(variant):
    return config_to_hugging_face(VARIANTS[variant])


@pytest.fixture(scope="module")
def encoder():
    encoder = deberta(CONFIG, "float32")
    randomize(encoder, 0.2)
    return encoder


# Agreement


@VARIANT
def test_every_variant_agrees_with_transformers_both_ways(variant):
    parity.check_encoder(deberta_file, settings_of(variant))


@pytest.mark.parametrize("variant", ["v2", "all-that-there-is"])
def test_texts_below_and_above_the_buckets_agree_with_transformers(variant):
    config, settings = VARIANTS[variant], settings_of(variant)
    theirs = parity.reference("DebertaV2Model", settings)
    encoder = deberta(config, "float32")
    checkpoint.assign(encoder, parity.tensors_of(theirs), deberta_file, "test")
    for length in (1, 3, 29):
        text = one_text(encoder, np.arange(5, 5 + length))
        expected = parity.reference_outputs(theirs, text, ("last_hidden_state",))
        assert np.abs(sequence(encoder, text) - expected).max() <= parity.TOLERANCE


@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees_with_transformers_both_ways(head):
    parity.check_head(deberta_file, settings_of("all-that-there-is"), head)


def test_the_masked_lm_head_has_two_forms_in_files_and_both_are_read():
    settings = settings_of("v3") | {"legacy": False}
    parity.check_head(deberta_file.variant(settings), settings, "MaskedLM")
    written, both = deberta_file.variant(settings), deberta_file.variant({})
    encoder = deberta(CONFIG, "float32")
    model = parity.BUILDERS["MaskedLM"](encoder)
    randomize(model)
    for ours, name in ((written, "lm_predictions.lm_head.bias"), (both, "cls.predictions.bias")):
        tensors = checkpoint.tensors_of(model, ours, "MaskedLM")
        assert sum("predictions" in tensor for tensor in tensors) == 5
        assert name in tensors
        for reader in (written, both):  # whatever form the settings name
            checkpoint.assign(encoder, tensors, reader, "test")
            assert len(encoder.head_weights["MaskedLM"]) == 5


def test_what_microsofts_files_hold_beside_is_known_and_left_out(encoder):
    tensors = checkpoint.tensors_of(encoder, deberta_file)
    tensors["embeddings.position_embeddings.weight"] = np.zeros((29, D))
    for layer in ("dense", "LayerNorm", "classifier"):
        tensors |= {f"mask_predictions.{layer}.{kind}": np.ones(2) for kind in ("weight", "bias")}
    other = deberta(CONFIG, "float32")
    checkpoint.assign(other, tensors, deberta_file, "test")
    for weight, expected in zip(other.weights, encoder.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), to_numpy(expected))


# What is DeBERTa's own


def test_a_text_that_padding_moves_gives_what_it_gave(encoder):
    ids = [7, 41, 13, 89, 5, 61, 23]
    moved = one_text(encoder, [3] * 5 + ids)
    moved["padding_mask"][:, :5] = False
    before = sequence(encoder, one_text(encoder, ids))
    np.testing.assert_allclose(sequence(encoder, moved)[:, 5:], before, atol=1e-5)


def test_every_block_reads_the_one_table_of_distances(encoder):
    tables = [weight for weight in encoder.weights if "relative_positions" in weight.path]
    assert [weight.path for weight in tables] == [
        "relative_positions/embeddings",
        "relative_positions/norm/gamma",
        "relative_positions/norm/beta",
    ]
    assert tables[0].shape == (2 * 6, D)
    text = one_text(encoder, [7, 41, 13])
    old = to_numpy(tables[0])
    before = sequence(encoder, text)
    # Rows of distances that three tokens do not have, and of those they have.
    for rows, changes in ((slice(0, 4), False), (slice(9, 12), False), (slice(4, 9), True)):
        new = old.copy()
        new[rows] *= -1
        tables[0].assign(new)
        assert (np.abs(sequence(encoder, text) - before).max() > 0.01) == changes
    tables[0].assign(old)


def test_texts_longer_than_any_distance_are_taken_but_not_with_absolute_positions():
    assert sequence(deberta(CONFIG), one_text(deberta(CONFIG), [5] * 37)).shape == (1, 37, D)
    encoder = deberta(positions(absolute=True))
    with pytest.raises(ValueError, match="37 tokens came, .* for at most 29"):
        encoder(one_text(encoder, [5] * 37))


def test_segments_are_an_input_only_where_there_are_some(encoder):
    assert set(encoder.input) == {"token_ids", "padding_mask"}
    two = deberta(dataclasses.replace(CONFIG, num_segments=2), "float32")
    assert set(two.input) == {"token_ids", "padding_mask", "segment_ids"}
    randomize(two, 0.2)
    inputs = one_text(two, [5] * 7)
    other = dict(inputs, segment_ids=1 - inputs["segment_ids"])
    assert np.abs(sequence(two, other) - sequence(two, inputs)).max() > 1e-2


def test_a_compiled_encoder_answers_texts_of_every_length(encoder):
    """What the Predictor runs: traced on PyTorch, open lengths on TensorFlow."""
    model = keras.Model(encoder.input, encoder.output["sequence"])
    function = inference_function(model)
    for length, padded in ((5, True), (7, False), (1, False), (23, True), (2, False)):
        inputs = {name: array[:, :length] for name, array in long_inputs(encoder).items()}
        inputs["padding_mask"] = inputs["padding_mask"] | (not padded)
        real = inputs["padding_mask"]
        difference = np.abs(function(inputs) - sequence(encoder, inputs))
        assert difference[real].max() <= 1e-5


def long_inputs(encoder):
    inputs = random_inputs(encoder, V)
    return {name: np.concatenate([array, array], axis=1) for name, array in inputs.items()}


@pytest.mark.parametrize("variant", ["v2", "all-that-there-is"])
def test_it_keeps_the_contract_of_encoders(variant, tmp_path):
    check_encoder(deberta, VARIANTS[variant], tmp_path)


def test_dropout_reaches_scores_positions_and_residuals():
    config = dataclasses.replace(CONFIG, dropout=0.23, attention_dropout=0.29)
    model = deberta(dataclasses.replace(config, convolution=Convolution()))
    assert model.get_layer("embedding_dropout").rate == 0.23
    assert model.get_layer("convolution").dropout == 0.23
    block = model.get_layer("block_1")
    assert (block.attention.dropout, block.attention.position_dropout) == (0.29, 0.23)
    assert block.attention_residual.dropout == block.feed_forward_residual.dropout == 0.23


def test_the_paths_and_shapes_of_the_weights_are_golden():
    block = {
        "attention/query/kernel": (35, 35),
        "attention/query/bias": (35,),
        "attention/key/kernel": (35, 35),
        "attention/key/bias": (35,),
        "attention/value/kernel": (35, 35),
        "attention/value/bias": (35,),
        "attention/position_key/kernel": (35, 35),
        "attention/position_key/bias": (35,),
        "attention/position_query/kernel": (35, 35),
        "attention/position_query/bias": (35,),
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
    encoder = deberta(VARIANTS["all-that-there-is"])
    assert {weight.path: weight.shape for weight in encoder.weights} == {
        "token_embedding/embeddings": (101, 19),
        "position_embedding/embeddings": (29, 19),
        "segment_embedding/embeddings": (2, 19),
        "embedding_projection/kernel": (19, 35),
        "embedding_norm/gamma": (35,),
        "embedding_norm/beta": (35,),
        "relative_positions/embeddings": (16, 35),
        "convolution/kernel": (5, 5, 35),
        "convolution/bias": (35,),
        "convolution/norm/gamma": (35,),
        "convolution/norm/beta": (35,),
        **{f"block_{i}/{path}": shape for i in range(3) for path, shape in block.items()},
    }


# Sizes


def count(config):
    """Parameters of the encoder, by hand."""
    width, inner = config.width, config.inner_width
    embeddings = config.vocab_size * width + 2 * width
    table = 2 * config.positions.num_buckets * width + 2 * width
    attention = 4 * (width * width + width)
    feed_forward = 2 * width * inner + inner + width
    convolution = (config.convolution.size * width + 3) * width if config.convolution else 0
    block = attention + feed_forward + 2 * 2 * width
    return embeddings + table + config.num_layers * block + convolution


@pytest.mark.parametrize("config", [CONFIG, VARIANTS["v2"]], ids=["v3", "v2"])
def test_a_model_has_as_many_parameters_as_its_config_says(config):
    assert deberta(config).count_params() == count(config)


def test_the_backbone_of_v3_is_as_large_as_microsofts_table_says():
    """In millions, without the token embedding but with the pooler of the classifiers."""
    table = {DEBERTA_V3_XSMALL: 22, DEBERTA_V3_SMALL: 44, DEBERTA_V3_BASE: 86}
    for config, published in {**table, DEBERTA_V3_LARGE: 304, MDEBERTA_V3_BASE: 86}.items():
        pooler = config.width * config.width + config.width
        backbone = count(config) - config.vocab_size * config.width + pooler
        assert round(backbone / 1e6) == published


# Configs


def test_the_default_config_is_transformers_own():
    from transformers import DebertaV2Config

    ours = config_from_hugging_face(DebertaV2Config().to_dict())
    assert ours == config_from_hugging_face({})
    plain = Positions((), shared=False, norm=False, num_buckets=0, absolute=True)
    sizes = {"num_layers": 24, "width": 1536, "num_heads": 24, "inner_width": 6144}
    assert ours == DebertaConfig(**sizes, embedding_width=1536, positions=plain)


def test_a_published_config_json_is_read():
    """microsoft/deberta-v3-xsmall's and deberta-v2-xlarge's, but for what all of them share."""
    settings = {
        "model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 384, "initializer_range": 0.02,
        "intermediate_size": 1536, "max_position_embeddings": 512, "relative_attention": True,
        "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1,
        "position_biased_input": False, "num_attention_heads": 6, "num_hidden_layers": 12,
        "type_vocab_size": 0, "vocab_size": 128100,
    }  # fmt: skip
    assert config_from_hugging_face(settings) == DEBERTA_V3_XSMALL
    sizes = {"hidden_size": 1536, "num_attention_heads": 24, "num_hidden_layers": 24}
    sizes |= {"intermediate_size": 6144, "attention_head_size": 64, "pooler_hidden_size": 1536}
    sizes |= {"conv_kernel_size": 3, "conv_act": "gelu", "pos_att_type": ["p2c", "c2p"]}
    assert config_from_hugging_face(settings | sizes) == DEBERTA_V2_XLARGE


@VARIANT
def test_a_config_goes_to_hugging_face_and_back(variant):
    from transformers import DebertaV2Config

    config, settings = VARIANTS[variant], settings_of(variant)
    assert settings["model_type"] == "deberta-v2"
    assert settings["architectures"] == ["DebertaV2Model"]
    terms = tuple(sorted(config.positions.terms))  # their order means nothing
    back = dataclasses.replace(config, positions=dataclasses.replace(config.positions, terms=terms))
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == back
    assert config_from_hugging_face(DebertaV2Config(**settings).to_dict()) == back


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hidden_size": 37, "num_attention_heads": 5},
            "hidden_size 37 does not divide by num_attention_heads 5",
        ),
        (
            {"relative_attention": True},
            "relative_attention is True and pos_att_type ''; expected True with one of c2p, p2c",
        ),
        (
            {"pos_att_type": ["c2p"], "relative_attention": False},
            "relative_attention is False and pos_att_type .'c2p'.; .* or False with none",
        ),
        ({"conv_kernel_size": 4}, "conv_kernel_size is 4 .*; expected an odd number"),
        (
            {"conv_kernel_size": 3, "conv_groups": 7},
            "conv_groups 7; expected .* one that hidden_size 1536 divides by",
        ),
        ({"embedding_size": "37"}, "embedding_size is '37'; expected int, such as 1536"),
        ({"position_buckets": None}, "position_buckets is None; expected int, such as -1"),
        ({"pooler_dropout": "0"}, "pooler_dropout is '0'; expected float, such as 0.0"),
        ({"hidden_act": "gleu"}, "activation 'gleu' is not known; expected one of gelu, "),
        ({"conv_act": "than"}, "activation 'than' is not known; expected one of gelu, "),
    ],
)
def test_a_config_that_deberta_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)
