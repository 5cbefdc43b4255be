"""The tokenizer in the graph against transformers and the eager one: equal ids, always."""

import functools
import json
import random

import pytest
import tensorflow as tf
import tensorflow_text as tf_text
import tokenizers
from in_graph_cases import Graph, assert_equal, assert_ids
from test_tokenizer import (
    TINY,
    TORTURE,
    banking,
    machado,
    mismatches,
    transformers_ids,
    write_folder,
)
from tokenizers import models, normalizers, pre_tokenizers
from transformers import BertTokenizerFast

from kbert.errors import InputError
from kbert.text.in_graph import in_graph
from kbert.text.tokenizer import Tokenizer

SETTINGS = {
    "uncased": ("bert-base-uncased", {}),
    "cased": ("bertimbau-cased", {"do_lower_case": False}),
    "accents kept": ("bert-base-uncased", {"strip_accents": False}),
    "accents stripped from cased": (
        "bert-base-cased",
        {"do_lower_case": False, "strip_accents": True},
    ),
    "chinese": ("bert-base-chinese", {}),
    "chinese in words": ("bert-base-chinese", {"tokenize_chinese_chars": False}),
}


def tiny(folder, more=(), **config) -> Tokenizer:
    return Tokenizer.from_folder(write_folder(folder, [*TINY, *more], tokenizer_config=config))


@pytest.fixture(scope="module")
def form(graph_like, data_dir, tmp_path_factory):
    """Of a setting: a `Graph`, only to read, and the folder of its tokenizer."""

    @functools.cache
    def build(setting):
        name, config = SETTINGS[setting]
        path = data_dir / "vocab" / name / "vocab.txt"
        tokens = path.read_text(encoding="utf-8").split("\n")[:-1]
        folder = tmp_path_factory.mktemp("vocabulary")
        write_folder(folder, tokens, tokenizer_config=config)
        return graph_like(Tokenizer.from_folder(folder)), folder

    return build


@pytest.fixture(params=SETTINGS)
def graph(request, form):
    return form(request.param)[0]


@pytest.fixture
def uncased(form):
    return form("uncased")[0]


@pytest.mark.parametrize("setting", SETTINGS)
def test_torture_agrees_with_transformers(setting, form):
    graph, folder = form(setting)
    expected = transformers_ids(BertTokenizerFast.from_pretrained(folder), TORTURE)
    assert mismatches(TORTURE, expected, graph.ids(TORTURE)) == []


def test_every_character_of_unicode_agrees(graph):
    # Planes 4 to 16 are unassigned or private, but for the tags and selectors of plane 14.
    codes = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200)]
    codes += range(0x40000, 0x110000, 61)
    characters = [chr(code) for code in codes]
    texts = []
    for first in range(0, len(characters), 64):
        some = characters[first : first + 64]
        texts.append(" ".join(some) + " " + " ".join(f"a{character}e" for character in some))
    assert_ids(graph, texts)


def test_random_texts_agree(graph):
    tokenizer, draw = graph.tokenizer, random.Random(0)
    sources = [
        tokenizer.vocab,
        [chr(code) for code in range(1, 0x250)],
        [chr(code) for code in range(0x300, 0x370)] + list("aeiou "),
        sorted(set("".join(tokenizer.vocab))),
        list(" .,!?-'\"#[]()$"),
        [*tokenizer.special_tokens.values(), "[sep]", "[SEP", "]", "##", "\ue000", "\ue001"],
    ]
    texts = []
    for _ in range(3_000):
        mixed = draw.choices(sources, k=draw.randint(1, 3))
        length = draw.choice([3, 10, 40, 150])
        texts.append("".join(draw.choice(draw.choice(mixed)) for _ in range(length)))
    assert_ids(graph, texts)


def test_bytes_that_are_not_utf_8_read_as_replacement_characters(graph):
    tokenizer, draw = graph.tokenizer, random.Random(0)
    odd = [
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xff",
        b"\xc0\xaf",
        b"\xf4\x90",
        b"\x80",
    ]
    texts = [
        *odd,
        b"caf\xe9 [SEP\xff] \xfe[SEP]\xe2\x82",
        b"\xf8\x88\x80\x80\x80x",
        b"\xc3(\xa0\xa1",
    ]
    for _ in range(3_000):
        text = "".join(draw.choice(tokenizer.vocab) for _ in range(5)).encode()
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(text) + 1)
            some = draw.choice(odd) if draw.random() < 0.5 else draw.randbytes(draw.randint(1, 4))
            text = text[:at] + some + text[at + draw.randint(0, 1) :]
        texts.append(text)
    expected = tokenizer([text.decode("utf-8", "replace") for text in texts])
    assert mismatches(texts, expected, graph.ids(texts)) == []


def test_ids_of_squad_questions_are_the_published_ones(uncased, data_dir):
    goldens = data_dir / "tokenizer_goldens"
    questions = json.loads((goldens / "question_tokens.json").read_text(encoding="utf-8"))
    ids = json.loads((goldens / "tokenized_questions.json").read_text(encoding="utf-8"))
    texts = [question["original"] for question in questions]
    assert len(texts) == 10_570
    assert mismatches(texts, ids, uncased.ids(texts)) == []


def test_banking77_agrees_with_transformers(minilm_dir):
    texts = banking()
    expected = transformers_ids(BertTokenizerFast.from_pretrained(minilm_dir), texts)
    graph = Graph(Tokenizer.from_folder(minilm_dir))
    assert mismatches(texts, expected, graph.ids(texts)) == []


@pytest.mark.parametrize("setting", ["cased", "uncased"])
def test_machado_agrees_with_transformers(setting, form, data_dir):
    (graph, folder), texts = form(setting), machado(data_dir)
    expected = transformers_ids(BertTokenizerFast.from_pretrained(folder), texts)
    assert mismatches(texts, expected, graph.ids(texts)) == []
    whole = ["\n".join(texts[start : start + 500]) for start in range(0, 20_000, 500)]
    joined = [sum(expected[start : start + 500], []) for start in range(0, 20_000, 500)]
    assert mismatches(whole, joined, graph.ids(whole)) == []


def test_a_large_vocabulary_with_every_script_agrees(graph_of):
    graph = graph_of("mbert-cased")
    vocab = graph.tokenizer.vocab
    texts = [" ".join(vocab[start : start + 50]) for start in range(0, 119_547, 50)]
    assert_ids(graph, [*TORTURE, *texts])


def test_ids_are_a_ragged_int32(uncased):
    ids = uncased.module(tf.constant(["card not working", "", "help"]))
    assert isinstance(ids, tf.RaggedTensor)
    assert ids.dtype == tf.int32 and ids.shape.as_list() == [3, None]
    assert ids.row_lengths().numpy().tolist() == [3, 0, 1]


def test_blank_texts_and_empty_batches_have_no_ids(uncased):
    assert uncased.ids(["", "  \t", "\u200b\x00", "\ufffd"]) == [[], [], [], []]
    assert uncased.ids([]) == []


def test_the_limit_of_a_word_is_in_characters(tmp_path):
    tokenizer = tiny(tmp_path, ["ж", "##ж", "𝐱", "##𝐱"], do_lower_case=False)
    graph = Graph(tokenizer)
    for character, first in (("ж", 12), ("𝐱", 14)):
        texts = [character * 100, character * 101, f"{character * 100}.{character * 101}!"]
        hundred = [first] + [first + 1] * 99
        expected = [hundred, [1], [*hundred, 9, 1, 10]]
        assert graph.ids(texts) == expected == tokenizer(texts)


def test_a_special_token_in_one_text_leaves_the_others_alone(uncased):
    plain = ["card \ue000 lost", "\ue004x", "a\U000f0000b"]
    mixed = [*plain, "x[SEP]y", "[MASK]"]
    assert uncased.ids(plain) == uncased.ids(mixed)[:3] == uncased.tokenizer(plain)
    assert uncased.ids(mixed)[3:] == [[1060, 102, 1061], [103]]


def test_case_and_compatibility_characters_are_not_folded_as_tensorflow_text_folds_them(uncased):
    tokenizer = uncased.tokenizer
    texts = ["1º", "…", "ß", "ﬁ", "x²"]
    folded = tf_text.FastBertTokenizer(tokenizer.vocab, lower_case_nfd_strip_accents=True)
    found = uncased.ids(texts)
    assert found == tokenizer(texts)
    for text, ids in zip(texts, found, strict=True):
        assert ids != folded.tokenize([text]).to_list()[0]


def test_pieces_that_no_word_can_be_are_never_found(tmp_path):
    odd = [
        "",
        "##",
        " ",
        "a a",
        "a.e",
        "...",
        "##.",
        "\u2028",
        "e\u3000e",
        "a",
        "##a",
        "\x01",
        "x" * 300,
    ]
    tokenizer = tiny(tmp_path, odd, do_lower_case=False)
    texts = [
        "a a",
        "a.e",
        "...",
        "a. e",
        "## #",
        "\u2028a",
        "e\u3000e",
        "\x01",
        "x" * 300,
        "ea e a",
    ]
    assert_ids(Graph(tokenizer), texts)


def test_a_vocabulary_may_hold_punctuation_of_another_edition_and_private_characters(tmp_path):
    # Punctuation to ICU and not to Rust, the other way round, private use, CJK left in words.
    odd = [
        "\u2e4e",
        "x\u2e4e",
        "##\u2e4ey",
        "\u166d",
        "\ue000",
        "##\ue001",
        "漢",
        "漢字",
        "##字",
        "\u2014",
    ]
    for clean in (True, False):
        rust = tokenizers.Tokenizer.from_str(
            tiny(tmp_path, odd, do_lower_case=False, tokenize_chinese_chars=False).rust.to_str()
        )
        rust.normalizer = normalizers.BertNormalizer(
            clean_text=clean, handle_chinese_chars=False, strip_accents=False, lowercase=False
        )
        tokenizer = Tokenizer(rust)
        texts = [
            "x\u2e4ey x\u2e4e \u2e4e\u2e4ey",
            "x\u166dx \u166d",
            "\ue000\ue001 \ue000 \ue002 \ue003[SEP]",
            "漢字 漢 漢漢 字",
            "a\u2014e \x00e \ufffd e\x07e",
        ]
        graph = Graph(tokenizer)
        assert_ids(graph, texts)
        broken = [b"e\xff e\xe2\x82 \xff"]
        expected = tokenizer([text.decode("utf-8", "replace") for text in broken])
        assert graph.ids(broken) == expected


def test_a_vocabulary_without_a_mask_or_suffixes_works(tmp_path):
    tokens = [token for token in TINY if token != "[MASK]" and not token.startswith("##")]
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, tokens))
    texts = ["Uma[SEP] sente [MASK]", "e!uma"]
    assert_ids(Graph(tokenizer), texts)


def test_added_special_tokens_are_found_the_longest_first(tmp_path):
    names = ["<e>", "<e>!", "a|b", "\\1"]
    tokenizer = tiny(tmp_path, extra_special_tokens=names)
    texts = ["uma<e>!e <e>uma", "a|b a b", "\\1 \\\\1", "<E>"]
    found = Graph(tokenizer).ids(texts)
    assert found == tokenizer(texts)
    assert found[0] == [5, 13, 11, 12, 5]


def test_nul_beside_a_special_token_is_dropped_as_rust_drops_it(graph):
    assert_equal(graph, ["a\0b", "\0", "a[SEP]b", "\0[SEP]\0 [MASK]\0a", "[SE\0P]", ""])


# Offsets


def test_offsets_agree(graph, data_dir):
    texts = [*TORTURE, *machado(data_dir)[:1_000], *banking()[:500]]
    assert_equal(graph, texts)


def test_offsets_of_random_texts_agree(graph):
    tokenizer, draw = graph.tokenizer, random.Random(1)
    sources = [
        tokenizer.vocab,
        [chr(code) for code in range(1, 0x250)],
        [chr(code) for code in range(0x300, 0x370)] + list("aeiou "),
        list(" .,!?-'\"#[]()$"),
        [*tokenizer.special_tokens.values(), "\ue000", "\ue001", "x" * 101],
    ]
    texts = []
    for _ in range(1_000):
        mixed = draw.choices(sources, k=draw.randint(1, 3))
        texts.append("".join(draw.choice(draw.choice(mixed)) for _ in range(draw.choice([3, 40]))))
    assert_equal(graph, texts)


def test_offsets_count_characters_of_the_text_as_it_is(uncased):
    text = "Ca\u0301fe\u0301 \U0001f642 [SEP]" + "x" * 101
    offsets, none = uncased.with_offsets([text, ""])
    assert [(start, end) for _, start, end in offsets] == [
        (0, 5),
        (7, 8),
        (9, 14),
        (14, 115),
    ]
    assert none == []


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rust: setattr(rust, "normalizer", normalizers.Lowercase()),
            "serves tokenizers with a BertNormalizer; this one has Lowercase. Turn its texts",
        ),
        (lambda rust: setattr(rust, "normalizer", None), "a BertNormalizer; this one has None"),
        (
            lambda rust: setattr(rust, "pre_tokenizer", pre_tokenizers.Whitespace()),
            "a BertPreTokenizer; this one has Whitespace",
        ),
        (
            lambda rust: setattr(rust.model, "continuing_subword_prefix", "@@"),
            "the continuing_subword_prefix '##'; this one has @@",
        ),
        (
            lambda rust: setattr(rust.model, "max_input_chars_per_word", 1000),
            "max_input_chars_per_word under 1000; this one has 1000",
        ),
        (
            lambda rust: rust.add_tokens([tokenizers.AddedToken("<e>", lstrip=True)]),
            r"added tokens without single_word, .*; this one has \['<e>'\]",
        ),
        (
            lambda rust: rust.add_tokens([tokenizers.AddedToken("<e>", normalized=True)]),
            r"rstrip, normalized; this one has \['<e>'\]",
        ),
    ],
)
def test_a_part_without_a_form_in_the_graph_is_told(change, message):
    vocab = {token: token_id for token_id, token in enumerate(TINY)}
    rust = tokenizers.Tokenizer(models.WordPiece(vocab))
    rust.normalizer = normalizers.BertNormalizer()
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    change(rust)
    with pytest.raises(InputError, match=message):
        in_graph(Tokenizer(rust))


def test_a_piece_too_long_for_tensorflow_text_is_told(tmp_path):
    with pytest.raises(InputError, match=r"pieces of at most 256 bytes; this one has \['กกก"):
        in_graph(tiny(tmp_path, ["ก" * 90]))
