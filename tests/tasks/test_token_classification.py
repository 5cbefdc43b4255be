"""Names in a text: labels of words, entities, figures, and the served answer."""

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
from kbert.inputs.tags import from_iob2, written
from kbert.tasks.entities import EntityF1, entity_scores
from kbert.tasks.token_classification import TokenClassification

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="slow; once is enough")
LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TASK = TokenClassification(LABELS, max_length=23)
KINDS = dict(zip(tiny.WORDS, ("CAT", "DOG", "BIRD"), strict=True))


def pets(number, seed):
    """Sentences whose pets are entities of one word or two; the others are O."""
    chance = random.Random(seed)
    records = []
    for _ in range(number):
        words, tags = [], []
        for _ in range(chance.randrange(1, 9)):
            if chance.random() < 0.3:
                label = chance.choice(tiny.LABELS)
                name = chance.choices(tiny.WORDS[label], k=chance.randrange(1, 3))
                tags += [f"B-{KINDS[label]}", f"I-{KINDS[label]}"][: len(name)]
                words += [*name, chance.choice(tiny.FILLERS)]
                tags.append("O")
            else:
                words.append(chance.choice(tiny.FILLERS))
                tags.append("O")
        records.append({"words": words, "tags": tags})
    return records


def answer_of(task, tokenizer, text, tags):
    """What the task answers when each word's label has three quarters of the probability."""
    prepared = task.prepare([text], tokenizer)
    (sentence,) = prepared.details[1]
    logits = np.zeros((len(prepared.rows[0][0]), len(task.labels)), "float32")
    shift = prepared.details[0][0].column
    for token, tag in zip(sentence.first, tags, strict=True):
        logits[token + shift, task.labels.index(tag)] = np.log(3 * (len(task.labels) - 1))
    (answer,) = task.answers(task.merged([logits], prepared), prepared)
    return answer


@pytest.fixture(scope="module")
def model(tiny_dir):
    """Random weights, so that labels come in all orders."""
    loaded = kbert.load(tiny_dir, dtype="float32")
    model = TASK.model(loaded.encoder)
    randomize(model)
    return model


@pytest.fixture(scope="module")
def predictor(model, loaded):
    return kbert.Predictor(model, TASK, loaded.tokenizer, batch_size=8)


def test_labels_are_those_of_the_types_in_order():
    records = [{"w": ["a", "b"], "t": ["B-PER", "O"]}, {"w": ["c"], "t": ["B-LOC"]}]
    task = TokenClassification.from_records(records, words="w", tags="t", max_length=7)
    assert task.labels == LABELS
    assert (task.words, task.tags, task.max_length) == ("w", "t", 7)


def test_settings_bring_the_task_back():
    task = TokenClassification(
        LABELS, "w", "t", "BIOES", 29, stride=5, label_all=True, repair=True, dropout=0.3, text="x"
    )
    before = {"model_type": "bert", "hidden_dropout_prob": 0.2, "problem_type": "regression"}
    settings = task.settings(before)
    assert tasks.from_settings(settings) == task
    assert settings["id2label"]["3"] == "B-PER"
    assert "problem_type" not in settings


@pytest.mark.parametrize("label_all", [False, True])
def test_the_first_token_of_a_word_carries_its_label(loaded, label_all):
    """The lectures' sentence; the rest of a word is ignored, or is inside of its entity."""
    words = ["Barack", "Obama", "nasceu", "no", "Havaí"]
    tags = ["B-PER", "I-PER", "O", "O", "B-LOC"]
    pieces = [len(loaded.tokenizer.encode([[word]])[0].ids) for word in words]
    assert max(pieces[0], pieces[4]) > 1
    targets, weights = [], []
    for tag, number in zip(tags, pieces, strict=True):
        rest = LABELS.index(tag.replace("B-", "I-")) if label_all else 0
        targets += [LABELS.index(tag), *[rest] * (number - 1)]
        weights += [1.0, *[float(label_all)] * (number - 1)]
    task = replace(TASK, label_all=label_all, max_length=61)
    record = {"words": words, "tags": tags}
    dataset = task.dataset([record], loaded.tokenizer, batch_size=1, shuffle=False)
    ((features, came, weighed),) = dataset.as_numpy_iterator()
    assert features["padding_mask"].sum() == sum(pieces) + 2
    padding = came.shape[1] - sum(pieces) - 1
    assert came[0].tolist() == [0, *targets, *[0] * padding]
    assert weighed[0].tolist() == [0.0, *weights, *[0.0] * padding]


def test_every_word_of_a_long_sentence_is_learned_once_in_windows(loaded):
    records = pets(5, seed=1) + [{"words": ["cat", "the"] * 40, "tags": ["B-CAT", "O"] * 40}]
    task = TokenClassification.from_records(records, max_length=23, stride=7)
    rows = list(task.dataset(records, loaded.tokenizer, batch_size=99, shuffle=False))
    ((features, targets, weights),) = rows
    assert features["token_ids"].shape == (5 + 6, 23)
    weights, targets = weights.numpy(), targets.numpy()
    assert weights.sum() == sum(len(record["words"]) for record in records)
    due = sum(tag == "B-CAT" for record in records for tag in record["tags"])
    assert (targets[weights > 0] == task.labels.index("B-CAT")).sum() == due


def test_a_sentence_that_is_too_long_is_cut_with_one_warning(loaded, predictor):
    long = [{"words": ["cat"] * 30, "tags": ["O"] * 30}] * 2 + [{"words": ["a"], "tags": ["O"]}]
    with pytest.warns(
        InputWarning, match="more than max_length=23 tokens were cut: 2 of 3"
    ) as told:
        dataset = TASK.dataset(long, loaded.tokenizer, batch_size=3)
    assert len(told) == 1
    ((_, _, weights),) = dataset.as_numpy_iterator()
    assert weights.sum() == 21 + 21 + 1
    with pytest.warns(InputWarning, match="were cut: 2 of 3"):
        results = predictor.logits(long)
    assert [result.shape for result in results] == [(30, 5), (30, 5), (1, 5)]
    assert (results[0].sum(axis=-1) > 0).tolist() == [True] * 21 + [False] * 9
    assert TASK.tags_of(results[0])[21:] == ["O"] * 9


def test_the_task_learns_pets(one_block_dir):
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    train, test = pets(700, seed=2), pets(60, seed=3)
    task = TokenClassification.from_records(train, max_length=31, dropout=0.0)
    assert task.labels == ("O", "B-BIRD", "I-BIRD", "B-CAT", "I-CAT", "B-DOG", "I-DOG")
    keras.utils.set_random_seed(3)
    model = task.model(loaded.encoder)
    model.compile(kbert.adamw(0.01), task.loss(), weighted_metrics=task.metrics())
    settings = {"batch_size": 20, "buckets": [31], "remainder": "fill"}
    checked = task.dataset(test, loaded.tokenizer, shuffle=False, **settings)
    history = model.fit(
        task.dataset(train, loaded.tokenizer, **settings), epochs=8, validation_data=checked,
        verbose=0,
    ).history  # fmt: skip
    assert task.monitor in history
    scores = kbert.Predictor(model, task, loaded.tokenizer)
    scores = task.scores(scores.logits(test), test)
    assert scores["f1"] > 0.9
    assert history["val_f1"][-1] == pytest.approx(scores["f1"], abs=1e-6)
    assert history["val_accuracy"][-1] == pytest.approx(scores["accuracy"], abs=1e-6)


def test_transformers_opens_what_was_saved(loaded, model, tmp_path):
    torch = pytest.importorskip("torch")
    import transformers

    tokenizer = loaded.tokenizer
    kbert.save(tmp_path, model, TASK.settings(loaded.settings), tokenizer)
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    assert theirs.config.id2label == dict(enumerate(LABELS))
    assert theirs.config.label2id["I-PER"] == 4
    prepared = TASK.prepare(["my cat is a dog today", "Obama"], tokenizer)
    features = TASK.packer(tokenizer).pad(prepared.rows, 11)
    ours = to_numpy(model.predict_on_batch(features))
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
    names["padding_mask"] = "attention_mask"
    with torch.no_grad():
        given = {names[key]: torch.from_numpy(x).long() for key, x in features.items()}
        expected = theirs(**given).logits.numpy()
    real = features["padding_mask"]
    np.testing.assert_allclose(ours[real], expected[real], rtol=0, atol=5e-5)
    again = kbert.load(tmp_path, task="token-classification")
    assert again.task == TASK
    assert again.new == []


def test_entities_have_characters_and_a_score(loaded):
    text = "  Barack  Obama nasceu no Havaí."
    tags = ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    answer = answer_of(TASK, loaded.tokenizer, text, tags)
    score = pytest.approx(0.75, abs=1e-6)
    assert answer == {
        "entities": [
            {"type": "PER", "text": "Barack  Obama", "start": 2, "end": 15, "score": score},
            {"type": "LOC", "text": "Havaí", "start": 26, "end": 31, "score": score},
        ]
    }
    json.dumps(answer)


def test_words_are_answered_with_tags_in_the_scheme_that_is_asked(loaded):
    words = ["Barack", "Obama", "nasceu", "em", "São Paulo"]
    tags = ["B-PER", "I-PER", "O", "O", "B-LOC"]
    answer = answer_of(replace(TASK, scheme="BIOES"), loaded.tokenizer, words, tags)
    assert answer["tags"] == from_iob2(tags, "BIOES") == ["B-PER", "E-PER", "O", "O", "S-LOC"]
    person, place = answer["entities"]
    assert (person["text"], person["start"], person["end"]) == ("Barack Obama", 0, 12)
    assert (place["text"], place["start"], place["end"]) == ("São Paulo", 23, 32)
    assert (person["words"], place["words"]) == ([0, 2], [4, 5])


def test_a_label_that_follows_no_beginning_begins_an_entity(loaded):
    """Models write what they like; conlleval's rule reads it."""
    tags = ["I-PER", "I-LOC", "O", "I-LOC"]
    answer = answer_of(TASK, loaded.tokenizer, "cat dog is bird", tags)
    found = [(entity["type"], entity["text"]) for entity in answer["entities"]]
    assert found == [("PER", "cat"), ("LOC", "dog"), ("LOC", "bird")]


def test_answers_are_those_of_each_text_alone_and_of_its_words(predictor, monkeypatch):
    records = pets(17, seed=4)
    texts = [" ".join(record["words"]) for record in records] + ["", " "]
    answers = list(predictor(texts))
    assert sum(len(answer["entities"]) for answer in answers) > 20
    assert answers[-1] == answers[-2] == {"entities": []}
    for text, record, answer in list(zip(texts, records, answers, strict=False))[::5]:
        (alone,) = predictor([text])
        (of_words,) = predictor([record["words"]])
        (of_record,) = predictor([record])
        assert of_words == of_record
        for one, other, third in zip(
            answer["entities"], alone["entities"], of_words["entities"], strict=True
        ):
            words = third.pop("words")
            assert record["words"][slice(*words)] == one["text"].split()
            for entity in (other, third):
                assert entity.pop("score") == pytest.approx(one["score"], abs=1e-5)
                assert entity == {key: one[key] for key in entity}


def test_long_texts_are_answered_in_windows(model, predictor):
    """A word is labelled by the window in which it has the most context."""
    task = replace(TASK, stride=7)
    windowed = kbert.Predictor(model, task, predictor.tokenizer)
    words = sum((record["words"] for record in pets(13, seed=5)), [])
    (result,) = windowed.logits([words])
    assert result.shape == (len(words), 5)
    np.testing.assert_allclose(result.sum(axis=-1), 1, rtol=1e-6)
    prepared = task.prepare([words], predictor.tokenizer)
    second = prepared.details[0][1]
    sentence = prepared.details[1][0]
    seen = (sentence.first >= second.start) & (sentence.first < second.end)
    text = [words[word] for word in sentence.words[seen]]
    (alone,) = windowed.logits([text])
    own = (sentence.first[seen] >= second.own_start) & (sentence.first[seen] < second.own_end)
    assert 0 < own.sum() < len(own)
    expected = result[sentence.words[seen]]
    np.testing.assert_allclose(alone[own], expected[own], rtol=0, atol=1e-5)
    assert np.abs(alone - expected).max() > 1e-4


def test_scores_are_worked_out_by_hand():
    """Due: PER 0-2, LOC 3-4 and LOC 0-1; found: PER 0-2, LOC 3-5, and PER 0-1."""
    due = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["B-LOC"]]
    found = [["B-PER", "I-PER", "O", "I-LOC", "I-LOC"], ["B-PER"]]
    assert entity_scores(found, due) == {
        "f1": pytest.approx(1 / 3), "precision": pytest.approx(1 / 3),
        "recall": pytest.approx(1 / 3), "accuracy": 3 / 6,
        "types": {
            "LOC": {"f1": 0.0, "precision": 0.0, "recall": 0.0, "examples": 2},
            "PER": {"f1": pytest.approx(2 / 3), "precision": 0.5, "recall": 1.0, "examples": 1},
        },
    }  # fmt: skip
    assert entity_scores([["O"]], [["O"]])["f1"] == 0.0


def random_labels(draw, lengths, number):
    """Sentences of label numbers that come in runs, as entities do."""
    return [np.repeat(draw.integers(0, number, n), draw.integers(1, 4, n))[:n] for n in lengths]


def test_f1_in_training_is_that_of_the_scores():
    labels = ("O", "B-X", "I-X", "B-Y", "I-Y", "E-X", "S-Y")
    draw = np.random.default_rng(0)
    metric, found, due = EntityF1(labels), [], []
    for length in (17, 19):
        targets = np.stack(random_labels(draw, [length] * 11, 7)).astype("int32")
        logits = draw.standard_normal((11, length, 7), "float32")
        near = draw.random((11, length, 1)) < 0.8
        logits += 3 * near * np.eye(7, dtype="float32")[targets]
        weights = (draw.random((11, length)) < 0.7).astype("float32")
        metric.update_state(targets, logits, weights)
        for sequences, numbers in ((due, targets), (found, logits.argmax(-1))):
            for row, weight in zip(numbers, weights, strict=True):
                sequences.append([labels[n] for n in row[weight > 0]])
    expected = entity_scores(found, due)["f1"]
    assert 0.3 < expected < 0.9
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


# Serving


@pytest.fixture(scope="module")
def exported(model, predictor, tmp_path_factory):
    task = replace(TASK, stride=5)
    folder = tmp_path_factory.mktemp("saved_models")
    version = kbert.export(model, task, predictor.tokenizer, folder / "pets")
    return kbert.Predictor(model, task, predictor.tokenizer), version


@TENSORFLOW_ONLY
def test_the_served_graph_answers_as_python_does(exported):
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    predictor, version = exported
    served = tf.saved_model.load(str(version)).signatures
    texts = [" ".join(record["words"]) for record in pets(23, seed=6)]
    texts += ["", " \n", "[SEP] São Paulo, 猫 x", " ".join(texts), "word " * 300, "\ufffd"]
    found = served["serving_default"](text=tf.constant(texts))
    expected = [answer["entities"] for answer in predictor(texts)]
    assert sum(map(len, expected)) > 30
    assert found["count"].numpy().tolist() == [len(entities) for entities in expected]
    for row, entities in enumerate(expected):
        for column, entity in enumerate(entities):
            for key in ("type", "text", "start", "end"):
                value = found[key].numpy()[row, column]
                assert (value.decode() if isinstance(value, bytes) else value) == entity[key]
            score = found["score"].numpy()[row, column]
            assert score == pytest.approx(entity["score"], abs=1e-5)
        assert not found["score"].numpy()[row, len(entities) :].any()
    nothing = served["serving_default"](text=tf.constant([], tf.string))
    assert nothing["count"].shape == (0,)
    broken = served["serving_default"](text=tf.constant([b"my c\xc3\xa4t \xe2\x82 dog\xff"]))
    assert broken["count"].shape == (1,)
    ids = predictor.tokenizer(["my cat"])[0]
    given = tf.constant([[2, *ids, 3, 0]], tf.int32)
    tokens = served["tokens"](token_ids=given)
    assert tokens["label"].shape == tokens["score"].shape == (1, 5)
    (result,) = predictor.logits(["my cat"])
    best = [label.decode() for label in tokens["label"].numpy()[0, 1:3]]
    assert best == predictor.task.tags_of(result)


@TENSORFLOW_ONLY
def test_a_tokenizer_that_tells_no_characters_in_the_graph_is_refused(predictor, data_dir):
    from kbert.text.in_graph import in_graph

    tokenizer = kbert.Tokenizer.from_folder(data_dir / "vocab" / "gpt2")
    tokenizer.pad_id = tokenizer.eos_id
    with pytest.raises(InputError, match="smallest pieces, for offsets; this one has bytes"):
        TASK.signatures(None, in_graph(tokenizer), tokenizer)


# The command


@TENSORFLOW_ONLY
def test_the_command_trains_measures_answers_and_exports(one_block_dir, tmp_path, capsys):
    for name, number in (("train", 64), ("test", 16)):
        records = pets(number, seed=number)
        lines = []
        for record in records:
            tags = from_iob2(record["tags"], "IOB1")
            pairs = zip(record["words"], tags, strict=True)
            lines.append("".join(f"{word} x {tag}\n" for word, tag in pairs))
        (tmp_path / f"{name}.conll").write_text("\n".join(lines), "utf-8")
    run = tmp_path / "run"
    code = tiny.kbert(
        "finetune", "token-classification", "--checkpoint", one_block_dir, "--output", run,
        "--train", tmp_path / "train.conll", "--test", tmp_path / "test.conll",
        "--validation", tmp_path / "test.conll", "--epochs", "2", "--learning-rate", "0.01",
        "--max-length", "23", "--dtype", "float32", "--words", "1", "--stride", "3",
    )  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    assert "64 training records, 7 labels." in said
    assert "test: F1 " in said
    assert "16 examples" in said
    assert tiny.kbert("evaluate", run, "--data", tmp_path / "test.conll") == 0
    assert "  CAT: F1 " in capsys.readouterr().out
    assert tiny.kbert("predict", run, "my cat is here", "a dog") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["text"], second["text"]) == ("my cat is here", "a dog")
    assert {"entities"} < set(first)
    assert tiny.kbert("predict", run, "--input", tmp_path / "test.conll") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 16
    assert all(len(answer["tags"]) == len(answer["1"]) for answer in answers)
    assert tiny.kbert("export", run, tmp_path / "served") == 0
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


# Bad input


@pytest.mark.parametrize("labels", [(), ("O",), ("O", "B-X", "B-X")])
def test_less_than_two_labels_are_refused(labels):
    with pytest.raises(InputError, match=r"two labels or more, each once; got .*O, and B- and I-"):
        TokenClassification(labels)


def test_records_without_entities_are_refused():
    with pytest.raises(InputError, match="came 2 sentences with O for every word"):
        TokenClassification.from_records([{"words": ["a"], "tags": ["O"]}] * 2)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"words": ["a"], "tags": ["B-ORG"]},
            r"never saw: 'B-ORG' \(1 times\) .*first in record 2",
        ),
        ({"words": ["a"], "tags": ["I-PER"]}, r"record 2: .* IOB2, came 'I-PER' for 'a': bring"),
        ({"words": ["a"], "tags": ["O", "O"]}, r"record 2: .* came 1 words in 'words' and 2 tags"),
        ({"words": ["a", ""], "tags": ["O", "O"]}, r"record 2: .* not empty, came '' as word 2"),
        ({"words": "a", "tags": ["O"]}, r"record 2: expected a list of strings in 'words'"),
    ],
)
def test_records_that_cannot_be_learned_are_refused(record, words):
    good = {"words": ["x", "y"], "tags": written([], 2)}
    with pytest.raises(InputError, match=words):
        TASK.check([good, record])


def test_an_entity_without_a_token_is_refused(loaded):
    record = {"words": ["my", "\u200b"], "tags": ["O", "B-PER"]}
    with pytest.raises(InputError, match=r"record 1: no token covers the entity .* \(PER\)"):
        TASK.dataset([record], loaded.tokenizer, batch_size=1)


def test_a_stride_that_the_windows_cannot_take_is_refused(loaded):
    with pytest.raises(InputError, match=r"of 21 tokens \(max_length=23\), came 21: take"):
        replace(TASK, stride=21).packer(loaded.tokenizer)


def test_what_is_no_list_of_words_is_refused(predictor):
    with pytest.raises(InputError, match="what is asked: expected a list of strings in 'words'"):
        list(predictor([["a", 3]]))
