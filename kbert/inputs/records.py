"""Files of examples → records: CSV (RFC 4180), TSV, JSON Lines, Parquet, ASSIN, and plain text.

Every reader is a stream of `(row, record)`, so that a file of any size passes in constant memory.
A row is the line of the file where the record begins, counted from 1; in Parquet, which has no
lines, the number of the record, from 1.
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from kbert.errors import InputError
from kbert.inputs.assin import read_pairs
from kbert.inputs.files import check_columns, ending, named, open_text, rows_named, shortened
from kbert.inputs.tables import BY_ENDING, TableForm, read_table

Record = dict[str, Any]

TEXT_FORMATS = (*BY_ENDING, ".jsonl", ".json", ".xml")


def read_records(
    path: str | Path,
    columns: Sequence[str],
    *,
    optional: Collection[str] = (),
    numbers: Collection[str] = (),
    **form,
) -> list[Record]:
    """All records of a .csv, .tsv, .jsonl, .json (one object a line) or .parquet file.

    The text formats are UTF-8, with or without a byte order mark, and may be gzipped (.csv.gz).

    Args:
        columns: the names each record must have a value for; other columns are left out.
        optional: those of them whose value may be empty; it is None then.
        numbers: those of them that hold numbers; their values are floats then.
        form: of a table, see `tables.TableForm`: `quoting=False` for tables whose quotation marks
            are part of the text, as GLUE's are; `header=False`; `delimiter="tab"`.

    Returns:
        The records in the file's order. Values are strings in CSV and TSV, in the others what the
        file holds: a label may be a number.

    Raises:
        InputError: the file cannot be read, lacks a column, has a record with an empty value, or
            something else where a number is due.
    """
    path = Path(path)
    records = []
    empty_rows: dict[str, list[int]] = {}
    for row, record in stream(path, columns, **form):
        for column, value in record.items():
            if _is_empty(value):
                record[column] = None
                if column not in optional:
                    empty_rows.setdefault(column, []).append(row)
            elif column in numbers:
                record[column] = _number(value, f"{path}, row {row}", column)
        records.append(record)
    if empty_rows:
        came = " and ".join(
            f"no {name!r} in {rows_named(rows)}" for name, rows in empty_rows.items()
        )
        needed = [column for column in columns if column not in optional]
        raise InputError(
            f"{path}: expected a value for {named(needed)} in every row, came {came}: fill them "
            "in, or delete those rows."
        )
    if not records:
        raise InputError(f"{path}: expected records, came none: the file holds no rows of data.")
    return records


def stream(path: str | Path, columns: Sequence[str], **form) -> Iterator[tuple[int, Record]]:
    """The records of a file one after another, each with its row, in constant memory.

    Args:
        path, columns, form: as in `read_records`; values are not checked.

    Raises:
        InputError: the file is missing or of no known format, at once; the rest while it is read.
    """
    path, form = Path(path), TableForm(**form)
    suffix = ending(path)
    if suffix == ".parquet" and path.suffix.lower() != ".gz":
        return _parquet(path, columns)
    if suffix in (".jsonl", ".json"):
        return _json_lines(path, columns)
    if suffix == ".xml":
        return read_pairs(path, columns)
    if suffix in BY_ENDING or form.delimiter:
        return read_table(path, columns, form, suffix)
    came = suffix + ".gz" * (path.suffix.lower() == ".gz") or "no ending"
    raise InputError(
        f"{path}: expected a file that ends in {', '.join(TEXT_FORMATS)} (or one of these and .gz) "
        f"or .parquet, came {came!r}: save it as CSV in UTF-8, or name the delimiter of a table."
    )


def read_texts(
    source: str | Path | Iterable[str | bytes], column: str = "text", **form
) -> Iterator[str]:
    """Texts to answer, one after another, in constant memory; empty ones are kept.

    Args:
        source: a .txt file (UTF-8, one text a line), a file that `read_records` reads, or lines,
            such as `sys.stdin.buffer` (bytes, as UTF-8 whatever the terminal's encoding).
        column: where the texts stand in a file of records.
        form: as in `read_records`.

    Raises:
        InputError: the file is missing or unknown, at once; the rest while it is read.
    """
    if not isinstance(source, str | Path):
        return _lines("lines of input", source)
    path = Path(source)
    if ending(path) == ".txt" and not form.get("delimiter"):
        return _text_file(path)
    return _texts(path, column, stream(path, (column,), **form))


def read_plain(path: str | Path, column: str = "text", **form) -> list[Record]:
    """The texts of a file that are not blank, to learn from, each as a record with that column.

    Raises:
        InputError: as `read_texts`; or every text is blank.
    """
    records = [{column: text} for text in read_texts(path, column, **form) if text.strip()]
    if not records:
        raise InputError(f"{path}: expected texts, came none: every line is blank.")
    return records


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Record]]:
    with open_text(path, newline="\n") as file:
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
                    f"{where}: expected one JSON object, came {shortened(line.strip())} "
                    f"({error}): write one record a line (JSON Lines)."
                ) from error
            if not isinstance(record, dict):
                raise InputError(
                    f"{where}: expected one JSON object, came {shortened(line.strip())}: write "
                    'one record a line (JSON Lines), as {"text": "…"}.'
                )
            check_columns(where, columns, record)
            yield row, {column: record[column] for column in columns}


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Record]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            check_columns(str(path), columns, file.schema_arrow.names)
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
    with open_text(path, newline="\n") as file:
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
                f"{path}, row {row}: expected text in {column!r}, came {shortened(text)}: write "
                "it as a string, or name the column that holds the texts."
            )
        yield text


def _number(value: Any, where: str, column: str) -> float:
    """A number of JSON or Parquet, or a string that is one.

    Raises:
        InputError: it is none, or not finite.
    """
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            f"{where}: expected a number in column {column!r}, came {shortened(value)}: write it "
            "as 4 or 4.5, leave the row out, or name the column that holds numbers."
        )
    return number


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or value == [] or (isinstance(value, float) and math.isnan(value))
