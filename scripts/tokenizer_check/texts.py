"""The texts of `../shared/data` as they stand in its files: lines, cells, fields."""

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

SKIPPED = ("vocab", "weights/goldens")  # no texts
BINARY = (".safetensors", ".npz", ".model", ".bin")


def real_texts(data: Path) -> Iterator[str]:
    """Every string there is, a folder's after another's in turn, so that the first N are of all.

    Args:
        data: the folder of third-party data.

    Raises:
        FileNotFoundError: it holds no files.
    """
    by_folder = defaultdict(list)
    for file in sorted(data.rglob("*")):
        name = file.relative_to(data).as_posix()
        if file.is_file() and not name.startswith(SKIPPED) and file.suffix not in BINARY:
            by_folder[file.parent].append(file)
    if not by_folder:
        raise FileNotFoundError(f"no texts in {data}: set KBERT_DATA to the folder of the data")
    yield from in_turn(_of_files(files) for files in by_folder.values())


def in_turn(sources: Iterable[Iterator[str]]) -> Iterator[str]:
    """One of each source, then the next of each, until all have ended."""
    sources = list(sources)
    while sources:
        left = []
        for source in sources:
            for text in source:
                yield text
                left.append(source)
                break
        sources = left


def _of_files(files: list[Path]) -> Iterator[str]:
    yield from in_turn([texts_of(file) for file in files])


def texts_of(file: Path) -> Iterator[str]:
    """The strings of one file. Bytes that are not UTF-8 read as U+FFFD."""
    opener = gzip.open if file.suffix == ".gz" else open
    kind = Path(file.name.removesuffix(".gz")).suffix
    with opener(file, "rt", encoding="utf-8", errors="replace", newline="") as opened:
        if kind == ".csv" and "STS-B" not in file.parts:  # STS-B's are tab-separated
            yield from (cell for row in csv.reader(opened) for cell in row)
        elif kind in (".csv", ".tsv"):
            yield from (cell for line in opened for cell in line.rstrip("\r\n").split("\t"))
        elif kind == ".jsonl":
            yield from (text for line in opened for text in strings(json.loads(line)))
        elif kind == ".json":
            yield from strings(json.load(opened))
        elif kind == ".xml":
            for element in ElementTree.parse(opened).iter():
                yield from (text for text in (element.text, element.tail) if text)
        else:
            yield from (line.rstrip("\r\n") for line in opened)


def strings(value) -> Iterator[str]:
    """All strings in what JSON holds."""
    if isinstance(value, str):
        # JSON can write half a character (a lone surrogate), which no tokenizer reads.
        yield value.encode("utf-8", "replace").decode()
    elif isinstance(value, dict):
        yield from (text for part in value.values() for text in strings(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in strings(part))
