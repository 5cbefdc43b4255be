"""Files of running text → documents, cleaned: what a model is pretrained on.

A document is parted from the next by a blank line, or is a line, or a file, or a record's text.
"""

import gzip
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from kbert.errors import InputError
from kbert.inputs.files import ending, shortened
from kbert.inputs.records import stream

PARTS = ("blank-line", "line", "file")
TEXT_ENDINGS = (".txt",)
RECORD_ENDINGS = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL)


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """The files of text among files and folders, those of a folder in the order of their names.

    Raises:
        InputError: a path is not there, a file's format is unknown, or a folder has no such file.
    """
    known = (*TEXT_ENDINGS, *RECORD_ENDINGS)
    found = []
    for path in map(Path, paths):
        if not path.is_dir():
            if ending(path) not in known:
                raise InputError(
                    f"{path}: expected a file that ends in {', '.join(known)} (or one of these and "
                    f".gz), came {path.suffix or 'no ending'!r}: save it as plain text in UTF-8."
                )
            found.append(path)
            continue
        inside = sorted(x for x in path.rglob("*") if x.is_file() and ending(x) in known)
        if not inside:
            raise InputError(
                f"{path}: expected files that end in {', '.join(known)}, there is none in it: save "
                "the texts as one of these."
            )
        found += inside
    return found


def documents(
    path: Path, part: str = "blank-line", column: str = "text", counts: Counter | None = None
) -> Iterator[str]:
    """The documents of a file one after another, as they stand there, in constant memory.

    Args:
        path: plain text in UTF-8, or records.
        part: of plain text, what ends a document: one of `PARTS`.
        column: of records, where their text is.
        counts: gets `undecodable`, the bytes' sequences that are no UTF-8: each is U+FFFD then.

    Raises:
        InputError: the file cannot be read, or a record has no text.
    """
    counts = Counter() if counts is None else counts
    if ending(path) in TEXT_ENDINGS:
        yield from _parted(_lines(path, counts), part)
        return
    for row, record in stream(path, (column,)):
        text = record[column]
        if not isinstance(text, str):
            raise InputError(
                f"{path}, row {row}: expected text in {column!r}, came {shortened(text)}: name the "
                "column that holds the documents."
            )
        yield text


def cleaned(text: str) -> str:
    """The text without HTML's tags, its entities written out, without control characters.

    White space of any kind and length is one blank.
    """
    if "<" in text:
        text = TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(x for x in text if unicodedata.category(x) not in ("Cc", "Cs", "Cn"))


def _parted(lines: Iterator[str], part: str) -> Iterator[str]:
    if part == "line":
        yield from lines
        return
    found = []
    for line in lines:
        if part == "blank-line" and not line.strip():
            yield "\n".join(found)
            found = []
        else:
            found.append(line)
    yield "\n".join(found)


def _lines(path: Path, counts: Counter) -> Iterator[str]:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file):
                try:
                    text = line.decode()
                except UnicodeDecodeError:
                    text = line.decode(errors="replace")
                    counts["undecodable"] += text.count("\ufffd") - line.count(b"\xef\xbf\xbd")
                yield text.removeprefix("\ufeff") if number == 0 else text
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: expected a text file that can be read, came {error}.") from error
