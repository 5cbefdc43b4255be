"""Tables of text: CSV (RFC 4180), TSV, and tables as GLUE has them, without quoting or header."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.errors import InputError
from kbert.inputs.files import check_columns, named, open_text

BY_ENDING = {".csv": ",", ".tsv": "\t"}
DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";"}


@dataclass(frozen=True)
class TableForm:
    """How a table is written.

    Attributes:
        delimiter: what stands between two fields, a name of `DELIMITERS`; None as the file's
            ending says.
        quoting: False where quotation marks are part of the text, as in GLUE's tables.
        header: False where the first row is data; columns then have numbers, "1" the first.
    """

    delimiter: str | None = None
    quoting: bool = True
    header: bool = True


def read_table(
    path: Path, columns: Sequence[str], form: TableForm, ending: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table as `(row, record)`, values as strings; blank rows are left out."""
    delimiter = DELIMITERS[form.delimiter] if form.delimiter else BY_ENDING[ending]
    csv.field_size_limit(2**31 - 1)  # 131,072 characters otherwise: a long document has more
    style = csv.QUOTE_MINIMAL if form.quoting else csv.QUOTE_NONE
    with open_text(path, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=style, strict=True)
        rows = _rows(path, reader)
        records = _with_header if form.header else _without_header
        yield from records(path, columns, rows, delimiter)


def _rows(path: Path, reader) -> Iterator[tuple[int, list[str]]]:
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
            "the text, read with quoting=False (--no-quoting)."
        ) from error


def _with_header(path: Path, columns: Sequence[str], rows, delimiter: str):
    _, header = next(rows, (1, []))
    check_columns(str(path), columns, header)
    places = {column: header.index(column) for column in columns}
    for row, fields in rows:
        if len(fields) != len(header):
            raise InputError(
                f"{path}, row {row}: expected {len(header)} fields, as in the header, came "
                f"{len(fields)}: {named(fields)}. Put a field that holds {delimiter!r} or a "
                "line break in quotation marks."
            )
        yield row, {column: fields[place] for column, place in places.items()}


def _without_header(path: Path, columns: Sequence[str], rows, delimiter: str):
    """Columns by their numbers; a row may have more fields than they need (STS-B's have)."""
    strange = [column for column in columns if not column.isdecimal() or int(column) < 1]
    if strange:
        raise InputError(
            f"{path}: expected the numbers of columns, 1 the first, as the table is read without "
            f"a header; came {named(strange)}."
        )
    places = {column: int(column) - 1 for column in columns}
    needed = max(places.values()) + 1
    for row, fields in rows:
        if len(fields) < needed:
            raise InputError(
                f"{path}, row {row}: expected {needed} fields or more, separated by "
                f"{delimiter!r}, came {len(fields)}: {named(fields)}."
            )
        yield row, {column: fields[place] for column, place in places.items()}
