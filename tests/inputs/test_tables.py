"""Tables as GLUE has them: tabs, no quoting, with a header or without; numbers in them."""

import pytest

import kbert
from kbert.errors import InputError
from kbert.inputs.records import read_records, read_texts

GLUE = {"delimiter": "tab", "quoting": False}


def write(path, content):
    path.write_text(content, "utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "columns", "form", "number"),
    [
        ("CoLA/train.tsv", ("4", "2"), {"header": False}, 8551),
        ("CoLA/dev.tsv", ("4", "2"), {"header": False}, 1043),
        ("SST-2/train.tsv", ("sentence", "label"), {}, 67349),
        ("MRPC/msr_paraphrase_test.txt", ("#1 String", "#2 String", "Quality"), {}, 1725),
        ("STS-B/sts-train.csv", ("6", "7", "5"), {"header": False}, 5749),
        ("RTE/dev.tsv", ("sentence1", "sentence2", "label"), {}, 277),
        ("QNLI/dev.tsv", ("question", "sentence", "label"), {}, 5463),
        ("QQP/dev_part.tsv", ("question1", "question2", "is_duplicate"), {}, 23496),
        ("MNLI/subset_dev.jsonl", ("text_a", "text_b", "label"), {}, 1000),
    ],
)
def test_every_table_of_glue_is_read_whole(data_dir, name, columns, form, number):
    records = read_records(data_dir / "glue" / name, columns, **GLUE, **form)
    assert len(records) == number
    assert list(records[0]) == list(columns)
    if name.startswith("CoLA/train"):
        assert records[0] == {"4": records[0]["4"], "2": "1"}
        assert records[0]["4"].startswith("Our friends won't buy this analysis, let")
        assert {record["2"] for record in records} == {"0", "1"}


def test_texts_of_a_table_without_header_come_by_their_column(tmp_path):
    path = write(tmp_path / "a.txt", '1;"open\n2;b;more\n')
    form = {"delimiter": "semicolon", "quoting": False, "header": False}
    assert list(read_texts(path, "2", **form)) == ['"open', "b"]


def test_names_are_refused_where_there_is_no_header(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n")
    with pytest.raises(InputError, match="numbers of columns, 1 the first, .* came 'text', '0'"):
        read_records(path, ("1", "text", "0"), header=False)


def test_a_row_with_too_few_fields_for_its_columns_is_named(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,c\nd,e\n")
    with pytest.raises(InputError, match=r"a.csv, row 2: expected 3 fields or more, .* came 2: 'd"):
        read_records(path, ("1", "3"), header=False)


def test_numbers_are_floats_and_may_be_missing_where_that_is_allowed(tmp_path):
    table = write(tmp_path / "a.csv", "t,n\na, 4.5 \nb,\nc,-2e1\n")
    lines = write(tmp_path / "a.jsonl", '{"t":"a","n":4.5}\n{"t":"b","n":null}\n{"t":"c","n":-20}')
    for path in (table, lines):
        records = read_records(path, ("t", "n"), numbers=("n",), optional=("n",))
        assert [record["n"] for record in records] == [4.5, None, -20.0]
        assert type(records[2]["n"]) is float
        with pytest.raises(InputError, match="expected a value for 't', 'n' in every row, came no"):
            read_records(path, ("t", "n"), numbers=("n",))


@pytest.mark.parametrize("value", ['"good"', '"4,5"', "true", "[4]", '"nan"', "1e999"])
def test_what_is_no_number_is_refused_with_file_row_and_value(tmp_path, value):
    path = write(tmp_path / "a.jsonl", f'{{"n": 3}}\n\n{{"n": {value}}}\n')
    with pytest.raises(kbert.InputError) as caught:
        read_records(path, ["n"], numbers=["n"])
    assert str(caught.value).startswith(f"{path}, row 3: expected a number in column 'n', came ")
    assert "write it as 4 or 4.5" in str(caught.value)


# ASSIN's XML


def test_assin_2_is_read_whole(data_dir):
    file = data_dir / "pairs_pt" / "assin2-dev.xml"
    records = read_records(file, ("t", "h", "similarity", "entailment"), numbers=("similarity",))
    assert len(records) == 500
    assert records[1] == {
        "t": "Um grupo de pessoas jogando futebol está correndo no campo",
        "h": "Um grupo de jogadores de futebol está correndo no campo",
        "similarity": 4.8, "entailment": "Entailment",
    }  # fmt: skip
    assert {record["entailment"] for record in records} == {"Entailment", "None"}


def test_a_file_that_is_no_xml_or_lacks_a_column_is_named(tmp_path):
    path = write(tmp_path / "a.xml", '<c><pair id="1"><t>a</t><h>b</h></pair></c>')
    assert read_records(path, ("t", "h")) == [{"t": "a", "h": "b"}]
    with pytest.raises(InputError, match="a.xml, pair 1: expected one column 'similarity', came n"):
        read_records(path, ("t", "similarity"))
    write(path, "<c><pair>")
    with pytest.raises(InputError, match="a.xml: expected ASSIN's XML, <pair> with <t> and <h>, c"):
        read_records(path, ("t",))
