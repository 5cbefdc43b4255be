"""SentencePiece's files as the families have them: T5, XLM-R, CamemBERT, DeBERTa-v2."""

import types

import pytest
from test_sentencepiece import own_texts, train, write_json
from test_tokenizer import encodings, mismatches, transformers_encodings, transformers_ids
from transformers import (
    AddedToken,
    CamembertTokenizer,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    XLMRobertaTokenizer,
)
from transformers.convert_slow_tokenizer import CamembertConverter, DebertaV2Converter

from kbert.text.form import Form
from kbert.text.special_tokens import BERT
from kbert.text.tokenizer import Tokenizer


def test_t5_has_sentinels_after_its_pieces_and_one_end(tmp_path):
    model = train(tmp_path / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    tokenizer, size = Tokenizer.from_folder(tmp_path), model.vocab_size()
    assert tokenizer.vocab_size == size + 100
    assert tokenizer.vocab[size] == "<extra_id_99>" and tokenizer.vocab[-1] == "<extra_id_0>"
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
    assert tokenizer.form == Form(between=(1,), suffix=(1,), segments=(0, 0))
    texts = [*own_texts(), "the <extra_id_0>cat</s>"]
    reference = T5Tokenizer.from_pretrained(tmp_path)
    assert (
        mismatches(texts, transformers_encodings(reference, texts), encodings(tokenizer, texts))
        == []
    )
    assert mismatches(own_texts(), model.encode(own_texts()), tokenizer(own_texts())) == []


def test_xlm_r_has_fairseqs_tokens_first(tmp_path):
    model = train(tmp_path / "sentencepiece.bpe.model", unk_id=0, bos_id=1, eos_id=2)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocab[:5] == ["<s>", "<pad>", "</s>", "<unk>", model.id_to_piece(3)]
    assert tokenizer.mask_id == tokenizer.vocab_size - 1 == model.vocab_size() + 1
    assert tokenizer.form == Form(prefix=(0,), between=(2, 2), suffix=(2,), segments=(0, 0))
    texts = [*own_texts(), "the <mask>cat</s>"]
    mask = AddedToken("<mask>", lstrip=True)  # as the published tokenizer.json has it
    reference = XLMRobertaTokenizer.from_pretrained(tmp_path, mask_token=mask)
    assert (
        mismatches(texts, transformers_encodings(reference, texts), encodings(tokenizer, texts))
        == []
    )


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"tokenizer_class": "CamembertTokenizer"}},
        {
            "tokenizer_config": {
                "tokenizer_class": "CamembertTokenizerFast",
                "model_max_length": 512,
            }
        },
        {"config": {"model_type": "camembert"}, "tokenizer_config": {"model_max_length": 512}},
    ],
    ids=["class", "fast class", "model type"],
)
def test_camembert_has_tokens_that_it_never_used(files, tmp_path):
    """As the hub has it: one file, and a class or a model type that tells it from XLM-R's."""
    model = train(tmp_path / "sentencepiece.bpe.model", unk_id=0, bos_id=1, eos_id=2)
    write_json(tmp_path, **files)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocab[:5] == ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"]
    assert tokenizer.vocab[5:8] == ["<s>", "</s>", model.id_to_piece(3)]
    assert tokenizer.mask_id == tokenizer.vocab_size - 1 == model.vocab_size() + 4
    ids = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.unk_id)
    assert ids == (5, 6, 1, 3)
    assert tokenizer.form == Form(prefix=(5,), between=(6, 6), suffix=(6,), segments=(0, 0))
    texts = [*own_texts(), "the <mask>cat</s> <s>NOTUSED a <unk>"]
    reference = CamembertTokenizer.from_pretrained(tmp_path)
    assert len(reference) == tokenizer.vocab_size
    expected = transformers_encodings(reference, texts)
    assert mismatches(texts, expected, encodings(tokenizer, texts)) == []
    original = types.SimpleNamespace(
        vocab_file=str(tmp_path / "sentencepiece.bpe.model"),
        convert_tokens_to_ids={"<s>": 5, "</s>": 6}.get,
    )
    converted = CamembertConverter(original).converted()
    assert converted.get_vocab(with_added_tokens=False) == tokenizer.rust.get_vocab(False)
    tokenizer.save(tmp_path / "saved")
    again = Tokenizer.from_folder(tmp_path / "saved")
    assert mismatches(texts, encodings(tokenizer, texts), encodings(again, texts)) == []


# DeBERTa's files have four of its special tokens, and the mask is added; or all, or none.
DEBERTA_FILES = {
    "four inside": {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
    "five inside": {
        "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "control_symbols": ["[MASK]"],
    },
    "none inside": {"unk_id": 0, "bos_id": -1, "eos_id": -1, "unk_piece": "<unk>"},
}  # fmt: skip


@pytest.mark.parametrize("inside", DEBERTA_FILES)
@pytest.mark.parametrize("settings", [{}, {"do_lower_case": True}, {"split_by_punct": True}])
def test_deberta_v2_has_the_special_tokens_that_its_file_lacks(inside, settings, tmp_path):
    """As the hub has it: spm.model, tokenizer_config.json and config.json."""
    special = {
        "unk_piece": "[UNK]",
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
    }
    model = train(tmp_path / "spm.model", **special | DEBERTA_FILES[inside])
    config = {"do_lower_case": False, "vocab_type": "spm", **settings}
    write_json(tmp_path, tokenizer_config=config, config={"model_type": "deberta-v2"})
    tokenizer, size = Tokenizer.from_folder(tmp_path), model.vocab_size()
    names = {part: token for part, token in BERT.items() if part != "unk_token"}
    assert {part: tokenizer.special_tokens[part] for part in names} == names
    more = {"four inside": ["[MASK]"], "five inside": []}.get(inside, [*names.values()])
    assert sorted(tokenizer.vocab[size:]) == sorted(more)
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    assert tokenizer.form == Form(prefix=(cls,), between=(sep,), suffix=(sep,), segments=(0, 1))
    assert tokenizer(["\u3042"])[0][-1] == tokenizer.unk_id == model.unk_id()

    original = types.SimpleNamespace(
        vocab_file=str(tmp_path / "spm.model"),
        do_lower_case=settings.get("do_lower_case", False),
        split_by_punct=settings.get("split_by_punct", False),
        convert_tokens_to_ids=tokenizer.rust.token_to_id,
    )
    rust = DebertaV2Converter(original).converted()
    ends = {"bos_token": "[CLS]", "eos_token": "[SEP]"}  # as DebertaV2Tokenizer has them
    reference = PreTrainedTokenizerFast(tokenizer_object=rust, **names, **ends)
    assert {t: reference.convert_tokens_to_ids(t) for t in names.values()} == {
        t: tokenizer.rust.token_to_id(t) for t in names.values()
    }
    texts = [*own_texts(), "The Cat, (a) dog-cat!", "the [MASK] cat[SEP]a"]
    expected = transformers_ids(reference, texts)
    assert mismatches(texts, expected, tokenizer(texts)) == []


def test_deberta_v2_is_known_by_its_special_tokens_alone(tmp_path):
    special = {
        "unk_piece": "[UNK]",
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
    }
    model = train(tmp_path / "spm.model", **special | DEBERTA_FILES["four inside"])
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.mask_id == model.vocab_size() and tokenizer.vocab[-1] == "[MASK]"
    assert tokenizer.form == Form(prefix=(1,), between=(2,), suffix=(2,), segments=(0, 1))
    assert mismatches(own_texts(), model.encode(own_texts()), tokenizer(own_texts())) == []


def test_a_mask_of_added_tokens_json_is_the_one_that_is_added(tmp_path):
    """As transformers 4 saved fine-tuned models."""
    special = {
        "unk_piece": "[UNK]",
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
    }
    size = train(tmp_path / "spm.model", **special | DEBERTA_FILES["four inside"]).vocab_size()
    write_json(
        tmp_path, added_tokens={"[MASK]": size}, special_tokens_map={"mask_token": "[MASK]"},
        tokenizer_config={"tokenizer_class": "DebertaV2Tokenizer"},
    )  # fmt: skip
    assert Tokenizer.from_folder(tmp_path).mask_id == size
