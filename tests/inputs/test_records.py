"""Files written as people and programs write them, whole and broken."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

import kbert
from kbert.errors import InputError
from kbert.inputs.records import read_records, read_texts

BANKING77 = Path(kbert.__file__).parent / "datasets" / "banking77"
RECORDS = [
    {"text": "Onde está\nmeu cartão?", "category": "card_arrival"},
    {"text": 'He said "no", twice', "category": "declined"},
    {"text": "tab\there, 日本 🙂", "category": "other"},
]
COLUMNS = ("text", "category")


def write_table(path, records=RECORDS, delimiter=",", encoding="utf-8", **gz):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, ["id", *COLUMNS], delimiter=delimiter, restval="13")
        writer.writeheader()
        writer.writerows(records)
    return path


def write_lines(path, records=RECORDS):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": 13, **record}) + "\n" for record in records)
    return path


def write_parquet(path, records=RECORDS):
    parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def error_of(path, columns=COLUMNS, **settings):
    with pytest.raises(InputError) as caught:
        read_records(path, columns, **settings)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz"])
def test_csv_keeps_quoted_commas_quotes_and_line_breaks(tmp_path, name):
    assert read_records(write_table(tmp_path / name), COLUMNS) == RECORDS


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tsv_keeps_quoted_tabs_and_line_breaks(tmp_path, name):
    assert read_records(write_table(tmp_path / name, delimiter="\t"), COLUMNS) == RECORDS


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
def test_json_lines_give_the_same_records(tmp_path, name):
    assert read_records(write_lines(tmp_path / name), COLUMNS) == RECORDS


def test_parquet_gives_the_same_records(tmp_path):
    assert read_records(write_parquet(tmp_path / "a.parquet"), COLUMNS) == RECORDS


def test_a_path_may_be_a_string(tmp_path):
    assert read_records(str(write_table(tmp_path / "a.csv")), COLUMNS) == RECORDS


def test_columns_come_in_the_order_asked_and_others_are_left_out(tmp_path):
    record = read_records(write_table(tmp_path / "a.csv"), ("category", "text"))[0]
    assert list(record) == ["category", "text"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    records = [{"id": "1", **RECORDS[0]}]
    path = write_table(tmp_path / "a.csv", RECORDS[:1], encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid")
    assert read_records(path, ["id"]) == [{"id": "13"}]
    path = write(tmp_path / "b.jsonl", b"\xef\xbb\xbf" + json.dumps(records[0]).encode())
    assert read_records(path, COLUMNS) == RECORDS[:1]


def test_windows_line_ends_and_blank_lines_are_no_part_of_a_record(tmp_path):
    path = write(tmp_path / "a.csv", "text,category\r\n\r\none,two\r\n\r\n")
    assert read_records(path, COLUMNS) == [{"text": "one", "category": "two"}]
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\r\n\r\n{"text": "two"}\r\n')
    assert read_records(path, ["text"]) == [{"text": "one"}, {"text": "two"}]


def test_a_document_longer_than_the_csv_modules_limit_is_read(tmp_path):
    text = "word " * 29_989
    assert len(text) > 131_072
    path = write_table(tmp_path / "a.csv", [{"text": text, "category": "long"}])
    assert read_records(path, COLUMNS)[0]["text"] == text


def test_numbers_of_json_and_parquet_stay_numbers(tmp_path):
    records = [{"text": "one", "category": 3}, {"text": "two", "category": 0}]
    assert read_records(write_lines(tmp_path / "a.jsonl", records), COLUMNS) == records
    assert read_records(write_parquet(tmp_path / "a.parquet", records), COLUMNS) == records


def test_quotation_marks_are_text_where_quoting_is_off(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tcategory\n"Never," he said\tquote\n"open\tquote\n')
    texts = [record["text"] for record in read_records(path, COLUMNS, quoting=False)]
    assert texts == ['"Never," he said', '"open']


def test_banking77_is_read_whole():
    records = read_records(BANKING77 / "train.csv", COLUMNS)
    assert len(records) == 10_003
    assert len({record["category"] for record in records}) == 77
    assert records[0] == {"text": "I am still waiting on my card?", "category": "card_arrival"}


def test_mrpc_is_read_whole_without_quoting(data_dir, tmp_path):
    original = data_dir / "glue" / "MRPC" / "msr_paraphrase_train.txt"
    path = write(tmp_path / "train.tsv", original.read_bytes())
    records = read_records(path, ("#1 String", "#2 String", "Quality"), quoting=False)
    assert len(records) == 4_076
    assert sum(record["#1 String"].startswith('"') for record in records) > 100
    assert "expected fields quoted as in RFC 4180" in error_of(path, ("Quality",))


def test_a_missing_file_is_named(tmp_path):
    assert "expected a file, came nothing" in error_of(tmp_path / "none.csv")


def test_a_folder_is_no_file(tmp_path):
    assert "expected a file, came a folder: give one of its files" in error_of(tmp_path)


@pytest.mark.parametrize("name", ["a.xlsx", "a.html.gz", "a.parquet.gz", "a.txt"])
def test_an_unknown_ending_lists_those_known(tmp_path, name):
    message = error_of(write(tmp_path / name, "x"))
    ending = name.removeprefix("a")
    known = ".csv, .tsv, .jsonl, .json, .xml (or one of these and .gz) or .parquet"
    assert f"{known}, came '{ending}'" in message
    assert "save it as CSV in UTF-8" in message


def test_a_file_without_an_ending_is_unknown(tmp_path):
    assert "came 'no ending'" in error_of(write(tmp_path / "data", "x"))


@pytest.mark.parametrize(("name", "writer"), [("a.csv", write_table), ("a.parquet", write_parquet)])
def test_a_missing_column_lists_the_columns_there_are(tmp_path, name, writer):
    message = error_of(writer(tmp_path / name), ("text", "label"))
    assert "expected one column 'label', came none; the columns are " in message
    assert "'text', 'category'. Name the column you mean" in message


def test_a_json_line_without_the_column_is_named_by_its_row(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b"}\n')
    message = error_of(path, ("text", "label"))
    assert message.startswith(", row 3: expected one column 'label', came none; the columns are")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "text,text,category\na,b,c\n")
    assert "expected one column 'text', came 2; the columns are 'text', 'text'" in error_of(path)


def test_a_header_of_data_is_shortened(tmp_path):
    path = write(tmp_path / "a.csv", "x" * 1009 + ",1\nb,2\n")
    message = error_of(path)
    assert "the columns are 'xxx" in message
    assert "…, '1'" in message
    assert len(message) < 300


def test_all_empty_values_are_counted_and_the_first_named(tmp_path):
    rows = ["text,category", "one,a", " ,a", '"two\nlines",', '"",b', "three,c"]
    path = write(tmp_path / "a.csv", "\n".join(rows))
    assert error_of(path) == (
        ": expected a value for 'text', 'category' in every row, came no 'text' in rows 3, 6 and "
        "no 'category' in row 4: fill them in, or delete those rows."
    )
    path = write(tmp_path / "b.csv", "text,category\n" + ",a\n" * 17)
    assert "no 'text' in 17 rows (first: 2, 3, 4, 5, 6):" in error_of(path)


def test_null_values_count_as_empty(tmp_path):
    lines = ['{"text": null}', '{"text": "a"}', '{"text": NaN}', '{"text": []}', '{"text": 0}']
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert "no 'text' in rows 1, 3, 4:" in error_of(path, ["text"])
    path = write_parquet(tmp_path / "a.parquet", [{"text": "a"}, {"text": None}])
    assert "no 'text' in row 2:" in error_of(path, ["text"])


@pytest.mark.parametrize(("row", "number"), [("a,b,c", 3), ("a", 1)])
def test_a_row_with_too_many_or_too_few_fields_is_named(tmp_path, row, number):
    path = write(tmp_path / "a.csv", f'text,category\n"one\ntwo",x\n{row}\n')
    message = error_of(path)
    assert f", row 4: expected 2 fields, as in the header, came {number}: 'a'" in message
    assert "Put a field that holds ',' or a line break in quotation marks." in message


@pytest.mark.parametrize(
    ("fields", "problem"),
    [('"never closed,x\nb,y\n', "unexpected end of data"), ('"a"b,x\n', "expected after")],
)
def test_broken_quoting_is_named_by_the_row_where_it_begins(tmp_path, fields, problem):
    message = error_of(write(tmp_path / "a.csv", "text,category\none,x\n" + fields))
    assert message.startswith(", row 3: expected fields quoted as in RFC 4180, came: ")
    assert problem in message
    assert "quoting=False" in message


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_bytes_that_are_not_utf8_are_found_wherever_they_are(tmp_path, name):
    # Beyond the first block that is decoded, so that the decoder's own count is no help.
    before = "text,category\n" + "água,x\n" * 10_007
    content = before.encode() + "maçã,y\n".encode("cp1252")
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    message = error_of(path)
    offset = len(before.encode()) + 2
    assert f", row 10009: expected UTF-8, came byte 0xE7 at byte {offset} of the text" in message
    assert f"iconv -f cp1252 -t utf-8 {path}" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_recognised(tmp_path, encoding):
    message = error_of(write(tmp_path / "a.csv", "text,category\na,b\n".encode(encoding)))
    assert "expected UTF-8, came bytes that are zero, as in UTF-16" in message
    assert "iconv -f utf-16 -t utf-8" in message


@pytest.mark.parametrize("line", ['{"text": "b"', '{"text": "half \\ud83d"}', "[" * 10_007])
def test_an_invalid_json_line_is_named(tmp_path, line):
    message = error_of(write(tmp_path / "a.jsonl", '{"text": "a"}\n' + line + "\n"), ["text"])
    assert message.startswith(f", row 2: expected one JSON object, came '{line[:7]}")
    assert message.endswith("write one record a line (JSON Lines).")
    assert len(message) < 300


def test_surrogates_in_pairs_are_one_character(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "\\ud83d\\ude42"}')
    assert read_records(path, ["text"]) == [{"text": "🙂"}]


@pytest.mark.parametrize("content", ['[{"text": "a"}]', '"a"', "7"])
def test_json_that_is_no_object_is_refused(tmp_path, content):
    message = error_of(write(tmp_path / "a.json", content), ["text"])
    assert f", row 1: expected one JSON object, came {content!r}" in message
    assert "(JSON Lines)" in message


def test_a_file_without_records_is_refused(tmp_path):
    empty = {"a.csv": "text,category\n", "a.jsonl": "\n"}
    for name, content in empty.items():
        assert "expected records, came none" in error_of(write(tmp_path / name, content))
    assert "the columns are missing" in error_of(write(tmp_path / "b.csv", ""))
    schema = pyarrow.schema([("text", pyarrow.string())])
    parquet.write_table(schema.empty_table(), tmp_path / "a.parquet")
    assert "expected records, came none" in error_of(tmp_path / "a.parquet", ["text"])


def test_a_truncated_gzip_file_is_named(tmp_path):
    whole = write_table(tmp_path / "a.csv.gz", RECORDS * 997).read_bytes()
    message = error_of(write(tmp_path / "b.csv.gz", whole[: len(whole) // 2]))
    assert "expected a whole gzip file, came one that is cut off or damaged" in message
    assert "copy it again" in message


def test_a_plain_file_named_gz_is_named(tmp_path):
    message = error_of(write(tmp_path / "a.csv.gz", "text,category\na,b\n"))
    assert "leave .gz off the name of a file that is not compressed" in message


@pytest.mark.parametrize("damage", ["cut", "text", "garbled"])
def test_a_broken_parquet_file_is_named(tmp_path, damage):
    whole = write_parquet(tmp_path / "a.parquet", RECORDS * 997).read_bytes()
    broken = {
        "cut": whole[:-101],
        "text": b"text,category\n",
        "garbled": whole[:4] + b"\xff" * 211 + whole[215:],
    }
    message = error_of(write(tmp_path / "b.parquet", broken[damage]))
    assert "expected a Parquet file, came one that cannot be read" in message


def test_lines_of_a_text_file_stay_aligned_with_their_texts(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffone\r\n\n  two \rstill two\u2028and\x0bon\nthree")
    assert list(read_texts(path)) == ["one", "", "  two \rstill two\u2028and\x0bon", "three"]


def test_a_gzipped_text_file_is_read(tmp_path):
    path = write(tmp_path / "a.txt.gz", gzip.compress("é\nb\n".encode()))
    assert list(read_texts(path)) == ["é", "b"]


def test_lines_of_standard_input_may_be_bytes_or_strings():
    assert list(read_texts([b"\xef\xbb\xbfa\xc3\xa9\r\n", b"\n", b"b"])) == ["aé", "", "b"]
    assert list(read_texts(["a\n", "\n", "b"])) == ["a", "", "b"]
    with pytest.raises(InputError, match="input, row 2: expected UTF-8, came byte 0xE9: convert"):
        list(read_texts([b"a\n", b"\xe9\n"]))


@pytest.mark.parametrize(
    ("name", "writer"),
    [("a.csv", write_table), ("a.jsonl", write_lines), ("a.parquet", write_parquet)],
)
def test_texts_come_from_the_column_named(tmp_path, name, writer):
    records = [*RECORDS, {"text": "", "category": "empty"}]
    path = writer(tmp_path / name, records)
    assert list(read_texts(path)) == [record["text"] for record in records]
    assert list(read_texts(path, "category")) == [record["category"] for record in records]


def test_a_value_that_is_no_text_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": null}\n')
    with pytest.raises(InputError, match="row 2: expected text in 'text', came None: write it as"):
        list(read_texts(path))


def test_a_missing_file_of_texts_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(InputError, match="came nothing"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(InputError, match="came nothing"):
        read_texts(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.parquet"])
def test_texts_are_streamed_in_constant_memory(tmp_path, name):
    text, number = "x" * 997, 10_007
    path = tmp_path / name
    line = f'{{"text": "{text}"}}\n' if name == "a.jsonl" else f"{text}\n"
    if name == "a.parquet":
        parquet.write_table(pyarrow.table({"text": [text] * number}), path, row_group_size=1009)
    else:
        write(path, ("text\n" if name == "a.csv" else "") + line * number)
    tracemalloc.start()
    try:
        assert sum(len(read) for read in read_texts(path)) == 997 * number
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000  # of 10 MB
