"""A checkpoint with the model of a task."""

import warnings

import numpy as np
import pytest
from harness import to_numpy

import kbert
from kbert.errors import InputError


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


def test_without_a_task_there_is_an_encoder_alone(tiny_dir):
    loaded = kbert.load(tiny_dir, dtype="float32")
    assert not hasattr(loaded, "model")
    assert set(loaded.encoder.output) == {"sequence"}


def test_a_task_that_does_not_exist_is_refused(tiny_dir):
    with pytest.raises(InputError, match="no task 'poetry'; there are .*text-classification"):
        kbert.load(tiny_dir, task="poetry")
