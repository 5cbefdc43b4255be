"""ModernBERT against transformers' model: both forms of its config, windows, heads, a folder."""

import dataclasses
import json

import keras
import numpy as np
import parity
import pytest
from contract import check_encoder, one_text, sequence
from harness import BACKEND, randomize, run

from kbert import checkpoint, inference
from kbert.heads.classification import classification
from kbert.models import modernbert as architecture
from kbert.models.modernbert import (
    HEADS,
    MODERNBERT_BASE,
    MODERNBERT_LARGE,
    NAMES,
    PREFIX,
    ModernBertConfig,
    config_from_hugging_face,
    config_to_hugging_face,
    modernbert,
)
from kbert.weights import names

V, D, F = 101, 70, 53
# Blocks 0 and 3 are global. Half the window is 3: above 4 · 3 = 12 tokens they are cut into blocks.
CONFIG = ModernBertConfig(
    vocab_size=V, num_layers=4, width=D, num_heads=5, inner_width=F, max_length=29, window=6
)
SETTINGS = config_to_hugging_face(CONFIG)


@pytest.fixture(scope="module")
def encoder():
    encoder = modernbert(CONFIG, "float32")
    randomize(encoder, 0.2)
    return encoder


# Agreement


def test_the_sequence_is_that_of_transformers():
    parity.check_encoder(architecture, SETTINGS)


@pytest.mark.parametrize("length", [2, 4, 12, 29])
def test_the_sequence_is_that_of_transformers_below_the_window_and_above_it(length):
    theirs = parity.reference("ModernBertModel", SETTINGS)
    encoder = modernbert(CONFIG, "float32")
    checkpoint.assign(encoder, parity.tensors_of(theirs), architecture, "test")
    token_ids = np.random.default_rng(length).integers(0, V, (2, length), "int32")
    inputs = {"token_ids": token_ids, "padding_mask": np.ones((2, length), bool)}
    inputs["padding_mask"][1, length // 2 :] = False
    expected = parity.reference_outputs(theirs, inputs, ("last_hidden_state",))
    real = inputs["padding_mask"]
    assert np.abs(sequence(encoder, inputs) - expected)[real].max() <= parity.TOLERANCE


@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_the_outputs_of_transformers(head):
    parity.check_head(architecture, SETTINGS, head)


@pytest.mark.parametrize("head", ["SequenceClassification", "MultipleChoice"])
def test_a_text_may_be_the_mean_of_its_tokens(head):
    parity.check_head(architecture, {**SETTINGS, "classifier_pooling": "mean"}, head)


def test_the_bases_of_the_rotations_are_the_configs():
    bases = {"global_rope_theta": 97.0, "local_rope_theta": 31.0}
    parity.check_encoder(architecture, {**SETTINGS, **bases})


# Names


def test_every_tensor_of_transformers_comes_back_bit_equal():
    for head, rows in HEADS.items():
        tensors = parity.tensors_of(parity.reference(f"ModernBertFor{head}", SETTINGS))
        tied = names.from_checkpoint(tensors, (*NAMES, *rows), PREFIX).tied
        assert tied == ({"decoder.weight": "token_embedding/embeddings"} if "LM" in head else {})
        tensors = {name: array for name, array in tensors.items() if name not in tied}
        matched = names.from_checkpoint(tensors, (*NAMES, *rows), PREFIX)
        assert matched.unknown == []
        back = names.to_checkpoint(matched.arrays, (*NAMES, *rows), PREFIX)
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
        "attention/query/kernel": (70, 70),
        "attention/key/kernel": (70, 70),
        "attention/value/kernel": (70, 70),
        "attention/output/kernel": (70, 70),
        "attention_residual/norm/gamma": (70,),
        "feed_forward/inner/kernel": (70, 106),
        "feed_forward/outer/kernel": (53, 70),
        "feed_forward_residual/norm/gamma": (70,),
    }
    expected = {
        "token_embedding/embeddings": (101, 70),
        "embedding_norm/gamma": (70,),
        **{f"block_{i}/{path}": shape for i in range(4) for path, shape in block.items()},
        "final_norm/gamma": (70,),
    }
    del expected["block_0/attention_residual/norm/gamma"]  # The embeddings are normalised already.
    assert {weight.path: weight.shape for weight in encoder.weights} == expected


# What is ModernBERT's own


def test_it_keeps_the_contract_of_encoders(tmp_path):
    # What is not normalised until the end keeps the roundings of all blocks.
    check_encoder(modernbert, CONFIG, tmp_path, pad_id=1, bfloat16_share=0.1)


def test_a_token_is_seen_as_far_as_its_windows_and_global_blocks_let_it():
    # Without the global blocks three windows of 3 tokens follow each other: 9 tokens are seen.
    local = modernbert(dataclasses.replace(CONFIG, global_every=5), "float32")
    randomize(local, 0.2)
    blocks = [layer for layer in local.layers if layer.name.startswith("block_")]
    assert [block.attention.window for block in blocks] == [None, 3, 3, 3]
    blocks[0].attention.output_dense.kernel.assign(np.zeros((D, D)))
    text = one_text(local, [5] * 29)
    changed = dict(text, token_ids=text["token_ids"].copy())
    changed["token_ids"][0, 14] = 7
    moved = np.abs(sequence(local, changed) - sequence(local, text))[0].max(axis=-1)
    distance = np.abs(np.arange(29) - 14)
    assert moved[distance <= 9].min() > 1e-4
    assert moved[distance > 9].max() < 1e-5


def test_matrices_out_of_a_block_start_narrower_than_those_into_it():
    config = dataclasses.replace(CONFIG, width=90, initializer_range=0.1, num_layers=8)
    arrays = names.take(modernbert(config, "float32").weights)
    for part, share in (
        ("attention/value", 1), ("feed_forward/inner", 1),
        ("attention/output", 1 / 4), ("feed_forward/outer", 1 / 4),  # the root of 2 · 8
    ):  # fmt: skip
        drawn = np.concatenate([arrays[f"block_{i}/{part}/kernel"].ravel() for i in range(8)])
        # A normal cut at two deviations has a deviation of 0.88.
        assert drawn.std() == pytest.approx(0.088 * share, rel=0.02)


def test_one_graph_of_inference_serves_lengths_below_the_window_and_above_it(encoder):
    model = classification(encoder, 3)
    randomize(model, 0.2)
    function = inference.inference_function(model)
    token_ids = np.random.default_rng(3).integers(0, V, (2, 29), "int32")
    # The first length is that of the graph. JAX compiles each, so it gets two.
    for length in (5, 29) if BACKEND == "jax" else (5, 29, 13, 12, 1):
        for padded in (False, True):
            inputs = {"token_ids": token_ids[:, :length]}
            inputs["padding_mask"] = np.ones((2, length), bool)
            if padded and length > 1:
                inputs["padding_mask"][1, length // 2 :] = False
            np.testing.assert_allclose(function(inputs), run(model, inputs), atol=1e-4)


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's graphs")
def test_pytorch_traces_the_model_and_does_not_fall_back(encoder):
    import torch

    class Eager(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = encoder

        def forward(self, padding_mask, token_ids):
            inputs = {"padding_mask": padding_mask, "token_ids": token_ids}
            return self.model(inputs, training=False)["sequence"]

    eager = Eager()
    inputs = [keras.ops.ones((2, 13), "bool"), keras.ops.ones((2, 13), "int32")]
    graph = inference._traced(eager, inputs, lambda rows: [x[:rows, :-1] for x in inputs])
    assert isinstance(graph, torch.jit.ScriptModule)


# Sizes


def count(config):
    """Parameters of the encoder, by hand: no biases, and one norm less than two a block."""
    width, inner = config.width, config.inner_width
    block = 4 * width * width + 2 * width + 3 * width * inner
    # Norms: of the embeddings and the last one, but none before the first attention.
    return config.vocab_size * width + config.num_layers * block + width


@pytest.mark.parametrize(
    ("config", "number", "published"),
    [(MODERNBERT_BASE, 149_014_272, 149e6), (MODERNBERT_LARGE, 394_781_696, 395e6)],
    ids=["base", "large"],
)
def test_published_sizes_have_their_published_parameter_counts(config, number, published):
    import torch
    from transformers import ModernBertConfig as ReferenceConfig
    from transformers import ModernBertModel

    assert count(config) == number
    assert number == pytest.approx(published, rel=0.01)
    with torch.device("meta"):
        model = ModernBertModel(ReferenceConfig(**config_to_hugging_face(config)))
    assert sum(weight.numel() for weight in model.parameters()) == number


def test_a_model_has_as_many_parameters_as_its_config_says(encoder):
    assert encoder.count_params() == count(CONFIG)


# Configs

# https://huggingface.co/answerdotai/ModernBERT-base/raw/main/config.json, of transformers 4.
PUBLISHED = {
    "architectures": ["ModernBertForMaskedLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean",
    "decoder_bias": True,
    "embedding_dropout": 0.0,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02,
    "intermediate_size": 1152,
    "layer_norm_eps": 1e-05,
    "local_attention": 128,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 12,
    "num_hidden_layers": 22,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
    "vocab_size": 50368,
}


def reference_settings(**settings):
    """What transformers 5 writes: rope_parameters and layer_types."""
    from transformers import ModernBertConfig as ReferenceConfig

    return json.loads(json.dumps(ReferenceConfig(**settings).to_dict()))


def test_the_default_config_is_transformers_own_and_the_published_one():
    settings = reference_settings()
    assert {"rope_parameters", "layer_types"} <= set(settings)
    assert config_from_hugging_face(settings) == MODERNBERT_BASE
    assert config_from_hugging_face({}) == MODERNBERT_BASE
    mean = dataclasses.replace(MODERNBERT_BASE, pooling="mean")
    assert config_from_hugging_face(PUBLISHED) == mean


def test_a_config_goes_to_hugging_face_and_back():
    odd = ModernBertConfig(
        101, 5, 70, 7, 53, 17, "silu", 0.11, 0.13, 1e-7, 0.03, 2, 10, 997.0, 31.0, "mean"
    )
    assert all(
        getattr(odd, field.name) != field.default for field in dataclasses.fields(ModernBertConfig)
    )
    settings = config_to_hugging_face(odd)
    assert settings["model_type"] == "modernbert"
    assert settings["architectures"] == ["ModernBertModel"]
    assert config_from_hugging_face(json.loads(json.dumps(settings))) == odd
    assert config_from_hugging_face(reference_settings(**settings)) == odd


def test_every_way_to_alternate_is_read_from_layer_types():
    kinds = {"g": "full_attention", "l": "sliding_attention"}
    for pattern, every in (("g", 1), ("gg", 1), ("gl", 2), ("gll", 3), ("gllgllg", 3)):
        layer_types = [kinds[letter] for letter in pattern]
        settings = {"num_hidden_layers": len(pattern), "layer_types": layer_types}
        assert config_from_hugging_face(settings).global_every == every
        assert config_from_hugging_face(reference_settings(**settings)).global_every == every


def test_a_local_base_of_null_is_the_global_one():
    settings = {**PUBLISHED, "local_rope_theta": None}
    assert config_from_hugging_face(settings).local_base == 160000.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm_bias": True}, "norm_bias is True; ModernBERT here has False only"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"classifier_bias": True}, "classifier_bias is True"),
        ({"decoder_bias": False}, "decoder_bias is False; ModernBERT here has True only"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"classifier_activation": "relu"}, "classifier_activation is 'relu'"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling is {'rope_type': 'yarn'}"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "linear"}}},
            "rope_parameters give full_attention the rope_type 'linear'",
        ),
        (
            {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2},
            r"layer_types is \['sliding_attention', .*one global block in every n, the first",
        ),
        (
            {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 2},
            r"layer_types is .* and 3 \(num_hidden_layers\) in all",
        ),
        ({"embedding_dropout": 0.1}, "embedding_dropout is 0.1 and mlp_dropout 0.0; .* one prob"),
        (
            {"hidden_size": 60},
            "hidden_size 60 does not divide by num_attention_heads 12 into .*even",
        ),
        ({"hidden_size": "768"}, "hidden_size is '768'; expected int, such as 768"),
        ({"norm_eps": None}, "norm_eps is None; expected float"),
        ({"hidden_activation": "gleu"}, "hidden_activation is 'gleu'; expected one of gelu, gelu_"),
        ({"classifier_pooling": "max"}, "classifier_pooling is 'max'; expected cls or mean"),
    ],
)
def test_a_config_that_modernbert_cannot_follow_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config_from_hugging_face(settings)


# A folder

TEXTS = [
    "Ela não sabe, ele talvez.",
    "I don't know 12,345 naïve cafés!",
    "   two  spaces\n",
    "日本 🙂",
]


def write_tokenizer(folder):
    """A byte-level BPE as ModernBERT's: NFC, no space before a text, [CLS] and [SEP] around it."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    rust = tokenizers.Tokenizer(models.BPE())
    rust.normalizer = normalizers.NFC()
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    trainer = trainers.BpeTrainer(
        vocab_size=307, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    rust.train_from_iterator(TEXTS * 3, trainer)
    rust.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 1), ("[SEP]", 2)]
    )
    names = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rust, model_max_length=29, **dict(zip(names, special, strict=True)),
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_folder(folder):
    """What transformers writes: a ModernBertForMaskedLM and its tokenizer."""
    tokenizer = write_tokenizer(folder)
    settings = {**SETTINGS, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    model = parity.reference("ModernBertForMaskedLM", settings)
    model.save_pretrained(folder)
    return tokenizer, model


def batch_of(tokenizer):
    found = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")
    return {
        "token_ids": found["input_ids"].astype("int32"),
        "padding_mask": found["attention_mask"].astype(bool),
    }


def test_a_folder_of_transformers_is_opened_and_what_is_saved_is_opened_by_it(tmp_path):
    import kbert
    from kbert.heads.masked_lm import masked_lm
    from kbert.inputs.packer import Packer

    theirs_tokenizer, theirs = write_folder(tmp_path / "theirs")
    ours = kbert.load(tmp_path / "theirs", dtype="float32")
    assert ours.tokenizer.vocab == [
        theirs_tokenizer.convert_ids_to_tokens(i) for i in range(len(theirs_tokenizer))
    ]
    batch = batch_of(theirs_tokenizer)
    packer = Packer(ours.tokenizer.form, ours.tokenizer.pad_id, 29, with_segments=False)
    rows = [packer.pack(encoding.ids) for encoding in ours.tokenizer.encode(TEXTS)]
    packed = packer.pad(rows, 29)
    for name, array in packed.items():
        np.testing.assert_array_equal(array[:, : batch[name].shape[1]], batch[name], name)
    model = masked_lm(ours.encoder)
    assert names.load_head(model, ours.encoder, "MaskedLM") == []
    expected = parity.reference_outputs(theirs, batch, ("logits",))
    real = batch["padding_mask"]
    assert np.abs(run(model, batch) - expected)[real].max() <= parity.TOLERANCE

    from transformers import AutoModelForMaskedLM, AutoTokenizer

    settings = {**ours.settings, "kbert": {"head": "MaskedLM"}}
    kbert.save(tmp_path / "ours", model, settings, ours.tokenizer)
    opened = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    again = batch_of(AutoTokenizer.from_pretrained(tmp_path / "ours"))
    np.testing.assert_array_equal(again["token_ids"], batch["token_ids"])
    got = parity.reference_outputs(opened, batch, ("logits",))
    np.testing.assert_array_equal(got, expected)
