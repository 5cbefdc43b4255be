"""Answers come in the order of the texts, whatever order they are computed in."""

from copy import copy
from dataclasses import replace

import keras
import numpy as np
import pytest
import tiny
from harness import BACKEND, randomize, run, to_numpy

import kbert
from kbert import inference
from kbert.errors import InputError
from kbert.heads.masked_lm import masked_lm
from kbert.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def predictor(tiny_dir):
    loaded = kbert.load(tiny_dir, dtype="float32")
    task = kbert.TextClassification(tuple("abcdefg"), max_length=23)
    keras.utils.set_random_seed(2)  # so that not all texts get one label
    model = task.model(loaded.encoder)
    randomize(model)
    return kbert.Predictor(model, task, loaded.tokenizer, batch_size=8)


@pytest.fixture(scope="module")
def texts():
    return [record["text"] for record in tiny.animals(43, seed=5)] + ["", "cat " * 99, "\n"]


def test_answers_are_those_of_each_text_alone(predictor, texts):
    answers = list(predictor(texts))
    assert len({answer["label"] for answer in answers}) > 1
    for text, answer in zip(texts[::5], answers[::5], strict=True):
        (alone,) = predictor([text])
        assert alone["label"] == answer["label"]
        assert alone["score"] == pytest.approx(answer["score"], abs=1e-5)


def test_logits_are_those_of_the_model(tiny_dir, texts):
    """Through Keras, in one batch padded to its longest."""
    loaded = kbert.load(tiny_dir, dtype="float32")
    task = kbert.TextClassification(tuple("abcdefg"), max_length=23, dropout=0.5)
    model = task.model(loaded.encoder)
    rows = task.rows(texts, loaded.tokenizer)
    expected = to_numpy(model.predict_on_batch(task.packer(loaded.tokenizer).pad(rows, 23)))
    logits = kbert.Predictor(model, task, loaded.tokenizer, batch_size=8).logits(texts)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_a_long_text_is_answered_by_the_mean_of_its_windows(tiny_dir, texts, monkeypatch):
    loaded = kbert.load(tiny_dir, dtype="float32")
    task = kbert.TextClassification(tuple("abcdefg"), max_length=23, stride=5)
    model = task.model(loaded.encoder)
    randomize(model)
    predictor = kbert.Predictor(model, task, loaded.tokenizer, batch_size=8)
    texts = [*texts, " ".join(texts)]
    monkeypatch.setattr(inference, "WINDOW", 17)  # which parts the windows of a text
    answers = list(predictor(texts))
    assert len(answers) == len(texts)
    whole = [len(ids) <= 21 for ids in loaded.tokenizer(texts)]
    assert 2 < sum(whole) < len(texts) - 1

    cut = kbert.Predictor(model, replace(task, stride=None), loaded.tokenizer, batch_size=8)
    for is_whole, alone, answer in zip(whole, cut(texts), answers, strict=True):
        if is_whole:
            assert answer["score"] == pytest.approx(alone["score"], abs=1e-5)
    prepared = task.prepare(texts, loaded.tokenizer)
    rows = [prepared.rows[i] for i in np.flatnonzero(prepared.numbers == len(whole) - 1)]
    assert len(rows) > 20
    logits = cut.function(task.packer(loaded.tokenizer).pad(rows, 23)).astype("float64")
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert answers[-1]["score"] == pytest.approx(probabilities.mean(0).max(), abs=1e-5)
    assert answers[-1]["label"] == task.labels[probabilities.mean(0).argmax()]


def test_texts_are_read_window_by_window(predictor, texts, monkeypatch):
    monkeypatch.setattr(inference, "WINDOW", 7)
    read = []

    def source():
        for text in texts:
            read.append(text)
            yield text

    answers = predictor(source())
    next(answers)
    assert len(read) == 7
    labels = [answer["label"] for answer in predictor(iter(texts))]
    monkeypatch.undo()
    assert labels == [answer["label"] for answer in predictor(texts)]


@pytest.mark.parametrize(
    ("token_id", "words"), [(3001, "came 3001"), (-1, "came -1"), (99999, "came 99999")]
)
def test_an_id_outside_the_vocabulary_is_named(predictor, token_id, words):
    with pytest.raises(InputError, match=f"token ids from 0 to 3000, {words}: .* 3001 tokens"):
        predictor.outputs([([2, 7, 3], [0] * 3), ([2, token_id, 3], [0] * 3)])


def test_a_token_that_was_added_to_the_tokenizer_alone_is_named(predictor, tiny_dir):
    tokenizer = Tokenizer.from_folder(tiny_dir)
    tokenizer.rust.add_tokens(["zebra"])
    other = copy(predictor)
    other.tokenizer = tokenizer
    with pytest.raises(InputError, match=r"came 3001 \('zebra'\): .* has 3001 tokens\. Take"):
        list(other(["my zebra"]))


def test_no_texts_have_no_answers(predictor):
    assert list(predictor([])) == []
    assert predictor.logits([]).shape[0] == 0


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the frozen function is TensorFlow's")
def test_a_frozen_model_has_constants_for_weights_and_open_sizes(predictor):
    import tensorflow as tf

    names = {"token_ids": tf.int32, "segment_ids": tf.int32, "padding_mask": tf.bool}
    model_inputs = {name: tf.zeros([3, 5], dtype) for name, dtype in names.items()}
    model_inputs["padding_mask"] = tf.ones([3, 5], tf.bool)
    loaded_model = tiny_model()
    frozen = inference.freeze(loaded_model)
    assert not frozen.get_concrete_function(
        **{name: tf.TensorSpec([None, None], dtype) for name, dtype in names.items()}
    ).variables
    got = frozen(**model_inputs)["sequence"]
    np.testing.assert_allclose(got, loaded_model(model_inputs)["sequence"], rtol=0, atol=1e-5)
    short = frozen(**{name: x[:1, :2] for name, x in model_inputs.items()})
    assert short["sequence"].shape == (1, 2, 35)


@pytest.mark.skipif(BACKEND != "torch", reason="the traced graph is PyTorch's")
@pytest.mark.parametrize("is_padded", [False, True])
def test_one_traced_graph_serves_every_batch_and_length(is_padded, monkeypatch):
    from torch.jit import ScriptModule

    graphs = []
    trace = inference._traced
    monkeypatch.setattr(
        inference, "_traced", lambda *given: graphs.append(trace(*given)) or graphs[-1]
    )
    task = kbert.TextClassification(tuple("abcdefg"))
    model = task.model(tiny_model())
    randomize(model)
    function = inference.inference_function(model)
    draw = np.random.default_rng(3)
    for shape in ((5, 11), (7, 3), (2, 19)):
        features = {
            "token_ids": draw.integers(0, 23, shape, "int32"),
            "segment_ids": np.zeros(shape, "int32"),
            "padding_mask": np.ones(shape, bool),
        }
        features["padding_mask"][1, 2:] = not is_padded
        expected = to_numpy(model(features, training=False))
        np.testing.assert_allclose(function(features), expected, rtol=0, atol=1e-5)
    (graph,) = graphs
    assert isinstance(graph, ScriptModule)


@pytest.mark.parametrize("is_padded", [False, True])
def test_a_model_of_places_serves_any_number_of_them(is_padded, monkeypatch):
    """`masked_positions` has a length of its own; on PyTorch one traced graph serves all."""
    graphs = []
    trace = inference._traced
    monkeypatch.setattr(
        inference, "_traced", lambda *given: graphs.append(trace(*given)) or graphs[-1]
    )
    model = masked_lm(tiny_model(), at_positions=True)
    randomize(model)
    function = inference.inference_function(model)
    draw = np.random.default_rng(3)
    for shape, num_places in (((5, 11), 4), ((7, 3), 1), ((2, 19), 11)):
        features = {
            "token_ids": draw.integers(0, 23, shape, "int32"),
            "segment_ids": np.zeros(shape, "int32"),
            "padding_mask": np.ones(shape, bool),
            "masked_positions": draw.integers(0, shape[1], (shape[0], num_places), "int32"),
        }
        features["masked_positions"][0, 0] = shape[1] - 1
        features["padding_mask"][1, 2:] = not is_padded
        expected = run(model, features)
        assert expected.shape == (shape[0], num_places, 101)
        np.testing.assert_allclose(function(features), expected, rtol=0, atol=1e-4)
    if BACKEND == "torch":
        from torch.jit import ScriptModule

        (graph,) = graphs
        assert isinstance(graph, ScriptModule)


@pytest.mark.skipif(BACKEND != "torch", reason="the traced graph is PyTorch's")
def test_a_graph_that_does_not_serve_other_lengths_is_not_used():
    import torch

    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x * float(x.shape[1])  # a size that tracing keeps as it came

    eager = Fixed()
    assert inference._traced(eager, [torch.ones(2, 5)], lambda rows: [torch.ones(rows, 4)]) is eager


def tiny_model():
    from kbert.models.bert import BertConfig, bert

    return bert(BertConfig(101, initializer_range=tiny.DEVIATION, **tiny.SIZES), "float32")
