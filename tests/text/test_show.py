"""Tables of tokenized texts."""

import pytest

from kbert.errors import InputError
from kbert.inputs.packer import Packer
from kbert.text import show
from kbert.text.learn import learn
from kbert.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def uncased(data_dir) -> Tokenizer:
    return Tokenizer.from_folder(data_dir / "vocab" / "bert-base-uncased")


def cells(table):
    """The words of each line, and where they begin."""
    return [line.split() for line in table.splitlines()]


def test_a_row_says_what_a_token_covers(uncased):
    table = show.table(uncased, ["Pouring café"])
    assert cells(table) == [
        ["position", "piece", "id", "segment", "mask", "characters"],
        ["0", "[CLS]", "101", "0", "1"],
        ["1", "pouring", "13053", "0", "1", "0:7", "Pouring"],
        ["2", "cafe", "7668", "0", "1", "8:12", "café"],
        ["3", "[SEP]", "102", "0", "1"],
    ]


def test_places_are_those_of_the_own_text(uncased):
    lines = cells(show.table(uncased, ["a cat", "the cat"]))
    assert [line[1:] for line in lines if "cat" in line] == [
        ["cat", "4937", "0", "1", "2:5", "cat"],
        ["cat", "4937", "1", "1", "4:7", "cat"],
    ]


def test_a_row_is_cut_and_padded_as_the_packer_does(uncased):
    texts = ["a cat and a dog and a bird", "the cat"]
    packer = Packer(uncased.form, uncased.pad_id, 7)
    lines = cells(show.table(uncased, texts, packer))[1:]
    ids, segments = packer.pack(*uncased(texts))
    assert [int(line[2]) for line in lines] == ids
    assert [int(line[3]) for line in lines] == segments
    packer = Packer(uncased.form, uncased.pad_id, 17)
    lines = cells(show.table(uncased, texts, packer))[1:]
    batch = packer.pad([packer.pack(*uncased(texts))], 17)
    assert [int(line[2]) for line in lines] == batch["token_ids"][0].tolist()
    assert [int(line[3]) for line in lines] == batch["segment_ids"][0].tolist()
    assert [bool(int(line[4])) for line in lines] == batch["padding_mask"][0].tolist()


def test_several_texts_stand_in_one_row(uncased):
    lines = cells(show.table(uncased, ["a", "b", "c"]))
    assert [line[1] for line in lines[1:]] == ["[CLS]", "a", "[SEP]", "b", "[SEP]", "c", "[SEP]"]


@pytest.mark.parametrize("name", ["gpt2", "t5-small", "xlnet", "roberta-base", "albert"])
def test_every_model_has_a_table(name, data_dir):
    tokenizer = Tokenizer.from_folder(data_dir / "vocab" / name)
    texts = ["Hi, world!", "ok"]
    lines = cells(show.table(tokenizer, texts))[1:]
    assert [int(line[2]) for line in lines] == tokenizer.form.join(tokenizer(texts))[0]


def test_unknown_characters_are_shown_as_the_token_that_stands_for_them(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("mau baú itaú uau\n" * 7, "utf-8")
    tokenizer = learn([file], tmp_path / "v", "unigram", 20)
    assert "<unk>" in show.table(tokenizer, ["zz"])
    assert "<unk>" in show.comparison({"v": tokenizer}, ["zz"])


def test_a_comparison_has_a_line_for_each_tokenizer(uncased, data_dir):
    cased = Tokenizer.from_folder(data_dir / "vocab" / "bertimbau-cased")
    assert show.comparison({"small": uncased, "with case": cased}, ["A Casa", "o"]) == (
        "A Casa     pieces\n"
        "small           2  a casa\n"
        "with case       2  A Casa\n"
        "\n"
        "o          pieces\n"
        "small           1  o\n"
        "with case       1  o"
    )


def test_what_does_not_print_is_written_out(uncased):
    assert show.visible("a\nb\t\u200b\x00 ç漢") == r"a\nb\t\u200b\x00 ç漢"
    assert show.visible("\u0301a") == "◌\u0301a"
    table = show.table(uncased, ["a\x00b\u0301"])
    assert r"0:3 a\x00b" in table
    assert len(table.splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("ação", 4), ("ac\u0327a\u0303o", 4), ("漢字", 4), ("ｶﾅ", 2), ("👍", 2), ("", 0)],
)
def test_width_is_in_columns_of_a_terminal(text, columns):
    assert show.width(text) == columns


def test_wide_characters_do_not_move_the_columns(data_dir):
    chinese = Tokenizer.from_folder(data_dir / "vocab" / "bert-base-chinese")
    lines = show.table(chinese, ["我爱 cafe\u0301"]).splitlines()
    edge = show.width(lines[0][: lines[0].index("segment")])
    for line in lines[1:]:
        prefix = next(line[:end] for end in range(len(line)) if show.width(line[:end]) == edge - 1)
        assert prefix[-1].isdigit() or prefix.endswith(" "), line


def test_a_packer_without_room_is_told(uncased):
    with pytest.raises(InputError, match="Expected max_length of at least 3"):
        show.table(uncased, ["a", "b"], Packer(uncased.form, uncased.pad_id, 2))
