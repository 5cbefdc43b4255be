"""A checkpoint with the model of a task."""

import json
import shutil
import warnings

import numpy as np
import pytest
from harness import to_numpy

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.training.finetune import load_predictor


def test_a_run_folder_is_loaded_with_its_task_and_nothing_new(tiny_run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = kbert.load(tiny_run, task="text-classification", dtype="float32")
    assert loaded.new == []
    assert loaded.task.labels == ("cat's", "dog", "vogel, ö")
    held = loaded.encoder.head_weights["SequenceClassification"]["classifier/kernel"]
    np.testing.assert_array_equal(to_numpy(loaded.model.get_layer("classifier").kernel), held)


def test_a_new_head_is_said_to_be_new(tiny_dir):
    with pytest.warns(UserWarning, match="no weights for text-classification: classifier/bias mis"):
        loaded = kbert.load(tiny_dir, task="text-classification", dtype="float32")
    assert [text.split()[0] for text in loaded.new][:2] == ["classifier/bias", "classifier/kernel"]
    assert loaded.task.labels == ("LABEL_0", "LABEL_1")  # as transformers would
    assert loaded.model.output.shape == (None, 2)


def test_labels_that_disagree_with_the_width_of_the_head_are_told(tiny_run, tmp_path):
    """A head of three labels, and a config of two."""
    shutil.copytree(tiny_run, tmp_path / "run")
    settings = json.loads((tmp_path / "run/config.json").read_text("utf-8"))
    settings["id2label"] = {"0": "a", "1": "b"}
    (tmp_path / "run/config.json").write_text(json.dumps(settings), "utf-8")
    words = r"has 2 labels \(id2label\), the head .* width: classifier/bias \(3,\), expected \(2,\)"
    with pytest.raises(InputError, match=words):
        kbert.load(tmp_path / "run", task="text-classification", dtype="float32")
    with pytest.raises(InputError, match=words):
        load_predictor(tmp_path / "run")
    # Another task's head is another one.
    with pytest.warns(UserWarning, match="no weights for multiple-choice: .*expected"):
        kbert.load(tmp_path / "run", task="multiple-choice", dtype="float32")


@pytest.mark.parametrize(
    ("class_name", "task"),
    [
        ("BertForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
        ("BertForMultipleChoice", "multiple-choice"),
        ("BertForSequenceClassification", "text-classification"),
        ("BertModel", "text-classification"),
    ],
)
def test_the_task_of_a_model_that_others_saved_is_told_by_its_class(class_name, task):
    assert tasks.name_of({"architectures": [class_name], "model_type": "bert"}) == task


def test_without_a_task_there_is_an_encoder_alone(tiny_dir):
    loaded = kbert.load(tiny_dir, dtype="float32")
    assert not hasattr(loaded, "model")
    assert set(loaded.encoder.output) == {"sequence"}


def test_a_task_that_does_not_exist_is_refused(tiny_dir):
    with pytest.raises(InputError, match="no task 'poetry'; there are .*text-classification"):
        kbert.load(tiny_dir, task="poetry")
