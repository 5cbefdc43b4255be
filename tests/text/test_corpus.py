"""Text files read a block at a time."""

import pytest

from kbert.errors import InputError
from kbert.text import corpus

TEXT = "Olá, mundo!\n\ncartão de crédito\n漢字 👍🏽\nfim"


@pytest.fixture(params=[1, 2, 3, 7, 1 << 16])
def blocks(request, monkeypatch):
    """Blocks that end within characters, within lines, and nowhere."""
    monkeypatch.setattr(corpus, "BLOCK_BYTES", request.param)
    return request.param


def write(folder, content, name="a.txt"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def all_lines(file):
    return [line for lines in corpus.lines(file) for line in lines]


def test_blocks_are_the_text(tmp_path, blocks):
    file = write(tmp_path, TEXT)
    told = []
    assert "".join(corpus.blocks(file, told.append)) == TEXT
    assert sum(told) == len(TEXT.encode())


def test_a_survey_finds_every_character_and_counts_blocks_and_lines(tmp_path, blocks):
    files = [write(tmp_path, TEXT), write(tmp_path, "z\n", "b.txt")]
    characters, num_blocks, num_lines = corpus.survey(files)
    assert characters == sorted({*TEXT, "z"})
    assert num_blocks == sum(-(-file.stat().st_size // blocks) for file in files)
    assert num_lines == 7


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_come_without_their_ends(tmp_path, monkeypatch, end):
    for size in (37, 1 << 16):
        monkeypatch.setattr(corpus, "BLOCK_BYTES", size)
        assert all_lines(write(tmp_path, TEXT.replace("\n", end))) == TEXT.split("\n")
        assert all_lines(write(tmp_path, TEXT.replace("\n", end) + end)) == TEXT.split("\n")
    assert all_lines(write(tmp_path, "")) == []


def test_an_endless_line_is_cut_between_words(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 19)
    words = [f"word{number}" for number in range(100)]
    lines = all_lines(write(tmp_path, " ".join(words)))
    assert " ".join(lines).split() == words
    assert max(map(len, lines)) <= 2 * 19
    assert "".join(all_lines(write(tmp_path, "漢字" * 100))) == "漢字" * 100


def test_a_byte_order_mark_is_no_text(tmp_path):
    file = write(tmp_path, "\ufeffOlá\n\ufeff")
    assert all_lines(file) == ["Olá", "\ufeff"]


@pytest.mark.parametrize("end", [b"ol\xe9", b"ol\xe9\nfim", b"ol\xc3"], ids=str)
def test_another_encoding_is_told_with_line_and_byte(tmp_path, blocks, end):
    file = write(tmp_path, "Olá\n\n".encode() + end)
    words = r"a\.txt, line 3: expected UTF-8, came b'\\x..' \(byte 8 of the file, .*Convert it"
    with pytest.raises(InputError, match=words):
        corpus.survey([file])


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="no.txt: expected a text file, came none: No such file"):
        corpus.survey([tmp_path / "no.txt"])
    with pytest.raises(InputError, match="expected a text file, came none: Is a directory"):
        corpus.survey([tmp_path])


def test_a_bar_is_shown_where_asked(tmp_path, capsys):
    file = write(tmp_path, TEXT)
    corpus.survey([file])
    assert capsys.readouterr() == ("", "")
    corpus.survey([file], progress=True)
    output, errors = capsys.readouterr()
    assert output == ""
    assert "Survey: 100%" in errors
