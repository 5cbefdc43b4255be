"""Opening a file of examples: UTF-8, gzipped or not; what is wrong is told with file and row."""

import gzip
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from kbert.errors import InputError

ROWS_NAMED = 5  # in an error about many rows


def ending(path: Path) -> str:
    """The ending that tells a file's format, in lower case, without .gz; the file is there.

    Raises:
        InputError: it is not, or is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a file, came a folder: give one of its files.")
    if not path.exists():
        raise InputError(f"{path}: expected a file, came nothing: there is none of that name.")
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == ".gz" else suffix


@contextmanager
def open_text(path: Path, newline: str) -> Iterator[TextIO]:
    """The file as UTF-8 text; what goes wrong while it is read names it."""
    try:
        with _bytes(path) as file:
            if b"\0" in file.read(1024):
                raise InputError(
                    f"{path}: expected UTF-8, came bytes that are zero, as in UTF-16 or a file "
                    f"that is not text. If it is UTF-16: iconv -f utf-16 -t utf-8 {path}"
                )
        with _bytes(path, "rt", encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: expected a whole gzip file, came one that is cut off or damaged ({error}): "
            "copy it again, or leave .gz off the name of a file that is not compressed."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: expected a file that can be read, came: {error}.") from error


def check_columns(where: str, columns: Sequence[str], there: Collection[str]) -> None:
    """Raises an InputError unless each of `columns` is there, and once."""
    there = list(there)
    for column in columns:
        if there.count(column) != 1:
            raise InputError(
                f"{where}: expected one column {column!r}, came "
                f"{there.count(column) or 'none'}; the columns are {named(there) or 'missing'}. "
                "Name the column you mean, or rename it in the file."
            )


def rows_named(rows: list[int]) -> str:
    """Rows in words: "row 3", "17 rows (first: 2, 3, 4, 5, 6)"."""
    if len(rows) == 1:
        return f"row {rows[0]}"
    first = ", ".join(map(str, rows[:ROWS_NAMED]))
    return f"rows {first}" if len(rows) <= ROWS_NAMED else f"{len(rows)} rows (first: {first})"


def named(names: Iterable[str]) -> str:
    """Names in quotes, long ones shortened."""
    return ", ".join(shortened(name) for name in names)


def shortened(value: Any, most: int = 60) -> str:
    """A value as Python writes it, its beginning where it is long."""
    shown = repr(value)
    return shown if len(shown) <= most else shown[:most] + "…"


def _bytes(path: Path, mode: str = "rb", **settings):
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return opener(path, mode, **settings)


def _not_utf8(path: Path) -> InputError:
    """Where the first byte is that is not UTF-8: decoding in blocks has lost count of it."""
    offset = 0
    with _bytes(path) as file:
        for row, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return InputError(
                    f"{path}, row {row}: expected UTF-8, came byte 0x{line[error.start]:02X} at "
                    f"byte {offset + error.start} of the text. It is often cp1252, from Windows: "
                    f"save it as UTF-8, or convert it: iconv -f cp1252 -t utf-8 {path}"
                )
            offset += len(line)
    return InputError(f"{path}: expected UTF-8, came bytes that change while they are read.")
