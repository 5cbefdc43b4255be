"""Questions, contexts and answers from SQuAD's JSON, and what is wrong with it."""

import json

import pytest

from kbert.errors import InputError, InputWarning
from kbert.inputs import squad
from kbert.inputs.squad import read_questions, read_squad

CONTEXT = "Barack Obama nasceu no Havaí. Obama é do Havaí."


def question(number, *answers, **more):
    answers = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": f"q{number}", "question": f"Onde {number}?", "answers": answers, **more}


def written(folder, *questions, context=CONTEXT, name="file.json"):
    data = [{"title": "x", "paragraphs": [{"context": context, "qas": list(questions)}]}]
    path = folder / name
    path.write_text(json.dumps({"version": "v2.0", "data": data}), "utf-8")
    return path


def test_questions_come_with_their_context_and_all_their_answers(tmp_path):
    asked = question(1, ("Havaí", 23), ("no Havaí", 20))
    none = question(2, is_impossible=True, plausible_answers=[{"text": "x", "answer_start": 0}])
    path = written(tmp_path, asked, none)
    first, second = read_squad(path)
    assert first == {
        "id": "q1", "question": "Onde 1?", "context": CONTEXT, "answers": asked["answers"]
    }  # fmt: skip
    assert second["answers"] == []
    assert squad.answers_of(first) == [("Havaí", 23), ("no Havaí", 20)]
    assert list(read_questions(path))[1] == {
        "id": "q2", "question": "Onde 2?", "context": CONTEXT
    }  # fmt: skip


def test_data_sets_of_hugging_face_are_read_too(tmp_path):
    answers = {"text": ["Havaí"], "answer_start": [23]}
    record = {"id": 7, "question": "Onde?", "context": CONTEXT, "answers": answers}
    none = {**record, "id": 8, "answers": {"text": [], "answer_start": []}}
    path = tmp_path / "file.jsonl"
    path.write_text(f"{json.dumps(record)}\n{json.dumps(none)}\n")
    first, second = read_squad(path)
    assert first["answers"] == [{"text": "Havaí", "answer_start": 23}]
    assert second["answers"] == []
    assert [asked["question"] for asked in read_questions(path)] == ["Onde?"] * 2


def test_real_files_have_their_questions(data_dir):
    records = read_squad(data_dir / "qa" / "squad_v1.1" / "dev-v1.1.json")
    assert len(records) == 10570
    assert len({record["context"] for record in records}) == 2067
    assert sum(len(record["answers"]) for record in records) == 34726


FAQUAD = {
    # file → questions, answers that do not stand where they say, their questions, moved, lost
    "train": (837, 30, 29, 30, 0),
    "dev": (63, 4, 3, 3, 1),
    "dataset": (900, 33, 32, 32, 1),
}


@pytest.mark.parametrize("name", FAQUAD)
def test_answers_of_faquad_that_are_off_are_told_and_moved(data_dir, name):
    number, wrong, questions, moved, lost = FAQUAD[name]
    path = data_dir / "qa" / "faquad" / f"{name}.json"
    with pytest.raises(InputError, match=f"came {wrong} of {questions} questions .*--realign") as e:
        read_squad(path)
    assert len(str(e.value).split("The questions: ")[1].split(". ")[0].split(", ")) == questions
    with pytest.warns(InputWarning, match=f"{moved} answers were moved .*; {lost} stand now") as w:
        records = read_squad(path, realign=True)
    assert len(w) == 1
    assert len(records) == number
    assert squad.misplaced(records) == []
    squad.check_questions(records)
    nowhere = [text for r in records for text, start in squad.answers_of(r) if start is None]
    assert [text[:14] for text in nowhere] == ["dirigindo- se "] * lost


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("Obama", 7, 7), ("Obama", 8, 7), ("Obama", 0, 7), ("Obama", 29, 30), ("Obama", 99, 30),
        ("Obama", -3, 7), ("Havaí", 32, 23), ("Havaí", 33, 41), ("Onde", 3, None),
    ],
)  # fmt: skip
def test_an_answer_is_moved_to_the_nearest_place(text, start, expected):
    """Of two as near, to the first: 32 is nine from 23 and from 41."""
    assert squad.nearest(CONTEXT, text, start) == expected


# Bad input


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ([question(1, ("Havaí", 22))], r"came 1 of 1 questions .* 'Havaí' at 22, where ' Hava' st"),
        ([question(1, ("", 22))], r"came 1 of 1 questions that do not. The first: '' at 22"),
        ([question(1, ("Havaí", "23"))], r"The first: 'Havaí' at '23', where '' stands"),
        ([question(1, ("Havaí", 23))] * 2, r"id of its own .* came 1 that another has, too: q1"),
        ([question(1)], r"paragraphs\[0\], qas\[0\]: expected an answer, or \"is_impossible\""),
        (
            [{**question(1, ("Havaí", 23)), "question": " "}],
            r"'q1' .*expected a question, came ' '",
        ),
        ([{"id": "x", "question": "y"}], r"qas\[0\]: expected a list 'answers', as SQuAD .* none"),
        ([{"id": 3, "question": "y"}], r"qas\[0\]: expected a string 'id', .*came 3"),
        ([{**question(1), "answers": [{"text": "x"}]}], r"expected an 'answer_start' of {'text'"),
        ([], r"expected questions, came none"),
    ],
)
def test_what_cannot_be_learned_is_told(tmp_path, questions, words):
    with pytest.raises(InputError, match=rf"file\.json.*{words}"):
        read_squad(written(tmp_path, *questions))


def test_an_empty_context_is_told(tmp_path):
    path = written(tmp_path, question(1, ("x", 0)), context=" \n")
    with pytest.raises(InputError, match=r"question 'q1' \(number 1\): expected a context, came"):
        read_squad(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"expected JSON, came what is not"),
        ("[]", r"expected a list 'data', as SQuAD has it .* came none"),
        ('{"data": [{"paragraphs": 3}]}', r"data\[0\]: expected a list 'paragraphs'.* came 3"),
        ('{"data": [{"paragraphs": [{}]}]}', r"paragraphs\[0\]: expected a string 'context'"),
    ],
)
def test_what_is_no_squad_is_told(tmp_path, text, words):
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"file\.json.*{words}"):
        read_squad(path)
