"""A ten-second slice of scripts/check_tokenizers.py, and that it finds what it looks for."""

import gzip
import json
import sys
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import check_tokenizers
from tokenizer_check import subjects
from tokenizer_check.comparison import Known, Tally, reads_as
from tokenizer_check.texts import real_texts
from tokenizer_check.torture import broken_bytes, torture

SLICE = [
    "bert-base-uncased", "learned-wordpiece", "gpt2", "roberta-base", "albert", "t5-small",
    "learned-unigram",
]  # fmt: skip


def test_a_slice_of_all_texts_has_the_ids_of_transformers_eager_and_in_graph(
    data_dir, graph_like, capsys
):
    texts = list(islice(real_texts(data_dir), 2000))
    is_right = check_tokenizers.check_all(
        SLICE, data_dir, texts, seconds=10, thin=50, make_graph=graph_like
    )
    printed = capsys.readouterr().out
    assert is_right, printed
    for name in SLICE:
        assert f"{name:20} eager" in printed
        assert f"{name:20} in graph" in printed
        assert (f"{name:20} offsets" in printed) == (name not in subjects.WITHOUT_OFFSETS)


def test_a_check_that_cannot_be_made_is_a_failure(data_dir, tmp_path, capsys):
    assert not check_tokenizers.check_all(["gpt2"], tmp_path, ["a"], seconds=1)
    assert "NOT CHECKED: FileNotFoundError: no vocabulary at" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no texts in .*: set KBERT_DATA to the folder"):
        list(real_texts(tmp_path))


class Nothing:
    """A graph that finds no ids."""

    def __init__(self, tokenizer):
        self.ids = self.with_offsets = lambda texts: [[] for _ in texts]


def test_a_difference_makes_the_check_fail_and_is_shown(data_dir, capsys, monkeypatch):
    """Against another model's tokenizer."""
    reference = subjects.reference
    monkeypatch.setattr(
        subjects, "reference", lambda name, folder: reference("bert-base-cased", folder)
    )
    monkeypatch.setitem(subjects.PUBLISHED, "bert-base-cased", ("GPT2Tokenizer", {}))
    names, texts = ["roberta-base"], ["one", "two"]
    assert not check_tokenizers.check_all(
        names, data_dir, texts, seconds=60, thin=997, make_graph=Nothing
    )
    printed = capsys.readouterr().out
    assert "× UNEXPLAINED, real text; first: 'one': expected …" in printed


def test_differences_are_counted_by_kind_with_the_first_as_an_example():
    known = Known("a library's own", "eager", reads_as(lambda texts: [[7] for _ in texts]))
    tally = Tally("bert", "eager", [known])
    tally.add("blank", ["a", "b", "c", "d"], [[1], [2], [3], [4, 4, 4]], [[1], [7], [0], [4, 4]])
    assert (tally.strings, tally.mismatches, tally.unexplained) == (4, 3, 2)
    row, *kinds = tally.lines()
    assert row.split()[:5] == ["bert", "eager", "4", "3", "0.0"]
    assert kinds == [
        "    2 × UNEXPLAINED, blank; first: 'c': expected …[3]…, came …[0]… (from id 0)",
        "    1 × known: a library's own; first: 'b': expected …[2]…, came …[7]… (from id 0)",
    ]


def test_more_of_a_known_difference_than_are_known_is_a_failure():
    known = Known("marks", "offsets", lambda text, theirs, ours: text != "z", most=2)
    tally = Tally("bert", "offsets", [known])
    for number, text in enumerate("abcz"):
        tally.add("blank", [text], [[(1, 0, 1)]], [[(1, 0, 2)]])
        assert tally.unexplained == max(0, number - 1)
    assert [line.split(";")[0] for line in tally.lines()][1:] == [
        "    3 × known, at most 2: marks",
        "    1 × UNEXPLAINED, blank",
    ]


def test_every_folder_of_the_data_gives_texts(data_dir):
    first = set(islice(real_texts(data_dir), 500))
    assert "I am still waiting on my card?" in first
    assert any("\t" not in text and text.endswith(".") for text in first)


def test_lines_cells_and_fields_are_read_as_they_stand(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "vocab").mkdir()
    (tmp_path / "a" / "1.txt").write_bytes(b" one \r\n\ntw\xffo")
    (tmp_path / "a" / "2.csv").write_text('x,"y\nz"\n')
    (tmp_path / "b" / "3.tsv").write_text('p\t"q\n')
    (tmp_path / "b" / "4.json").write_text(json.dumps({"k": ["r", {"l": "s"}, 3]}))
    with gzip.open(tmp_path / "b" / "5.jsonl.gz", "wt") as file:
        file.write('{"k": "t"}\n{"k": "\\ud800"}\n')
    (tmp_path / "b" / "6.xml").write_text("<m><n>u</n> v</m>")
    (tmp_path / "vocab" / "vocab.txt").write_text("never\n")
    assert sorted(real_texts(tmp_path)) == sorted(
        [" one ", "", "tw\ufffdo", "x", "y\nz", "p", '"q', "r", "s", "t", "?", "u", " v"]
    )


def test_the_torture_set_is_the_same_in_every_run_and_has_what_the_issue_names():
    kinds = dict(torture(["[SEP]"]))
    texts = [text for _, text in torture(["[SEP]"])]
    assert texts == [text for _, text in torture(["[SEP]"])]
    assert list(broken_bytes()) == list(broken_bytes())
    assert {"combining marks", "NFC and NFD", "CJK", "emoji", "right to left", "zero width"} < {
        *kinds
    }
    assert {"control characters", "long words", "special tokens", "blank"} < {*kinds}
    assert max(map(len, texts)) >= 10_000
    assert {"", " ", "a[SEP]b"} < {*texts}
    characters = {*"".join(texts)}
    assert len(characters) > 150_000
    for text in texts:
        text.encode()
    for broken in (b"\xed\xa0\x80", b"\xff"):
        assert broken in [*broken_bytes()]
