"""Numbers in their own units: learned, answered, saved, served; missing ones left out."""

import json

import keras
import numpy as np
import pytest
import theirs
import tiny
from harness import BACKEND, randomize, to_numpy

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.tasks.correlation import Pearson, correlations
from kbert.tasks.regression import Regression

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="slow: one backend shows it")
# A price in thousands and a rating: their units are far apart.
RECORDS = [
    {"text": "my cat", "price": 3000.0, "rating": 4},
    {"text": "a dog", "price": "1000", "rating": None},
    {"text": "the bird", "price": 2000, "rating": 2.0},
    {"text": "a nest", "price": None, "rating": -1},
]
TASK = Regression.from_records(RECORDS, label="price, rating", missing=-1.0, max_length=11)


def priced(number, seed):
    """A cat adds a thousand to the price, the rating is the number of dogs; some is not given."""
    chance = np.random.default_rng(seed)
    records = []
    for _ in range(number):
        cats, dogs = chance.integers(0, 4, 2)
        words = ["cat"] * cats + ["dog"] * dogs + list(chance.choice(tiny.FILLERS, 3))
        price, rating = 1000.0 * cats + 5000, float(dogs)
        gone = chance.random(2) < 0.1
        records.append({
            "text": " ".join(chance.permutation(words)), "price": None if gone[0] else price,
            "rating": -1 if gone[1] else rating,
        })  # fmt: skip
    return records


@pytest.fixture(scope="module")
def trained(one_block_dir):
    """The task, its checkpoint and a model that learned it."""
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    train = priced(320, 1)
    settings = {"label": "price,rating", "missing": -1.0, "max_length": 12, "dropout": 0.0}
    task = Regression.from_records(train, pooling="mean", **settings)
    keras.utils.set_random_seed(2)
    model = task.model(loaded.encoder)
    model.compile(kbert.adamw(0.005), task.loss(), weighted_metrics=task.metrics())
    settings = {"batch_size": 32, "buckets": [12], "remainder": "fill"}
    history = model.fit(task.dataset(train, loaded.tokenizer, **settings), epochs=20, verbose=0)
    return task, loaded, model, history.history


# Numbers and figures


def test_means_and_deviations_are_those_of_what_is_given():
    assert TASK.criteria == TASK.columns == ("price", "rating")
    assert TASK.means == (2000.0, 3.0)
    assert TASK.deviations == (pytest.approx(np.sqrt(2 / 3) * 1000), 1.0)
    targets = TASK.targets(RECORDS)
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, [[3000, 4], [1000, np.nan], [2000, 2], [np.nan, np.nan]])


def test_a_column_that_does_not_vary_has_deviation_one():
    records = [{"text": "x", "label": 7}] * 3
    assert Regression.from_records(records).deviations == (1.0,)


def test_the_loss_is_of_deviations_and_leaves_out_what_is_not_given():
    loss = Regression(("a", "b"), (9.0, 5.0), (2.0, 10.0), label="a,b").loss()
    targets = np.array([[1, 20], [np.nan, 50], [np.nan, np.nan]], "float32")
    came = np.array([[5, 30], [77, 20], [8, 9]], "float32")
    # ((4/2)² + (10/10)²) / 2, (0 + (30/10)²) / 2, 0
    assert to_numpy(loss.call(*map(keras.ops.convert_to_tensor, (targets, came)))).tolist() == [
        2.5, 4.5, 0,
    ]  # fmt: skip
    weights = np.array([2, 0, 1], "float32")
    assert float(loss(targets, came, weights)) == pytest.approx(5 / 3)


def test_pearson_over_batches_is_that_of_scipy():
    draw = np.random.default_rng(3)
    due = (1000 + 30 * draw.standard_normal((101, 2))).astype("float32")
    came = (0.5 * due + 17 * draw.standard_normal((101, 2))).astype("float32")
    due[:19, 1] = np.nan
    metric = Pearson((1000.0, 990.0), (30.0, 20.0))
    for rows in (slice(0, 53), slice(53, None)):
        metric.update_state(due[rows], came[rows], np.ones(len(due[rows]), "float32"))
    metric.update_state(due[:5] + 99, came[:5], np.zeros(5, "float32"))
    expected = np.corrcoef(due[:, 0], came[:, 0])[0, 1]
    expected += np.corrcoef(due[19:, 1], came[19:, 1])[0, 1]
    assert float(metric.result()) == pytest.approx(expected / 2, abs=1e-4)
    metric.reset_state()
    metric.update_state(due[:, :1] * 0 + 1, came[:, :1] * np.ones((1, 2)))
    assert float(metric.result()) == 0.0


def test_scores_are_worked_out_by_hand():
    numbers = np.array([[2500, 3], [1500, 99], [2000, 3.5], [7, 7]], "float32")
    scores = TASK.scores(numbers, RECORDS)
    assert scores["criteria"]["price"] == {
        "pearson": pytest.approx(1), "spearman": pytest.approx(1),
        "mae": pytest.approx(1000 / 3), "examples": 3,
    }  # fmt: skip
    assert scores["criteria"]["rating"] == {
        "pearson": pytest.approx(-1), "spearman": pytest.approx(-1),
        "mae": pytest.approx(1.25), "examples": 2,
    }  # fmt: skip
    assert scores["pearson"] == pytest.approx(0)
    assert scores["mae"] == pytest.approx((1000 / 3 + 1.25) / 2)
    assert scores["examples"] == 4


def test_correlations_are_those_of_scipy_and_zero_where_nothing_varies():
    from scipy import stats

    draw = np.random.default_rng(3)
    came, due = draw.standard_normal((2, 53))
    due[:7] = 0.5
    found = correlations(came, due)
    assert found["pearson"] == pytest.approx(stats.pearsonr(came, due)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(came, due)[0])
    assert correlations(came, np.ones(53)) == {"pearson": 0.0, "spearman": 0.0}
    assert correlations(came[:1], due[:1]) == {"pearson": 0.0, "spearman": 0.0}


def test_answers_name_the_criteria():
    assert list(TASK.answers(np.array([[2.5, 3.0]], "float32"))) == [
        {"numbers": {"price": 2.5, "rating": 3.0}}
    ]


# Training, and the way to a checkpoint and back


def test_numbers_of_far_units_are_learned(trained):
    task, loaded, model, history = trained
    test = priced(97, 2)
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    scores = task.scores(predictor.logits(test), test)
    assert scores["criteria"]["price"]["mae"] < 300
    assert scores["criteria"]["rating"]["mae"] < 0.3
    assert scores["pearson"] > 0.95
    assert np.isfinite(history["loss"]).all()
    assert history["pearson"][-1] > 0.9


def test_a_checkpoint_gives_the_numbers_in_their_own_unit(trained, tmp_path):
    """To whoever opens it: its dense layer has the means and deviations in it."""
    task, loaded, model, _ = trained
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    kbert.save(tmp_path, model, task.settings(loaded.settings), loaded.tokenizer)
    again = kbert.load(tmp_path, task="regression")
    assert again.new == []
    assert again.task == tasks.from_settings(again.settings)
    assert (again.task.criteria, again.task.missing) == (("price", "rating"), -1.0)
    assert again.task.means == ()
    texts = ["my cat", "the dog and a cat", ""]
    numbers = kbert.Predictor(model, task, loaded.tokenizer).logits(texts)
    assert numbers[:, 0].min() > 4000
    found = kbert.Predictor(again.model, again.task, again.tokenizer).logits(texts)
    np.testing.assert_allclose(found, numbers, rtol=1e-5)
    # A task that learns in other deviations starts from the same numbers.
    further = Regression(
        task.criteria, (7.0, 3.0), (11.0, 0.5), label=task.label, max_length=12, pooling="mean"
    )
    model_further = further.model(kbert.load(tmp_path, dtype="float32").encoder)
    found = kbert.Predictor(model_further, further, again.tokenizer).logits(texts)
    np.testing.assert_allclose(found, numbers, rtol=1e-4)
    for weight in model.weights:
        np.testing.assert_array_equal(to_numpy(weight), before[weight.path])


def test_transformers_opens_it_as_a_regression(one_block_dir, tmp_path):
    task = Regression(("a", "b", "c"), (9.0, -3, 1000), (2.0, 1, 300), label="a,b,c", max_length=11)
    loaded = kbert.load(one_block_dir, dtype="float32")
    model = task.model(loaded.encoder)
    randomize(model)
    kbert.save(tmp_path, model, task.settings(loaded.settings), loaded.tokenizer)
    opened = theirs.opened(tmp_path, "AutoModelForSequenceClassification")
    assert opened.config.problem_type == "regression"
    assert opened.config.id2label == {0: "a", 1: "b", 2: "c"}
    texts = ["my cat", "", "a dog " * 9]
    prepared = task.prepare(texts, loaded.tokenizer)
    features = task.packer(loaded.tokenizer).pad(prepared.rows, 11)
    numbers = kbert.Predictor(model, task, loaded.tokenizer).logits(texts)
    far = (theirs.logits(opened, features) - numbers) / task.deviations
    assert np.abs(far).max() < 2e-5


def test_a_regression_of_transformers_is_known_by_its_problem_type():
    settings = {"id2label": {"0": "LABEL_0"}, "problem_type": "regression", "model_type": "bert"}
    task = tasks.from_settings(settings)
    assert isinstance(task, Regression)
    assert task.criteria == ("LABEL_0",)


@TENSORFLOW_ONLY
@pytest.mark.parametrize("stride", [None, 3])
def test_numbers_are_served_in_their_own_unit(one_block_dir, tmp_path, stride):
    task = Regression(("a", "b"), (9.0, 1000.0), (2.0, 300.0), label="a,b", max_length=11,
                      stride=stride)  # fmt: skip
    loaded = kbert.load(one_block_dir, dtype="float32")
    model = task.model(loaded.encoder)
    randomize(model)
    texts = ["my cat", "", "a dog " * 40]
    numbers = kbert.Predictor(model, task, loaded.tokenizer).logits(texts)
    version = kbert.export(model, task, loaded.tokenizer, tmp_path)
    np.testing.assert_allclose(theirs.served(version, text=texts)["numbers"], numbers, rtol=1e-5)


@TENSORFLOW_ONLY
def test_ratings_go_through_every_command(one_block_dir, tmp_path, capsys):
    file, run = tmp_path / "hotels.jsonl", tmp_path / "run"
    lines = [{**record, "rating": -1 if i % 3 else 4} for i, record in enumerate(priced(48, 1))]
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    code = tiny.kbert(
        "finetune", "regression", "--train", file, "--test", file, "--validation", file,
        "--label", "price,rating", "--missing", "-1", "--max-length", 11, "--epochs", 1,
        "--checkpoint", one_block_dir, "--output", run, "--dtype", "float32",
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "val_pearson" in (run / "history.csv").read_text("utf-8")
    test = json.loads((run / "metrics.json").read_text("utf-8"))["test"]
    assert test["criteria"]["rating"]["examples"] == 16
    assert f"test: pearson {test['pearson']:.4f}, spearman" in out
    mae = test["criteria"]["rating"]["mae"]
    assert f"  rating: pearson 0.0000, spearman 0.0000, MAE {mae:.4f}, 16 examples" in out
    assert tiny.kbert("evaluate", run, "--data", file) == 0
    assert f"MAE {test['mae']:.4f}, 48 examples" in capsys.readouterr().out
    assert tiny.kbert("predict", run, "my cat") == 0
    numbers = json.loads(capsys.readouterr().out)["numbers"]
    assert 3000 < numbers["price"] < 10000
    assert tiny.kbert("export", run, tmp_path / "saved") == 0
    found = theirs.served(tmp_path / "saved" / "1", text=["my cat"])["numbers"][0]
    np.testing.assert_allclose(found, list(numbers.values()), rtol=1e-5)


# Bad input


def test_a_number_column_with_text_is_refused_with_file_row_and_value(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text,label\nx,3\ny,good\n", "utf-8")
    with pytest.raises(InputError) as caught:
        Regression.read(file)
    assert f"{file}, row 3: expected a number in column 'label', came 'good'" in str(caught.value)
    with pytest.raises(InputError, match="column 'label', came 'good' in record 2: write it"):
        Regression(("label",)).targets([{"label": 1}, {"label": "good"}])


def test_a_column_without_any_number_is_refused():
    records = [{"text": "x", "a": 1, "b": -1}, {"text": "y", "a": 2, "b": None}]
    with pytest.raises(InputError, match="column 'b' gives no number in any record"):
        Regression.from_records(records, label="a,b", missing=-1)


def test_as_many_columns_as_criteria_are_asked():
    with pytest.raises(InputError, match=r"each of 2 numbers \(a, b\), came 'a': name them with c"):
        Regression(("a", "b"), label="a")
