"""Files of examples → records: CSV (RFC 4180), TSV, JSON Lines, Parquet, and plain text.

Every reader is a stream of `(row, record)`, so that a file of any size passes in constant memory.
A row is the line of the file where the record begins, counted from 1; in Parquet, which has no
lines, the number of the record, from 1.
"""

import csv
import gzip
import json
import math
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from kbert.errors import InputError

Record = dict[str, Any]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TEXT_FORMATS = (*DELIMITERS, ".jsonl", ".json")
ROWS_NAMED = 5  # in an error about many rows


def read_records(path: str | Path, columns: Sequence[str], *, quoting: bool = True) -> list[Record]:
    """All records of a .csv, .tsv, .jsonl, .json (one object a line) or .parquet file.

    The text formats are UTF-8, with or without a byte order mark, and may be gzipped (.csv.gz).

    Args:
        columns: the names each record must have a value for; other columns are left out.
        quoting: False for tables whose quotation marks are part of the text, as GLUE's are.

    Returns:
        The records in the file's order. Values are strings in CSV and TSV, in the others what the
        file holds: a label may be a number.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a record with an empty value.
    """
    path = Path(path)
    records = []
    empty_rows: dict[str, list[int]] = {}
    for row, record in _stream(path, columns, quoting):
        records.append(record)
        for column, value in record.items():
            if _is_empty(value):
                empty_rows.setdefault(column, []).append(row)
    if empty_rows:
        came = " and ".join(f"no {name!r} in {_rows(rows)}" for name, rows in empty_rows.items())
        raise InputError(
            f"{path}: expected a value for {_names(columns)} in every row, came {came}: fill them "
            "in, or delete those rows."
        )
    if not records:
        raise InputError(f"{path}: expected records, came none: the file holds no rows of data.")
    return records


def read_texts(
    source: str | Path | Iterable[str | bytes], column: str = "text", *, quoting: bool = True
) -> Iterator[str]:
    """Texts to answer, one after another, in constant memory; empty ones are kept.

    Args:
        source: a .txt file (UTF-8, one text a line), a file that `read_records` reads, or lines,
            such as `sys.stdin.buffer` (bytes, as UTF-8 whatever the terminal's encoding).
        column: where the texts stand in a file of records.
        quoting: as in `read_records`.

    Raises:
        InputError: the file is missing or unknown, at once; the rest while it is read.
    """
    if not isinstance(source, str | Path):
        return _lines("lines of input", source)
    path = Path(source)
    if _format(path) == ".txt":
        return _text_file(path)
    return _texts(path, column, _stream(path, (column,), quoting))


def _stream(path: Path, columns: Sequence[str], quoting: bool) -> Iterator[tuple[int, Record]]:
    suffix = _format(path)
    if suffix == ".parquet":
        return _parquet(path, columns)
    if suffix in DELIMITERS:
        return _table(path, columns, DELIMITERS[suffix], quoting)
    if suffix in TEXT_FORMATS:
        return _json_lines(path, columns)
    raise InputError(
        f"{path}: expected a file that ends in {', '.join(TEXT_FORMATS)} (or one of these and .gz) "
        f"or .parquet, came {suffix or 'no ending'!r}: save it as CSV in UTF-8."
    )


def _format(path: Path) -> str:
    """The ending that tells the format, in lower case; the file is there."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file, came a folder: give one of its files.")
    if not path.exists():
        raise InputError(f"{path}: expected a file, came nothing: there is none of that name.")
    suffix = path.suffix.lower()
    if suffix != ".gz":
        return suffix
    inner = Path(path.stem).suffix.lower()
    return inner if inner in (*TEXT_FORMATS, ".txt") else inner + suffix


def _table(
    path: Path, columns: Sequence[str], delimiter: str, quoting: bool
) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(2**31 - 1)  # 131,072 characters otherwise: a long document has more
    style = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    with _open(path, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=style, strict=True)
        rows = _table_rows(path, reader)
        _, header = next(rows, (1, []))
        _check_columns(str(path), columns, header)
        places = {column: header.index(column) for column in columns}
        for row, fields in rows:
            if len(fields) != len(header):
                raise InputError(
                    f"{path}, row {row}: expected {len(header)} fields, as in the header, came "
                    f"{len(fields)}: {_names(fields)}. Put a field that holds {delimiter!r} or a "
                    "line break in quotation marks."
                )
            yield row, {column: fields[place] for column, place in places.items()}


def _table_rows(path: Path, reader) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the line on which it begins."""
    row = 1
    try:
        for fields in reader:
            if fields:
                yield row, fields
            row = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, row {row}: expected fields quoted as in RFC 4180, came: {error}. Close every "
            'quotation mark and write "" for one inside a quoted field; or, if they are part of '
            "the text, read with quoting=False."
        ) from error


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Record]]:
    with _open(path, newline="\n") as file:
        for row, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, row {row}"
            try:
                record = json.loads(line)
                # JSON can write half a character (a lone surrogate), which no tokenizer reads.
                if "\\u" in line:
                    json.dumps(record, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{where}: expected one JSON object, came {_shortened(line.strip())} "
                    f"({error}): write one record a line (JSON Lines)."
                ) from error
            if not isinstance(record, dict):
                raise InputError(
                    f"{where}: expected one JSON object, came {_shortened(line.strip())}: write "
                    'one record a line (JSON Lines), as {"text": "…"}.'
                )
            _check_columns(where, columns, record)
            yield row, {column: record[column] for column in columns}


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Record]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(str(path), columns, file.schema_arrow.names)
            batches = file.iter_batches(batch_size=1024, columns=list(columns))
            records = chain.from_iterable(batch.to_pylist() for batch in batches)
            for row, record in enumerate(records, 1):
                yield row, {column: record[column] for column in columns}
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: expected a Parquet file, came one that cannot be read ({error}): write or "
            "copy it again."
        ) from error


def _text_file(path: Path) -> Iterator[str]:
    with _open(path, newline="\n") as file:
        yield from _lines(str(path), file)


def _lines(name: str, lines: Iterable[str | bytes]) -> Iterator[str]:
    for row, line in enumerate(lines, 1):
        if isinstance(line, bytes):
            try:
                line = line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{name}, row {row}: expected UTF-8, came byte 0x{line[error.start]:02X}: "
                    "convert it, for instance with iconv -f cp1252 -t utf-8."
                ) from None
        if row == 1:
            line = line.removeprefix("\ufeff")  # the byte order mark
        yield line.removesuffix("\n").removesuffix("\r")


def _texts(path: Path, column: str, stream: Iterator[tuple[int, Record]]) -> Iterator[str]:
    for row, record in stream:
        text = record[column]
        if not isinstance(text, str):
            raise InputError(
                f"{path}, row {row}: expected text in {column!r}, came {_shortened(text)}: write "
                "it as a string, or name the column that holds the texts."
            )
        yield text


@contextmanager
def _open(path: Path, newline: str) -> Iterator[TextIO]:
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


def _check_columns(where: str, columns: Sequence[str], there: Collection[str]):
    there = list(there)
    for column in columns:
        if there.count(column) != 1:
            raise InputError(
                f"{where}: expected one column {column!r}, came "
                f"{there.count(column) or 'none'}; the columns are {_names(there) or 'missing'}. "
                "Name the column you mean, or rename it in the file."
            )


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))


def _rows(rows: list[int]) -> str:
    if len(rows) == 1:
        return f"row {rows[0]}"
    first = ", ".join(map(str, rows[:ROWS_NAMED]))
    return f"rows {first}" if len(rows) <= ROWS_NAMED else f"{len(rows)} rows (first: {first})"


def _names(names: Iterable[str]) -> str:
    return ", ".join(_shortened(name) for name in names)


def _shortened(value: Any, most: int = 60) -> str:
    shown = repr(value)
    return shown if len(shown) <= most else shown[:most] + "…"
