"""Vectors of texts: learned from pairs, compared, and the same in sentence-transformers."""

import json
import shutil

import keras
import numpy as np
import pytest
import theirs
import tiny
from harness import BACKEND, randomize, to_numpy

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.tasks import modules, pairs
from kbert.tasks.sentence_embedding import SentenceEmbedding, cosines_of
from kbert.training.finetune import load_predictor

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="slow: one backend shows it")
TASK = SentenceEmbedding(max_length=13)
TEXTS = ["my cat", "", "the dog is big today", "a nest " * 20]
DRAW = np.random.default_rng(5)
VECTORS = DRAW.standard_normal((10, 3)).astype("float32")  # of 5 pairs


def scored(number, seed):
    """Two words of animals; 5 if they are of one animal, else 1."""
    chance = np.random.default_rng(seed)
    records = []
    for _ in range(number):
        a, b = chance.choice(tiny.LABELS, 2) if chance.random() < 0.7 else [tiny.LABELS[0]] * 2
        words = [f"{chance.choice(tiny.WORDS[x])} {chance.choice(tiny.FILLERS)}" for x in (a, b)]
        records.append({"text": words[0], "text_pair": words[1], "score": 5 if a == b else 1})
    return records


@pytest.fixture(scope="module")
def model(one_block_dir):
    """A checkpoint and a model with random weights."""
    loaded = kbert.load(one_block_dir, dtype="float32")
    model = TASK.model(loaded.encoder)
    randomize(model)
    return loaded, model


@pytest.fixture(scope="module")
def predictor(model):
    loaded, model = model
    return kbert.Predictor(model, TASK, loaded.tokenizer)


def tensors(*arrays):
    return [keras.ops.convert_to_tensor(array) for array in arrays]


def plain_cosines(first, second):
    lengths = np.linalg.norm(first, axis=-1), np.linalg.norm(second, axis=-1)
    return (first @ second.T) / np.outer(*lengths)


# Vectors


def test_a_vector_is_the_mean_of_the_real_tokens_with_length_one(model, predictor):
    loaded, _ = model
    vectors = predictor.logits(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-6)
    (ids,) = loaded.tokenizer(["my cat"])
    features = TASK.packer(loaded.tokenizer).pad([([2, *ids, 3], [0] * 4)], 4)
    mean = to_numpy(loaded.encoder(features)["sequence"])[0].mean(axis=0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_texts_have_vectors_and_pairs_the_cosine_between_theirs(predictor):
    vectors = [answer["embedding"] for answer in predictor(TEXTS)]
    assert [len(vector) for vector in vectors] == [35] * 4
    records = [{"text": TEXTS[0], "text_pair": TEXTS[2]}, {"text": "", "text_pair": TEXTS[3]}]
    found = [answer["similarity"] for answer in predictor(records)]
    cosines = plain_cosines(*np.array(vectors)[[0, 2]][:, None])[0, 0]
    assert found[0] == pytest.approx(cosines, abs=1e-5)
    assert len(found) == 2


def test_vectors_may_keep_their_length(one_block_dir):
    task = SentenceEmbedding(max_length=13, normalize=False)
    loaded = kbert.load(one_block_dir, dtype="float32")
    vectors = kbert.Predictor(task.model(loaded.encoder), task, loaded.tokenizer).logits(TEXTS)
    assert abs(np.linalg.norm(vectors[0]) - 1) > 0.1


# Losses and figures, by hand


def test_a_pair_is_two_rows_one_after_another(model):
    records = scored(5, 1)
    task = SentenceEmbedding.from_records(records, label="score", max_length=13)
    dataset = task.dataset(records, model[0].tokenizer, batch_size=5, shuffle=False)
    ((features, targets),) = dataset.as_numpy_iterator()
    words = [record[column] for record in records for column in ("text", "text_pair")]
    for ids, text in zip(features["token_ids"], model[0].tokenizer(words), strict=True):
        assert ids[: len(text) + 2].tolist() == [2, *text, 3]
    assert targets.tolist() == [[float(record["score"] == 5)] for record in records]


def test_the_loss_of_scores_is_the_squared_error_of_cosines():
    targets = np.array([[0], [1], [0.5], [0.25], [1]], "float32")
    cosines = np.diag(plain_cosines(VECTORS[::2], VECTORS[1::2]))
    np.testing.assert_allclose(to_numpy(pairs.cosines(*tensors(VECTORS)))[:, 0], cosines, atol=1e-5)
    expected = (cosines - targets[:, 0]) ** 2
    loss = pairs.CosineError()
    np.testing.assert_allclose(to_numpy(loss.call(*tensors(targets, VECTORS))), expected, atol=1e-5)


def test_other_pairs_of_the_batch_are_wrong_answers_but_not_those_with_a_text_in_common():
    numbers = np.array([[0, 1], [2, 3], [4, 1], [0, 5], [6, 7]], "int32")
    logits = 20 * plain_cosines(VECTORS[::2], VECTORS[1::2])
    for a, b in ((0, 2), (0, 3)):
        logits[a, b] = logits[b, a] = -np.inf
    expected = np.log(np.exp(logits).sum(-1)) - np.diag(logits)
    loss = pairs.InBatchNegatives()
    got = to_numpy(loss.call(*tensors(numbers, VECTORS)))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    metric = pairs.InBatchAccuracy()
    metric.update_state(*tensors(numbers, VECTORS))
    assert float(metric.result()) == pytest.approx((logits.argmax(-1) == np.arange(5)).mean())


def test_a_pair_that_fills_a_batch_is_no_wrong_answer():
    """The last batch repeats rows with weight 0: the loss of the others stays."""
    numbers = np.array([[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]], "int32")
    vectors = np.concatenate([VECTORS[:6], VECTORS[:4]])
    loss = pairs.InBatchNegatives(reduction="mean_with_sample_weight")
    whole = loss(numbers[:3], *tensors(vectors[:6]))
    filled = loss(numbers, *tensors(vectors), np.array([1, 1, 1, 0, 0], "float32"))
    assert float(filled) == pytest.approx(float(whole), abs=1e-5)


def test_targets_are_numbers_of_texts_where_there_is_no_score():
    records = [("a", "b"), ("c", "a"), ("a", "d")]
    records = [dict(zip(("text", "text_pair"), pair, strict=True)) for pair in records]
    assert TASK.targets(records).tolist() == [[0, 1], [2, 0], [0, 3]]
    assert TASK.targets(records).dtype == np.int32
    assert TASK.monitor == "val_accuracy"


def test_scores_of_pairs_are_worked_out_by_hand():
    """The first text of pair 2 is nearest to the second of pair 0, its own comes next."""
    second = np.eye(3, dtype="float32")
    first = np.array([[3, 0, 0], [0, 1, 0.5], [2, 0, 1]], "float32")
    vectors = np.stack([first, second], axis=1)
    records = [{"text": "x", "text_pair": "y", "score": score} for score in (3, "2.5", 1)]
    assert TASK.scores(vectors, records) == {
        "accuracy": pytest.approx(2 / 3), "reciprocal_rank": pytest.approx((1 + 1 + 0.5) / 3),
        "examples": 3,
    }  # fmt: skip
    cosines = [1, 1 / np.sqrt(1.25), 1 / np.sqrt(5)]
    np.testing.assert_allclose(cosines_of(vectors), cosines, rtol=1e-6)
    task = SentenceEmbedding.from_records(records, label="score")
    assert (task.lowest, task.highest) == (1, 3)
    scores = task.scores(vectors, records)
    assert scores["spearman"] == pytest.approx(1)
    assert scores["pearson"] == pytest.approx(np.corrcoef(cosines, [3, 2.5, 1])[0, 1])


def test_the_place_of_the_own_text_is_found_block_by_block():
    first, second = VECTORS[::2], VECTORS[1::2]
    scores = first @ second.T
    expected = 1 + (scores > np.diag(scores)[:, None]).sum(-1)
    assert pairs.ranks(first, second, rows_at_once=2).tolist() == expected.tolist()
    assert pairs.ranks(first[:0], second[:0]).shape == (0,)


def test_the_nearest_come_first():
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], "float32")
    questions = np.array([[0.8, 0.6], [0, 1]], "float32")
    places, cosines = pairs.nearest(questions, vectors, 3)
    assert places.tolist() == [[2, 0, 1], [1, 2, 0]]
    np.testing.assert_allclose(cosines, [[0.96, 0.8, 0.6], [1, 0.8, 0]], atol=1e-6)
    assert pairs.nearest(questions, vectors, 9)[0].shape == (2, 4)


# Training


@pytest.mark.parametrize("label", ["score", None], ids=["scores", "negatives"])
def test_pairs_are_learned(one_block_dir, label):
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    train, test = scored(256, 1), scored(61, 2)
    if label is None:  # only those that belong together
        train = [record for record in train if record["score"] == 5]
    task = SentenceEmbedding.from_records(train, label=label, max_length=8)
    keras.utils.set_random_seed(2)
    model = task.model(loaded.encoder)
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    judge = SentenceEmbedding(label="score")
    before = judge.scores(predictor.logits(test), test)
    model.compile(kbert.adamw(0.003), task.loss(), weighted_metrics=task.metrics())
    settings = {"batch_size": 16, "buckets": [8], "remainder": "fill"}
    history = model.fit(task.dataset(train, loaded.tokenizer, **settings), epochs=6, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    after = judge.scores(predictor.logits(test), test)
    assert after["pearson"] > 0.8 > 0.5 > before["pearson"]
    if label:
        dataset = task.dataset(test, loaded.tokenizer, shuffle=False, **settings)
        figures = model.evaluate(dataset, verbose=0, return_dict=True)
        assert figures["pearson"] == pytest.approx(after["pearson"], abs=1e-3)


# Folders of sentence-transformers


def test_minilm_gives_its_golden_vectors(minilm_dir, data_dir):
    task, predictor = load_predictor(minilm_dir)
    assert task == SentenceEmbedding(max_length=256, pooling="mean", normalize=True)
    goldens = np.load(data_dir / "weights" / "goldens" / "minilm_l6.npz")
    means = np.stack([goldens[f"hidden{i}"].mean(axis=0) for i in range(3)])
    expected = means / np.linalg.norm(means, axis=-1, keepdims=True)
    np.testing.assert_allclose(
        predictor.logits(goldens["sentences"].tolist()), expected, rtol=0, atol=1e-5
    )


def test_loading_by_the_tasks_name_reads_the_folder_too(minilm_dir, one_block_dir):
    loaded = kbert.load(minilm_dir, task="sentence-embedding")
    assert (loaded.task.max_length, loaded.new) == (256, [])
    assert kbert.load(one_block_dir, task="sentence-embedding").task == SentenceEmbedding()


@TENSORFLOW_ONLY
def test_minilm_gives_the_vectors_of_sentence_transformers(minilm_dir, data_dir):
    library = pytest.importorskip("sentence_transformers")
    records = kbert.read_records(
        data_dir / "glue/STS-B/sts-test.csv", ["6", "5"], header=False, quoting=False,
        delimiter="tab",
    )  # fmt: skip
    texts = [record["6"] for record in records[:97]] + ["", "word " * 400]
    expected = library.SentenceTransformer(str(minilm_dir), device="cpu").encode(texts)
    vectors = load_predictor(minilm_dir)[1].logits(texts)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "task",
    [
        SentenceEmbedding(max_length=13),
        SentenceEmbedding(max_length=11, pooling="cls", normalize=False),
        SentenceEmbedding(max_length=9, pooling="max", label="n", lowest=1, highest=5),
    ],
    ids=["mean", "cls", "max"],
)
def test_sentence_transformers_opens_what_kbert_saves(one_block_dir, tmp_path, task):
    loaded = kbert.load(one_block_dir, dtype="float32")
    model = task.model(loaded.encoder)
    randomize(model)
    kbert.save(tmp_path, model, task.settings(loaded.settings), loaded.tokenizer)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert "files" not in config["kbert"]
    assert tasks.from_folder(tmp_path, config) == task
    del config["kbert"]
    read = tasks.from_folder(tmp_path, config)
    assert (read.max_length, read.pooling, read.normalize) == (
        task.max_length, task.pooling, task.normalize,
    )  # fmt: skip
    vectors = kbert.Predictor(model, task, loaded.tokenizer).logits(TEXTS)
    again = load_predictor(tmp_path)[1].logits(TEXTS)
    np.testing.assert_allclose(again, vectors, rtol=0, atol=1e-6)
    if BACKEND == "tensorflow":
        library = pytest.importorskip("sentence_transformers")
        theirs_of = library.SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
        np.testing.assert_allclose(theirs_of, vectors, rtol=0, atol=2e-5)


@TENSORFLOW_ONLY
def test_vectors_are_served_as_python_gives_them(model, predictor, tmp_path):
    loaded, model = model
    version = kbert.export(model, TASK, loaded.tokenizer, tmp_path)
    vectors = predictor.logits(TEXTS)
    found = theirs.served(version, text=TEXTS)["embedding"]
    np.testing.assert_allclose(found, vectors, rtol=0, atol=1e-5)
    found = theirs.served(version, "similarity", text=TEXTS, text_pair=TEXTS[::-1])["similarity"]
    expected = np.diag(plain_cosines(vectors, vectors[::-1]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@TENSORFLOW_ONLY
def test_pairs_go_through_every_command(one_block_dir, tmp_path, capsys):
    file, run = tiny.write_csv(tmp_path / "pairs.csv", scored(48, 1)), tmp_path / "run"
    code = tiny.kbert(
        "finetune", "sentence-embedding", "--train", file, "--test", file, "--validation", file,
        "--label", "score", "--max-length", 11, "--epochs", 1, "--checkpoint", one_block_dir,
        "--output", run, "--dtype", "float32",
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "test: spearman 0." in out
    assert "val_pearson" in (run / "history.csv").read_text("utf-8")
    assert tiny.kbert("evaluate", run, "--data", file, "--text", "text_pair") == 0
    assert "48 examples" in capsys.readouterr().out
    assert tiny.kbert("predict", run, "my cat", "a dog") == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["text"] == "my cat"
    cosine = np.dot(first["embedding"], second["embedding"])
    assert tiny.kbert("similar", run, "my cat", "a dog") == 0
    (similar,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert similar == {
        "text": "my cat", "text_pair": "a dog", "similarity": pytest.approx(cosine, abs=1e-5)
    }  # fmt: skip
    (tmp_path / "list.txt").write_text("the bird\na dog\n\nmy cat\n", "utf-8")
    assert tiny.kbert("similar", run, "my cat", "--in", tmp_path / "list.txt", "--top", 2) == 0
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found["text"] == "my cat"
    assert found["nearest"][0] == {
        "text": "my cat", "number": 4, "similarity": pytest.approx(1, abs=1e-5)
    }  # fmt: skip
    assert len(found["nearest"]) == 2
    assert tiny.kbert("similar", run, "alone") == 2
    assert "give two texts or more, or a list: --in FILE" in capsys.readouterr().err


# Bad input


def broken(one_block_dir, folder, **files):
    """A folder of sentence-transformers with other files than are due."""
    shutil.copytree(one_block_dir, folder, dirs_exist_ok=True)
    for file, content in {**modules.files(TASK, {"hidden_size": 35}), **files}.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content), "utf-8")
    return folder


def test_modules_that_kbert_has_not_are_refused(one_block_dir, tmp_path):
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    listed = [{"path": "1_Pooling", "type": f"sentence_transformers.models.{k}"} for k in kinds]
    folder = broken(one_block_dir, tmp_path, **{"modules.json": listed})
    with pytest.raises(InputError, match="modules.json: expected Transformer, Pooling.* Dense"):
        load_predictor(folder)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
    ],
)
def test_a_pooling_that_kbert_has_not_is_refused(one_block_dir, tmp_path, pooling):
    folder = broken(one_block_dir, tmp_path, **{"1_Pooling/config.json": pooling})
    with pytest.raises(InputError, match="1_Pooling/config.json: expected a pooling of mean, cls"):
        load_predictor(folder)


def test_the_newer_name_of_a_pooling_is_read(one_block_dir, tmp_path):
    newer = {"1_Pooling/config.json": {"pooling_mode": "max", "embedding_dimension": 35}}
    assert load_predictor(broken(one_block_dir, tmp_path, **newer))[0].pooling == "max"


def test_scores_that_are_no_numbers_or_all_the_same_are_refused(tmp_path):
    records = [{"text": "a", "text_pair": "b", "n": "3"}, {"text": "a", "text_pair": "c", "n": "x"}]
    with pytest.raises(InputError, match="column 'n', came 'x' in record 2"):
        SentenceEmbedding.from_records(records, label="n")
    file = tiny.write_csv(tmp_path / "a.csv", records)
    with pytest.raises(InputError, match="a.csv, row 3: expected a number in column 'n', came 'x'"):
        SentenceEmbedding.read(file, label="n")
    with pytest.raises(InputError, match="gives every pair the score 3: nothing to learn"):
        SentenceEmbedding.from_records(records[:1], label="n")
