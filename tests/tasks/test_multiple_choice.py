"""A text and its choices: one row each, together from the file to the answer."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import theirs
import tiny
from harness import BACKEND, randomize

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.tasks.multiple_choice import MultipleChoice

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="slow: one backend shows it")
TASK = MultipleChoice(3, max_length=13)
SWAG = MultipleChoice(3, "sent1", "sent2", "ending0,ending1,ending2", max_length=17)
RECORDS = [
    {"text": "my cat", "choices": ["a dog", "whiskers", "the wing is here"], "label": 1},
    {"text": "a bird was not here", "choices": ["nest", "", "bone"], "label": "0"},
    {"text": "", "choices": ["leash", "kitten", "bark"], "label": "bark"},
]


def matching(number, seed):
    """The right choice has a word of the text's animal, the others have words of the others."""
    chance = np.random.default_rng(seed)
    records = []
    for _ in range(number):
        order = chance.permutation(3)
        label = int(chance.integers(3))
        words = [str(chance.choice(tiny.WORDS[tiny.LABELS[i]][:2])) for i in order]
        text = tiny.WORDS[tiny.LABELS[order[label]]][0]
        records.append({"text": text, "choices": words, "label": label})
    return records


@pytest.fixture(scope="module")
def model(one_block_dir):
    """A checkpoint and a model with random weights."""
    loaded = kbert.load(one_block_dir, dtype="float32")
    model = TASK.model(loaded.encoder)
    randomize(model)
    return loaded, model


def test_every_choice_is_a_row_and_rows_of_a_question_stay_together(model):
    tokenizer = model[0].tokenizer
    dataset = TASK.dataset(RECORDS[:2], tokenizer, batch_size=2, shuffle=False)
    ((features, targets),) = dataset.as_numpy_iterator()
    pairs = [(record["text"], choice) for record in RECORDS[:2] for choice in record["choices"]]
    for row, (text, choice) in enumerate(pairs):
        (first, second) = tokenizer([text, choice])
        ids = [2, *first, 3, *second, 3]
        assert features["token_ids"][row, : len(ids)].tolist() == ids
        assert features["padding_mask"][row].sum() == len(ids)
        assert features["segment_ids"][row].sum() == len(second) + 1
    assert len(features["token_ids"]) == 6
    assert targets.tolist() == [1, 0]


def test_the_question_stands_before_every_choice(model):
    record = {"sent1": "my cat", "sent2": "the", "ending0": "dog", "ending1": "nest",
              "ending2": "mouse"}  # fmt: skip
    assert SWAG.questions([record]) == [("my cat", ["the dog", "the nest", "the mouse"])]
    assert SWAG.questions([("my cat", "the", "dog", "nest", "mouse")]) == SWAG.questions([record])
    assert SWAG.inputs == ("sent1", "sent2", "ending0", "ending1", "ending2")


def test_the_right_choice_comes_as_a_number_its_text_or_a_letter():
    choices = ["b", "a", "2"]
    labels = (0, 2.0, "1", "2", "a", "C", "A")
    records = [{"text": "", "choices": choices, "label": label} for label in labels]
    assert TASK.targets(records).tolist() == [0, 2, 1, 2, 1, 2, 0]
    assert TASK.targets(records).dtype == np.int32


def test_answers_and_scores_are_worked_out_by_hand(model):
    logits = np.log(np.array([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2], [0.1, 0.1, 0.8]], "float32"))
    prepared = TASK.prepare(RECORDS, model[0].tokenizer)
    answers = list(TASK.answers(logits, prepared))
    assert [(answer["choice"], answer["answer"]) for answer in answers] == [
        (1, "whiskers"), (1, ""), (2, "bark"),
    ]  # fmt: skip
    assert answers[0]["probabilities"] == pytest.approx([0.2, 0.5, 0.3])
    assert TASK.scores(logits, RECORDS) == {
        "accuracy": pytest.approx(2 / 3),
        "loss": pytest.approx(-np.log([0.5, 0.1, 0.8]).mean(), abs=1e-6),
        "examples": 3,
    }


def test_questions_are_answered_as_each_alone_in_their_order(model):
    loaded, model = model
    predictor = kbert.Predictor(model, TASK, loaded.tokenizer, batch_size=4)
    records = matching(11, 1) + RECORDS
    answers = list(predictor(records))
    for record, answer in zip(records[::3], answers[::3], strict=True):
        (alone,) = predictor([record])
        assert alone["choice"] == answer["choice"]
        np.testing.assert_allclose(alone["probabilities"], answer["probabilities"], atol=1e-5)
    assert len({answer["choice"] for answer in answers}) > 1


def test_the_right_choice_is_learned(one_block_dir):
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    train = matching(256, 1)
    task = MultipleChoice.from_records(train, max_length=6, dropout=0.0, pooling="mean")
    assert task.num_choices == 3
    keras.utils.set_random_seed(2)
    model = task.model(loaded.encoder)
    model.compile(kbert.adamw(0.003), task.loss(), weighted_metrics=task.metrics())
    settings = {"batch_size": 32, "buckets": [6], "remainder": "fill"}
    model.fit(task.dataset(train, loaded.tokenizer, **settings), epochs=10, verbose=0)
    test = matching(61, 2)
    scores = task.scores(kbert.Predictor(model, task, loaded.tokenizer).logits(test), test)
    assert scores["accuracy"] > 0.95
    dataset = task.dataset(test, loaded.tokenizer, shuffle=False, **settings)
    figures = model.evaluate(dataset, verbose=0, return_dict=True)
    assert figures["accuracy"] == pytest.approx(scores["accuracy"], abs=1e-5)


def test_transformers_opens_the_folder_and_gives_the_same_logits(model, tmp_path):
    loaded, model = model
    kbert.save(tmp_path, model, TASK.settings(loaded.settings), loaded.tokenizer)
    again = kbert.load(tmp_path, task="multiple-choice")
    assert again.new == []
    assert again.task == tasks.from_settings(again.settings) == TASK
    settings = {k: v for k, v in again.settings.items() if k != "kbert"}
    assert isinstance(tasks.from_settings(settings), MultipleChoice)
    opened = theirs.opened(tmp_path, "AutoModelForMultipleChoice")
    rows = [row for rows in TASK.rows(RECORDS, loaded.tokenizer)[0] for row in rows]
    features = TASK.packer(loaded.tokenizer).pad(rows, 13)
    logits = kbert.Predictor(model, TASK, loaded.tokenizer).logits(RECORDS)
    np.testing.assert_allclose(theirs.logits(opened, features, 3), logits, rtol=0, atol=2e-5)


@TENSORFLOW_ONLY
@pytest.mark.parametrize("task", [TASK, SWAG], ids=["choices", "question"])
def test_questions_are_served_as_python_answers_them(one_block_dir, tmp_path, task):
    loaded = kbert.load(one_block_dir, dtype="float32")
    model = task.model(loaded.encoder)
    randomize(model)
    version = kbert.export(model, task, loaded.tokenizer, tmp_path)
    texts, choices = [r["text"] for r in RECORDS], [r["choices"] for r in RECORDS]
    texts[1] = "the bird " * 9
    asked, inputs = {"text": texts, "choices": choices}, list(zip(texts, choices, strict=True))
    if task.question:
        asked["question"] = ["is", "", "not a"]
        inputs = [(t, q, *c) for t, q, c in zip(texts, asked["question"], choices, strict=True)]
    answers = list(kbert.Predictor(model, task, loaded.tokenizer)(inputs))
    found = theirs.served(version, **asked)
    assert found["answer"] == [answer["answer"] for answer in answers]
    assert found["choice"].tolist() == [answer["choice"] for answer in answers]
    expected = [answer["probabilities"] for answer in answers]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-5)


@TENSORFLOW_ONLY
def test_a_file_like_swag_goes_through_every_command(one_block_dir, tmp_path, capsys):
    file, run = tmp_path / "swag.jsonl", tmp_path / "run"
    lines = []
    for record in matching(16, 1):
        endings = {f"ending{i}": choice for i, choice in enumerate(record["choices"])}
        lines.append({"sent1": record["text"], "sent2": "the", **endings, "label": record["label"]})
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    code = tiny.kbert(
        "finetune", "multiple-choice", "--train", file, "--test", file, "--text", "sent1",
        "--question", "sent2", "--choices", "ending0,ending1,ending2", "--max-length", 9,
        "--epochs", 1, "--checkpoint", one_block_dir, "--output", run, "--dtype", "float32",
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "test: accuracy" in out
    assert tiny.kbert("evaluate", run, "--data", file) == 0
    assert "16 examples" in capsys.readouterr().out
    assert tiny.kbert("predict", run, "cat", "the", "bone", "wing", "mouse") == 0
    (alone,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert alone["sent1"] == "cat"
    assert alone["answer"] == alone[f"ending{alone['choice']}"]
    assert tiny.kbert("predict", run, "--input", file) == 0
    assert len(capsys.readouterr().out.splitlines()) == 16
    assert tiny.kbert("export", run, tmp_path / "saved") == 0
    found = theirs.served(
        tmp_path / "saved" / "1",
        text=["cat"],
        question=["the"],
        choices=[["bone", "wing", "mouse"]],
    )
    np.testing.assert_allclose(found["probabilities"][0], alone["probabilities"], atol=1e-5)
    assert tiny.kbert("predict", run, "cat", "the", "bone") == 2
    assert "asks 5 texts together (sent1, sent2 and 3 choices); came 3" in capsys.readouterr().err


# Bad input


def test_another_number_of_choices_is_refused_with_its_record():
    records = [RECORDS[0], {**RECORDS[1], "choices": ["nest", "bone"], "label": 0}]
    with pytest.raises(InputError, match="record 2: expected 3 choices, as in all others and i"):
        TASK.check(records)
    with pytest.raises(InputError, match="two or more to choose of; got 1"):
        MultipleChoice.from_records([{"text": "x", "choices": ["y"], "label": 0}])


@pytest.mark.parametrize("label", [3, -1, "cat", "D", True, None])
def test_a_label_that_tells_no_choice_is_refused(label):
    with pytest.raises(InputError, match="record 1: expected the right choice in .* 0 to 2, its"):
        TASK.check([{**RECORDS[0], "label": label}])


@pytest.mark.parametrize("choices", ["a, b", ["a", 7, "b"], None])
def test_choices_that_are_no_list_of_texts_are_refused(choices):
    with pytest.raises(InputError, match="record 1: expected a list of texts in column 'choices'"):
        TASK.check([{**RECORDS[0], "choices": choices}])


def test_choices_of_a_list_come_after_their_text_on_the_command_line():
    assert TASK.asked(["t", "a", "b", "c"]) == [{"text": "t", "choices": ["a", "b", "c"]}]
    assert replace(TASK, question="q").asked(["t", "x", "a", "b", "c"]) == [
        {"text": "t", "q": "x", "choices": ["a", "b", "c"]}
    ]
