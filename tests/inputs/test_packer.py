"""Rows compared with the lectures' example, Hugging Face's tokenizer, and the graph's own form."""

import os
from itertools import product

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.inputs.packer import Packer, longest_first
from kbert.text.form import Form

BERTAU = {"form": Form((2,), (3,), (3,)), "pad_id": 0}
UMA_SENTENCA, E_OUTRA = [335, 12286, 155, 951], [37, 929]
ROBERTA = Form((0,), (2, 2), (2,), segments=(0, 0))
FORMS = {
    "bert": Form((5,), (7,), (7,)),
    "roberta": Form((5,), (7, 7), (7,), segments=(0, 0)),
    "t5": Form((), (7,), (7,), segments=(0, 0)),
    "xlnet": Form((), (7,), (7, 5), last_segment=2),
    "gpt2": Form(),
}


def packer_of(form, **settings):
    return Packer(FORMS[form], **{"pad_id": 1, "max_length": 19} | settings)


def test_the_lectures_pair_is_packed_and_padded_as_there():
    packer = Packer(**BERTAU, max_length=12)
    token_ids, segment_ids = packer.pack([*UMA_SENTENCA, 18], [*E_OUTRA, 5])
    assert token_ids == [2, 335, 12286, 155, 951, 18, 3, 37, 929, 5, 3]
    assert segment_ids == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    batch = packer.pad([(token_ids, segment_ids)], 12)
    assert batch["token_ids"].tolist() == [[2, 335, 12286, 155, 951, 18, 3, 37, 929, 5, 3, 0]]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0]]
    assert batch["padding_mask"].astype(int).tolist() == [[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]]
    positions = np.indices(batch["token_ids"].shape)[1]
    assert positions.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]


def test_the_lectures_single_sentences_make_one_batch():
    packer = Packer(**BERTAU, max_length=10)
    batch = packer.pad([packer.pack(UMA_SENTENCA), packer.pack(E_OUTRA)], 10)
    assert batch["token_ids"].tolist() == [
        [2, 335, 12286, 155, 951, 3, 0, 0, 0, 0],
        [2, 37, 929, 3, 0, 0, 0, 0, 0, 0],
    ]
    assert batch["padding_mask"].sum(axis=1).tolist() == [6, 4]
    assert not batch["segment_ids"].any()


def test_a_batch_has_the_types_that_models_take():
    batch = Packer(**BERTAU, max_length=13).pad([([2, 3], [0, 0])] * 3, 7)
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "token_ids": ((3, 7), "int32"),
        "segment_ids": ((3, 7), "int32"),
        "padding_mask": ((3, 7), "bool"),
    }


def test_a_real_token_with_the_id_of_padding_is_not_masked():
    packer = Packer(**BERTAU, max_length=13)
    assert packer.pad([packer.pack([0, 0])], 5)["padding_mask"].tolist() == [[True] * 4 + [False]]


def test_padding_is_written_with_the_vocabularys_own_id():
    packer = Packer(ROBERTA, pad_id=1, max_length=13, with_segments=False)
    batch = packer.pad([packer.pack([7]), packer.pack([])], 5)
    assert batch["token_ids"].tolist() == [[0, 7, 2, 1, 1], [0, 2, 1, 1, 1]]
    assert set(batch) == {"token_ids", "padding_mask"}


def test_no_rows_make_an_empty_batch():
    batch = Packer(**BERTAU, max_length=13).pad([], 7)
    assert {array.shape for array in batch.values()} == {(0, 7)}


@pytest.mark.parametrize("max_length", [2, 3, 5, 11])
def test_a_text_is_truncated_before_its_sep(max_length):
    token_ids, segment_ids = Packer(**BERTAU, max_length=max_length).pack(range(101, 113))
    assert token_ids == [2, *range(101, 101 + max_length - 2), 3]
    assert segment_ids == [0] * max_length


def test_an_empty_text_is_cls_and_sep():
    packer = Packer(**BERTAU, max_length=13)
    assert packer.pack([]) == ([2, 3], [0, 0])
    assert packer.pack([], []) == ([2, 3, 3], [0, 0, 1])
    assert packer.pack([], [7]) == ([2, 3, 7, 3], [0, 0, 1, 1])


@pytest.mark.parametrize("max_length", [3, 4, 5, 8, 13, 17, 31])
def test_pairs_are_truncated_as_hugging_face_truncates_them(minilm_dir, max_length):
    from transformers import BertTokenizerFast

    theirs = BertTokenizerFast.from_pretrained(minilm_dir)
    packer = Packer(Form((101,), (102,), (102,)), 0, max_length)
    texts = [" ".join("abcdefghijk"[:length]) for length in range(12)]
    pairs = [(text, pair) for text in texts for pair in texts]
    settings = {"truncation": "longest_first", "max_length": max_length}
    expected = theirs([text for text, _ in pairs], [pair for _, pair in pairs], **settings)
    ids = {text: theirs(text, add_special_tokens=False)["input_ids"] for text in texts}
    for number, (text, pair) in enumerate(pairs):
        token_ids, segment_ids = packer.pack(ids[text], ids[pair])
        assert token_ids == expected["input_ids"][number], (text, pair)
        assert segment_ids == expected["token_type_ids"][number], (text, pair)


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("name", ["roberta-base", "t5-small"])
def test_every_truncation_is_that_of_transformers(data_dir, name, truncation):
    import transformers

    kind = {"roberta-base": "RobertaTokenizer", "t5-small": "T5Tokenizer"}[name]
    theirs = getattr(transformers, kind).from_pretrained(data_dir / "vocab" / name)
    texts = [" ".join("abcdefghijk"[:length]) for length in (0, 1, 5, 11)]
    ids = {text: theirs(text, add_special_tokens=False)["input_ids"] for text in texts}
    form = Form.from_rust(theirs._tokenizer)
    refused = 0
    for max_length in (5, 9, 14, 31):
        packer = Packer(form, 0, max_length, truncation=truncation)
        settings = {"truncation": truncation, "max_length": max_length}
        for text, pair in product(texts, texts[1:]):  # an empty second text is none, to theirs
            try:
                expected = theirs(text, pair, return_token_type_ids=True, **settings)
            except Exception:  # tokenizers raises the bare class
                refused += 1
                with pytest.raises(InputError, match="may cut one alone and not away"):
                    packer.pack(ids[text], ids[pair])
            else:
                row = expected["input_ids"], expected["token_type_ids"]
                assert packer.pack(ids[text], ids[pair]) == row, (text, pair, max_length)
    assert bool(refused) == (truncation != "longest_first")


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ((7,), 11, [7]),
        ((17,), 11, [11]),
        ((3, 7), 11, [3, 7]),
        ((3, 17), 11, [3, 8]),
        ((17, 3), 11, [8, 3]),
        ((13, 17), 11, [5, 6]),
        ((17, 13), 11, [6, 5]),
        ((13, 13), 11, [5, 6]),
        ((13, 17), 0, [0, 0]),
        ((13, 2, 17), 11, [4, 2, 5]),
        ((13, 13, 13), 11, [3, 4, 4]),
        ((1, 0, 5, 3), 23, [1, 0, 5, 3]),
    ],
)
def test_the_longest_of_the_texts_is_cut_first(lengths, room, kept):
    assert longest_first(lengths, room) == kept


def test_truncation_leaves_no_room_and_no_text_longer_than_an_uncut_one():
    chance = np.random.default_rng(17)
    for _ in range(499):
        lengths = chance.integers(0, 23, chance.integers(1, 6)).tolist()
        room = int(chance.integers(0, 53))
        kept = longest_first(lengths, room)
        assert sum(kept) == min(room, sum(lengths))
        cut = [k for k, length in zip(kept, lengths, strict=True) if k < length]
        assert not cut or (max(cut) - min(cut) <= 1 and max(cut) >= max(kept) - 1)


def test_four_choices_of_a_question_make_one_batch_of_rows():
    packer = Packer(**BERTAU, max_length=13)
    question, choices = [11, 13], [[17], [19, 23], [], [29]]
    batch = packer.pad([packer.pack(question, choice) for choice in choices], 7)
    by_question = batch["token_ids"].reshape(1, 4, 7)
    assert by_question[0, 1].tolist() == [2, 11, 13, 3, 19, 23, 3]


def test_more_texts_than_two_share_the_row():
    packer = Packer(**BERTAU, max_length=9)
    token_ids, segment_ids = packer.pack([11, 11], [13] * 3, [17] * 5)
    assert token_ids == [2, 11, 3, 13, 13, 3, 17, 17, 3]
    assert segment_ids == [0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_every_column_tells_its_text_and_token():
    packer = Packer(**BERTAU, max_length=8, truncation="only_second")
    first, second = [11, 13], [17, 19, 23, 29]
    token_ids, _ = packer.pack(first, second)
    origins = packer.origins(first, second)
    assert origins == [(-1, -1), (0, 0), (0, 1), (-1, -1), (1, 0), (1, 1), (1, 2), (-1, -1)]
    texts = (first, second)
    for token, (text, number) in zip(token_ids, origins, strict=True):
        assert token == (texts[text][number] if text >= 0 else token)
    words = [[0, 0], [0, 1, 1, 2]]
    by_column = [words[text][number] if text >= 0 else None for text, number in origins]
    assert by_column == [None, 0, 0, None, 0, 1, 1, None]


def test_room_for_the_special_tokens_is_demanded():
    with pytest.raises(
        InputError,
        match="max_length of at least 2, the special tokens around 1 text, came 1: raise",
    ):
        Packer(**BERTAU, max_length=1)
    packer = Packer(**BERTAU, max_length=2)
    with pytest.raises(InputError, match="least 3, the special tokens around 2 texts, came 2: ra"):
        packer.pack([], [])
    with pytest.raises(InputError, match="of at least 4, .* around 2 texts, came 3: raise max_len"):
        Packer(ROBERTA, 1, max_length=3).pack([7], [7])


def test_a_question_that_fills_the_row_is_refused_where_only_the_context_may_be_cut():
    packer = Packer(**BERTAU, max_length=13, truncation="only_second")
    assert packer.pack([11] * 9, [13] * 99)[0] == [2, *[11] * 9, 3, 13, 3]
    assert packer.pack([11] * 10, [])[0] == [2, *[11] * 10, 3, 3]
    with pytest.raises(
        InputError,
        match="max_length=13 leaves room for 10 tokens, came texts of 10 and 99, and truncation="
        "'only_second' may cut one alone and not away: raise max_length, shorten the other text",
    ):
        packer.pack([11] * 10, [13] * 99)
    with pytest.raises(InputError, match="room for 11 tokens, came texts of 12, and truncation"):
        packer.pack([11] * 12)


def test_an_unknown_truncation_and_a_missing_padding_token_are_refused():
    with pytest.raises(InputError, match="one of longest_first, only_first, only_second, came 'x"):
        Packer(**BERTAU, max_length=13, truncation="x")
    with pytest.raises(InputError, match="the id of the padding, came None: .* any id serves: giv"):
        Packer(Form(), None, 13)


def test_a_row_longer_than_the_batch_is_refused():
    packer = Packer(**BERTAU, max_length=13)
    with pytest.raises(InputError, match="rows of at most 5 tokens, came one of 7: pack with max"):
        packer.pad([packer.pack([11]), packer.pack([11] * 5)], 5)


def packed_in_graph(packer, rows, pad_to_multiple=1):
    """Through a tf.function traced once for every batch size and length, as when served.

    `rows` are tuples of one text or more, all of as many.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    spec = tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)
    texts = list(zip(*rows, strict=True)) or [()]

    @tf.function(input_signature=[spec] * len(texts), autograph=False)
    def graph(*ragged_ids):
        return packer.pack_in_graph(*ragged_ids, pad_to_multiple=pad_to_multiple)

    ragged = []
    for text in texts:
        values = np.array([token for ids in text for token in ids], np.int32)
        lengths = np.array([len(ids) for ids in text], np.int64)
        ragged.append(tf.RaggedTensor.from_row_lengths(values, lengths))
    batch = {name: tensor.numpy() for name, tensor in graph(*ragged).items()}
    operations = graph.get_concrete_function().graph.get_operations()
    return batch, [op for op in operations if op.type not in ("Const", "Placeholder", "Identity")]


def assert_packed_as_in_python(packer, rows, pad_to_multiple=1):
    batch, _ = packed_in_graph(packer, rows, pad_to_multiple)
    packed = [packer.pack(*texts) for texts in rows]
    shortest = packer.form.num_special(max(map(len, rows), default=1))
    longest = max([shortest, *(len(token_ids) for token_ids, _ in packed)])
    length = min(-(-longest // pad_to_multiple) * pad_to_multiple, packer.max_length)
    expected = packer.pad(packed, length)
    assert set(batch) == set(expected)
    for name, array in expected.items():
        assert batch[name].dtype == array.dtype
        assert batch[name].tolist() == array.tolist(), name
        assert batch[name].shape == array.shape


def texts_of(lengths):
    chance = np.random.default_rng(13)
    return [chance.integers(0, 97, length).tolist() for length in lengths]


@pytest.mark.parametrize("pad_to_multiple", [1, 8])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "lengths", [[3, 0, 7, 1], [5], [0], [0, 0, 0], [19, 2], [16, 15, 17], [20, 21, 1009], []]
)
def test_the_graph_packs_as_python_does(lengths, form, pad_to_multiple):
    packer = packer_of(form, with_segments=form not in ("roberta", "t5"))
    assert_packed_as_in_python(packer, [(ids,) for ids in texts_of(lengths)], pad_to_multiple)


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("form", FORMS)
def test_the_graph_packs_pairs_as_python_does(form, truncation):
    packer = packer_of(form, truncation=truncation)
    lengths = [(3, 5), (0, 7), (7, 0), (0, 0), (3, 40), (2, 13), (13, 2), (11, 11), (8, 7), (1, 99)]
    # Two long texts: not every truncation makes them fit.
    more = [(40, 3), (40, 41), (41, 40), (99, 99)] if truncation == "longest_first" else []
    more = [(40, 3)] if truncation == "only_first" else more
    rows = []
    for first, second in lengths + more:
        if truncation == "only_first" and second > 11:
            first, second = second, first
        rows.append(tuple(texts_of([first, second])))
    assert_packed_as_in_python(packer, rows)
    assert_packed_as_in_python(packer, rows[:1], pad_to_multiple=8)


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_packs_three_texts_as_python_does(form):
    chance = np.random.default_rng(19)
    rows = [tuple(texts_of(chance.integers(0, 23, 3))) for _ in range(53)]
    assert_packed_as_in_python(packer_of(form), rows)


def test_the_graph_fails_where_python_refuses_a_row():
    import tensorflow as tf

    packer = packer_of("bert", truncation="only_second")
    with pytest.raises(tf.errors.InvalidArgumentError, match="came texts of the lengths below"):
        packed_in_graph(packer, [([11] * 16, [13])])
    with pytest.raises(InputError, match="at least 20, the special tokens around 19 texts"):
        packed_in_graph(packer, [([11],) * 19])


def test_the_graph_is_a_few_operations():
    _, operations = packed_in_graph(Packer(**BERTAU, max_length=19), [([11, 13],), ([],)])
    assert len(operations) <= 40, [op.type for op in operations]
