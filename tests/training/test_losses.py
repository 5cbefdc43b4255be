"""Classes that weigh, and labels that are smooth: by hand, as PyTorch has them, and in a run."""

import json
import math

import numpy as np
import pytest
import torch
from harness import numbers, to_numpy
from keras import ops

import kbert
from kbert.errors import InputError
from kbert.training.finetune import Recipe
from kbert.training.losses import ClassCrossentropy, loss_of, weights_of

LABELS = ("cat's", "dog", "vogel, ö")
COUNTS = np.array([2, 3, 5])


def texts(*labels):
    return [{"text": "my cat", "label": label} for label in labels]


def test_a_loss_by_hand():
    """Probabilities 1/2, 1/4, 1/4 cost ln 2, 2 ln 2, 2 ln 2; smoothing takes a tenth of each."""
    logits = ops.log(ops.convert_to_tensor([[0.5, 0.25, 0.25]] * 3))
    labels = ops.convert_to_tensor([0, 1, 2])
    rows = ClassCrossentropy([1, 2, 4], 0.3, reduction="none")(labels, logits)
    # 0.7 · w · cost of the label, and 0.1 · (1 · 1 + 2 · 2 + 4 · 2) = 1.3 of all of them.
    expected = np.array([0.7 * 1 * 1 + 1.3, 0.7 * 2 * 2 + 1.3, 0.7 * 4 * 2 + 1.3]) * math.log(2)
    np.testing.assert_allclose(to_numpy(rows), expected, rtol=1e-6)
    mean = ClassCrossentropy([1, 2, 4], 0.3)(labels, logits)
    np.testing.assert_allclose(to_numpy(mean), expected.mean(), rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_loss_of_pytorch_but_for_what_the_mean_is_taken_over(smoothing):
    logits, labels, weights = numbers(17, 5), np.arange(17) % 5, np.arange(5) / 2 + 0.5
    ours = ClassCrossentropy(weights, smoothing)
    theirs = torch.nn.CrossEntropyLoss(torch.tensor(weights).float(), label_smoothing=smoothing)
    expected = theirs(torch.tensor(logits), torch.tensor(labels)) * weights[labels].sum() / 17
    got = to_numpy(ours(ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)))
    np.testing.assert_allclose(got, float(expected), rtol=1e-5)


def test_tokens_without_a_label_and_rows_that_fill_do_not_count():
    task = kbert.TokenClassification(("O", "B-PER", "I-PER"))
    records = [{"words": ["a", "b", "c", "d"], "tags": ["O", "O", "O", "B-PER"]}]
    loss = loss_of(task, records, "balanced")
    assert loss.weights == pytest.approx([4 / 9, 4 / 3, 4 / 3])  # I-PER never comes
    logits = numbers(2, 3, 3)
    labels, learned = np.array([[0, 1, 0], [1, 0, 0]]), np.array([[1.0, 1, 0], [1, 0, 0]])
    got = loss(*map(ops.convert_to_tensor, (labels, logits)), ops.convert_to_tensor(learned))
    cost = -np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    rows = [4 / 9 * cost[0, 0, 0], 4 / 3 * cost[0, 1, 1], 4 / 3 * cost[1, 0, 1]]
    np.testing.assert_allclose(to_numpy(got), np.mean(rows), rtol=1e-5)


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    weights = weights_of("balanced", LABELS, COUNTS)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert weights == pytest.approx([10 / 6, 10 / 9, 10 / 15])
    assert np.mean(np.array(weights)[labels]) == pytest.approx(1)


def test_weights_are_read():
    assert weights_of("", LABELS, COUNTS) == [1, 1, 1]
    assert weights_of("dog=2.5", LABELS, COUNTS) == [1, 2.5, 1]
    assert weights_of("vogel, ö=3, cat's = 0", LABELS, COUNTS) == [0, 1, 3]


@pytest.mark.parametrize("given", ["dog", "dog=", "dog=-1", "dog=nan", "even", "dog=2;"])
def test_weights_that_are_none_are_refused(given):
    with pytest.raises(InputError, match="expected balanced, or label=weight .*; came '"):
        weights_of(given, LABELS, COUNTS)


def test_labels_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="no label 'cow'; the .* have \"cat's\", 'dog', 'vogel, ö"):
        weights_of("dog=2,cow=3", LABELS, COUNTS)


def test_a_task_without_classes_refuses():
    several = kbert.TextClassification(LABELS, multi_label=True)
    with pytest.raises(InputError, match="one label .*text-classification with several labels a"):
        loss_of(several, texts(*LABELS), "balanced")
    with pytest.raises(InputError, match="this is regression. Leave them away"):
        loss_of(kbert.Regression(("a",)), [], smoothing=0.1)
    with pytest.raises(InputError, match="this is question-answering"):
        loss_of(kbert.QuestionAnswering(), [], smoothing=0.1)


def test_a_task_keeps_its_own_loss_where_nothing_is_asked():
    task = kbert.TextClassification(LABELS)
    assert type(loss_of(task, [])) is type(task.loss())


def test_a_run_is_trained_and_validated_with_it(one_block_dir, tiny_data, tmp_path):
    """All weigh twice, and hardly a thing is learned: the loss is twice that of the test."""
    columns = ("text", "label")
    records = kbert.read_records(tiny_data / "validation.csv", columns)[:32]
    task = kbert.TextClassification.from_records(records, max_length=7)
    weights = "cat's=2,dog=2,vogel, ö=2"
    recipe = Recipe(1, learning_rate=1e-9, dtype="float32", class_weights=weights)
    done = kbert.finetune(
        task, records, records, one_block_dir, tmp_path / "run", recipe, validation=records,
        verbose=0,
    )  # fmt: skip
    expected = 2 * done.metrics["test"]["loss"]
    assert done.history[0]["val_loss"] == pytest.approx(expected, rel=1e-4)
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["class_weights"] == weights
