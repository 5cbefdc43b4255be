"""Pairs, and several labels a text: targets, figures, answers, training, serving."""

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
from kbert.errors import InputError, InputWarning
from kbert.tasks.labels import ManyLabels, MicroF1
from kbert.training.finetune import load_predictor

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="slow: one backend shows it")
MANY = kbert.TextClassification(("b", "a", "ü"), max_length=23, multi_label=True)
PAIRS = kbert.TextClassification(("no", "yes"), max_length=19, text_pair="other")
LOGITS = np.array([[2.0, -1.0, 0.5], [-3.0, -0.1, -2.0], [1.0, 4.0, -9.0]], "float32")


@pytest.fixture(scope="module")
def loaded(one_block_dir):
    return kbert.load(one_block_dir, dtype="float32")


def fresh(folder, task):
    """A model with random weights, on an encoder of its own."""
    loaded = kbert.load(folder, dtype="float32")
    model = task.model(loaded.encoder)
    randomize(model)
    return loaded, model


# Several labels a text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["ü", "b"], ("ü", "b")), (["b", "b", ""], ("b",)), ([], ()), (None, ()), ("", ()),
        ("a; b ;;a", ("a", "b")), (7, ("7",)), ([7, "x"], ("7", "x")),
    ],
)  # fmt: skip
def test_labels_come_as_a_list_or_in_one_string(written, read):
    assert ManyLabels((), "l").of_record({"l": written}) == read


def test_targets_are_one_for_each_label_that_a_text_has():
    records = [{"label": "a;b"}, {"label": []}, {"label": ["ü"]}]
    targets = MANY.targets(records)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_labels_of_lists_and_strings_are_found_in_order():
    records = [{"text": "x", "label": label} for label in ("10|9", ["11", "9"], None)]
    task = kbert.TextClassification.from_records(records, multi_label=True, separator="|")
    assert task.labels == ("9", "10", "11")
    assert task.monitor == "val_micro_f1"


def test_answers_are_the_labels_above_the_threshold_the_surest_first():
    answers = list(MANY.answers(LOGITS))
    assert [answer["labels"] for answer in answers] == [["b", "ü"], [], ["a", "b"]]
    assert answers[0]["scores"] == pytest.approx([0.880797, 0.622459], abs=1e-6)
    lower = replace(MANY, threshold=0.1)
    assert [answer["labels"] for answer in lower.answers(LOGITS)] == [
        ["b", "ü", "a"], ["a", "ü"], ["a", "b"],
    ]  # fmt: skip


def test_scores_of_several_labels_are_worked_out_by_hand():
    """Said b ü | – | a b; due b | – | a ü: 2 right of 4 said and 3 due; one text all right."""
    records = [{"label": "b"}, {"label": ""}, {"label": "a;ü"}]
    scores = MANY.scores(LOGITS, records)
    assert scores["micro_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    signs = np.where(MANY.targets(records) > 0, 1, -1)
    assert scores["loss"] == pytest.approx(np.log1p(np.exp(-signs * LOGITS)).mean(), abs=1e-6)


def test_the_loss_and_the_metric_of_keras_are_those_of_the_scores():
    records = [{"label": "b"}, {"label": ""}, {"label": "a;ü"}]
    targets, scores = MANY.targets(records), MANY.scores(LOGITS, records)
    assert float(MANY.loss()(targets, LOGITS)) == pytest.approx(scores["loss"], abs=1e-5)
    (metric,) = MANY.metrics()
    metric.update_state(targets[:2], LOGITS[:2])
    metric.update_state(targets[[2, 0]], LOGITS[[2, 0]], np.array([1.0, 0.0]))
    assert float(metric.result()) == pytest.approx(scores["micro_f1"], abs=1e-6)
    assert float(MicroF1(0.0).result()) == 0


def several(number, seed):
    """Texts with the words of no animal, one or two; the labels are their animals."""
    chance = np.random.default_rng(seed)
    records = []
    for _ in range(number):
        labels = [label for label in tiny.LABELS if chance.random() < 0.5]
        words = [chance.choice(tiny.WORDS[label]) for label in labels]
        words += list(chance.choice(tiny.FILLERS, 3))
        records.append({"text": " ".join(chance.permutation(words)), "label": labels})
    return records


def test_several_labels_are_learned(one_block_dir):
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    train, test = several(256, 1), several(97, 2)
    task = kbert.TextClassification.from_records(
        train, multi_label=True, max_length=12, dropout=0.0, pooling="mean"
    )
    keras.utils.set_random_seed(2)
    model = task.model(loaded.encoder)
    model.compile(kbert.adamw(0.01), task.loss(), weighted_metrics=task.metrics())
    settings = {"batch_size": 32, "buckets": [12], "remainder": "fill"}
    model.fit(task.dataset(train, loaded.tokenizer, **settings), epochs=8, verbose=0)
    logits = kbert.Predictor(model, task, loaded.tokenizer).logits(test)
    scores = task.scores(logits, test)
    assert scores["micro_f1"] > 0.95
    dataset = task.dataset(test, loaded.tokenizer, shuffle=False, **settings)
    figures = model.evaluate(dataset, verbose=0, return_dict=True)
    assert figures["micro_f1"] == pytest.approx(scores["micro_f1"], abs=1e-5)


@TENSORFLOW_ONLY
def test_several_labels_go_to_transformers_and_to_a_server(one_block_dir, tmp_path):
    loaded, model = fresh(one_block_dir, MANY)
    kbert.save(tmp_path / "run", model, MANY.settings(loaded.settings), loaded.tokenizer)
    again = kbert.load(tmp_path / "run").settings
    assert tasks.from_settings(again) == MANY
    del again["kbert"]
    assert tasks.from_settings(again).multi_label
    texts = ["cat", "my dog, my bird", "", "the " * 40]
    logits = kbert.Predictor(model, MANY, loaded.tokenizer).logits(texts)
    opened = theirs.opened(tmp_path / "run", "AutoModelForSequenceClassification")
    assert opened.config.problem_type == "multi_label_classification"
    rows = MANY.packer(loaded.tokenizer).pad(MANY.rows(texts, loaded.tokenizer), 23)
    np.testing.assert_allclose(theirs.logits(opened, rows), logits, rtol=0, atol=2e-5)
    version = kbert.export(model, MANY, loaded.tokenizer, tmp_path / "saved")
    found = theirs.served(version, text=texts)
    for row, answer in enumerate(MANY.answers(logits)):
        count = found["count"][row]
        assert found["labels"][row] == answer["labels"] + [""] * (3 - count)
        np.testing.assert_allclose(found["scores"][row][:count], answer["scores"], atol=1e-5)
    assert {0, 3} != set(found["count"].tolist())


# Pairs


def test_a_pair_is_packed_as_one_row(loaded):
    records = [{"text": "my cat", "other": "a dog", "label": "yes"}]
    ((features, targets),) = PAIRS.dataset(
        records, loaded.tokenizer, batch_size=1
    ).as_numpy_iterator()
    (my, cat), (a, dog) = loaded.tokenizer(["my cat", "a dog"])
    assert features["token_ids"].tolist() == [[2, my, cat, 3, a, dog, 3, 0]]
    assert features["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 0]]
    assert targets.tolist() == [1]
    assert PAIRS.inputs == ("text", "other")


def test_pairs_come_as_records_or_tuples_and_never_alone(loaded):
    pair = ("my cat", "a dog")
    as_record = {"other": "a dog", "text": "my cat", "label": "yes"}
    assert PAIRS.rows([pair], loaded.tokenizer) == PAIRS.rows([as_record], loaded.tokenizer)
    with pytest.raises(InputError, match=r"expected 2 texts together \(text, other\), came 1: \("):
        PAIRS.rows(["my cat"], loaded.tokenizer)


@TENSORFLOW_ONLY
@pytest.mark.parametrize("stride", [None, 3])
def test_pairs_are_served_as_python_answers_them(one_block_dir, tmp_path, stride):
    task = replace(PAIRS, stride=stride)
    loaded, model = fresh(one_block_dir, task)
    first = ["my cat", "", "the " * 40, "a bird here"]
    second = ["a dog is big", "cat", "my nest " * 30, ""]
    answers = list(kbert.Predictor(model, task, loaded.tokenizer)(zip(first, second, strict=True)))
    version = kbert.export(model, task, loaded.tokenizer, tmp_path / "saved")
    found = theirs.served(version, text=first, text_pair=second)
    assert found["label"] == [answer["label"] for answer in answers]
    np.testing.assert_allclose(found["score"], [a["score"] for a in answers], atol=1e-5)
    rows = task.rows([("my cat", "a dog is big")], loaded.tokenizer)
    ids, segments = (np.array(x, "int32") for x in zip(*rows, strict=True))
    found = theirs.served(version, "tokens", token_ids=ids, segment_ids=segments)
    np.testing.assert_allclose(found["score"], [answers[0]["score"]], atol=1e-5)
    if stride is not None:
        prepared = task.prepare([(first[2], second[2])], loaded.tokenizer)
        assert len(prepared.rows) > 5
        # 16 tokens of room: the first text keeps (16 - 3) // 2 = 6, the windows have 10.
        assert {row[1].count(0) for row in prepared.rows} == {8}


def test_pairs_are_learned(one_block_dir):
    """Whether both texts are of the same animal."""
    chance = np.random.default_rng(1)
    animals = tiny.LABELS[:2]
    records = []
    for _ in range(256):
        a, b = chance.choice(animals, 2)
        words = [chance.choice(tiny.WORDS[label][:2]) for label in (a, b)]
        records.append({"text": words[0], "other": words[1], "label": "yes" if a == b else "no"})
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    task = replace(PAIRS, max_length=7, dropout=0.0)
    keras.utils.set_random_seed(1)
    model = task.model(loaded.encoder)
    model.compile(kbert.adamw(0.003), task.loss(), weighted_metrics=task.metrics())
    dataset = task.dataset(records, loaded.tokenizer, batch_size=32, buckets=[7])
    model.fit(dataset, epochs=14, verbose=0)
    scores = task.scores(
        kbert.Predictor(model, task, loaded.tokenizer).logits(records[:61]), records[:61]
    )
    assert scores["accuracy"] > 0.95
    assert scores["matthews"] > 0.9


# Cut texts, figures of two labels, labels that are numbers


def test_texts_that_are_cut_are_counted_in_one_warning(loaded):
    texts = ["cat", "cat " * 22, "cat " * 21, "dog " * 99]
    task = kbert.TextClassification(("a", "b"), max_length=23)
    predictor = kbert.Predictor(task.model(loaded.encoder), task, loaded.tokenizer)
    records = [{"text": text, "label": "a"} for text in texts]
    for act in (
        lambda: list(predictor(texts)),
        lambda: predictor.logits(texts),
        lambda: task.dataset(records, loaded.tokenizer, batch_size=2),
    ):
        with pytest.warns(InputWarning) as caught:
            act()
        (warning,) = [w for w in caught if w.category is InputWarning]
        assert "more than max_length=23 tokens were cut: 2 of 4." in str(warning.message)
    whole = replace(task, stride=5)
    assert whole.prepare(texts, loaded.tokenizer).cut == 0


def test_f1_of_two_labels_is_that_of_the_second():
    task = kbert.TextClassification(("0", "1"))
    logits = np.array([[0, 1], [0, 1], [1, 0], [1, 0], [1, 0]], "float32")
    records = [{"label": label} for label in (1, 0, 1, 0, 0)]
    scores = task.scores(logits, records)
    assert scores["f1"] == pytest.approx(0.5)
    assert scores["accuracy"] == scores["micro_f1"] == pytest.approx(0.6)
    assert scores["matthews"] == pytest.approx(1 / 6)  # (1 · 2 - 1 · 1) / √(2 · 2 · 3 · 3)


def test_labels_that_are_numbers_are_in_their_order():
    records = [{"label": label} for label in (10, "9", "-1", 2)]
    assert kbert.TextClassification.from_records(records).labels == ("-1", "2", "9", "10")


# Bad input


def test_a_list_where_one_label_is_due_is_refused():
    records = [{"text": "x", "label": "a"}, {"text": "x", "label": ["a", "b"]}]
    with pytest.raises(InputError, match="record 2: expected one label in .* train with --multi-l"):
        kbert.TextClassification.from_records(records)


def test_a_label_of_several_that_is_not_known_is_refused_with_its_record():
    records = [{"label": "a;b"}, {"label": ""}, {"label": "b;z"}]
    with pytest.raises(InputError, match=r"never saw: 'z' \(1 in all; first in record 3\)"):
        MANY.targets(records)


@pytest.mark.parametrize("threshold", [0, 1, -1])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(InputError, match="is no probability between 0 and 1; 0.5 is usual"):
        kbert.TextClassification(("a", "b"), multi_label=True, threshold=threshold)


def test_no_label_at_all_is_refused():
    with pytest.raises(InputError, match="a classifier needs a label or more; got 0: none"):
        kbert.TextClassification.from_records([{"label": ""}], multi_label=True)


def test_labels_in_config_that_disagree_with_the_heads_width_are_refused(one_block_dir, tmp_path):
    loaded, model = fresh(one_block_dir, PAIRS)
    other = replace(PAIRS, labels=("no", "yes", "perhaps"))
    kbert.save(tmp_path, model, other.settings(loaded.settings), loaded.tokenizer)
    with pytest.raises(InputError, match=r"classifier/kernel \(35, 2\), expected \(35, 3\)"):
        load_predictor(tmp_path)


@TENSORFLOW_ONLY
def test_pairs_of_a_table_like_glues_go_through_every_command(one_block_dir, tmp_path, capsys):
    table = tmp_path / "table.tsv"
    rows = [('my "cat', "a cat", 1), ("a dog", 'the "nest"', 0)] * 8
    table.write_text("".join(f"x\t{a}\t{label}\t{b}\n" for a, b, label in rows), "utf-8")
    run = tmp_path / "run"
    code = tiny.kbert(
        "finetune", "text-classification", "--train", table, "--test", table, "--text", 2,
        "--text-pair", 4, "--label", 3, "--no-quoting", "--no-header", "--checkpoint",
        one_block_dir, "--output", run, "--max-length", 5, "--epochs", 1,
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "16 training records, 2 labels." in out
    assert "matthews " in out
    assert "kbert: Inputs with more than max_length=5 tokens were cut: 16 of 16." in err
    assert tiny.kbert("evaluate", run, "--data", table) == 0
    assert "16 examples" in capsys.readouterr().out
    named = tmp_path / "named.csv"
    named.write_text('a,b\n"my ""cat",a cat\n,\n', "utf-8")
    assert tiny.kbert(
        "predict", run, "--input", named, "--text", "a", "--text-pair", "b", "--quoting",
        "--header",
    ) == 0  # fmt: skip
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(line) for line in lines] == [["a", "b", "label", "score"]] * 2
    assert lines[0]["a"] == 'my "cat'
    assert lines[1]["a"] == ""
    assert tiny.kbert("predict", run, "one", "two", "three") == 2
    assert "asks 2 texts together (2, 4); came 3" in capsys.readouterr().err
