"""ASSIN's XML: Portuguese pairs with similarity and entailment (Real et al. 2020, ASSIN 2).

    <pair entailment="Entailment" id="1" similarity="4.9"><t>…</t><h>…</h></pair>

A record's columns are `t` and `h`, the texts, and the attributes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kbert.errors import InputError
from kbert.inputs.files import check_columns, open_text


def read_pairs(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The pairs of a file one after another, each with its number, from 1.

    Raises:
        InputError: it is no XML, has no pairs, or lacks a column.
    """
    number = 0
    with open_text(path, newline="\n") as file:
        try:
            for _, element in ElementTree.iterparse(file):
                if element.tag == "pair":
                    number += 1
                    record = {**element.attrib, **{x.tag: (x.text or "").strip() for x in element}}
                    check_columns(f"{path}, pair {number}", columns, record)
                    yield number, {column: record[column] for column in columns}
                    element.clear()  # or the whole file would be held
        except ElementTree.ParseError as error:
            raise InputError(
                f"{path}: expected ASSIN's XML, <pair> with <t> and <h>, came: {error}."
            ) from error
