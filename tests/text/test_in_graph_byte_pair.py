"""Byte-level BPE in the graph against the eager tokenizer: equal ids, always."""

import random

import pytest
import tensorflow as tf
import tokenizers
from in_graph_cases import Graph, assert_ids
from test_tokenizer import TORTURE, banking, machado
from tokenizers import models, normalizers, pre_tokenizers

from kbert.errors import InputError
from kbert.text.in_graph import in_graph
from kbert.text.tokenizer import Tokenizer

BLANKS = ["a  b", " a", "a ", "  ", "a\n\n b", "a \n", "\t\tx\u00a0\u00a0y \u3000z", "a  'll 's'S"]


@pytest.fixture(params=["gpt2", "roberta-base", "learned-byte-bpe"])
def graph(request, graph_of):
    return graph_of(request.param)


def test_real_lines_agree(graph, data_dir):
    assert_ids(graph, [*machado(data_dir)[:2_000], *banking()[:1_000]])


def test_torture_agrees(graph):
    assert_ids(graph, [*TORTURE, *BLANKS, "x" * 3_000, "ab" * 2_000])


def test_every_character_of_unicode_agrees(graph_of):
    codes = [*range(1, 0xD800), *range(0xE000, 0x40000), *range(0x40000, 0x110000, 61)]
    texts = []
    for first in range(0, len(codes), 64):
        some = [chr(code) for code in codes[first : first + 64]]
        texts.append("".join(f"a{c}1{c}!{c}  {c} " for c in some))
    assert_ids(graph_of("gpt2"), texts)


def test_random_texts_agree(graph):
    draw = random.Random(0)
    special = graph.tokenizer.special_tokens
    sources = [
        graph.tokenizer.vocab,
        [chr(code) for code in range(1, 0x250)],
        list(" \n\t.,!?-'\"aslve10"),
        [token for token in special.values() if token],
        ["<|", "|>", "<ma", "\ue000", "\ue001", "ÿ", "\ufffd"],
    ]
    texts = []
    for _ in range(3_000):
        mixed = draw.choices(sources, k=draw.randint(1, 3))
        length = draw.choice([3, 10, 40, 150])
        texts.append("".join(draw.choice(draw.choice(mixed)) for _ in range(length)))
    assert_ids(graph, texts)


def test_bytes_that_are_not_utf_8_read_as_replacement_characters(graph):
    texts = [b"\xff", b"caf\xe9 \xe2\x82 x", b"\xed\xa0\x80", b"a\xf0\x9f\x98b \xc0\xaf", b"\x80"]
    expected = graph.tokenizer([text.decode("utf-8", "replace") for text in texts])
    assert graph.ids(texts) == expected


def test_nul_beside_a_special_token_is_read_as_rust_reads_it(graph):
    name = graph.tokenizer.special_tokens["eos_token"]
    broken = f"{name[:2]}\0{name[2:]}"
    assert_ids(graph, ["a\0b", "\0", f"a{name}b", f"\0{name}\0 {name}\0a", broken, ""])


def test_empty_texts_and_batches_have_no_ids(graph):
    assert graph.ids(["", "a", ""])[::2] == [[], []]
    assert graph.ids([]) == []


def test_a_space_before_the_text_is_added_where_rust_adds_one(graph_of):
    rust = tokenizers.Tokenizer.from_str(graph_of("roberta-base").tokenizer.rust.to_str())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert_ids(Graph(Tokenizer(rust)), ["a", " a", "", "\na", "a<s>b <mask> c", *TORTURE])


@pytest.fixture(scope="module")
def modern(graph_of):
    """As ModernBERT's: NFC, blanks as tokens, which are looked for in normalised text."""
    rust = tokenizers.Tokenizer.from_str(graph_of("gpt2").tokenizer.rust.to_str())
    rust.normalizer = normalizers.NFC()
    rust.add_tokens(
        [tokenizers.AddedToken("|||IP_ADDRESS|||", normalized=True)]
        + [tokenizers.AddedToken(" " * size, normalized=True) for size in range(24, 1, -1)]
    )
    rust.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "<|pad|>"])
    rust.add_special_tokens([tokenizers.AddedToken("[MASK]", lstrip=True, normalized=False)])
    return Graph(Tokenizer(rust))


def test_modernberts_normaliser_composes_between_special_tokens(modern, data_dir):
    broken = b"cafe\xcc e\xcc\x81\xff"
    marks = [
        "e\u0301 cafe\u0301",
        "\u212b \u1100\u1161\u11a8 \u0301",
        "a\u0328\u0301 a\u0301\u0328",
    ]
    around = [
        "<|pad|>\u0338 >\u0338",
        "e[MASK]\u0301",
        "e <|pad|>\u0301 [SEP]e\u0301",
        " [MASK]e\u0301",
    ]
    blanks = ["a  b   c\n    d", "a   [MASK]  b", " " * 60 + "x", "|||IP_ADDRESS|||  |||", "  "]
    texts = [*marks, *around, *blanks, "a\0  [SEP]\0", *TORTURE, *machado(data_dir)[:500]]
    assert_ids(modern, texts)
    assert modern.ids(["caf\u00e9"]) == modern.ids(["cafe\u0301"])
    assert modern.ids([broken]) == modern.tokenizer([broken.decode("utf-8", "replace")])


def test_random_texts_agree_with_modernberts(modern):
    draw = random.Random(0)
    special = [token for token in modern.tokenizer.special_tokens.values() if token]
    sources = [
        [chr(code) for code in range(0x20, 0x250)],
        [chr(code) for code in range(0x300, 0x370)],
        list(" \n\t aeiou>=<|[]"),
        ["  ", "   ", "|||IP_ADDRESS|||", "[MASK]", "<|pad|>", "[SEP]", *special],
    ]
    texts = []
    for _ in range(3_000):
        mixed = draw.choices(sources, k=draw.randint(1, 3))
        texts.append("".join(draw.choice(draw.choice(mixed)) for _ in range(draw.choice([3, 40]))))
    assert_ids(modern, texts)


def test_a_mask_takes_the_blanks_before_it(graph_of):
    texts = ["a <mask>", "a \n\u3000<mask><mask> b", " <mask>", "<mask", "x </s> <mask>"]
    assert_ids(graph_of("roberta-base"), texts)


# Errors


def small(merges=(("a", "b"),), **settings) -> Tokenizer:
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocab = {token: i for i, token in enumerate([*sorted(letters), "ab", "abc", "bc"])}
    rust = tokenizers.Tokenizer(models.BPE(vocab, list(merges), **settings))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Tokenizer(rust)


def test_offsets_of_bytes_are_told():
    graph = in_graph(small())
    with pytest.raises(InputError, match="characters as their smallest pieces, for offsets; this"):
        graph.with_offsets(tf.constant(["a"]))


def test_merges_that_do_not_make_their_piece_are_told():
    # b c is joined before ab and c can be.
    tokenizer = small([("b", "c"), ("a", "b"), ("ab", "c")])
    with pytest.raises(InputError, match="merges that make each of its pieces; this one has .*abc"):
        in_graph(tokenizer)


def test_a_normaliser_or_another_expression_is_told():
    message = "byte-level BPE of GPT-2's words, with the normaliser NFC or none; this one has "
    tokenizer = small()
    tokenizer.rust.normalizer = normalizers.NFKC()
    with pytest.raises(InputError, match=message + "NFKC"):
        in_graph(tokenizer)
    tokenizer = small()
    tokenizer.rust.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    with pytest.raises(InputError, match=message + "other words"):
        in_graph(tokenizer)


def test_dropout_is_told():
    with pytest.raises(InputError, match="BPE without dropout, prefix and suffix"):
        in_graph(small(dropout=0.1))
