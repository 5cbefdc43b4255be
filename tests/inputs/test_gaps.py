"""Gaps: where they are, which row answers each, and how a text reads when one is filled."""

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

import kbert
from kbert.inputs import gaps
from kbert.inputs.gaps import Gap, GapPacker
from kbert.inputs.packer import Packer
from kbert.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_dir):
    return Tokenizer.from_folder(tiny_dir)


@pytest.fixture(scope="module")
def roberta(data_dir):
    return Tokenizer.from_folder(data_dir / "vocab" / "roberta-base")


def test_gaps_are_found_with_their_characters_and_columns(tokenizer):
    texts = ["no gap", "my [MASK], ö[MASK]", "", "[MASK]"]
    rows, found = gaps.packed_gaps(Packer.of(tokenizer, 23), texts, tokenizer)
    assert found == [[Gap(1, 3, 9), Gap(1, 12, 18)], [Gap(3, 0, 6)]]
    (ids, segments, places), (alone, _, first) = rows
    assert places == [column for column, token in enumerate(ids) if token == 4] == [2, 5]
    assert segments == [0] * 7
    assert (alone, first) == ([2, 4, 3], [1])


def test_the_blank_that_a_mask_takes_in_is_not_of_the_gap(roberta):
    texts = ["in  <mask>.", "<mask>"]
    _, found = gaps.packed_gaps(Packer.of(roberta, 23), texts, roberta)
    assert found == [[Gap(0, 4, 10)], [Gap(1, 0, 6)]]


def test_every_gap_of_a_long_text_is_in_one_window_with_context_on_both_sides(tokenizer):
    packer = Packer.of(tokenizer, 23)
    text = " ".join("[MASK]" if number % 5 == 0 else "cat" for number in range(101))
    rows, found = gaps.packed_gaps(packer, [text, "dog [MASK]"], tokenizer)
    starts = [gap.start for of_row in found[:-1] for gap in of_row]
    expected = [i for i in range(len(text)) if text.startswith("[MASK]", i)]
    assert starts == expected
    for ids, _, places in rows[1:-2]:
        assert len(ids) == 23
        assert min(places) > 4
        assert max(places) < 19
    assert rows[-1][2] == [2]


def test_places_are_padded_to_a_power_of_two_or_as_the_length_says(tokenizer):
    packer = Packer.of(tokenizer, 23)
    rows = [([2, 4, 7, 4, 4, 3], [0] * 6, [1, 3, 4]), ([2, 4, 3], [0] * 3, [1])]
    batch = GapPacker(packer).pad(rows, 7)
    assert batch["masked_positions"].tolist() == [[1, 3, 4, 0], [1, 0, 0, 0]]
    assert batch["token_ids"].tolist() == [[2, 4, 7, 4, 4, 3, 0], [2, 4, 3, 0, 0, 0, 0]]
    assert GapPacker(packer).pad(rows[1:], 3)["masked_positions"].tolist() == [[1]]
    assert GapPacker(packer).pad([([2, 3], [0, 0], [])], 2)["masked_positions"].tolist() == [[0]]
    fixed = GapPacker(packer, lambda length: length - 2).pad(rows, 7)["masked_positions"]
    assert fixed.shape == (2, 5)
    assert fixed.dtype == np.int32
    assert GapPacker(packer, lambda length: length).pad([], 0)["masked_positions"].shape == (0, 0)


@pytest.mark.parametrize(
    ("text", "surface", "expected"),
    [
        ("my [MASK] today", " cat", "my cat today"),
        ("my cat[MASK] today", "s", "my cats today"),
        ("my cat [MASK] today", "s", "my cats today"),
        ("my cat [MASK]", ".", "my cat."),
        ("[MASK] cat", " the", "the cat"),
        (" [MASK] cat", " the", " the cat"),
        ("un[MASK]", " cat", "un cat"),
        ("([MASK])", " cat", "(cat)"),
        ("cat[MASK]", " !", "cat!"),
        ("一[MASK]二", " 猫", "一猫二"),
        ("my\u00a0 [MASK]", " ö", "my\u00a0 ö"),
        ("x [MASK]", " ", "x "),
        ("x [MASK]", "", "x"),
    ],
)
def test_a_text_reads_well_with_a_token_in_its_gap(text, surface, expected):
    start = text.index("[MASK]")
    assert gaps.filled(text, Gap(0, start, start + 6), surface) == expected


def test_tokens_read_as_they_stand_behind_a_word(tokenizer, roberta):
    read = gaps.reader(tokenizer)
    pieces = {piece: read(tokenizer.vocab.index(piece)) for piece in ("cat", "##s", ".", "[UNK]")}
    assert pieces == {"cat": " cat", "##s": "s", ".": ".", "[UNK]": " [UNK]"}
    read = gaps.reader(roberta)
    pieces = {piece: read(roberta.vocab.index(piece)) for piece in ("Ġcat", "cat", "ĠcafÃ©", ".")}
    assert pieces == {"Ġcat": " cat", "cat": "cat", "ĠcafÃ©": " café", ".": "."}


def test_tokens_of_sentence_piece_read_as_they_stand_behind_a_word(data_dir):
    albert = Tokenizer.from_folder(data_dir / "vocab" / "albert")
    read = gaps.reader(albert)
    pieces = {piece: read(albert.vocab.index(piece)) for piece in ("▁der", "s", "▁")}
    assert pieces == {"▁der": " der", "s": "s", "▁": " "}


def test_a_tokenizer_that_goes_by_characters_fills_without_blanks():
    vocab = {t: i for i, t in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "C", "Cl"))}
    import tokenizers

    rust = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("Cl?"), "isolated")
    rust.decoder = decoders.Fuse()
    rust.add_special_tokens([AddedToken("[MASK]", special=True)])
    rust.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = Tokenizer(rust)
    (row,), ((gap,),) = gaps.packed_gaps(Packer.of(tokenizer, 23), ["CCl[MASK]C"], tokenizer)
    assert row == ([2, 5, 6, 4, 5, 3], [0] * 6, [3])
    assert gaps.filled("CCl[MASK]C", gap, gaps.reader(tokenizer)(6)) == "CClClC"


def test_a_vocabulary_without_a_mask_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    tokenizer = Tokenizer.from_folder(tmp_path)
    with pytest.raises(kbert.InputError, match="Expected a tokenizer with a mask_token, this one"):
        gaps.packed_gaps(Packer.of(tokenizer, 23), ["a"], tokenizer)
