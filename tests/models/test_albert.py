"""ALBERT against transformers' models, and rxnmapper's published one."""

import dataclasses
import json

import keras
import numpy as np
import parity
import pytest
from contract import check_encoder, one_text, random_inputs, sequence
from harness import check_training, numbers, randomize, run

from kbert import checkpoint
from kbert.heads.masked_lm import masked_lm
from kbert.models import albert as albert_file
from kbert.models.albert import (
    ALBERT_BASE,
    ALBERT_LARGE,
    ALBERT_XLARGE,
    ALBERT_XXLARGE,
    HEADS,
    AlbertConfig,
    albert,
    config_from_hugging_face,
    config_to_hugging_face,
)
from kbert.weights import names, safetensors

V, E, D, F = 101, 11, 35, 53
CONFIG = AlbertConfig(
    vocab_size=V,
    embedding_width=E,
    num_layers=3,
    width=D,
    num_heads=5,
    inner_width=F,
    max_length=17,
)
GROUPS = dataclasses.replace(CONFIG, num_layers=5, num_groups=3, blocks_per_layer=2)


@pytest.fixture(scope="module")
def encoder():
    encoder = albert(CONFIG, "float32")
    randomize(encoder, 0.2)
    return encoder


# What is ALBERT's own


def test_all_layers_of_a_group_are_one_block_called_again_and_again(encoder):
    blocks = [layer for layer in encoder.layers if layer.name.startswith("block_")]
    assert [block.name for block in blocks] == ["block_0"]
    x = random_inputs(encoder, V)
    five = albert(dataclasses.replace(CONFIG, num_layers=5), "float32")
    assert five.count_params() == encoder.count_params()
    for weight, same in zip(five.weights, encoder.weights, strict=True):
        weight.assign(same)
    # Two more calls of the block: what the shallower model gives, twice through its block.
    real = x["padding_mask"]
    last, block = sequence(encoder, x), blocks[0]
    for _ in range(2):
        last = block(last, attention_mask=keras.ops.convert_to_tensor(real[:, None, None]))
    difference = np.abs(sequence(five, x) - keras.ops.convert_to_numpy(last))
    assert difference[real].max() <= 1e-5


def test_layers_fall_to_groups_as_in_transformers():
    # 5 layers in 3 groups: layers 0 and 1, 2 and 3, 4; each of two blocks.
    model = albert(GROUPS, "float32")
    names_of_calls = [
        operation.name
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for operation in (node.operation for node in model._nodes_by_depth[depth])
        if operation.name.startswith("block_")
    ]
    pairs = [["block_0", "block_0_1"]] * 2 + [["block_1", "block_1_1"]] * 2
    assert names_of_calls == [*sum(pairs, []), "block_2", "block_2_1"]


def test_embeddings_are_narrow_and_a_dense_layer_widens_them(encoder):
    assert encoder.get_layer("token_embedding").embeddings.shape == (V, E)
    assert encoder.get_layer("embedding_norm").output.shape == (None, None, E)
    assert encoder.get_layer("embedding_projection").output.shape == (None, None, D)


def test_segments_are_told_apart_and_too_many_tokens_refused(encoder):
    inputs = one_text(encoder, [5] * 7)
    other = dict(inputs, segment_ids=1 - inputs["segment_ids"])
    assert np.abs(sequence(encoder, other) - sequence(encoder, inputs)).max() > 1e-2
    with pytest.raises(ValueError, match="19 tokens came, .* for at most 17"):
        encoder(one_text(encoder, [5] * 19))


def test_dropout_stands_after_the_attention_but_not_after_the_feed_forward_network():
    config = dataclasses.replace(CONFIG, dropout=0.23, attention_dropout=0.29)
    model = albert(config, "float32")
    assert model.get_layer("embedding_dropout").rate == 0.23
    block = model.get_layer("block_0")
    assert block.attention.dropout == 0.29
    assert block.attention_residual.dropout == 0.23
    assert block.feed_forward_residual.dropout == 0


def test_a_shared_block_learns_from_all_its_calls(encoder):
    inputs = random_inputs(encoder, V)
    output = encoder.output["sequence"]
    model = keras.Model(encoder.input, output)
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    check_training(model, inputs, numbers(3, 13, D, seed=2), steps=3)
    for weight, old in zip(model.weights, before, strict=True):
        weight.assign(old)


def test_the_paths_and_shapes_of_the_weights_are_golden():
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
    blocks = ["block_0", "block_0_1", "block_1", "block_1_1", "block_2", "block_2_1"]
    assert {weight.path: weight.shape for weight in albert(GROUPS).weights} == {
        "token_embedding/embeddings": (101, 11),
        "position_embedding/embeddings": (17, 11),
        "segment_embedding/embeddings": (2, 11),
        "embedding_norm/gamma": (11,),
        "embedding_norm/beta": (11,),
        "embedding_projection/kernel": (11, 35),
        "embedding_projection/bias": (35,),
        **{f"{name}/{path}": shape for name in blocks for path, shape in block.items()},
    }


def test_it_keeps_the_contract_of_encoders(tmp_path):
    check_encoder(albert, CONFIG, tmp_path)


# Configs


def reference_config(**settings):
    from transformers import AlbertConfig as ReferenceConfig

    return ReferenceConfig(**settings)


def test_the_default_config_is_transformers_own():
    assert config_from_hugging_face(reference_config().to_dict()) == ALBERT_XXLARGE
    assert config_from_hugging_face({}) == ALBERT_XXLARGE


@pytest.mark.parametrize(
    "config",
    [ALBERT_BASE, ALBERT_LARGE, ALBERT_XLARGE, ALBERT_XXLARGE],
    ids=["base", "large", "xlarge", "xxlarge"],
)
def test_a_published_config_is_transformers_own_of_its_class(config):
    settings = config_to_hugging_face(config)
    reference = reference_config(**settings).to_dict()
    assert reference.items() >= settings.items()
    assert config_from_hugging_face(reference) == config


def test_a_config_goes_to_hugging_face_and_back():
    odd = AlbertConfig(
        101, 11, 7, 3, 2, 35, 5, 53, 17, 3, "gelu", 0.11, 0.13, 1e-7, 0.03
    )  # fmt: skip
    assert all(
        getattr(odd, field.name) != field.default for field in dataclasses.fields(AlbertConfig)
    )
    settings = config_to_hugging_face(odd)
    assert settings["model_type"] == "albert"
    assert settings["architectures"] == ["AlbertModel"]
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == odd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key'; ALBERT here has absolute positions only",
        ),
        (
            {"num_hidden_groups": 13},
            r"num_hidden_groups is 13 .* expected from 1 to num_hidden_layers \(12\) groups",
        ),
        ({"inner_group_num": 0}, "inner_group_num 0; expected .* of 1 block or more"),
        (
            {"hidden_size": 37, "num_attention_heads": 5},
            "hidden_size 37 does not divide by num_attention_heads 5",
        ),
        ({"embedding_size": "37"}, "embedding_size is '37'; expected int, such as 128"),
        ({"hidden_act": "gleu"}, "hidden_act is 'gleu'; expected one of gelu, gelu_new, "),
    ],
)
def test_a_config_that_albert_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)


# Heads

HEAD_SETTINGS = {
    "model_type": "albert", "vocab_size": V, "embedding_size": E, "num_hidden_layers": 3,
    "hidden_size": D, "num_attention_heads": 5, "intermediate_size": F,
    "max_position_embeddings": 17,
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees_with_transformers_both_ways(head):
    parity.check_head(albert_file, HEAD_SETTINGS, head)


@pytest.mark.parametrize(
    "groups", [{}, {"num_hidden_layers": 5, "num_hidden_groups": 3, "inner_group_num": 2}]
)
def test_the_bare_encoder_agrees_with_transformers_both_ways(groups):
    parity.check_encoder(albert_file, {**HEAD_SETTINGS, **groups})


def test_rxnmapper_gives_its_golden_logits_of_masked_words(data_dir):
    weights = data_dir / "weights"
    folder = weights / "rxnmapper_albert"
    config = config_from_hugging_face(json.loads((folder / "config.json").read_text()))
    encoder = albert(config, "float32")
    tensors = safetensors.read(safetensors.weight_files(folder))
    checkpoint.assign(encoder, tensors, albert_file, folder)
    model = masked_lm(encoder)
    assert names.load_head(model, encoder, "MaskedLM") == []
    goldens = np.load(weights / "goldens" / "rxnmapper_albert_mlm.npz")
    rows = [goldens[f"ids{i}"] for i in range(4)]
    longest = max(map(len, rows))
    batch = {
        "token_ids": np.stack([np.pad(row, (0, longest - len(row))) for row in rows]),
        "segment_ids": np.zeros((4, longest), "int32"),
        "padding_mask": np.stack([np.arange(longest) < len(row) for row in rows]),
    }
    got = run(model, batch)
    for i, row in enumerate(rows):
        difference = np.abs(got[i, : len(row)] - goldens[f"logits{i}"]).max()
        print(f"rxnmapper masked words, text {i}: {difference:.1e}")
        assert difference <= 1e-4
    # What is saved holds every tensor that was read, but those that repeat others.
    saved = checkpoint.tensors_of(model, albert_file, "MaskedLM")
    repeated = {"predictions.decoder.weight", "predictions.decoder.bias"}
    left = {"albert.pooler.weight", "albert.pooler.bias"}  # of no use to masked words
    assert set(saved) == set(tensors) - repeated - left
    for name, array in saved.items():
        np.testing.assert_array_equal(array, tensors[name], name)
