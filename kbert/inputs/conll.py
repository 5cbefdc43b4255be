"""Words with tags: CoNLL files, and lists in JSON Lines or Parquet → records.

    EU NNP I-NP I-ORG          a word a line, its tag in a column of its own
    rejects VBZ I-VP O
                               an empty line between sentences
    {"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]}

Whatever scheme a file's tags are in (`inputs.tags`), the records have them in IOB2.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kbert.errors import InputError
from kbert.inputs import tags as schemes
from kbert.inputs.files import ending, open_text, shortened
from kbert.inputs.records import read_records, stream

TABLES = (".jsonl", ".json", ".parquet")
BETWEEN = "-DOCSTART-"  # a line that stands between documents
WORDS, TAGS = "words", "tags"

Sentence = list[tuple[int, list[str]]]
"""The lines of one sentence: each line's number in the file, and its columns."""


def read_tagged(path: str | Path, words=WORDS, tags=TAGS, repair=False) -> list[dict[str, Any]]:
    """Sentences of words with tags.

    Args:
        path: .jsonl, .json (one object a line) or .parquet; of any other ending, CoNLL.
        words, tags: the columns, and the names of the lists in the records. In CoNLL a column's
            number, "1" the first; a name is the first column for words, the last for tags.
        repair: take tags that break their scheme as conlleval does.

    Returns:
        Records with a list of words and a list of their tags in IOB2.

    Raises:
        InputError: the file cannot be read; lists are ragged, or hold an empty word or something
            else than strings; tags break their scheme.
    """
    path = Path(path)
    if ending(path) in TABLES:
        found = read_records(path, (words, tags))
        for number, record in enumerate(found, 1):
            check_tagged(record, words, tags, f"{path}, record {number}")

        def where(number, place):
            return f"record {number + 1}, word {place + 1} ({found[number][words][place]!r})"
    else:
        lines = list(conll_sentences(path))
        if not lines:
            raise InputError(f"{path}: expected sentences, came none: no line has a word.")
        found = [_record(path, sentence, words, tags) for sentence in lines]

        def where(number, place):
            return f"line {lines[number][place][0]} ({found[number][words][place]!r})"

    try:
        converted = schemes.as_iob2([record[tags] for record in found], where, repair)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return [{**record, tags: iob2} for record, iob2 in zip(found, converted, strict=True)]


def read_words(path: str | Path, words: str = WORDS) -> Iterator[dict[str, Any]]:
    """Sentences of words to be tagged, one after another, in constant memory; tags may be there."""
    path = Path(path)
    if ending(path) in TABLES:
        for number, record in stream(path, (words,)):
            check_words(record[words], words, f"{path}, row {number}")
            yield record
        return
    for sentence in conll_sentences(path):
        yield {words: _column(path, sentence, words, 0)}


def conll_sentences(path: Path) -> Iterator[Sentence]:
    """The sentences of a CoNLL file, as they are read.

    Columns stand between tabs, or where a line has none between blanks.

    Raises:
        InputError: the file cannot be read, or lines have not the same number of columns.
    """
    sentence: Sentence = []
    width = None
    with open_text(path, newline="\n") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\r\n")
            if line.strip(" \t"):
                columns = line.split("\t") if "\t" in line else list(filter(None, line.split(" ")))
                if columns[0] == BETWEEN:
                    continue
                width = width or len(columns)
                if len(columns) != width:
                    raise InputError(
                        f"{path}, line {number}: expected {width} columns, as in the first line, "
                        f"came {len(columns)}: {shortened(line)}. Give every word all columns, and "
                        "put an empty line between sentences."
                    )
                sentence.append((number, columns))
            elif sentence:
                yield sentence
                sentence = []
    if sentence:
        yield sentence


def check_tagged(record: dict[str, Any], words: str, tags: str, where: str) -> None:
    """Raises an InputError unless a record has words, and as many tags."""
    check_words(record[words], words, where)
    check_strings(record[tags], tags, where)
    if len(record[words]) != len(record[tags]):
        raise InputError(
            f"{where}: expected a tag for every word, came {len(record[words])} words in "
            f"{words!r} and {len(record[tags])} tags in {tags!r}: {shortened(record[words])}."
        )


def check_words(words: Any, column: str, where: str) -> None:
    """Raises an InputError unless it is a list of words, none of them empty."""
    check_strings(words, column, where)
    empty = [place for place, word in enumerate(words, 1) if not word.strip()]
    if empty:
        raise InputError(
            f"{where}: expected words that are not empty, came {words[empty[0] - 1]!r} as word "
            f"{empty[0]}{f' and {len(empty) - 1} more' if empty[1:] else ''}: take them out, with "
            "their tags."
        )


def check_strings(found: Any, column: str, where: str) -> None:
    """Raises an InputError unless it is a list of strings."""
    strange = found
    if isinstance(found, list | tuple):
        strange = next((x for x in found if not isinstance(x, str)), None)
        if strange is None:
            return
    raise InputError(
        f"{where}: expected a list of strings in {column!r}, came {shortened(strange)}: write "
        '["Barack", "Obama"] for words and ["B-PER", "I-PER"] for tags, not their numbers.'
    )


def _record(path: Path, sentence: Sentence, words: str, tags: str) -> dict[str, Any]:
    if len(sentence[0][1]) < 2:
        raise InputError(
            f"{path}, line {sentence[0][0]}: expected a word and its tag between blanks or a tab, "
            f"came {shortened(sentence[0][1][0])}."
        )
    return {words: _column(path, sentence, words, 0), tags: _column(path, sentence, tags, -1)}


def _column(path: Path, sentence: Sentence, name: str, default: int) -> list[str]:
    """A column by its number; of another name, the default."""
    width = len(sentence[0][1])
    if name.isdecimal() and not 1 <= int(name) <= width:
        raise InputError(
            f"{path}: expected the number of a column, 1 to {width}, came {name}: it has no more."
        )
    place = int(name) - 1 if name.isdecimal() else default
    for number, columns in sentence:
        if not columns[place].strip():
            raise InputError(
                f"{path}, line {number}: expected a word and a tag, came nothing in column "
                f"{place % width + 1}: {shortened(chr(9).join(columns))}. Take empty words out."
            )
    return [columns[place] for _, columns in sentence]


def check_known(records: Sequence[dict[str, Any]], tags: str, labels: Sequence[str]) -> None:
    """Raises an InputError if records have tags that are not among the labels."""
    known, strange, first = set(labels), {}, None
    for number, record in enumerate(records, 1):
        for tag in record[tags]:
            if tag not in known:
                strange[tag] = strange.get(tag, 0) + 1
                first = first or number
    if strange:
        named = ", ".join(f"{tag!r} ({count} times)" for tag, count in sorted(strange.items())[:5])
        raise InputError(
            f"tags that training never saw: {named}{' …' if len(strange) > 5 else ''} "
            f"({len(strange)} in all; first in record {first}). Known are {', '.join(labels)}; "
            "rename these, or make their words O."
        )
