"""Byte-level BPE in the graph against the eager tokenizer: equal ids, always."""

import functools
import random

import pytest
import tensorflow as tf
import tokenizers
from in_graph_cases import compiled, graph_ids, served_elsewhere
from test_tokenizer import TORTURE, banking, machado, mismatches
from tokenizers import models, normalizers, pre_tokenizers

from kbert.errors import InputError
from kbert.text.in_graph import in_graph
from kbert.text.learn import learn
from kbert.text.tokenizer import Tokenizer

BLANKS = ["a  b", " a", "a ", "  ", "a\n\n b", "a \n", "\t\tx\u00a0\u00a0y \u3000z", "a  'll 's'S"]


@pytest.fixture(scope="module")
def form(data_dir, tmp_path_factory):
    """Of a name: the eager tokenizer and its form in the graph."""

    @functools.cache
    def build(name):
        folder = data_dir / "vocab" / name
        if name == "byte-bpe":
            folder = tmp_path_factory.mktemp("learned") / "tokenizer"
            corpus = sorted((data_dir / "corpus" / "pt_machado").rglob("*.txt"))[:5]
            learn(corpus, folder, name, 2_000)
        tokenizer = Tokenizer.from_folder(folder)
        return tokenizer, compiled(in_graph(tokenizer))

    return build


@pytest.fixture(params=["gpt2", "roberta-base", "byte-bpe"])
def both(request, form):
    return form(request.param)


def test_real_lines_agree(both, data_dir):
    tokenizer, graph = both
    texts = [*machado(data_dir)[:2_000], *banking()[:1_000]]
    assert mismatches(texts, tokenizer(texts), graph_ids(graph, texts)) == []


def test_torture_agrees(both):
    tokenizer, graph = both
    texts = [*TORTURE, *BLANKS, "x" * 3_000, "ab" * 2_000]
    assert mismatches(texts, tokenizer(texts), graph_ids(graph, texts)) == []


def test_every_character_of_unicode_agrees(form):
    tokenizer, graph = form("gpt2")
    codes = [*range(1, 0xD800), *range(0xE000, 0x40000), *range(0x40000, 0x110000, 61)]
    texts = []
    for first in range(0, len(codes), 64):
        some = [chr(code) for code in codes[first : first + 64]]
        texts.append(" ".join(some) + " " + "".join(f"a{c}1{c}!{c}  " for c in some))
    assert mismatches(texts, tokenizer(texts), graph_ids(graph, texts)) == []


def test_random_texts_agree(both):
    tokenizer, graph = both
    draw = random.Random(0)
    sources = [
        tokenizer.vocab,
        [chr(code) for code in range(1, 0x250)],
        list(" \n\t.,!?-'\"aslve10"),
        [token for token in tokenizer.special_tokens.values() if token],
        ["<|", "|>", "<ma", "\ue000", "\ue001", "ÿ", "\ufffd"],
    ]
    texts = []
    for _ in range(3_000):
        mixed = draw.choices(sources, k=draw.randint(1, 3))
        length = draw.choice([3, 10, 40, 150])
        texts.append("".join(draw.choice(draw.choice(mixed)) for _ in range(length)))
    assert mismatches(texts, tokenizer(texts), graph_ids(graph, texts)) == []


def test_bytes_that_are_not_utf_8_read_as_replacement_characters(both):
    tokenizer, graph = both
    texts = [b"\xff", b"caf\xe9 \xe2\x82 x", b"\xed\xa0\x80", b"a\xf0\x9f\x98b \xc0\xaf", b"\x80"]
    expected = tokenizer([text.decode("utf-8", "replace") for text in texts])
    assert graph_ids(graph, texts) == expected


def test_empty_texts_and_batches_have_no_ids(both):
    _, graph = both
    assert graph_ids(graph, ["", "a", ""])[::2] == [[], []]
    assert graph_ids(graph, []) == []


def test_a_space_before_the_text_is_added_where_rust_adds_one(form):
    rust = tokenizers.Tokenizer.from_str(form("roberta-base")[0].rust.to_str())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer = Tokenizer(rust)
    texts = ["a", " a", "", "\na", "a<s>b <mask> c", *TORTURE]
    assert (
        mismatches(texts, tokenizer(texts), graph_ids(compiled(in_graph(tokenizer)), texts)) == []
    )


def test_a_mask_takes_the_blanks_before_it(form):
    tokenizer, graph = form("roberta-base")
    texts = ["a <mask>", "a \n\u3000<mask><mask> b", " <mask>", "<mask", "x </s> <mask>"]
    assert graph_ids(graph, texts) == tokenizer(texts)


def test_a_saved_model_needs_only_tensorflow_and_tensorflow_text(form, tmp_path):
    tokenizer, _ = form("roberta-base")
    texts = [*TORTURE, *banking()[:100], "a <mask>."]
    found = served_elsewhere(in_graph(tokenizer), texts, tmp_path)
    assert mismatches(texts, tokenizer(texts), found) == []


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
    message = "byte-level BPE of GPT-2's words and no normaliser; this one has another form"
    tokenizer = small()
    tokenizer.rust.normalizer = normalizers.NFC()
    with pytest.raises(InputError, match=message):
        in_graph(tokenizer)
    tokenizer = small()
    tokenizer.rust.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    with pytest.raises(InputError, match=message):
        in_graph(tokenizer)


def test_dropout_is_told():
    with pytest.raises(InputError, match="BPE without dropout, prefix and suffix"):
        in_graph(small(dropout=0.1))
