"""Words of texts and their tokens, in Python and in the graph."""

import numpy as np
import pytest
import tensorflow as tf

from kbert.errors import InputError
from kbert.inputs import words, words_in_graph
from kbert.inputs.tags import entities
from kbert.inputs.words import sentences
from kbert.text.in_graph import in_graph
from kbert.text.tokenizer import Tokenizer

# WordPiece with accents and without; SentencePiece's three; bytes, which the graph tells no words.
NAMES = ["bertimbau-cased", "bert-base-uncased", "albert", "xlnet", "t5-small"]
TEXT = "Barack  Obama nasceu no Havaí, U.S.-based «São Paulo»."
APART = ["Barack", "Obama", "nasceu", "no", "Havaí", ",", "U", ".", "S", ".", "-", "based"]
APART += ["«", "São", "Paulo", "»", "."]
STRANGE = ["", " \n", "猫 cat 猫x", "x\u200by z", "naïve…  “quoted” words!", "a\u00a0b", "[SEP] ok"]


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request, data_dir):
    return Tokenizer.from_folder(data_dir / "vocab" / request.param)


def covered(sentence):
    pairs = zip(sentence.starts, sentence.ends, strict=True)
    return [sentence.text[start:end] for start, end in pairs]


def test_a_text_falls_into_the_words_that_berts_pre_tokenizer_makes(tokenizer):
    (sentence,) = sentences([TEXT], tokenizer)
    assert covered(sentence) == APART
    assert not sentence.given
    pieces = [tokenizer.vocab[sentence.ids[token]] for token in sentence.first]
    assert not any(piece.startswith("##") for piece in pieces)


@pytest.mark.parametrize("name", ["gpt2", "roberta-base"])
def test_tokens_of_bytes_fall_into_words_without_the_blank_before(data_dir, name):
    tokenizer = Tokenizer.from_folder(data_dir / "vocab" / name)
    (sentence,) = sentences([TEXT], tokenizer)
    # `.-` is one token to them.
    assert covered(sentence) == [*APART[:9], ".-", *APART[11:]]


def test_given_words_stay_as_they_are(tokenizer):
    given = ["Barack", "Obama,", "U.S.", "\u200b", "São Paulo"]
    (sentence,) = sentences([given], tokenizer)
    assert sentence.given
    assert covered(sentence) == given
    assert sentence.text == " ".join(given)
    assert sentence.words.tolist() == [0, 1, 2, 4]  # the cleaner leaves nothing of the fourth
    again = [tokenizer.encode([[word]])[0].ids for word in given]
    assert sentence.ids == sum(again, [])
    lengths = np.cumsum([0, *map(len, again)])
    assert sentence.first.tolist() == lengths[[0, 1, 2, 4]].tolist()


def test_texts_and_words_may_be_asked_together(tokenizer):
    given = ["Barack", "Obama"]
    mixed = sentences(["Barack Obama", given, "", [], given], tokenizer)
    assert [sentence.given for sentence in mixed] == [False, True, False, True, True]
    assert [len(sentence) for sentence in mixed] == [2, 2, 0, 0, 2]
    assert covered(mixed[0]) == covered(mixed[4]) == given


def test_an_entity_begins_with_its_first_word_that_has_a_token(tokenizer):
    (sentence,) = sentences([["a", "\u200b", "Obama", "\u200b"]], tokenizer)
    tags = words.tags_with_tokens(sentence, ["O", "B-PER", "I-PER", "I-PER"], "record 3")
    assert tags == ["O", "B-PER"]
    with pytest.raises(InputError, match=r"record 3: no token covers the entity '\\u200b' \(PER\)"):
        words.tags_with_tokens(sentence, ["O", "O", "B-LOC", "B-PER"], "record 3")


# In the graph


@pytest.mark.parametrize("name", ["bertimbau-cased", "albert"])
def test_the_graph_finds_the_same_words(data_dir, name):
    tokenizer = Tokenizer.from_folder(data_dir / "vocab" / name)
    texts = [TEXT, *STRANGE, "Mr. O'Neil's 3,5% (x)y"]
    encode = in_graph(tokenizer)
    find = words_in_graph.word_finder(tokenizer)
    found = tf.function(lambda x: find(x, *encode.with_offsets(x)))(tf.constant(texts))
    expected = sentences(texts, tokenizer)
    numbers = np.repeat(np.arange(len(texts)), [len(sentence) for sentence in expected])
    np.testing.assert_array_equal(found.text, numbers)
    for field, name in ((found.token, "first"), (found.start, "starts"), (found.end, "ends")):
        of_texts = [getattr(sentence, name) for sentence in expected]
        np.testing.assert_array_equal(field, np.concatenate(of_texts), name)
    nothing = find(tf.constant([], tf.string), *encode.with_offsets(tf.constant([], tf.string)))
    assert [field.shape[0] for field in nothing] == [0, 0, 0, 0]


def test_the_graph_reads_entities_as_conlleval_does():
    labels = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC"))]
    draw = np.random.default_rng(3)
    lengths = [13, 0, 1, 7, 0, 97]
    text = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    chosen = draw.integers(-1, len(labels), len(text)).astype(np.int32)
    scores = draw.random(len(text)).astype(np.float32)
    start = (3 * np.arange(len(text))).astype(np.int32)
    given = words_in_graph.Words(*map(tf.constant, (text, start, start, start + 2)))
    found = words_in_graph.entities_in_graph(labels, given, chosen, scores)
    expected = []
    for number in range(len(lengths)):
        of_text = np.flatnonzero(text == number)
        tags = [labels[label] if label >= 0 else "O" for label in chosen[of_text]]
        for kind, first, end in entities(tags):
            inside = of_text[first:end]
            mean = scores[inside].mean()
            expected.append((number, kind, start[inside[0]], start[inside[-1]] + 2, mean))
    assert len(expected) > 50
    numbers, kinds, starts, ends, means = zip(*expected, strict=True)
    np.testing.assert_array_equal(found.text, numbers)
    assert [kind.decode() for kind in found.type.numpy()] == list(kinds)
    np.testing.assert_array_equal(found.start, starts)
    np.testing.assert_array_equal(found.end, ends)
    np.testing.assert_allclose(found.score, means, rtol=1e-6)


def test_entities_become_rectangles():
    found = words_in_graph.Entities(
        tf.constant([0, 0, 2]), tf.constant(["PER", "LOC", "LOC"]),
        tf.constant([0, 7, 2]), tf.constant([5, 12, 7]), tf.constant([0.5, 0.25, 1.0]),
    )  # fmt: skip
    arrays = words_in_graph.rectangular(found, tf.constant(["Obama, Havaí", "", "ö Paris"]))
    assert {key: x.numpy().tolist() for key, x in arrays.items()} == {
        "type": [[b"PER", b"LOC"], [b"", b""], [b"LOC", b""]],
        "text": [[b"Obama", "Havaí".encode()], [b"", b""], [b"Paris", b""]],
        "start": [[0, 7], [0, 0], [2, 0]],
        "end": [[5, 12], [0, 0], [7, 0]],
        "score": [[0.5, 0.25], [0.0, 0.0], [1.0, 0.0]],
        "count": [2, 0, 1],
    }
