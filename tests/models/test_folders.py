"""Folders of every architecture and head: what transformers writes kbert opens, and back again.

Model and tokenizer, by `save_pretrained` there and `checkpoint.save` here. `parity.py` compares
numbers of odd sizes; here it is the files that must fit.
"""

import json

import keras
import numpy as np
import parity
import pytest
from harness import run

import kbert
from kbert import checkpoint
from kbert.convert import convert
from kbert.errors import InputWarning
from kbert.heads.sentence_order import sentence_order
from kbert.inputs.packer import Packer
from kbert.models import albert, bert, deberta, distilbert, modernbert, roberta
from kbert.weights import names, safetensors

PAIRS = [("a cab", "b"), ("abba", "cab cab a cab"), ("", "c")]
PIECES = ["▁", "a", "b", "c", "▁a", "▁cab", "ab"]
LETTERS = {"Ġ": 9, "a": 10, "b": 11, "c": 12, "ca": 13, "cab": 14, "Ġcab": 15}
V = 19  # a few rows more than there are tokens
SIZES = {
    "vocab_size": V, "num_hidden_layers": 2, "hidden_size": 15, "num_attention_heads": 5,
    "intermediate_size": 23, "max_position_embeddings": 31, "initializer_range": 0.5,
}  # fmt: skip
OWN_SIZES = {
    "albert": {"embedding_size": 7},
    "camembert": {"type_vocab_size": 1},
    "deberta-v2": {
        "relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 6,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
        "conv_kernel_size": 3, "conv_act": "gelu",
    },
    "distilbert": {"hidden_dim": 23},
    "modernbert": {
        "hidden_size": 20, "local_attention": 6, "global_attn_every_n_layers": 2,
        **dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id"), 0),
        **dict.fromkeys(("bos_token_id", "eos_token_id"), 0),
    },
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
}  # fmt: skip
FILES = {
    "albert": albert,
    "bert": bert,
    "camembert": roberta,
    "deberta-v2": deberta,
    "distilbert": distilbert,
    "modernbert": modernbert,
    "roberta": roberta,
    "xlm-roberta": roberta,
}
NEXT_SENTENCE = "NextSentencePrediction"
CASES = [(model_type, head) for model_type, file in FILES.items() for head in (None, *file.HEADS)]


def their_tokenizer(model_type):
    """transformers' own tokenizer of an architecture, with a vocabulary of a few letters."""
    import transformers

    def scored(tokens):
        return [(token, -float(i)) for i, token in enumerate([*tokens, *PIECES])]

    pad, unk, cls, sep, mask = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = [pad, unk, cls, sep, mask, "a", "b", "c", "cab", "##b", "##ba"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if model_type in ("bert", "distilbert"):
        return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    if model_type == "albert":
        return transformers.AlbertTokenizer(scored(["<pad>", "<unk>", cls, sep, mask]))
    if model_type == "deberta-v2":
        vocab = [(token, 0.0) for token in (pad, cls, "[SEP]", unk)]
        return transformers.DebertaV2Tokenizer([*vocab, *scored([])[:V], (mask, 0.0)])
    merges = [("c", "a"), ("ca", "b"), ("Ġ", "cab")]
    unused = {f"<unused{i}>": i for i in range(5, 9)}
    if model_type == "modernbert":
        special = {token: i for i, token in enumerate(words[:5])}
        return modernberts_tokenizer({**special, **unused, **LETTERS}, merges)
    if model_type == "roberta":
        vocab = {**{token: i for i, token in enumerate(tokens)}, **unused, **LETTERS}
        return transformers.RobertaTokenizer(vocab=vocab, merges=merges)
    if model_type == "xlm-roberta":
        return transformers.XLMRobertaTokenizer(scored(tokens))
    tokens = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<s>", "</s>", "<mask>"]
    return transformers.CamembertTokenizer(vocab=scored(tokens))


def modernberts_tokenizer(vocab, merges):
    """As its published tokenizer.json: bytes' BPE between [CLS] and [SEP]."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    rust = Tokenizer(models.BPE(vocab, merges, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    kinds = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=rust, **kinds)


def their_model(model_type, head):
    """transformers' model of tiny sizes, every weight random."""
    import torch
    import transformers

    sizes = {**SIZES, **OWN_SIZES.get(model_type, {})}
    num_labels = 2 if head in ("QuestionAnswering", "PreTraining") else 7
    config = transformers.AutoConfig.for_model(model_type, **sizes, num_labels=num_labels)
    auto = getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel")
    model = auto.from_config(config).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize(("model_type", "head"), CASES)
def test_a_folder_goes_from_transformers_to_kbert_and_back(model_type, head, tmp_path):
    theirs, there, back = their_model(model_type, head), tmp_path / "theirs", tmp_path / "ours"
    theirs.save_pretrained(there)
    their_tokenizer(model_type).save_pretrained(there)
    loaded = kbert.load(there, dtype="float32")
    model, settings = loaded.encoder, loaded.settings
    if head is not None:
        settings = {**settings, "kbert": {"head": head}}
        model = with_head(loaded.encoder, head)
    checkpoint.save(back, model, settings, loaded.tokenizer)

    # Every tensor is written again, a bare model's pooler too, which our encoder has no layer of.
    before, after = (safetensors.read(safetensors.weight_files(f)) for f in (there, back))
    assert after.keys() == before.keys()
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name], name)
    settings = json.loads((back / "config.json").read_text())
    assert settings["architectures"] == [type(theirs).__name__]
    opened, report = type(theirs).from_pretrained(back, output_loading_info=True)
    assert not any(report.values())
    was, now = theirs.config.to_dict(), opened.config.to_dict()
    assert {key for key in was if was[key] != now[key]} <= {"_name_or_path", "dtype"}


def test_the_newer_form_of_debertas_masked_lm_head_goes_back_as_it_came(tmp_path):
    """`legacy: false`, which published files need to fill masks."""
    import transformers

    config = their_model("deberta-v2", None).config
    config.legacy = False
    theirs = transformers.DebertaV2ForMaskedLM(config)
    theirs.save_pretrained(tmp_path / "theirs")
    their_tokenizer("deberta-v2").save_pretrained(tmp_path / "theirs")
    loaded = kbert.load(tmp_path / "theirs", dtype="float32")
    settings = {**loaded.settings, "kbert": {"head": "MaskedLM"}}
    model = with_head(loaded.encoder, "MaskedLM")
    checkpoint.save(tmp_path / "ours", model, settings, loaded.tokenizer)
    before, after = (
        safetensors.read(safetensors.weight_files(tmp_path / name)) for name in ("theirs", "ours")
    )
    assert after.keys() == before.keys()
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name], name)


def test_the_pooler_of_robertas_classifier_is_not_that_of_the_bare_model(tmp_path):
    """They have one name with us: alone, the encoder is kept without it."""
    their_model("roberta", "SequenceClassification").save_pretrained(tmp_path / "theirs")
    their_tokenizer("roberta").save_pretrained(tmp_path / "theirs")
    loaded = kbert.load(tmp_path / "theirs", dtype="float32")
    with pytest.warns(InputWarning, match="without the head .*: classifier, pooler. Save"):
        checkpoint.save(tmp_path / "saved", loaded.encoder, loaded.settings, loaded.tokenizer)
    report = convert(tmp_path / "theirs", tmp_path / "converted", "hugging-face", drop_head=True)
    assert {path.split("/")[0] for path in report.dropped} == {"classifier", "pooler"}
    for name in ("saved", "converted"):
        tensors = safetensors.read(safetensors.weight_files(tmp_path / name))
        assert "embeddings.word_embeddings.weight" in tensors
        assert not [tensor for tensor in tensors if "pooler" in tensor or "classifier" in tensor]


def with_head(encoder, head):
    """The encoder with all of a head, its weights loaded."""
    builders = [parity.BUILDERS.get(head)]
    if head == "PreTraining":
        pairs = sentence_order if encoder.name == "albert" else parity.BUILDERS[NEXT_SENTENCE]
        builders = [parity.BUILDERS["MaskedLM"], pairs]
    models = [build(encoder) for build in builders]
    model = keras.Model(encoder.input, [model.output for model in models])
    assert names.load_head(model, encoder, head) == []
    return model


@pytest.mark.parametrize("model_type", FILES)
def test_texts_and_pairs_give_the_ids_and_the_sequence_that_transformers_gives(
    model_type, tmp_path
):
    import torch

    theirs, tokenizer = their_model(model_type, None), their_tokenizer(model_type)
    theirs.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = kbert.load(tmp_path, dtype="float32")
    packer = Packer.of(loaded.tokenizer, max_length=29)
    first, second = zip(*PAIRS, strict=True)
    rows = [packer.pack(*ids) for ids in zip(*map(loaded.tokenizer, (first, second)), strict=True)]
    rows += [packer.pack(ids) for ids in loaded.tokenizer(first)]
    inputs = packer.pad(rows, 29)
    given = [tokenizer(list(first), list(second)), tokenizer(list(first))]
    ids = [row for encoding in given for row in encoding["input_ids"]]
    assert [row[0] for row in rows] == ids
    kwargs = {
        "input_ids": torch.from_numpy(inputs["token_ids"]).long(),
        "attention_mask": torch.from_numpy(inputs["padding_mask"]).long(),
    }
    if "segment_ids" in inputs:
        kwargs["token_type_ids"] = torch.from_numpy(inputs["segment_ids"]).long()
    with torch.no_grad():
        expected = theirs(**kwargs).last_hidden_state.numpy()
    got = run(loaded.encoder, inputs)["sequence"]
    assert np.abs(got - expected)[inputs["padding_mask"]].max() <= parity.TOLERANCE
