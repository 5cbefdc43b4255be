"""One label for a text: features, head, figures and answers."""

import json

import keras
import numpy as np
import pytest
import tiny
from harness import to_numpy

import kbert
from kbert import tasks
from kbert.cli.finetune import with_dropout
from kbert.errors import InputError
from kbert.weights import safetensors

TASK = kbert.TextClassification(("b", "a", "ü"), max_length=23)


def test_labels_are_those_of_the_records_in_order():
    records = [{"t": "x", "l": label} for label in ("dog", "Cat", 10, "dog", 9, "äh")]
    task = kbert.TextClassification.from_records(records, label="l", text="t", max_length=7)
    assert task.labels == ("10", "9", "Cat", "dog", "äh")
    assert (task.text, task.label, task.max_length, task.pooling) == ("t", "l", 7, "pooler")
    np.testing.assert_array_equal(task.targets(records), [3, 2, 0, 3, 1, 4])
    assert task.targets(records).dtype == np.int32


def test_settings_bring_the_task_back():
    task = kbert.TextClassification(
        tuple(f"label {i}" for i in range(13)), "t", "l", 29, "mean", dropout=0.3
    )
    settings = task.settings({"model_type": "bert", "hidden_dropout_prob": 0.2})
    assert tasks.from_settings(settings) == task
    assert list(settings["id2label"].items())[10] == ("10", "label 10")
    assert settings["label2id"]["label 10"] == 10
    assert settings["model_type"] == "bert"


def test_settings_bring_the_stride_of_windows_back():
    task = kbert.TextClassification(("a", "b"), stride=32)
    assert tasks.from_settings(task.settings({"model_type": "bert"})) == task


def test_a_stride_that_the_windows_cannot_take_is_refused(loaded):
    task = kbert.TextClassification(("a", "b"), max_length=23, stride=21)
    with pytest.raises(InputError, match=r"of 21 tokens \(max_length=23\), came 21: take"):
        task.packer(loaded.tokenizer)


def test_a_classifier_of_transformers_has_the_dropout_of_its_encoder():
    settings = {"id2label": {"0": "a", "1": "b"}, "hidden_dropout_prob": 0.2}
    assert tasks.from_settings(settings).dropout == 0.2
    assert tasks.from_settings({**settings, "classifier_dropout": 0.0}).dropout == 0.0
    albert = {**settings, "hidden_dropout_prob": 0, "classifier_dropout_prob": 0.1}
    assert tasks.from_settings(albert).dropout == 0.1
    distilbert = {"id2label": {"0": "a", "1": "b"}, "dropout": 0.1, "seq_classif_dropout": 0.3}
    assert tasks.from_settings(distilbert).dropout == 0.3
    assert tasks.from_settings({**distilbert, "classifier_dropout": 0.0}).dropout == 0.0  # ours
    distilbert["architectures"] = ["DistilBertForTokenClassification"]
    assert tasks.from_settings(distilbert).dropout == 0.1  # that has the encoder's


def test_the_command_takes_the_dropout_that_the_checkpoint_says(tiny_dir, tmp_path):
    task = kbert.TextClassification(("a", "b"))
    settings = json.loads((tiny_dir / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**settings, "classifier_dropout": 0.3}))
    assert with_dropout(task, None, tmp_path).dropout == 0.3
    assert with_dropout(task, 0.0, tmp_path).dropout == 0.0  # as it was given
    (tmp_path / "config.json").unlink()
    assert with_dropout(task, None, tmp_path) == task


def test_datasets_train_the_model(loaded):
    records = tiny.animals(67, seed=4)
    task = kbert.TextClassification.from_records(records, max_length=23, dropout=0.0)
    keras.utils.set_random_seed(2)
    model = task.model(loaded.encoder)
    assert model.output.shape == (None, 3)
    model.compile(keras.optimizers.SGD(0.1), task.loss(), weighted_metrics=task.metrics())
    dataset = task.dataset(records, loaded.tokenizer, batch_size=16, remainder="fill")
    history = model.fit(dataset, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "accuracy"}
    figures = model.evaluate(dataset, verbose=0, return_dict=True)
    ours = task.scores(kbert.Predictor(model, task, loaded.tokenizer).logits(
        [record["text"] for record in records]), records)  # fmt: skip
    assert figures["accuracy"] == pytest.approx(ours["accuracy"], abs=1e-6)
    # Keras takes the mean over the batches, the last of them filled with rows of weight 0.
    assert figures["loss"] * 80 / 67 == pytest.approx(ours["loss"], abs=1e-4)


def test_batches_are_made_of_the_texts(loaded):
    records = [{"text": "my cat", "label": "ü"}, {"text": "dog", "label": "a"}]
    dataset = TASK.dataset(records, loaded.tokenizer, batch_size=2, shuffle=False)
    ((features, targets),) = dataset.as_numpy_iterator()
    (my, cat), (dog,) = loaded.tokenizer(["my cat", "dog"])
    assert features["token_ids"].tolist() == [[2, dog, 3, *[0] * 5], [2, my, cat, 3, *[0] * 4]]
    assert features["padding_mask"].sum() == 7
    assert targets.tolist() == [1, 2]


def test_the_pooler_of_the_checkpoint_is_loaded(minilm_dir):
    held = safetensors.read([minilm_dir / "model.safetensors"])
    encoder = kbert.load(minilm_dir, dtype="float32").encoder
    model = kbert.TextClassification(("a", "b")).model(encoder)
    pooler = model.get_layer("pooler")
    np.testing.assert_array_equal(to_numpy(pooler.kernel), held["pooler.dense.weight"].T)
    np.testing.assert_array_equal(to_numpy(pooler.bias), held["pooler.dense.bias"])
    assert 0.01 < to_numpy(model.get_layer("classifier").kernel).std() < 0.03


def test_a_classifier_of_as_many_labels_is_loaded_another_is_new(tiny_run):
    encoder = kbert.load(tiny_run, dtype="float32").encoder
    held = encoder.head_weights["SequenceClassification"]["classifier/kernel"]
    same, other = (
        kbert.TextClassification(labels).model(kbert.load(tiny_run, dtype="float32").encoder)
        for labels in ("abc", "abcde")
    )
    np.testing.assert_array_equal(to_numpy(same.get_layer("classifier").kernel), held)
    assert other.get_layer("classifier").kernel.shape == (35, 5)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean", "max"])
def test_every_pooling_gives_float32_logits(tiny_dir, pooling):
    task = kbert.TextClassification(("a", "b", "c", "d", "e"), max_length=7, pooling=pooling)
    loaded = kbert.load(tiny_dir, dtype="mixed_bfloat16")
    logits = kbert.Predictor(task.model(loaded.encoder), task, loaded.tokenizer).logits(["cat"])
    assert logits.shape == (1, 5)
    assert logits.dtype == np.float32


def test_answers_are_the_labels_and_their_probabilities():
    logits = np.log(np.array([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]], "float32")) + 900
    answers = list(TASK.answers(logits))
    assert [answer["label"] for answer in answers] == ["a", "b"]
    assert [answer["score"] for answer in answers] == pytest.approx([0.5, 0.7], abs=1e-4)
    assert all(type(answer["score"]) is float for answer in answers)


def test_scores_are_worked_out_by_hand():
    """Right, wrong, right; of the three labels one is never chosen."""
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], "float32"))
    records = [{"text": "x", "label": label} for label in ("b", "ü", "a")]
    assert TASK.scores(logits, records) == {
        "accuracy": pytest.approx(2 / 3),
        "micro_f1": pytest.approx(2 / 3),
        "macro_f1": pytest.approx((2 / 3 + 1 + 0) / 3),
        "matthews": pytest.approx(0.6123724),  # (2 · 3 - 2) / √((9 - 5) · (9 - 3)) · …, by R_K
        "loss": pytest.approx(-np.log([0.5, 0.1, 0.8]).mean(), abs=1e-6),
        "examples": 3,
    }


def test_scores_are_those_of_scikit_learn():
    from sklearn import metrics

    draw = np.random.default_rng(0)
    logits = 3 * draw.standard_normal((101, 3)).astype("float32")
    targets = draw.integers(0, 3, 101)
    records = [{"text": "x", "label": TASK.labels[target]} for target in targets]
    scores = TASK.scores(logits, records)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert scores["accuracy"] == metrics.accuracy_score(targets, logits.argmax(-1))
    assert scores["macro_f1"] == metrics.f1_score(targets, logits.argmax(-1), average="macro")
    assert scores["matthews"] == metrics.matthews_corrcoef(targets, logits.argmax(-1))
    assert scores["loss"] == pytest.approx(metrics.log_loss(targets, probabilities), abs=1e-6)


# Bad input


@pytest.mark.parametrize("labels", [(), ("a",), ("a", "a")])
def test_less_than_two_labels_are_refused(labels):
    with pytest.raises(kbert.InputError, match=f"two labels or more; got {len(set(labels))}: "):
        kbert.TextClassification(labels)


def test_labels_that_are_not_known_are_listed():
    records = [{"text": "x", "label": label} for label in ("a", "z", "b", "y", "z")]
    words = r"training never saw: 'y', 'z' \(2 in all; first in record 2\). Known are 3 labels"
    with pytest.raises(kbert.InputError, match=words):
        TASK.targets(records)


def test_a_text_that_is_no_string_is_refused():
    records = [{"text": "x", "label": "a"}, {"text": 7, "label": "a"}]
    with pytest.raises(kbert.InputError, match="texts in column 'text', came 7 in record 2"):
        TASK.check(records)


def test_an_unknown_task_is_refused():
    with pytest.raises(kbert.InputError, match="task 'chess'; this version knows .*text-classif"):
        tasks.from_settings({"kbert": {"task": "chess"}})
    with pytest.raises(kbert.InputError, match="has no id2label"):
        tasks.from_settings({})
