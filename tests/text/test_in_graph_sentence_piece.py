"""SentencePiece's tokenizers in the graph against the eager ones: equal ids, equal offsets."""

import json
import random

import pytest
import tensorflow as tf
import tokenizers
from in_graph_cases import Graph, assert_equal, assert_ids
from test_sentencepiece import train, write_json
from test_sentencepiece_families import DEBERTA_FILES
from test_tokenizer import TORTURE, banking, machado
from tokenizers import Regex, models, normalizers, pre_tokenizers

from kbert.errors import InputError
from kbert.text.in_graph import in_graph
from kbert.text.in_graph.unigram import Unigram
from kbert.text.tokenizer import Tokenizer

PUBLISHED = ("albert", "t5-small", "xlnet")
LEARNED = ("learned-unigram", "unigram without accents", "learned-bpe", "bpe without accents")


@pytest.fixture(params=[*PUBLISHED, *LEARNED])
def graph(request, graph_of):
    return graph_of(request.param)


def lines(data_dir, number=400):
    return [*machado(data_dir)[:number], *banking()[:number]]


def test_real_lines_agree(graph, data_dir):
    assert_equal(graph, lines(data_dir))


def test_torture_agrees(graph):
    assert_ids(graph, TORTURE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_offsets_of_torture_agree(name, graph_of):
    assert_equal(graph_of(name), TORTURE)


@pytest.mark.parametrize("name", PUBLISHED)
def test_random_texts_agree(name, graph_of):
    graph, draw = graph_of(name), random.Random(0)
    special = list(graph.tokenizer.special_tokens.values())
    sources = [
        [piece for piece in graph.tokenizer.vocab if piece not in special],
        [chr(code) for code in range(32, 0x250) if not 0x7F <= code < 0xA0],
        [chr(code) for code in range(0x3000, 0xD7A4)],
        list(" .,!?-'\"`"),
        [token for token in special if token],
    ]
    texts = []
    for _ in range(1_000):
        mixed = draw.choices(sources, k=draw.randint(1, 3))
        length = draw.choice([3, 10, 40])
        texts.append("".join(draw.choice(draw.choice(mixed)) for _ in range(length)))
    assert_equal(graph, texts)


@pytest.mark.parametrize("name", PUBLISHED)
def test_words_that_repeat_themselves_are_cut_as_rust_rounds(name, graph_of):
    words = [c * n for c in "!.-*=_#aeh?" for n in range(1, 120)]
    words += [c * n for c in ("ha", "!?", "ab", "kkk", "?!!") for n in range(1, 60)]
    assert_equal(graph_of(name), words)


def test_pieces_that_differ_in_the_eighth_digit_are_told_apart(graph_of):
    graph = graph_of("albert")
    (found,) = graph.ids(["habit and habitual"])
    assert [found] == graph.tokenizer(["habit and habitual"])
    assert [graph.tokenizer.vocab[i] for i in found[:3]] == ["▁", "hab", "it"]


def test_bytes_that_are_not_utf_8_read_as_replacement_characters(graph):
    texts = [b"\xff", b"caf\xe9 \xe2\x82 x", b"\xed\xa0\x80", b"a\xf0\x9f\x98b \xc0\xaf", b"\x80"]
    expected = graph.tokenizer([text.decode("utf-8", "replace") for text in texts])
    assert graph.ids(texts) == expected


def test_nul_beside_a_special_token_is_read_as_rust_reads_it(graph):
    name = graph.tokenizer.special_tokens["eos_token"]
    broken = f"{name[:2]}\0{name[2:]}"
    assert_equal(graph, ["a\0b", "\0", f"a{name}b", f"\0{name}\0 {name}\0a", broken, ""])


@pytest.mark.parametrize("name", ["albert", "xlnet"])
def test_a_mask_covers_the_white_space_before_it_and_nothing_else(name, graph_of):
    graph = graph_of(name)
    mask = graph.tokenizer.special_tokens["mask_token"]
    texts = [
        "a \n\u3000{0}b{0} {0}",
        " {0}",
        "``{0}",
        ",\u2581 {0}",
        "a\ufffd{0}",
        "e\u0301\x1c{0}",
    ]
    assert_equal(graph, [text.format(mask) for text in texts])


def test_a_character_that_becomes_two_is_covered_by_both(graph_of):
    graph = graph_of("learned-bpe")
    assert_equal(graph, ["X\u0958Y \u0958"])
    assert [(start, end) for _, start, end in graph.with_offsets(["x\u0958y"])[0]][1] == (1, 2)


def test_blank_texts_and_empty_batches_have_no_ids(graph):
    assert graph.ids(["", "  \t", "\n"]) == [[], [], []]
    assert graph.ids([]) == graph.with_offsets([]) == []
    assert graph.with_offsets(["", " \t", ""]) == [[], [], []]


def test_ids_and_offsets_are_ragged_int32(graph_of):
    module = graph_of("albert").module
    for part in (module(["a b", ""]), *module.with_offsets(["a b", ""])):
        assert isinstance(part, tf.RaggedTensor)
        assert part.dtype == tf.int32 and part.shape.as_list() == [2, None]


def test_the_best_way_through_a_word_is_found_by_hand():
    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -2.0), ("ab", -2.5), ("ba", -3.5)]
    words = tf.constant(["ab", "aab", "aba", "acb", "ccb", "a" * 50])
    ids, ends = Unigram(pieces, 0, {"!": 7}).tokenize(words)
    # aba: ab a is 3.5, a ba is 4.5, a b a is 4.
    assert ids.to_list() == [[3], [1, 3], [3, 1], [1, 0, 2], [0, 2], [1] * 50]
    assert ends.to_list()[:5] == [[2], [1, 3], [2, 3], [1, 2, 3], [2, 3]]
    assert Unigram(pieces, 0, {"!": 7}).tokenize(tf.constant(["!"]))[0].to_list() == [[7]]


def test_of_equal_ways_the_first_is_kept():
    pieces = [("<unk>", -9.0), ("a", -1.0), ("aa", -2.0)]
    ids, _ = Unigram(pieces, 0, {}).tokenize(tf.constant(["aaa"]))
    rust = models.Unigram(pieces, 0)
    assert ids.to_list() == [[token.id for token in rust.tokenize("aaa")]]


# Errors


def small(**parts) -> Tokenizer:
    pieces = [("<unk>", 0.0), ("▁", -1.0), ("a", -2.0), ("▁a", -2.5)]
    rust = tokenizers.Tokenizer(models.Unigram(pieces, 0))
    rust.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    for name, part in parts.items():
        setattr(rust, name, part)
    return Tokenizer(rust)


FAIRSEQ = {"unk_id": 0, "bos_id": 1, "eos_id": 2}
FILES = {
    "XLM-R": ("sentencepiece.bpe.model", FAIRSEQ, "xlm-roberta"),
    "CamemBERT": ("sentencepiece.bpe.model", FAIRSEQ, "camembert"),
    "DeBERTa": ("spm.model", DEBERTA_FILES["none inside"], "deberta-v2"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_model_file_of_another_family_agrees(name, data_dir, tmp_path):
    file, settings, model_type = FILES[name]
    train(tmp_path / file, **settings)
    write_json(tmp_path, config={"model_type": model_type})
    tokenizer = Tokenizer.from_folder(tmp_path)
    special = [f"a {token}b" for token in tokenizer.special_tokens.values() if token]
    assert_equal(Graph(tokenizer), [*TORTURE, *special, *lines(data_dir, 100)])


def test_a_small_tokenizer_agrees():
    assert_equal(Graph(small()), ["a a  a", " aa b ", "", "a\na", "b<unk> a"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"normalizer": normalizers.Replace(Regex("[0-9]+"), "0")},
            "normaliser that goes character by character; this one has .*0-9.*signature `tokens`",
        ),
        ({"normalizer": normalizers.NFC()}, "joins blanks and strips them; this one has one that"),
        ({"pre_tokenizer": None}, "a Metaspace pre-tokenizer; this one has none"),
        (
            {"pre_tokenizer": pre_tokenizers.Metaspace(split=False)},
            "a Metaspace that cuts at ▁, and prepends it always or never",
        ),
        (
            {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first")},
            "a Metaspace that cuts at ▁, and prepends it always or never",
        ),
        (
            {
                "pre_tokenizer": pre_tokenizers.Sequence(
                    [
                        pre_tokenizers.WhitespaceSplit(),
                        pre_tokenizers.Metaspace(prepend_scheme="never"),
                    ]
                )
            },
            "a Metaspace that prepends ▁ to whole words; this one has one that never does",
        ),
    ],
)
def test_a_part_without_a_form_in_the_graph_is_told(parts, message):
    with pytest.raises(InputError, match=message):
        in_graph(small(**parts))


def test_bytes_in_place_of_an_unknown_token_are_told():
    parts = json.loads(small().rust.to_str())
    parts["model"]["byte_fallback"] = True
    rust = tokenizers.Tokenizer.from_str(json.dumps(parts))
    with pytest.raises(InputError, match="an unknown token; this one has byte_fallback in its"):
        in_graph(Tokenizer(rust))


def test_a_special_token_that_takes_what_follows_is_told():
    tokenizer = small()
    tokenizer.rust.add_tokens([tokenizers.AddedToken("<e>", rstrip=True)])
    with pytest.raises(InputError, match=r"without single_word, rstrip; this one has \['<e>'\]"):
        in_graph(tokenizer)
