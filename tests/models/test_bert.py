"""BERT against transformers' BertModel, published weights and published sizes."""

import dataclasses
import json
from itertools import chain

import keras
import numpy as np
import parity
import pytest
from harness import assert_near, check_int8, check_xla, randomize, run

from kbert.models import bert as bert_file
from kbert.models.bert import (
    BERT_BASE_UNCASED,
    BERT_LARGE_UNCASED,
    BERT_MINI,
    BERT_MULTILINGUAL_CASED,
    HEADS,
    NAMES,
    PREFIX,
    TINY_BERT,
    BertConfig,
    bert,
    config_from_hugging_face,
    config_to_hugging_face,
)
from kbert.weights import names, safetensors

B, T, V, D, F = 3, 13, 101, 35, 53
CONFIG = BertConfig(
    vocab_size=V, num_layers=3, width=D, num_heads=5, inner_width=F, max_length=17, num_segments=2
)
# The encoder's rows and those of every head.
ROWS = (*NAMES, *chain(*HEADS.values()))
# float32 arithmetic in another order: what BERT implementations agree to.
TOLERANCE = 2e-5


def random_inputs():
    """Token ids, segments and padding; one row whole, one padded, one with a hole."""
    draw = np.random.default_rng(1)
    padding_mask = np.ones((B, T), bool)
    padding_mask[1, 7:] = False
    padding_mask[2, [3, 5, 11]] = False
    return {
        "token_ids": draw.integers(0, V, (B, T), "int32"),
        "segment_ids": draw.integers(0, 2, (B, T), "int32"),
        "padding_mask": padding_mask,
    }


def one_text(token_ids):
    return {
        "token_ids": np.asarray(token_ids, "int32")[None],
        "segment_ids": np.zeros((1, len(token_ids)), "int32"),
        "padding_mask": np.ones((1, len(token_ids)), bool),
    }


def sequence(encoder, inputs):
    return run(encoder, inputs)["sequence"]


@pytest.fixture(scope="module")
def encoder():
    encoder = bert(CONFIG, "float32")
    randomize(encoder, 0.2)
    return encoder


@pytest.fixture(scope="module")
def reference_model():
    """transformers' BertModel of the same sizes, every weight random."""
    import torch
    from transformers import BertConfig as ReferenceConfig
    from transformers import BertModel

    model = BertModel(ReferenceConfig(**config_to_hugging_face(CONFIG))).eval()
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def reference_sequence(model, inputs):
    import torch

    with torch.no_grad():
        return model(
            input_ids=torch.from_numpy(inputs["token_ids"]).long(),
            token_type_ids=torch.from_numpy(inputs["segment_ids"]).long(),
            attention_mask=torch.from_numpy(inputs["padding_mask"]).long(),
        ).last_hidden_state.numpy()


def tensors_of(model):
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


# Agreement


def test_the_sequence_is_that_of_transformers_with_its_weights(reference_model):
    encoder = bert(CONFIG, "float32")
    matched = names.from_checkpoint(tensors_of(reference_model), ROWS, PREFIX)
    assert matched.unknown == []
    assert names.differences(encoder.weights, matched.arrays) == ([], [])
    names.assign(encoder.weights, matched.arrays)
    inputs = random_inputs()
    real = inputs["padding_mask"]
    got, expected = sequence(encoder, inputs), reference_sequence(reference_model, inputs)
    assert np.abs(got - expected)[real].max() <= TOLERANCE


def test_transformers_gives_our_sequence_with_our_weights(encoder):
    import torch
    from transformers import BertConfig as ReferenceConfig
    from transformers import BertModel

    tensors = names.to_checkpoint(names.take(encoder.weights), NAMES, "")
    model = BertModel(
        ReferenceConfig(**config_to_hugging_face(CONFIG)), add_pooling_layer=False
    ).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    inputs = random_inputs()
    real = inputs["padding_mask"]
    got, expected = sequence(encoder, inputs), reference_sequence(model, inputs)
    assert np.abs(got - expected)[real].max() <= TOLERANCE


def load(folder):
    """The encoder of a checkpoint folder, and what its table of names made of the file."""
    encoder = bert(config_from_hugging_face(json.loads((folder / "config.json").read_text())))
    tensors = safetensors.read(safetensors.weight_files(folder))
    matched = names.from_checkpoint(tensors, ROWS, PREFIX)
    assert matched.unknown == []
    assert names.differences(encoder.weights, matched.arrays) == ([], [])
    names.assign(encoder.weights, matched.arrays)
    return encoder, tensors, matched


def test_minilm_gives_its_golden_sequences_in_one_padded_batch(minilm_dir, data_dir):
    encoder, _, _ = load(minilm_dir)
    goldens = np.load(data_dir / "weights" / "goldens" / "minilm_l6.npz")
    rows = [goldens[f"ids{i}"] for i in range(3)]
    longest = max(map(len, rows))
    batch = {
        "token_ids": np.stack([np.pad(row, (0, longest - len(row))) for row in rows]),
        "segment_ids": np.zeros((3, longest), "int32"),
        "padding_mask": np.stack([np.arange(longest) < len(row) for row in rows]),
    }
    got = sequence(encoder, batch)
    for i, row in enumerate(rows):
        assert np.abs(got[i, : len(row)] - goldens[f"hidden{i}"]).max() <= TOLERANCE


def test_a_pretraining_checkpoints_heads_are_known(data_dir):
    folder = data_dir / "weights" / "rxnfp_pretrained"
    encoder, tensors, matched = load(folder)
    assert sum(name.startswith("cls.") for name in tensors) == 8
    extra = set(matched.arrays) - {weight.path for weight in encoder.weights}
    assert {path.split("/")[0] for path in extra} == {
        "pooler", "next_sentence", "masked_lm_transform", "masked_lm_norm", "masked_lm_bias",
    }  # fmt: skip

    from transformers import BertModel

    inputs = one_text(np.load(data_dir / "weights/goldens/rxnfp_bert_pretrained_mlm.npz")["ids0"])
    expected = reference_sequence(BertModel.from_pretrained(folder).eval(), inputs)
    assert np.abs(sequence(encoder, inputs) - expected).max() <= TOLERANCE


# Names


def reference_head_model():
    from transformers import BertConfig as ReferenceConfig
    from transformers import BertForSequenceClassification

    config = ReferenceConfig(**config_to_hugging_face(CONFIG), num_labels=7)
    return BertForSequenceClassification(config)


def test_every_tensor_of_transformers_comes_back_bit_equal():
    tensors = tensors_of(reference_head_model())
    matched = names.from_checkpoint(tensors, ROWS, PREFIX)
    assert matched.unknown == []
    back = names.to_checkpoint(matched.arrays, ROWS, PREFIX)
    assert set(back) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(back[name], array, name)


def test_every_weight_of_ours_comes_back_bit_equal(encoder):
    arrays = names.take(encoder.weights)
    matched = names.from_checkpoint(names.to_checkpoint(arrays, NAMES, PREFIX), NAMES, PREFIX)
    assert set(matched.arrays) == set(arrays)
    for path, array in arrays.items():
        np.testing.assert_array_equal(matched.arrays[path], array, path)


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
        "segment_embedding/embeddings": (2, 35),
        "embedding_norm/gamma": (35,),
        "embedding_norm/beta": (35,),
        **{f"block_{i}/{path}": shape for i in range(3) for path, shape in block.items()},
    }


# The contract


def test_any_batch_and_length_up_to_max_length_give_a_vector_per_token(encoder):
    assert {name: tensor.shape for name, tensor in encoder.input.items()} == {
        "token_ids": (None, None),
        "segment_ids": (None, None),
        "padding_mask": (None, None),
    }
    assert encoder.output["sequence"].shape == (None, None, D)
    for length in (1, 17):
        assert sequence(encoder, one_text([5] * length)).shape == (1, length, D)


def test_more_tokens_than_positions_are_refused(encoder):
    with pytest.raises(ValueError, match="19 tokens came, .* for at most 17"):
        encoder(one_text([5] * 19))


def test_padding_changes_nothing(encoder):
    inputs = random_inputs()
    other = dict(inputs, token_ids=np.where(inputs["padding_mask"], inputs["token_ids"], 3))
    before, after = sequence(encoder, inputs), sequence(encoder, other)
    real = inputs["padding_mask"]
    np.testing.assert_allclose(after[real], before[real], atol=1e-5)
    alone = sequence(encoder, {name: array[1:2, :7] for name, array in inputs.items()})
    np.testing.assert_allclose(alone[0], before[1, :7], atol=1e-5)


def test_positions_and_segments_are_told_apart(encoder):
    inputs = one_text([5] * 7)
    got = sequence(encoder, inputs)[0]
    assert min(np.abs(got[i] - got[j]).max() for i in range(7) for j in range(i)) > 1e-2
    other = sequence(encoder, dict(inputs, segment_ids=1 - inputs["segment_ids"]))
    assert np.abs(other - got).max() > 1e-2


def test_a_text_of_padding_alone_stays_finite(encoder):
    inputs = random_inputs()
    inputs["padding_mask"][1] = False
    assert np.isfinite(sequence(encoder, inputs)).all()


def test_no_two_blocks_and_no_two_embeddings_start_equal():
    arrays = names.take(bert(CONFIG).weights)
    kernels = [array for path, array in arrays.items() if path.endswith("kernel")]
    tables = [array[:2] for path, array in arrays.items() if path.endswith("embeddings")]
    for group in (kernels, tables):
        for i, array in enumerate(group):
            assert not any(np.array_equal(array, other) for other in group[:i])
    drawn = np.concatenate([array.ravel() for array in (*kernels, *tables)])
    # A normal of 0.02, cut at two deviations, has a deviation of 0.88 · 0.02.
    assert drawn.std() == pytest.approx(0.0176, abs=5e-4)
    assert np.abs(drawn).max() <= 0.04


# Saving, types, compilation


def test_an_encoder_is_saved_and_loaded_with_its_names(encoder, tmp_path):
    encoder.save(tmp_path / "bert.keras")
    loaded = keras.models.load_model(tmp_path / "bert.keras")
    assert [weight.path for weight in loaded.weights] == [w.path for w in encoder.weights]
    inputs = random_inputs()
    np.testing.assert_allclose(sequence(loaded, inputs), sequence(encoder, inputs), atol=1e-6)


def test_bfloat16_is_finite_and_near_float32(encoder):
    mixed = bert(CONFIG, "mixed_bfloat16")
    for weight, wide in zip(mixed.weights, encoder.weights, strict=True):
        assert weight.dtype == "float32"
        weight.assign(wide)
    assert keras.backend.standardize_dtype(mixed.output["sequence"].dtype) == "bfloat16"
    inputs = random_inputs()
    real = inputs["padding_mask"]
    # Ten roundings to 8 bits in a row, on numbers of about 3.
    assert_near(sequence(mixed, inputs)[real], sequence(encoder, inputs)[real], 0.05)
    inputs["padding_mask"][1] = False
    assert np.isfinite(sequence(mixed, inputs)).all()


def test_an_encoder_compiles_under_xla_with_static_shapes(encoder):
    inputs = random_inputs()
    check_xla(encoder, inputs, run(encoder, inputs))


def test_int8_through_keras_keeps_the_sequence_near():
    model = bert(dataclasses.replace(CONFIG, num_layers=1), "float32")
    randomize(model)
    attention = model.get_layer("block_0").attention
    check_int8(model, random_inputs(), [attention.query, attention.output_dense])


# Sizes


def count(config):
    """Parameters of the encoder, by hand: without pooler, and with it, as BertModel has one."""
    width, inner = config.width, config.inner_width
    rows = config.vocab_size + config.max_length + config.num_segments
    embeddings = rows * width + 2 * width
    attention = 4 * (width * width + width)
    feed_forward = 2 * width * inner + inner + width
    block = attention + feed_forward + 2 * 2 * width
    encoder = embeddings + config.num_layers * block
    return encoder, encoder + width * width + width


@pytest.mark.parametrize(
    ("config", "without_pooler", "with_pooler"),
    [
        (BERT_BASE_UNCASED, 108_891_648, 109_482_240),  # published as 110 M
        (BERT_LARGE_UNCASED, 334_092_288, 335_141_888),  # 336 M with the heads of pretraining
        (BERT_MULTILINGUAL_CASED, 177_262_848, 177_853_440),  # 179 M with them
        (TINY_BERT, 14_252_592, 14_350_248),  # 14.5 M
        (BERT_MINI, 11_104_768, 11_170_560),  # 11 M
    ],
    ids=["base", "large", "multilingual", "tiny", "mini"],
)
def test_published_sizes_have_their_published_parameter_counts(config, without_pooler, with_pooler):
    assert count(config) == (without_pooler, with_pooler)


@pytest.mark.parametrize("config", [BERT_MINI, CONFIG], ids=["mini", "primes"])
def test_a_model_has_as_many_parameters_as_its_config_says(config):
    assert bert(config).count_params() == count(config)[0]


# Configs


def test_the_default_config_is_transformers_own():
    from transformers import BertConfig as ReferenceConfig

    assert config_from_hugging_face(ReferenceConfig().to_dict()) == BERT_BASE_UNCASED
    assert config_from_hugging_face({}) == BERT_BASE_UNCASED


def test_a_config_goes_to_hugging_face_and_back():
    odd = BertConfig(101, 3, 35, 5, 53, 17, 3, "gelu_new", 0.11, 0.13, 1e-7, 0.03)
    assert all(
        getattr(odd, field.name) != field.default for field in dataclasses.fields(BertConfig)
    )
    settings = config_to_hugging_face(odd)
    assert settings["model_type"] == "bert"
    assert settings["architectures"] == ["BertModel"]
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == odd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key'; BERT here has absolute positions only",
        ),
        ({"is_decoder": True}, "BERT here is an encoder"),
        ({"add_cross_attention": True}, "BERT here is an encoder"),
        (
            {"hidden_size": 37, "num_attention_heads": 5},
            "hidden_size 37 does not divide by num_attention_heads 5",
        ),
        ({"hidden_size": "37"}, "hidden_size is '37'; expected int, such as 768"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None; expected float"),
        ({"hidden_act": "gleu"}, "hidden_act is 'gleu'; expected one of gelu, gelu_new, "),
    ],
)
def test_a_config_that_bert_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "silu"])
def test_hidden_act_reaches_every_block(name):
    config = config_from_hugging_face({**config_to_hugging_face(CONFIG), "hidden_act": name})
    blocks = [layer for layer in bert(config).layers if layer.name.startswith("block_")]
    assert [block.feed_forward.activation for block in blocks] == [name] * 3


# Heads

HEAD_SETTINGS = {
    "model_type": "bert", "vocab_size": V, "num_hidden_layers": 2, "hidden_size": D,
    "num_attention_heads": 5, "intermediate_size": F, "max_position_embeddings": 17,
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_every_head_agrees_with_transformers_both_ways(head):
    parity.check_head(bert_file, HEAD_SETTINGS, head)


def test_the_bare_encoder_agrees_with_transformers_both_ways():
    parity.check_encoder(bert_file, HEAD_SETTINGS)
