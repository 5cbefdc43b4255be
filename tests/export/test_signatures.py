"""What every served model gives beside its task's answers, and what stands around it."""

import json

import keras
import numpy as np
import pytest
import theirs
import tiny
from harness import BACKEND, randomize

import kbert
from kbert.export import signatures, warm_up
from kbert.export.saved_model import Settings, export_run
from kbert.features import features
from kbert.tasks.regression import Regression

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="export runs on TensorFlow")
TEXTS = ["my cat", "", "a dog is here today " * 9, "[SEP] naïve CAFÉ"]
LABELS = ("one", "two ü", "3", "", "five")


@pytest.fixture(scope="module")
def task():
    return kbert.TextClassification(LABELS, max_length=23)


@pytest.fixture(scope="module")
def model(loaded, task):
    model = task.model(loaded.encoder)
    randomize(model.get_layer("classifier"))
    return model


@pytest.fixture(scope="module")
def version(loaded, task, model, tmp_path_factory):
    names = ["tokens", "embedding", "attention", "classify"]
    facts = {"metrics": {"test": {"accuracy": 0.5}}, "training_data": {"records": 3}}
    folder = tmp_path_factory.mktemp("saved") / "animals"
    return kbert.export(model, task, loaded.tokenizer, folder, Settings(names, facts=facts))


def test_an_embedding_is_the_mean_of_the_last_layer(version, loaded):
    found = theirs.served(version, "embedding", text=TEXTS)["embedding"]
    expected = list(features(loaded, TEXTS, pooling="mean", max_length=23))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.isfinite(found).all()


def test_attention_maps_are_those_of_transformers(version, loaded, tiny_dir):
    import torch
    import transformers

    found = theirs.served(version, "attention", text=TEXTS)
    pieces, maps = found["pieces"], found["attention"]
    assert maps.shape == (4, 3, 5, 23, 23)
    assert pieces[0] == ["[CLS]", "my", "cat", "[SEP]"] + [""] * 19
    assert pieces[1] == ["[CLS]", "[SEP]"] + [""] * 21
    reference = transformers.BertModel.from_pretrained(tiny_dir, attn_implementation="eager")
    ids = [[loaded.tokenizer.rust.token_to_id(piece) for piece in row if piece] for row in pieces]
    for row, of_row in zip(ids, maps, strict=True):
        with torch.no_grad():
            expected = reference.eval()(torch.tensor([row]), output_attentions=True).attentions
        size = len(row)
        np.testing.assert_allclose(
            of_row[:, :, :size, :size], torch.stack(expected)[:, 0].numpy(), atol=1e-5
        )


def examples(*columns):
    """Serialized tf.Example with a text and, if there is one, its pair."""
    import tensorflow as tf

    def feature(text):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))

    names = ("text", "text_pair")
    rows = (dict(zip(names, map(feature, row), strict=False)) for row in zip(*columns, strict=True))
    return [
        tf.train.Example(features=tf.train.Features(feature=row)).SerializeToString()
        for row in rows
    ]


def saved(version):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    proto = SavedModel()
    proto.ParseFromString((version / "saved_model.pb").read_bytes())
    return proto.meta_graphs[0].signature_def


def test_classify_takes_examples_and_gives_every_class_with_its_score(version):
    found = theirs.served(version, "classify", inputs=examples(TEXTS))
    expected = theirs.served(version, text=TEXTS)["probabilities"]
    np.testing.assert_allclose(found["scores"], expected, atol=1e-6)
    assert found["classes"] == [list(LABELS)] * 4
    methods = {name: signature.method_name for name, signature in saved(version).items()}
    assert methods.pop("classify") == "tensorflow/serving/classify"
    methods.pop("__saved_model_init_op")
    assert set(methods) == {"serving_default", "tokens", "embedding", "attention"}
    assert set(methods.values()) == {"tensorflow/serving/predict"}


def test_regress_takes_examples_of_pairs_and_gives_one_number(loaded):
    import tensorflow as tf

    from kbert.text.in_graph import in_graph

    task = Regression(("stars",), (3.0,), (2.0,), max_length=23, text_pair="text_pair")
    model, encode = task.model(loaded.encoder), in_graph(loaded.tokenizer)
    found = signatures.all_signatures(
        task, lambda **x: {"output": model(x)}, encode, loaded.tokenizer
    )
    numbers = found["regress"](tf.constant(examples(TEXTS, TEXTS[::-1])))["outputs"]
    pairs = [list(pair) for pair in zip(TEXTS, TEXTS[::-1], strict=True)]
    expected = kbert.Predictor(model, task, loaded.tokenizer).logits(pairs)
    np.testing.assert_allclose(numbers, expected, atol=1e-5)
    assert numbers.shape == (4, 1)


def test_several_numbers_have_no_regress(loaded):
    task = Regression(("a", "b"), label="a,b", max_length=23)
    has = signatures.all_signatures(task, None, None, loaded.tokenizer)
    assert set(has) == {"serving_default", "tokens", "embedding", "attention"}


def test_attention_is_exported_only_if_it_is_asked():
    has = ["serving_default", "tokens", "attention", "classify"]
    assert signatures.check_asked(None, has) == ["serving_default", "tokens", "classify"]
    assert signatures.check_asked(["attention"], has) == ["serving_default", "attention"]
    words = "no such signature: atention; of this model there are serving_default, tokens, att"
    with pytest.raises(kbert.InputError, match=words):
        signatures.check_asked(["tokens", "atention"], has)


def test_the_card_tells_task_labels_training_and_signatures(version, task):
    card = json.loads((version / "assets" / "model_card.json").read_text("utf-8"))
    assert card["task"] == "text-classification"
    assert card["labels"] == list(LABELS)
    assert card["settings"]["max_length"] == 23
    assert card["metrics"]["test"]["accuracy"] == 0.5
    assert card["training_data"] == {"records": 3}
    assert card["versions"]["tensorflow"]
    assert card["signatures"]["serving_default"] == {
        "inputs": {"text": {"dtype": "string", "shape": [None]}},
        "outputs": {
            "label": {"dtype": "string", "shape": [None]},
            "score": {"dtype": "float32", "shape": [None]},
            "probabilities": {"dtype": "float32", "shape": [None, 5]},
        },
    }
    assert set(card["signatures"]) == set(saved(version)) - {"__saved_model_init_op"}


def test_the_vocabulary_stands_beside(version, loaded):
    tokenizer = kbert.Tokenizer.from_folder(version / "assets")
    assert tokenizer(TEXTS) == loaded.tokenizer(TEXTS)


def test_warm_up_requests_are_answered_and_cover_the_lengths(version, loaded):
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    lengths = []
    for record in tf.data.TFRecordDataset(str(version / warm_up.FILE)):
        request = PredictionLog.FromString(record.numpy()).predict_log.request
        assert (request.model_spec.name, request.model_spec.signature_name) == (
            "animals", "serving_default"
        )  # fmt: skip
        texts = tf.make_ndarray(request.inputs["text"]).tolist()
        lengths += [2 + len(ids) for ids in loaded.tokenizer([text.decode() for text in texts])]
        assert theirs.served(version, text=texts)["score"].shape == (1,)
    steps = {min(-(-length // 8) * 8, 23) for length in lengths}
    assert steps == {16, 23}


def test_a_text_of_a_million_characters_is_answered(version):
    """Cut, it is the same text as its beginning."""
    long = "a dog is here today " * 50_000
    found = theirs.served(version, text=[long, long[:200]])["probabilities"]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_run_folder_is_exported_with_its_card_and_old_versions_go(tiny_run, tmp_path):
    folder = tmp_path / "animals"
    for old in ("1", "2", "3"):
        (folder / old).mkdir(parents=True)
        (folder / old / "saved_model.pb").touch()
    code = tiny.kbert(
        "export", tiny_run, folder, "--signatures", "tokens", "--max-length", "11", "--keep", "2",
        "--version", "7",
    )  # fmt: skip
    assert code == 0
    assert sorted(p.name for p in folder.iterdir()) == ["3", "7"]
    card = json.loads((folder / "7" / "assets" / "model_card.json").read_text("utf-8"))
    assert card["training_data"]["records"] == 320
    assert len(card["training_data"]["sha256"]) == 64
    assert card["metrics"]["test"]["examples"] == 97
    assert card["weights"] == "float32"
    assert card["settings"]["max_length"] == 11
    assert set(card["signatures"]) == {"serving_default", "tokens"}


def test_more_tokens_than_positions_are_refused(tiny_run, tmp_path):
    words = "max_length 62 is above the 61 positions of the model. Choose 61 or less"
    with pytest.raises(kbert.InputError, match=words):
        export_run(tiny_run, tmp_path / "new", max_length=62)
    assert not (tmp_path / "new").exists()


def test_a_foreign_folder_is_refused_before_the_work(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(kbert.InputError, match="it has notes.txt: name another"):
        export_run(tmp_path / "nowhere", tmp_path)


def test_bfloat16_halves_the_size_on_disk(loaded, task, tmp_path):
    config = kbert.models.bert.BertConfig(loaded.tokenizer.vocab_size, 2, 300, 5, 600, 61)
    sizes = []
    for dtype in ("float32", "bfloat16"):
        model = task.model(kbert.models.bert.bert(config, dtype))
        settings = Settings(["attention"])
        place = kbert.export(model, task, loaded.tokenizer, tmp_path / dtype, settings)
        sizes.append((place / "saved_model.pb").stat().st_size)
        assert not (place / "variables" / "variables.data-00000-of-00001").stat().st_size > 1000
    weights = keras.Model.count_params(model)
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, rel=0.01)
