"""Questions answered from a text: rows, targets, answers, figures, and the served answer."""

import json
import random
from dataclasses import replace

import keras
import numpy as np
import pytest
import tiny
from harness import BACKEND, randomize, to_numpy

import kbert
from kbert import tasks
from kbert.errors import InputError, InputWarning
from kbert.inputs.candidates import Found
from kbert.tasks.question_answering import NEVER, QuestionAnswering

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="slow; once is enough")
SMALL = {"max_length": 31, "stride": 5, "max_question_length": 7, "max_answer_length": 5}
TASK = QuestionAnswering(**SMALL)
PETS = {name.split(",")[0].split("'")[0]: words for name, words in tiny.WORDS.items()}


def asked(number, seed, none=0.0, longest=9):
    """Which pet is it? The question names its kind; the context has a pet of every kind, or not."""
    chance = random.Random(seed)
    records = []
    for n in range(number):
        kind = chance.choice([*PETS])
        there = [k for k in PETS if k != kind or chance.random() >= none]
        words = []
        for k in chance.sample(there, len(there)):
            words += [*chance.choices(tiny.FILLERS, k=chance.randrange(1, longest // 3))]
            words.append((k, chance.choice(PETS[k])))
        context, answers = "", []
        for word in words:
            if isinstance(word, tuple):
                if word[0] == kind:
                    answers = [{"text": word[1], "answer_start": len(context)}]
                word = word[1]
            context += f"{word} "
        context += "here"
        records.append({"id": n, "question": f"{kind}?", "context": context, "answers": answers})
    return records


@pytest.fixture(scope="module")
def model(tiny_dir):
    """Random weights, so that answers come from everywhere."""
    loaded = kbert.load(tiny_dir, dtype="float32")
    model = TASK.model(loaded.encoder)
    randomize(model)
    return model


@pytest.fixture(scope="module")
def predictor(model, loaded):
    return kbert.Predictor(model, TASK, loaded.tokenizer, batch_size=8)


@pytest.fixture(scope="module")
def long():
    """Questions of contexts of several windows, and two strange ones."""
    records = asked(13, seed=7, longest=60)
    records[3]["question"] = "which of all the dogs is that, and why is it so small?"
    return [*records, {"question": "dog?", "context": " "}, {"question": "", "context": "a dog"}]


def test_settings_bring_the_task_back():
    task = QuestionAnswering(97, 11, 13, 7, 50, 3, -1.5, True)
    before = {
        "model_type": "bert", "hidden_dropout_prob": 0.2, "problem_type": "regression",
        "id2label": {"0": "a"}, "label2id": {"a": 0},
    }  # fmt: skip
    settings = task.settings(before)
    assert tasks.from_settings(settings) == task
    # Else transformers makes a head of as many numbers as there are labels.
    assert set(settings) == {"model_type", "hidden_dropout_prob", "kbert"}


def test_no_answer_is_possible_if_a_record_has_none():
    records = asked(23, seed=0)
    assert QuestionAnswering.from_records(records).threshold is None
    assert QuestionAnswering.from_records(records, threshold=2.5).threshold == 2.5
    records[5]["answers"] = []
    assert QuestionAnswering.from_records(records, stride=7).threshold == 0.0
    assert QuestionAnswering.from_records(records, threshold=2.5).threshold == 2.5


def test_a_window_with_the_answer_learns_its_tokens_and_others_cls(loaded):
    """The answer is the words "small cat"; one window of the three has both."""
    words = ["the"] * 33
    words[20:22] = ["small", "cat"]
    context = " ".join(words)
    start = context.index("small")
    record = {"question": "dog?", "context": context}
    record["answers"] = [{"text": "small cat", "answer_start": start}]
    dataset = TASK.dataset([record], loaded.tokenizer, batch_size=9, shuffle=False)
    ((features, targets),) = dataset.as_numpy_iterator()
    small, cat = loaded.tokenizer(["small cat"])[0]
    found = []
    for ids, (first, last) in zip(features["token_ids"].tolist(), targets.tolist(), strict=True):
        assert ids[:4] == [2, *loaded.tokenizer(["dog?"])[0], 3]
        if small in ids and cat in ids:
            found.append((first, last))
            assert ids[first : last + 1] == [small, cat]
            assert features["segment_ids"][0, 3:5].tolist() == [0, 1]
        else:
            assert (first, last) == (0, 0)
    assert len(found) == 1
    assert len(targets) == 2
    assert targets.dtype == np.int32


def test_the_first_answer_that_has_a_place_is_learned(loaded):
    record = {"question": "dog?", "context": "my cat is here"}
    nowhere, there = {"text": "bird", "answer_start": None}, {"text": "cat", "answer_start": 3}
    records = [{**record, "answers": answers} for answers in ([nowhere, there], [nowhere], [])]
    task = replace(TASK, threshold=0.0)
    dataset = task.dataset(records, loaded.tokenizer, batch_size=9, shuffle=False)
    ((_, targets),) = dataset.as_numpy_iterator()
    assert targets.tolist() == [[5, 5], [0, 0]]


def test_padding_is_no_answer(model, predictor):
    packer = TASK.packer(predictor.tokenizer)
    rows = TASK.prepare([("dog?", "my cat"), ("dog?", "my cat is here")], predictor.tokenizer).rows
    logits = to_numpy(model.predict_on_batch(packer.pad(rows, 13)))
    assert logits.shape == (2, 2, 13)
    assert (logits[0, :, 7:] == NEVER).all()
    assert np.abs(logits[0, :, :7]).max() < 1000


def test_the_model_can_be_handed_to_another_process(model, predictor, tmp_path):
    """As export does where the model is not on TensorFlow."""
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    rows = TASK.prepare([("dog?", "my cat"), ("dog?", "my cat is here")], predictor.tokenizer).rows
    features = TASK.packer(predictor.tokenizer).pad(rows, 13)
    expected = to_numpy(model.predict_on_batch(features))
    got = to_numpy(again.predict_on_batch(features))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("none", [0.0, 0.4])
def test_the_task_learns_where_the_answer_is(tiny_dir, none):
    loaded = kbert.load(tiny_dir, dtype="float32", dropout=0.0)
    train, test = asked(400, seed=2, none=none), asked(50, seed=3, none=none)
    task = QuestionAnswering.from_records(train, **SMALL)
    assert (task.threshold is None) is (none == 0)
    keras.utils.set_random_seed(3)
    model = task.model(loaded.encoder)
    model.compile(kbert.adamw(0.003), task.loss(), weighted_metrics=task.metrics())
    settings = {"batch_size": 20, "buckets": [31], "remainder": "fill"}
    checked = task.dataset(test, loaded.tokenizer, shuffle=False, **settings)
    history = model.fit(
        task.dataset(train, loaded.tokenizer, **settings), epochs=6, validation_data=checked,
        verbose=0,
    ).history  # fmt: skip
    assert history[task.monitor][-1] > 0.9
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    scores = task.scores(predictor.logits(test), test)
    assert scores["exact_match"] > 0.9
    assert scores["f1"] >= scores["exact_match"]
    assert ("unanswerable_f1" in scores) is (none > 0)


def test_transformers_opens_what_was_saved(loaded, model, tmp_path):
    torch = pytest.importorskip("torch")
    import transformers

    settings = TASK.settings({**loaded.settings, "id2label": {str(i): str(i) for i in range(7)}})
    kbert.save(tmp_path, model, settings, loaded.tokenizer)
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    inputs = [("which dog?", "my cat is a dog today"), ("", "cat")]
    rows = TASK.prepare(inputs, loaded.tokenizer).rows
    features = TASK.packer(loaded.tokenizer).pad(rows, 13)
    ours = to_numpy(model.predict_on_batch(features))
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    names["padding_mask"] = "attention_mask"
    with torch.no_grad():
        found = theirs(**{names[key]: torch.from_numpy(x).long() for key, x in features.items()})
    real = features["padding_mask"]
    for logits, expected in zip(
        np.moveaxis(ours, 1, 0), (found.start_logits, found.end_logits), strict=True
    ):
        np.testing.assert_allclose(logits[real], expected.numpy()[real], rtol=0, atol=5e-5)
    again = kbert.load(tmp_path, task="question-answering")
    assert again.task == TASK
    assert again.new == []


def answer_of(task, tokenizer, question, context, start, end, null=0.0):
    """What the task answers if two tokens and [CLS] have logits other than zero."""
    prepared = task.prepare([(question, context)], tokenizer)
    (row,) = prepared.rows
    logits = np.zeros((2, len(row[0]) + 3), "float32")
    column = prepared.details[0][0].column
    logits[0, column + start] = logits[1, column + end] = 9
    logits[:, 0] = null / 2
    (answer,) = task.answers(task.merged([logits], prepared), prepared)
    json.dumps(answer)
    return answer


def test_an_answer_is_a_piece_of_its_context(loaded):
    """The lectures' sentence; the words that answer are its first two."""
    context = "  Barack  Obama nasceu no Havaí."
    (encoding,) = loaded.tokenizer.encode([context])
    last = max(i for i, (_, end) in enumerate(encoding.offsets) if end <= 15)
    task = replace(TASK, max_answer_length=11)
    answer = answer_of(task, loaded.tokenizer, "Quem?", context, 0, last)
    assert answer == {
        "answer": "Barack  Obama", "start": 2, "end": 15, "score": pytest.approx(0.997, abs=3e-3)
    }  # fmt: skip
    assert context[2:15] == answer["answer"]
    shorter = answer_of(replace(task, max_answer_characters=6), loaded.tokenizer, "Quem?", context,
                        0, last)  # fmt: skip
    assert shorter["end"] - shorter["start"] <= 6


def test_no_answer_is_given_above_the_threshold(loaded):
    ask = ("dog?", "my cat is here", 1, 1)
    for threshold, null, answer in ((0.0, 17, "cat"), (0.0, 19, ""), (2.5, 19, "cat")):
        task = replace(TASK, threshold=threshold)
        found = answer_of(task, loaded.tokenizer, *ask, null=null)
        assert found["answer"] == answer == ask[1][found["start"] : found["end"]]
        assert found["null_odds"] == pytest.approx(null - 18)
    assert "null_odds" not in answer_of(TASK, loaded.tokenizer, *ask, null=19)
    assert answer_of(TASK, loaded.tokenizer, *ask, null=19)["answer"] == "cat"


def test_the_likeliest_answers_are_listed(loaded):
    task = replace(TASK, threshold=0.0, num_answers=3)
    found = answer_of(task, loaded.tokenizer, "dog?", "my cat is here", 1, 2, null=17)
    assert [answer["text"] for answer in found["answers"]][:2] == [found["answer"], ""]
    assert found["answer"] == "cat is"
    scores = [answer["score"] for answer in found["answers"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) <= 1


def test_answers_are_those_of_each_question_alone(predictor, long):
    with pytest.warns(InputWarning, match="1 of 15 questions are longer than max_question_len"):
        answers = list(predictor(long))
    prepared = TASK.prepare(long[:3], predictor.tokenizer)
    assert len(prepared.rows) > len(long[:3])
    for record, answer in list(zip(long, answers, strict=True))[::4]:
        (alone,) = predictor([(record["question"], record["context"])])
        assert alone.pop("score") == pytest.approx(answer["score"], abs=1e-5)
        assert alone == {key: answer[key] for key in alone}
    assert answers[-2] == {"answer": "", "start": 0, "end": 0, "score": 0.0}


def test_scores_come_from_the_answers_and_the_threshold():
    def found(likeliest, odds):
        likeliest = {"text": likeliest, "start": 3, "end": 7, "score": 0.5}
        nothing = {"text": "", "start": 0, "end": 0, "score": 0.25}
        return Found([likeliest], likeliest, nothing, odds)

    records = [
        {"answers": [{"text": "my cat", "answer_start": 3}, {"text": "dog", "answer_start": 7}]},
        {"answers": {"text": ["the bird"], "answer_start": [1]}},
    ]
    results = [found("cat", 1.5), found("Bird", -1.0)]
    f1 = pytest.approx((2 / 3 + 1) / 2)
    assert TASK.scores(results, records) == {"exact_match": 0.5, "f1": f1, "examples": 2}
    scores = replace(TASK, threshold=1.0).scores(results, [*records[:1], {"answers": []}])
    assert scores["exact_match"] == scores["f1"] == 0.0  # "" for the cat, "Bird" for nothing
    assert scores["best_f1_threshold"] == 0.0
    assert scores["examples"] == 2


# Serving


@TENSORFLOW_ONLY
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_the_served_graph_answers_as_python_does(model, predictor, long, tmp_path, threshold):
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    task = replace(TASK, threshold=threshold, max_answer_characters=17, num_answers=3)
    version = kbert.export(model, task, predictor.tokenizer, tmp_path / "asked")
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    long = [*long, {"question": "[SEP] ö", "context": "São Paulo, 猫 x \ufffd"}]
    questions, contexts = ([record[key] for record in long] for key in ("question", "context"))
    found = served(question=tf.constant(questions), context=tf.constant(contexts))
    with pytest.warns(InputWarning, match="1 of 16"):
        expected = list(kbert.Predictor(model, task, predictor.tokenizer)(long))
    assert set(found) == {*expected[0], "starts", "ends", "scores", "count"}
    listed = {key: found.pop(key).numpy() for key in ("answers", "starts", "ends", "scores")}
    for number, count in enumerate(found.pop("count").numpy()):
        due = expected[number]["answers"]
        assert [text.decode() for text in listed["answers"][number][:count]] == [
            answer["text"] for answer in due
        ]
        for name, key in (("starts", "start"), ("ends", "end"), ("scores", "score")):
            numbers = [answer[key] for answer in due]
            np.testing.assert_allclose(listed[name][number][:count], numbers, rtol=1e-5, atol=1e-5)
    for key, value in found.items():
        ours = [answer[key] for answer in expected]
        if value.dtype == tf.string:
            assert [text.decode() for text in value.numpy()] == ours
        else:
            np.testing.assert_allclose(value, ours, rtol=1e-5, atol=1e-5, err_msg=key)
    if threshold is not None:
        assert 0 < sum(answer["answer"] == "" for answer in expected) < len(expected)
    nothing = served(question=tf.constant([], tf.string), context=tf.constant([], tf.string))
    assert nothing["score"].shape == (0,)


@TENSORFLOW_ONLY
def test_a_tokenizer_that_tells_no_characters_in_the_graph_is_refused(data_dir):
    from kbert.text.in_graph import in_graph

    tokenizer = kbert.Tokenizer.from_folder(data_dir / "vocab" / "roberta-base")
    with pytest.raises(InputError, match="smallest pieces, for offsets; this one has bytes"):
        TASK.signatures(None, in_graph(tokenizer), tokenizer)


# The command


@TENSORFLOW_ONLY
def test_the_command_trains_measures_answers_and_exports(one_block_dir, tmp_path, capsys):
    for name, number in (("train", 48), ("test", 13)):
        paragraphs = [
            {"context": record["context"], "qas": [{
                "id": f"{name} {n}", "question": record["question"], "answers": record["answers"],
                "is_impossible": not record["answers"],
            }]}
            for n, record in enumerate(asked(number, seed=number, none=0.3))
        ]  # fmt: skip
        content = {"version": "v2.0", "data": [{"title": "pets", "paragraphs": paragraphs}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content), "utf-8")
    run = tmp_path / "run"
    code = tiny.kbert(
        "finetune", "question-answering", "--checkpoint", one_block_dir, "--output", run,
        "--train", tmp_path / "train.json", "--test", tmp_path / "test.json",
        "--validation", tmp_path / "test.json", "--epochs", "1", "--max-length", "31",
        "--stride", "5", "--max-question-length", "7", "--dtype", "float32",
    )  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    assert "48 training records." in said
    assert "test: exact match " in said
    assert "best F1 threshold" in said
    assert tiny.kbert("evaluate", run, "--data", tmp_path / "test.json") == 0
    assert "13 examples" in capsys.readouterr().out
    assert tiny.kbert("predict", run, "dog?", "my bone is here") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["question"], answer["context"]) == ("dog?", "my bone is here")
    assert answer["context"][answer["start"] : answer["end"]] == answer["answer"]
    assert tiny.kbert("predict", run, "--input", tmp_path / "test.json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 13
    assert tiny.kbert("export", run, tmp_path / "served") == 0
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


# Bad input


def test_windows_without_room_for_the_question_are_refused(loaded):
    words = r"of 21 tokens \(max_length=31, max_question_length=7\), came 21: take a smaller str"
    with pytest.raises(InputError, match=words):
        replace(TASK, stride=21).packer(loaded.tokenizer)
    with pytest.raises(InputError, match=r"room for a window .* came -1 .*raise max_length, or sh"):
        replace(TASK, max_question_length=29).packer(loaded.tokenizer)


def test_a_long_question_is_cut_with_one_warning(loaded):
    long = [("dog " * 9, "my cat")] * 3 + [("dog?", "my cat")]
    with pytest.warns(InputWarning, match="3 of 4 questions are longer than max_question_length=7"):
        prepared = TASK.prepare(long, loaded.tokenizer)
    assert [len(ids) for ids, _ in prepared.rows] == [1 + 7 + 1 + 2 + 1] * 3 + [7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answers": [{"text": "cat", "answer_start": 4}]}, "came 1 of 1 questions that do not"),
        ({"context": " "}, r"question 7 \(number 2\): expected a context, came ' '"),
        ({"question": None}, r"question 7 \(number 2\): expected a question, came None"),
        ({"id": 0}, "came 1 that another has, too: 0"),
    ],
)
def test_records_that_cannot_be_learned_are_refused(loaded, change, words):
    record = {"id": 7, "question": "dog?", "context": "my cat is", "answers": []}
    with pytest.raises(InputError, match=words):
        TASK.check([{**record, "id": 0}, {**record, **change}])
    with pytest.raises(InputError, match=words):  # nor trained on in silence
        TASK.dataset([{**record, "id": 0}, {**record, **change}], loaded.tokenizer, batch_size=2)


def test_questions_that_are_no_strings_are_refused(predictor):
    with pytest.raises(InputError, match="texts in column 'context', came 3 in record 1"):
        list(predictor([("dog?", 3)]))
