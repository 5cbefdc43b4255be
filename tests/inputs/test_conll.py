"""Words with tags from CoNLL files, JSON Lines and Parquet."""

import gzip
import json

import pytest
from test_tags import conlleval

from kbert.errors import InputError
from kbert.inputs import tags
from kbert.inputs.conll import read_tagged, read_words

OBAMA = {
    "words": ["Barack", "Obama", "nasceu", "no", "Havaí"],
    "tags": ["B-PER", "I-PER", "O", "O", "B-LOC"],
}
FILES = {
    # file → sentences, words and entities; official for CoNLL-2003 (Tjong Kim Sang and De Meulder
    # 2003, tables 1 and 2) and, in sentences, for LeNER-Br (Luz de Araujo et al. 2018).
    "conll2003/eng.train": (14041, 203621, 23499),
    "conll2003/eng.testa": (3250, 51362, 5942),
    "conll2003/eng.testb": (3453, 46435, 5648),
    "lener_br/train.conll": (7827, 229277, 8894),
    "lener_br/dev.conll": (1176, 41166, 1818),
    "lener_br/test.conll": (1389, 47630, 1536),
}


def written(folder, text, name="file.conll"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("name", FILES)
def test_real_files_have_the_entities_that_conlleval_finds(data_dir, name):
    path = data_dir / "ner" / name
    records = read_tagged(path)
    found = [tags.entities(record["tags"]) for record in records]
    sizes = len(records), sum(len(r["words"]) for r in records), sum(map(len, found))
    assert sizes == FILES[name]
    plain = [
        [line.split(" ") for line in block.split("\n") if line]
        for block in path.read_text("utf-8").split("\n\n")
    ]
    plain = [block for block in plain if block and block[0][0] != "-DOCSTART-"]
    assert [[line[0] for line in block] for block in plain] == [r["words"] for r in records]
    raw = [[line[-1] for line in block] for block in plain]
    assert [conlleval(sequence) for sequence in raw] == found
    # Back in their own scheme; the B- that IOB1 does not ask for come back as I-.
    scheme = tags.scheme_of(raw)
    assert scheme == ("IOB1" if "conll2003" in name else "IOB2")
    back = [tags.from_iob2(record["tags"], scheme) for record in records]
    differ = sum(x != y for a, b in zip(raw, back, strict=True) for x, y in zip(a, b, strict=True))
    assert differ == (2 if name == "conll2003/eng.train" else 0)


def test_columns_stand_between_blanks_or_tabs(tmp_path):
    lines = [f"{word} x {tag}" for word, tag in zip(*OBAMA.values(), strict=True)]
    text = "\n".join(["-DOCSTART- -X- O", "", *lines, "", "", " \t", *lines[:1], ""])
    expected = [OBAMA, {"words": ["Barack"], "tags": ["B-PER"]}]
    assert read_tagged(written(tmp_path, text)) == expected
    # With a byte order mark, Windows's line ends, tabs, more blanks, or gzipped.
    for other in (
        "\ufeff" + text,
        text.replace("\n", "\r\n"),
        text.replace(" ", "\t"),
        text.replace(" x ", "   x  "),
    ):
        assert read_tagged(written(tmp_path, other)) == expected
    packed = written(tmp_path, gzip.compress(text.encode()), "file.txt.gz")
    assert read_tagged(packed) == expected


def test_a_word_may_hold_what_is_no_blank_of_ascii(tmp_path):
    """A no-break space, a line separator, a number sign: parts of words in real files."""
    words = ["8\u00a0ª", "\u2028x", "#", "\x91acesso"]
    text = "".join(f"{word} O\n" for word in words)
    assert read_tagged(written(tmp_path, text)) == [{"words": words, "tags": ["O"] * 4}]


def test_columns_are_chosen_by_number(tmp_path):
    path = written(tmp_path, "1 EU B-NP B-ORG x\n2 rejects B-VP O x\n")
    record = {"2": ["EU", "rejects"], "4": ["B-ORG", "O"]}
    assert read_tagged(path, "2", "4") == [record]
    assert list(read_words(path, "2")) == [{"2": ["EU", "rejects"]}]
    with pytest.raises(InputError, match=r"number of a column, 1 to 5, came 6: it has no more"):
        read_tagged(path, "2", "6")


def test_any_scheme_is_read_into_iob2(tmp_path):
    for scheme in tags.SCHEMES:
        lines = zip(OBAMA["words"], tags.from_iob2(OBAMA["tags"], scheme), strict=True)
        path = written(tmp_path, "".join(f"{word} {tag}\n" for word, tag in lines))
        assert read_tagged(path) == [OBAMA]


def test_lists_are_read_from_json_lines_and_parquet(tmp_path):
    renamed = {"tokens": OBAMA["words"], "ner": tags.from_iob2(OBAMA["tags"], "BIOES"), "id": 7}
    path = written(tmp_path, json.dumps(renamed) + "\n", "file.jsonl")
    expected = [{"tokens": OBAMA["words"], "ner": OBAMA["tags"]}]
    assert read_tagged(path, "tokens", "ner") == expected
    assert list(read_words(path, "tokens")) == [{"tokens": OBAMA["words"]}]
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([renamed]), tmp_path / "file.parquet")
    assert read_tagged(tmp_path / "file.parquet", "tokens", "ner") == expected


def test_words_to_be_tagged_need_no_tags(tmp_path):
    path = written(tmp_path, "Barack\nObama\n\nHavaí\n")
    assert list(read_words(path)) == [{"words": ["Barack", "Obama"]}, {"words": ["Havaí"]}]


# Bad input


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a O\nb I-PER\n\nc B-PER\n", r"IOB2.*came 1 that breaks it: line 2 \('b'\): 'I-PER' af"),
        ("a O\nb B-X O\n", r"line 2: expected 2 columns, as in the first line, came 3: 'b B-X O'"),
        ("a\nb\n", r"line 1: expected a word and its tag between blanks or a tab, came 'a'"),
        ("a\tO\n\tO\n", r"line 2: expected a word and a tag, came nothing in column 1"),
        ("a\tO\nb\t\n", r"line 2: expected a word and a tag, came nothing in column 2"),
        ("\n\n", r"expected sentences, came none: no line has a word"),
        (b"a O\n\xe9 O\n", r"row 2: expected UTF-8, came byte 0xE9"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path, text, words):
    with pytest.raises(InputError, match=rf"file\.conll.*{words}"):
        read_tagged(written(tmp_path, text))


def test_broken_tags_are_read_as_conlleval_does_when_asked(tmp_path):
    path = written(tmp_path, "a O\nb I-PER\n\nc B-PER\n")
    assert read_tagged(path, repair=True)[0] == {"words": ["a", "b"], "tags": ["O", "B-PER"]}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"words": ["a", "b"], "tags": ["O"]}, r"came 2 words in 'words' and 1 tags in 'tags'"),
        ({"words": ["a", " "], "tags": ["O", "O"]}, r"not empty, came ' ' as word 2: take"),
        ({"words": ["a"], "tags": [3]}, r"list of strings in 'tags', came 3: write .* not their n"),
        ({"words": "a b", "tags": ["O", "O"]}, r"list of strings in 'words', came 'a b'"),
        ({"words": ["a"], "tags": ["I-X"]}, None),
        ({"words": ["a"], "tags": ["E-X"]}, r"record 2, word 1 \('a'\): 'E-X' after nothing"),
    ],
)
def test_what_is_wrong_in_a_record_is_told_with_its_number(tmp_path, record, words):
    good = {"words": ["x", "y"], "tags": ["I-X", "B-X"]}
    text = f"{json.dumps(good)}\n{json.dumps(record)}\n"
    path = written(tmp_path, text, "file.jsonl")
    if words is None:
        assert read_tagged(path)[1]["tags"] == ["B-X"]
        return
    with pytest.raises(InputError, match=rf"file\.jsonl.*{words}"):
        read_tagged(path)
