"""Rows compared with the lectures' example, Hugging Face's tokenizer, and the graph's own form."""

import os

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.inputs.packer import Packer, longest_first

BERTAU = {"cls_id": 2, "sep_id": 3, "pad_id": 0}
UMA_SENTENCA, E_OUTRA = [335, 12286, 155, 951], [37, 929]


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
    packer = Packer(cls_id=0, sep_id=2, pad_id=1, max_length=13, with_segments=False)
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
    packer = Packer(101, 102, 0, max_length)
    texts = [" ".join("abcdefghijk"[:length]) for length in range(12)]
    pairs = [(text, pair) for text in texts for pair in texts]
    settings = {"truncation": "longest_first", "max_length": max_length}
    expected = theirs([text for text, _ in pairs], [pair for _, pair in pairs], **settings)
    ids = {text: theirs(text, add_special_tokens=False)["input_ids"] for text in texts}
    for number, (text, pair) in enumerate(pairs):
        token_ids, segment_ids = packer.pack(ids[text], ids[pair])
        assert token_ids == expected["input_ids"][number], (text, pair)
        assert segment_ids == expected["token_type_ids"][number], (text, pair)


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ((3, 7), 11, (3, 7)),
        ((3, 17), 11, (3, 8)),
        ((17, 3), 11, (8, 3)),
        ((13, 17), 11, (5, 6)),
        ((17, 13), 11, (6, 5)),
        ((13, 13), 11, (5, 6)),
        ((13, 17), 0, (0, 0)),
    ],
)
def test_the_longer_of_two_texts_is_cut_first(lengths, room, kept):
    assert longest_first(*lengths, room) == kept


def test_room_for_the_special_tokens_is_demanded():
    with pytest.raises(
        InputError,
        match=r"max_length of at least 2, the special tokens of \[CLS\] a \[SEP\], came 1: raise",
    ):
        Packer(**BERTAU, max_length=1)
    packer = Packer(**BERTAU, max_length=2)
    with pytest.raises(InputError, match=r"at least 3, .* a \[SEP\] b \[SEP\], came 2: raise"):
        packer.pack([], [])


def test_a_row_longer_than_the_batch_is_refused():
    packer = Packer(**BERTAU, max_length=13)
    with pytest.raises(InputError, match="rows of at most 5 tokens, came one of 7: pack with max"):
        packer.pad([packer.pack([11]), packer.pack([11] * 5)], 5)


def packed_in_graph(packer, texts, pad_to_multiple=1):
    """Through a tf.function traced once for every batch size and length, as when served."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    signature = [tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)]

    @tf.function(input_signature=signature)
    def graph(ragged_ids):
        return packer.pack_in_graph(ragged_ids, pad_to_multiple)

    lengths = np.array([len(ids) for ids in texts], np.int64)
    values = np.array([token for ids in texts for token in ids], np.int32)
    ragged_ids = tf.RaggedTensor.from_row_lengths(values, lengths)
    batch = {name: tensor.numpy() for name, tensor in graph(ragged_ids).items()}
    operations = graph.get_concrete_function().graph.get_operations()
    return batch, [op for op in operations if op.type not in ("Const", "Placeholder", "Identity")]


@pytest.mark.parametrize("pad_to_multiple", [1, 8])
@pytest.mark.parametrize("with_segments", [True, False])
@pytest.mark.parametrize(
    "text_lengths",
    [[3, 0, 7, 1], [5], [0], [0, 0, 0], [19, 2], [16, 15, 17], [20, 21, 1009], []],
)
def test_the_graph_packs_as_python_does(text_lengths, with_segments, pad_to_multiple):
    packer = Packer(cls_id=5, sep_id=7, pad_id=1, max_length=19, with_segments=with_segments)
    chance = np.random.default_rng(13)
    texts = [chance.integers(0, 97, length).tolist() for length in text_lengths]
    rows = [packer.pack(ids) for ids in texts]
    longest = max([len(token_ids) for token_ids, _ in rows], default=2)
    length = min(-(-longest // pad_to_multiple) * pad_to_multiple, 19)
    expected = packer.pad(rows, length)
    batch, _ = packed_in_graph(packer, texts, pad_to_multiple)
    assert set(batch) == set(expected)
    for name, array in expected.items():
        assert batch[name].dtype == array.dtype
        assert batch[name].tolist() == array.tolist(), name
        assert batch[name].shape == array.shape


def test_the_graph_is_a_few_operations():
    _, operations = packed_in_graph(Packer(**BERTAU, max_length=19), [[11, 13], []])
    assert len(operations) <= 20, [op.type for op in operations]
