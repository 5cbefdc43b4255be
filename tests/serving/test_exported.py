"""What `kbert.export` writes is served, warm-up requests and all, with the answers of Python."""

import json

import pytest
from harness import randomize

import kbert
from kbert.serving import examples
from kbert.serving.servable import WARMUP, Servable

TEXTS = ["my cat", "", "a\0b", "dog " * 99]


@pytest.fixture(scope="module")
def exported(tiny_dir, tmp_path_factory):
    """A predictor and the servable of its export."""
    loaded = kbert.load(tiny_dir, dtype="float32")
    task = kbert.TextClassification(("one", "two ü", "3"), max_length=61)
    model = task.model(loaded.encoder)
    randomize(model)
    version = kbert.export(model, task, loaded.tokenizer, tmp_path_factory.mktemp("m"))
    assert (version / WARMUP).is_file()
    servable = Servable(version)
    yield kbert.Predictor(model, task, loaded.tokenizer), servable
    servable.close()


def test_texts_get_the_answers_of_python(exported):
    predictor, servable = exported
    found = json.loads(servable.predict({"instances": TEXTS}))["predictions"]
    for served, expected in zip(found, predictor(TEXTS), strict=True):
        assert served["label"] == expected["label"]
        assert served["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_examples_are_classified_alike(exported):
    predictor, servable = exported
    document = {"signature_name": "classify", "examples": [{"text": text} for text in TEXTS]}
    rows = json.loads(servable.classify(document, examples.serialized(document)))["results"]
    best = [max(row, key=lambda pair: pair[1])[0] for row in rows]
    assert best == [answer["label"] for answer in predictor(TEXTS)]
