"""Folders of tokenizer files: which are read, and what is told of those that cannot be."""

import json
import shutil

import pytest
from transformers import AddedToken, BertTokenizerFast, RobertaTokenizer

from kbert.errors import InputError
from kbert.text.form import Form
from kbert.text.tokenizer import Tokenizer

TEXTS = ["Cartão  de crédito, é?", " (x) <s>a</s>  <mask> b<pad>", "", "\t日本 👍🏽"]
BYTES = {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4}
MERGES = ["#version: 0.2", "a b", "Ġ ab"]


def write_pair(folder, vocab=BYTES, merges=MERGES, **files):
    """A folder of vocab.json and merges.txt, and JSON files named without their suffix."""
    files = {"vocab": vocab, **files}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    return folder


def write_bert(folder, tokens=(), **files):
    """A folder of vocab.txt, and JSON files named without their suffix."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "uma", "##s", *tokens]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def bare_roberta(data_dir, tmp_path):
    """vocab.json and merges.txt of RoBERTa, without tokenizer.json."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(data_dir / "vocab" / "roberta-base" / name, tmp_path)
    return tmp_path


def triples(tokenizer):
    return [(e.ids, e.offsets, e.words) for e in tokenizer.encode(TEXTS)]


def test_vocab_json_with_merges_reads_as_tokenizer_json_does(bare_roberta, data_dir):
    bare = Tokenizer.from_folder(bare_roberta)
    whole = Tokenizer.from_folder(data_dir / "vocab" / "roberta-base")
    assert triples(bare) == triples(whole)
    assert bare.special_tokens == whole.special_tokens and bare.form == whole.form
    assert (bare.cls_id, bare.sep_id, bare.pad_id, bare.unk_id, bare.mask_id) == (0, 2, 1, 3, 50264)
    assert (bare.bos_id, bare.eos_id) == (0, 2)


@pytest.mark.parametrize("has_tokenizer_json", [False, True])
def test_a_space_before_each_text_is_put_where_the_folder_says_so(
    has_tokenizer_json, bare_roberta, data_dir
):
    if has_tokenizer_json:
        shutil.copy(data_dir / "vocab" / "roberta-base" / "tokenizer.json", bare_roberta)
    (bare_roberta / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    tokenizer = Tokenizer.from_folder(bare_roberta)
    assert tokenizer.tokenize("Hello") == ["ĠHello"]
    # Of the bare pair this class makes a mask that leaves the spaces before it, unlike its own
    # tokenizer.json.
    mask = AddedToken("<mask>", lstrip=True)
    reference = RobertaTokenizer.from_pretrained(bare_roberta, mask_token=mask)
    expected = reference(TEXTS, add_special_tokens=False, return_offsets_mapping=True)
    assert [ids for ids, _, _ in triples(tokenizer)] == expected["input_ids"]
    assert [offsets for _, offsets, _ in triples(tokenizer)] == expected["offset_mapping"]


def test_gpt2_has_no_special_tokens_around_a_text(data_dir):
    tokenizer = Tokenizer.from_folder(data_dir / "vocab" / "gpt2")
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (50256, 50256, 50256)
    assert tokenizer.cls_id is tokenizer.sep_id is tokenizer.pad_id is tokenizer.mask_id is None
    assert tokenizer.form.num_special(2) == 0


def test_a_vocabulary_of_no_known_family_has_no_special_tokens(tmp_path):
    tokenizer = Tokenizer.from_folder(write_pair(tmp_path))
    assert tokenizer.special_tokens == {}
    assert tokenizer.form == Form()
    assert tokenizer(["ab ab"]) == [[2, 4]]
    with pytest.raises(InputError, match="with a pad_token, this one has no special tokens"):
        tokenizer.special_id("pad_token")


def test_special_tokens_of_a_pair_of_files_may_have_other_names(tmp_path):
    vocab = BYTES | {"[C]": 5, "[S]": 6}
    config = {"cls_token": "[C]", "sep_token": "[S]"}
    tokenizer = Tokenizer.from_folder(write_pair(tmp_path, vocab, tokenizer_config=config))
    assert (tokenizer.cls_id, tokenizer.sep_id) == (5, 6)
    assert tokenizer.form == Form(prefix=(5,), between=(6, 6), suffix=(6,), segments=(0, 0))
    assert tokenizer(["[C]ab"]) == [[5, 2]]


def test_tokens_of_added_tokens_json_follow_the_vocabulary(tmp_path):
    write_bert(
        tmp_path,
        added_tokens={"<E2>": 8, "<e1>": 7},
        special_tokens_map={"additional_special_tokens": ["<e1>"]},
    )
    tokenizer = Tokenizer.from_folder(tmp_path)
    texts = ["uma<e1>uma <E2>", "<E1> <e2>"]
    reference = BertTokenizerFast.from_pretrained(tmp_path)
    expected = reference(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer(texts) == expected
    assert tokenizer.vocab[7:] == ["<e1>", "<E2>"]


def test_a_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    path = write_bert(tmp_path) / "vocab.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Tokenizer.from_folder(tmp_path).pad_id == 0


# Errors


def test_a_folder_without_tokenizer_files_lists_what_is_there(tmp_path):
    (tmp_path / "vocab.json").touch()
    (tmp_path / "config.json").touch()
    with pytest.raises(
        InputError,
        match=r"Expected tokenizer.json, vocab.txt, vocab.json with merges.txt, or a SentencePiece "
        r"\*.model in .*; it holds config.json, vocab.json\.",
    ):
        Tokenizer.from_folder(tmp_path)


def test_merges_of_pieces_that_are_not_in_the_vocabulary_are_told(tmp_path):
    write_pair(tmp_path, merges=["#version: 0.2", "a b", "ab c"])
    with pytest.raises(
        InputError,
        match="merges.txt, line 3: the merge 'ab c' names 'c', which the vocabulary does not have. "
        "They belong to different tokenizers",
    ):
        Tokenizer.from_folder(tmp_path)
    write_pair(tmp_path, merges=["b a"])
    with pytest.raises(
        InputError, match="line 1: the merge 'b a' names 'ba', which the vocabulary"
    ):
        Tokenizer.from_folder(tmp_path)


def test_merges_of_tokenizer_json_that_are_not_in_its_vocabulary_are_told(data_dir, tmp_path):
    path = data_dir / "vocab" / "roberta-base" / "tokenizer.json"
    parts = json.loads(path.read_text("utf-8"))
    parts["model"]["merges"].append("Ġzz ÿÿ")
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts))
    with pytest.raises(
        InputError, match="tokenizer.json, merge 50001: the merge 'Ġzz ÿÿ' names 'Ġzz'"
    ):
        Tokenizer.from_folder(tmp_path)


def test_a_line_of_merges_that_is_no_pair_is_told(tmp_path):
    with pytest.raises(InputError, match="merges.txt, line 2: expected two tokens, got 'a b c'"):
        Tokenizer.from_folder(write_pair(tmp_path, merges=["a b", "a b c"]))


def test_two_tokens_of_one_id_are_told(tmp_path):
    with pytest.raises(
        InputError, match="vocab.json: expected an id of its own .*, got 2 for 'x' and for 'ab'"
    ):
        Tokenizer.from_folder(write_pair(tmp_path, BYTES | {"x": 2}))
    with pytest.raises(InputError, match="expected an id of its own for each token, got '5' for"):
        Tokenizer.from_folder(write_pair(tmp_path, BYTES | {"x": "5"}))


def test_a_token_that_stands_twice_in_a_json_file_is_told(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "a": 2}')
    with pytest.raises(
        InputError,
        match=r"vocab.json holds 1 token\(s\) more than once, such as 'a' on places 1, 3",
    ):
        Tokenizer.from_folder(tmp_path)


def test_gaps_between_the_ids_are_told(tmp_path):
    with pytest.raises(InputError, match="ids from 0 to 5 without gaps, got 9 for 'x' where 5"):
        Tokenizer.from_folder(write_pair(tmp_path, BYTES | {"x": 9}))


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_pair_in_another_encoding_is_told(name, tmp_path):
    write_pair(tmp_path)
    (tmp_path / name).write_bytes('{"ç": 1}'.encode("latin-1"))
    with pytest.raises(InputError, match=f"{name} is not .*UTF-8"):
        Tokenizer.from_folder(tmp_path)


def test_tokens_that_end_words_are_told(tmp_path):
    with pytest.raises(InputError, match=r"expected tokens of bytes, .*, got 'ab</w>': .*save it"):
        Tokenizer.from_folder(write_pair(tmp_path, BYTES | {"ab</w>": 5}))


def test_a_special_token_that_a_pair_of_files_lacks_is_told(tmp_path):
    write_pair(tmp_path, tokenizer_config={"pad_token": "<pad>"})
    with pytest.raises(
        InputError, match=rf"{tmp_path}: The vocabulary lacks the special token\(s\) <pad>\. .*pad"
    ):
        Tokenizer.from_folder(tmp_path)


def test_added_tokens_with_ids_of_another_vocabulary_are_told(tmp_path):
    with pytest.raises(
        InputError, match="gives the added token '<e1>' the id 9, but its vocabulary gives it 7"
    ):
        Tokenizer.from_folder(write_bert(tmp_path, added_tokens={"<e1>": 9}))
