"""A corpus holds what its documents say, goes on behind a kill, and names what it cannot use."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from kbert.cli import cli
from kbert.errors import InputError
from kbert.inputs import corpus_building
from kbert.inputs.corpus import Corpus
from kbert.inputs.corpus_building import CorpusSettings, build
from kbert.inputs.documents import cleaned, documents, files_of
from kbert.text.tokenizer import Tokenizer

SAME = "My cat is big. The dog is here!\n"
LINES = f"{SAME}\nA nest.\nToday a dog.\n\n\n{SAME}"
SMALL = CorpusSettings(part="line", shard_tokens=40)


@pytest.fixture(scope="module")
def tokenizer(tiny_dir):
    return Tokenizer.from_folder(tiny_dir)


@pytest.fixture
def text(tmp_path):
    def text(content, name="a.txt"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return text


@pytest.fixture
def many(text):
    """211 documents of one to three sentences, in two files."""
    chance = np.random.default_rng(5)
    words = ["my", "cat", "dog", "is", "big", "here", "today", "nest", "a"]
    lines = [
        " ".join(f"{' '.join(chance.choice(words, 4))}." for _ in range(n % 3 + 1)).capitalize()
        for n in range(211)
    ]
    return [text("\n".join(lines[:101])), text("\n".join(lines[101:]), "b.txt")]


def files_in(folder):
    return {str(x.relative_to(folder)): x.read_bytes() for x in folder.rglob("*") if x.is_file()}


def test_sentences_come_back_as_the_tokenizer_reads_them(text, tokenizer, tmp_path):
    report = build([text(LINES)], tokenizer, tmp_path / "corpus")
    corpus = Corpus.open(tmp_path / "corpus", tokenizer)
    expected = [["My cat is big.", "The dog is here!"], ["A nest.", "Today a dog."]]
    assert [[x.tolist() for x in document] for document in corpus] == [
        tokenizer(document) for document in expected
    ]
    assert len(corpus) == report["documents"] == 2
    assert (report["sentences"], report["duplicates"], report["empty"]) == (4, 1, 1)
    assert report["tokens"] == sum(len(row) for x in expected for row in tokenizer(x))
    assert sum(report["documents_by_length"].values()) == 2
    assert corpus.shards[0][0].dtype == np.uint16
    assert json.loads((tmp_path / "corpus" / "corpus.json").read_text("utf-8")) == report
    Tokenizer.from_folder(tmp_path / "corpus")  # goes along


def test_a_corpus_is_the_same_however_often_it_is_broken_off(
    many, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(corpus_building, "AT_ONCE", 7)
    build(many, tokenizer, tmp_path / "whole", SMALL)
    rename, breaks = corpus_building.os.rename, 0
    for moment in (1, 3, 2, 1, 5):  # renames until a kill; the last shards come without one
        done = []

        def killed(old, new, done=done, moment=moment):
            done.append(new)
            if len(done) == moment:
                raise KeyboardInterrupt
            rename(old, new)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(corpus_building.os, "rename", killed)
            build(many, tokenizer, tmp_path / "broken", SMALL, resume=True)
        breaks += 1
    build(many, tokenizer, tmp_path / "broken", SMALL, resume=True)
    assert breaks == 5
    assert len(list((tmp_path / "broken").glob("shard-*"))) > 8
    assert files_in(tmp_path / "broken") == files_in(tmp_path / "whole")


def test_several_processes_make_the_same_corpus_as_one(many, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_building, "AT_ONCE", 7)
    build(many, tokenizer, tmp_path / "one", SMALL)
    monkeypatch.setattr(corpus_building, "SMALL_BYTES", 0)
    monkeypatch.setattr(corpus_building.os, "sched_getaffinity", lambda process: {0, 1})
    build(many, tokenizer, tmp_path / "two", SMALL)
    assert files_in(tmp_path / "two") == files_in(tmp_path / "one")


def test_many_shards_are_read_as_one(many, tokenizer, tmp_path):
    build(many, tokenizer, tmp_path / "many", SMALL)
    build(many, tokenizer, tmp_path / "one", CorpusSettings(part="line"))
    found = [
        [[x.tolist() for x in document] for document in Corpus.open(tmp_path / name)]
        for name in ("many", "one")
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("part, expected", [("line", 4), ("blank-line", 3), ("file", 1)])
def test_a_document_ends_where_is_asked(part, expected, text):
    assert sum(bool(x.strip()) for x in documents(text(LINES), part)) == expected


def test_records_and_gzip_are_read(text, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"body": "A nest."}\n{"body": "A dog."}\n', "utf-8")
    assert list(documents(tmp_path / "b.jsonl", column="body")) == ["A nest.", "A dog."]
    packed = text(gzip.compress("\ufeffA nest.\n\nA dog.".encode()), "c.txt.gz")
    assert [x.strip() for x in documents(packed)] == ["A nest.", "A dog."]
    with pytest.raises(InputError, match="row 1: expected text in 'n', came 3: name the column"):
        list(documents(text('{"n": 3}', "d.jsonl"), column="n"))


def test_bytes_that_are_no_utf_8_are_replaced_and_counted(text):
    counts = Counter()
    found = list(
        documents(text("caf\xe9 and \ufffd\n".encode("latin-1", "replace")), counts=counts)
    )
    assert found[0].strip() == "caf\ufffd and ?"
    assert counts["undecodable"] == 1


def test_html_and_control_characters_are_cleaned_away():
    assert cleaned("<p>A&amp;B<br />c\x00d</p>\u00a0 \n e<!-- f\n -->") == "A&B cd e"
    assert cleaned("1 < 2 and 3 > 2") == "1 < 2 and 3 > 2"
    assert cleaned("na\u200dïve 漢字 🙂") == "na\u200dïve 漢字 🙂"  # joiners stay


def test_a_folder_gives_its_files_in_order(text, tmp_path):
    for name in ("b.txt", "a.txt", "c.md", "d.jsonl.gz"):
        text("", name)
    assert [x.name for x in files_of([tmp_path])] == ["a.txt", "b.txt", "d.jsonl.gz"]
    with pytest.raises(InputError, match="c.md: expected a file that ends in .txt, .jsonl"):
        files_of([tmp_path / "c.md"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: expected files .* there is none in it"):
        files_of([tmp_path / "empty"])


def test_what_cannot_be_is_refused(text, many, tokenizer, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="a.txt: expected documents, all texts are empty"):
        build([text(" \n\n")], tokenizer, tmp_path / "corpus")
    build([text(LINES)], tokenizer, tmp_path / "corpus")
    with pytest.raises(InputError, match="corpus exists. Choose another"):
        build([text(LINES)], tokenizer, tmp_path / "corpus")
    with pytest.raises(InputError, match="expected a corpus, came none"):
        Corpus.open(tmp_path)
    other = Tokenizer(tokenizer.rust.from_str(tokenizer.rust.to_str()))
    other.rust.add_tokens(["zebra"])
    with pytest.raises(InputError, match=r"built with another tokenizer \(sha256 \w{12}, came"):
        Corpus.open(tmp_path / "corpus", other)
    with pytest.raises(InputError, match="part: expected one of blank-line, line, file, came 'x'"):
        CorpusSettings(part="x")


def test_a_full_disk_keeps_the_whole_shards(many, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_building, "AT_ONCE", 7)
    save, times = np.save, []

    def full(file, array):
        times.append(file)
        if len(times) == 8:
            raise OSError(28, "No space left on device")
        save(file, array)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="make room, then go on"):
        patch.setattr(corpus_building.np, "save", full)
        build(many, tokenizer, tmp_path / "corpus", SMALL)
    with pytest.raises(InputError, match=r"was broken off: go on with it \(--resume\)"):
        build(many, tokenizer, tmp_path / "corpus", SMALL)
    with pytest.raises(InputError, match="begun with other files and settings, so it cannot"):
        build(many[:1], tokenizer, tmp_path / "corpus", resume=True)
    assert build(many, tokenizer, tmp_path / "corpus", SMALL, resume=True)["documents"] > 100


def test_the_command_tells_what_a_corpus_holds(text, tiny_dir, tmp_path):
    arguments = ["corpus", "build", "--tokenizer", str(tiny_dir), "--output", str(tmp_path / "c")]
    told = CliRunner().invoke(cli, [*arguments, str(text(LINES))])
    assert told.exit_code == 0, told.output
    assert told.output.splitlines()[0].startswith(f"{tmp_path / 'c'}: 2 documents, 4 sentences, ")
    assert "left out: 1 duplicates, 1 empty ones; 0 undecodable places." in told.output
