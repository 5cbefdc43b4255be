"""A SavedModel answers raw text as the Python model does, with TensorFlow alone."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import theirs
from harness import BACKEND, randomize

import kbert
from kbert.models.bert import BertConfig, bert

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="export runs on TensorFlow")
STRANGE = ["", " \n\t", "[SEP] 12 €, naïve CAFÉ", "猫 cat", "word " * 500, "\ufffd", "x" * 300]
BROKEN = [b"cat \xff\xfe dog", b"\xc3", b"my c\xc3\xa4t \xe2\x82"]


class Exported:
    """A model with its task and tokenizer, and the SavedModel of it."""

    def __init__(self, tiny_dir, folder):
        loaded = kbert.load(tiny_dir, dtype="float32")
        self.tokenizer = loaded.tokenizer
        self.task = kbert.TextClassification(("one", "two ü", "3", "", "five"), max_length=61)
        self.model = self.task.model(loaded.encoder)
        randomize(self.model)
        self.model.compile(jit_compile=True)  # which must not reach the graph
        self.folder = folder
        self.predictor = kbert.Predictor(self.model, self.task, self.tokenizer)
        self.version = kbert.export(self.model, self.task, self.tokenizer, folder)

    def expected(self, texts):
        """Label, score and probabilities by Keras, of logits that `Predictor` gives."""
        logits = self.predictor.logits(texts)
        probabilities = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        labels = [self.task.labels[best] for best in logits.argmax(-1)]
        return {"label": labels, "score": probabilities.max(-1), "probabilities": probabilities}


@pytest.fixture(scope="module")
def exported(tiny_dir, tmp_path_factory):
    return Exported(tiny_dir, tmp_path_factory.mktemp("saved_models") / "new" / "tiny")


@pytest.fixture(scope="module")
def texts(data_dir):
    records = kbert.read_records(data_dir / "banking77" / "test.csv", ["text"])
    return [record["text"] for record in records[::15]] + STRANGE


@pytest.fixture(scope="module")
def served(exported, texts, tmp_path_factory):
    """What a process with TensorFlow alone answers to everything that is asked below."""
    (my, cat), (dog,) = exported.tokenizer(["my cat", "dog"])
    tokens = [[2, my, cat, 3], [2, dog, 3, 0]]
    requests = {
        "texts": ["serving_default", "text", [text.encode().decode("latin-1") for text in texts]],
        "broken": ["serving_default", "text", [text.decode("latin-1") for text in BROKEN]],
        "one": ["serving_default", "text", ["my cat"]],
        "none": ["serving_default", "text", []],
        "tokens": ["tokens", "token_ids", tokens],
        "padded": ["tokens", "token_ids", [row + [0] * 7 for row in tokens]],
    }
    folder = tmp_path_factory.mktemp("served")
    (folder / "request.json").write_text(json.dumps(list(requests.values())), "utf-8")
    files = [exported.version, folder / "request.json", folder / "answers.json"]
    command = [sys.executable, Path(__file__).with_name("serve.py"), *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads((folder / "answers.json").read_text("utf-8"))
    return dict(zip(requests, answers, strict=True))


def assert_same(answers, expected):
    assert answers["label"] == expected["label"]
    for key in ("score", "probabilities"):
        np.testing.assert_allclose(answers[key], expected[key], rtol=0, atol=1e-5)


def test_raw_texts_get_the_answers_of_python(exported, served, texts):
    assert len(texts) > 200
    assert len(set(served["texts"]["label"])) > 2
    assert_same(served["texts"], exported.expected(texts))


def test_bytes_that_are_not_utf8_read_as_replacement_characters(exported, served):
    assert_same(served["broken"], exported.expected([b.decode("utf-8", "replace") for b in BROKEN]))


def test_the_batch_may_be_one_or_none(exported, served):
    assert_same(served["one"], exported.expected(["my cat"]))
    assert served["none"]["label"] == served["none"]["score"] == []


def test_answers_are_a_string_and_float32(served):
    dtypes = {"label": "string", "score": "float32", "probabilities": "float32"}
    assert served["texts"]["dtypes"] == served["tokens"]["dtypes"] == dtypes


def test_token_ids_get_the_answers_of_their_texts(exported, served):
    assert_same(served["tokens"], exported.expected(["my cat", "dog"]))
    assert_same(served["padded"], exported.expected(["my cat", "dog"]))


@pytest.mark.parametrize("token_id", [3001, -1])
def test_a_token_id_outside_the_vocabulary_is_named(exported, token_id):
    import tensorflow as tf

    words = rf"expected token ids from 0 to 3000, came\] \[{token_id}\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        theirs.served(exported.version, "tokens", token_ids=[[2, 7, 3], [2, token_id, 3]])


@TENSORFLOW_ONLY
def test_long_texts_are_answered_in_windows(exported, texts, tmp_path):
    import tensorflow as tf

    task = replace(exported.task, max_length=23, stride=7)
    version = kbert.export(exported.model, task, exported.tokenizer, tmp_path)
    long = [*texts[-30:], " ".join(texts)]
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    found = served(text=tf.constant(long))["probabilities"].numpy()
    logits = kbert.Predictor(exported.model, task, exported.tokenizer).logits(long)
    np.testing.assert_allclose(found, np.exp(logits), rtol=0, atol=1e-5)
    cut = exported.expected(long)["probabilities"]
    assert np.abs(found - cut).max() > 0.01
    assert served(text=tf.constant([], tf.string))["probabilities"].shape == (0, 5)


def test_the_graph_asks_for_no_xla(exported):
    """TF Serving refuses graphs with jit_compile by default."""
    functions = saved_graph(exported.version).library.function
    assert len(functions) > 3
    for function in functions:
        assert not function.attr["_XlaMustCompile"].b, function.signature.name
        assert not any(node.attr["_XlaMustCompile"].b for node in function.node_def)


def saved_graph(version):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    saved.ParseFromString((version / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0].graph_def


def test_the_first_version_is_one_and_others_can_read_it(exported):
    assert [p.name for p in exported.folder.iterdir()] == ["1"]
    assert exported.version == exported.folder / "1"
    assert (exported.version.stat().st_mode & 0o055) == 0o055


@TENSORFLOW_ONLY
def test_the_next_export_is_the_next_version(exported, tmp_path):
    folder = tmp_path / "name"
    for there in ("1", "9", ".exporting-x"):
        (folder / there).mkdir(parents=True)
        (folder / there / "saved_model.pb").touch()
    version = kbert.export(exported.model, exported.task, exported.tokenizer, folder)
    assert version == folder / "10"


def test_a_file_in_the_place_of_the_folder_is_refused(exported, tmp_path):
    file = tmp_path / "name"
    file.write_text("mine")
    with pytest.raises(kbert.InputError, match="name: expected a folder for versions, it is a f"):
        kbert.export(exported.model, exported.task, exported.tokenizer, file)
    assert file.read_text() == "mine"


def test_a_tokenizer_that_the_graph_cannot_serve_is_refused(exported, tmp_path):
    from tokenizers import normalizers

    tokenizer = kbert.Tokenizer.from_folder(exported_folder(exported, tmp_path))
    tokenizer.rust.normalizer = normalizers.NFKC()
    with pytest.raises(kbert.InputError, match="serves tokenizers with a BertNormalizer"):
        kbert.export(exported.model, exported.task, tokenizer, tmp_path / "name")
    assert not (tmp_path / "name").exists()


def exported_folder(exported, tmp_path):
    exported.tokenizer.save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@TENSORFLOW_ONLY
def test_a_failed_export_leaves_nothing(exported, tmp_path, monkeypatch):
    import tensorflow as tf

    def fail(module, folder, **_):
        Path(folder, "saved_model.pb").write_text("half")
        raise OSError("no space left")

    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        kbert.export(exported.model, exported.task, exported.tokenizer, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["1"]


@TENSORFLOW_ONLY
def test_a_batch_pads_to_its_own_longest_text_and_up_to_eight(exported, monkeypatch):
    """The model here answers with the length that it was given."""
    import tensorflow as tf

    from kbert.text.in_graph import in_graph

    def length(token_ids, **_):
        return tf.repeat(tf.shape(token_ids)[1:], tf.shape(token_ids)[0])

    monkeypatch.setattr(type(exported.task), "serve", lambda self, logits: {"length": logits})
    encode = in_graph(exported.tokenizer)
    signatures = exported.task.signatures(length, encode, exported.tokenizer)
    longer = ["cat", "my small cat", "cat " * 7]
    for texts, expected in ((["cat"], 8), (longer, 16), (["cat " * 99], 61)):
        answer = signatures["serving_default"](tf.constant(texts))
        assert answer["length"].numpy().tolist() == [expected] * len(texts)


@TENSORFLOW_ONLY
def test_weights_are_stored_once(exported, tmp_path):
    config = BertConfig(exported.tokenizer.vocab_size, 3, 140, 5, 560, 61)
    model = exported.task.model(bert(config, "float32"))
    version = kbert.export(model, exported.task, exported.tokenizer, tmp_path)
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    assert 4 * model.count_params() < size < 1.3 * 4 * model.count_params()


def test_a_bfloat16_model_answers_in_float32(tiny_dir, exported, tmp_path):
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    loaded = kbert.load(tiny_dir, dtype="bfloat16")
    model = exported.task.model(loaded.encoder)
    for weight, wide in zip(model.weights, exported.model.weights, strict=True):
        weight.assign(keras.ops.cast(wide, weight.dtype))
    version = kbert.export(model, exported.task, exported.tokenizer, tmp_path)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    answer = served(tf.constant(["my cat", "a dog today"]))
    assert answer["probabilities"].dtype == answer["score"].dtype == tf.float32
    expected = exported.expected(["my cat", "a dog today"])["probabilities"]
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=0.1)
    size = (version / "saved_model.pb").stat().st_size
    assert size < (exported.version / "saved_model.pb").stat().st_size
