"""Questions about texts: SQuAD's JSON, 1.1 and 2.0 (Rajpurkar et al. 2016, 2018) → records.

    {"id": …, "question": …, "context": …, "answers": [{"text": …, "answer_start": …}, …]}

An answer is a piece of its context, and `answer_start` its first character. A question that the
context does not answer has none (`is_impossible` in the file).
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kbert.errors import InputError, InputWarning
from kbert.inputs.files import ending, open_text, shortened
from kbert.inputs.records import read_records, stream

NAMED = 50  # ids in an error
FORM = '{"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}'
COLUMNS = ("id", "question", "context", "answers")

Answer = tuple[str, int | None]
"""Its text and its first character in the context; None where it does not stand there."""


def read_squad(path: str | Path, realign: bool = False) -> list[dict[str, Any]]:
    """Questions with their contexts and answers.

    Args:
        path: SQuAD's .json; or .jsonl or .parquet with the columns of a record.
        realign: move answers whose offsets do not match to the nearest place where their text
            stands; one warning tells which, and which stand nowhere.

    Raises:
        InputError: the file is not of this form; texts are empty, ids come twice, or answers do not
            stand where they say.
    """
    path = Path(path)
    if ending(path) == ".json":
        records = [_with_answers(*found) for found in _questions(path)]
    else:
        records = read_records(path, COLUMNS, optional=("answers",))
        records = [{**record, "answers": answers_as_list(record)} for record in records]
    if not records:
        raise InputError(f"{path}: expected questions, came none.")
    try:
        check_questions(records, realign)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return _realigned(records, path) if realign else records


def read_questions(path: str | Path) -> Iterator[dict[str, str]]:
    """Questions to be answered, with their contexts; answers may be there."""
    path = Path(path)
    if ending(path) != ".json":
        yield from (record for _, record in stream(path, ("question", "context")))
        return
    for _, question, context in _questions(path):
        yield {"id": question["id"], "question": question["question"], "context": context}


def answers_of(record: Mapping[str, Any]) -> list[Answer]:
    """The answers of a record, each its text and its first character."""
    return [(answer["text"], answer["answer_start"]) for answer in answers_as_list(record)]


def answers_as_list(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record's answers; Hugging Face's data sets hold a list of texts and one of starts."""
    answers = record["answers"] or []
    if not isinstance(answers, Mapping):
        return answers
    pairs = zip(answers["text"], answers["answer_start"], strict=True)
    return [{"text": text, "answer_start": start} for text, start in pairs]


def check_questions(records: Sequence[Mapping[str, Any]], realign: bool = False) -> None:
    """Raises an InputError if questions cannot be learned.

    Args:
        realign: let answers pass that do not stand where they say.
    """
    seen: dict[Any, int] = {}
    twice = []
    for number, record in enumerate(records, 1):
        for column in ("question", "context"):
            if not isinstance(record[column], str) or not record[column].strip():
                raise InputError(
                    f"question {record.get('id', number)!r} (number {number}): expected a "
                    f"{column}, came {shortened(record[column])}: fill it in, or take the question "
                    "out."
                )
        if record.get("id") is not None and seen.setdefault(record["id"], number) != number:
            twice.append(record["id"])
    if twice:
        raise InputError(
            f"expected an id of its own for every question, came {len(twice)} that another has, "
            f"too: {_listed(twice)}. Give each its own."
        )
    wrong = misplaced(records)
    if wrong and not realign:
        raise InputError(_misplaced(records, wrong))


def misplaced(records: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """The answers that do not stand where they say: the numbers of record and answer."""
    return [
        (number, place)
        for number, record in enumerate(records)
        for place, (text, start) in enumerate(answers_of(record))
        if start is not None and not _stands(record["context"], text, start)
    ]


def nearest(context: str, text: str, start: int) -> int | None:
    """The place where a text stands that is nearest to `start`, of two the first; or None."""
    before = context.rfind(text, 0, max(start, 0) + len(text))
    after = context.find(text, max(start, 0))
    if before < 0 or after < 0:
        return max(before, after) if max(before, after) >= 0 else None
    return before if start - before <= after - start else after


def _stands(context: str, text: str, start: Any) -> bool:
    return isinstance(start, int) and start >= 0 and bool(text) and context.startswith(text, start)


def _misplaced(records, wrong: Sequence[tuple[int, int]]) -> str:
    number, place = wrong[0]
    record = records[number]
    text, start = answers_of(record)[place]
    there = record["context"][start : start + len(text)] if isinstance(start, int) else ""
    ids = list(dict.fromkeys(records[number].get("id", number + 1) for number, _ in wrong))
    return (
        f"expected answers that stand in their context where answer_start says, came {len(wrong)} "
        f"of {len(ids)} questions that do not. The first: {shortened(text)} at {start!r}, where "
        f"{shortened(there)} stands. The questions: {_listed(ids)}. Correct their offsets, or move "
        "each to the nearest place where its text stands (--realign)."
    )


def _realigned(records: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The records with every misplaced answer moved, or without a place; one warning tells."""
    moved, lost = [], []
    for number, place in misplaced(records):
        record = records[number]
        answers = [dict(answer) for answer in record["answers"]]
        start = answers[place]["answer_start"]
        start = start if isinstance(start, int) else 0
        answers[place]["answer_start"] = nearest(record["context"], answers[place]["text"], start)
        found = answers[place]["answer_start"] is not None
        (moved if found else lost).append(record.get("id", number + 1))
        records[number] = {**record, "answers": answers}
    if moved or lost:
        warnings.warn(
            f"{path}: {len(moved)} answers were moved to the nearest place where their text "
            f"stands, of the questions {_listed(moved)}; {len(lost)} stand nowhere and are not "
            f"learned{': ' * bool(lost)}{_listed(lost)}.",
            InputWarning,
            stacklevel=4,
        )
    return records


def _questions(path: Path) -> Iterator[tuple[str, dict, str]]:
    """(where it stands, question, context) of a SQuAD file, in its order."""
    with open_text(path, newline="") as file:
        try:
            whole = json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: expected JSON, came what is not ({error}).") from error
    articles = _part(whole, "data", list, str(path))
    for a, article in enumerate(articles):
        at = f"{path}, data[{a}]"
        for p, paragraph in enumerate(_part(article, "paragraphs", list, at)):
            where = f"{at}, paragraphs[{p}]"
            context = _part(paragraph, "context", str, where)
            for q, question in enumerate(_part(paragraph, "qas", list, where)):
                this = f"{where}, qas[{q}]"
                for name in ("question", "id"):
                    _part(question, name, str, this)
                yield this, question, context


def _part(whole: Any, name: str, kind: type, where: str):
    part = whole.get(name) if isinstance(whole, dict) else None
    if not isinstance(part, kind):
        named = {list: "a list", str: "a string"}[kind]
        raise InputError(
            f"{where}: expected {named} {name!r}, as SQuAD has it ({FORM}), came "
            f"{'none' if part is None else shortened(part)}."
        )
    return part


def _with_answers(where: str, question: dict, context: str) -> dict[str, Any]:
    answers = []
    if not question.get("is_impossible"):
        answers = _part(question, "answers", list, where)
        for answer in answers:
            _part(answer, "text", str, where)
            if "answer_start" not in answer:
                raise InputError(f"{where}: expected an 'answer_start' of {shortened(answer)}.")
        if not answers:
            raise InputError(
                f'{where}: expected an answer, or "is_impossible": true for a question that the '
                f"context does not answer; came neither for {shortened(question['question'])}."
            )
    return {
        "id": question["id"], "question": question["question"], "context": context,
        "answers": [{"text": x["text"], "answer_start": x["answer_start"]} for x in answers],
    }  # fmt: skip


def _listed(ids: Sequence[Any]) -> str:
    shown = ", ".join(map(str, ids[:NAMED]))
    return f"{shown} and {len(ids) - NAMED} more" if len(ids) > NAMED else shown
