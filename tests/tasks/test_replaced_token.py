"""Replaced tokens: what is replaced, what is suspected, figures, and the served answers."""

import json
import re

import keras
import numpy as np
import pytest
import theirs
import tiny
from harness import BACKEND, randomize, run

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.inputs.batches import IGNORED
from kbert.models import electra
from kbert.models.electra import ElectraConfig
from kbert.tasks.parts import Prepared
from kbert.tasks.replaced_token import ReplacedToken

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="once is enough")
TASK = ReplacedToken(max_length=23)
STRANGE = [
    "my cat",
    "",
    "naïve 猫, qqcat [SEP] dog",
    " ".join(["cat the qqcat, dog"] * 17),
    "\u00a0é e\u0301",
]


@pytest.fixture(scope="module")
def model(loaded):
    model = TASK.model(loaded.encoder)
    randomize(model, 0.1)
    return model


@pytest.fixture(scope="module")
def predictor(model, loaded):
    return kbert.Predictor(model, TASK, loaded.tokenizer, batch_size=4)


def sentences(number, seed=0):
    """Texts of animals alone or of fillers alone: a stranger among them was put there."""
    chance = np.random.default_rng(seed)
    groups = tiny.WORDS["dog"], tiny.FILLERS[:4]
    return [
        {"text": " ".join(chance.choice(groups[chance.integers(2)], chance.integers(7, 15)))}
        for _ in range(number)
    ]


# Training


def test_a_tiny_model_learns_to_find_strangers(one_block_dir):
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    task = ReplacedToken(max_length=17, share=0.2)
    keras.utils.set_random_seed(1)
    model = task.model(loaded.encoder)
    model.compile(
        keras.optimizers.Adam(0.005), task.loss(), weighted_metrics=task.metrics(),
        jit_compile=BACKEND == "jax",
    )  # fmt: skip
    dataset = task.dataset(sentences(192), loaded.tokenizer, batch_size=16)
    history = model.fit(dataset, epochs=14, verbose=0).history
    assert history["loss"][-1] < 0.35  # who suspects none has 0.46
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    figures = predictor.scores(sentences(48, seed=5))
    # One in two or more is replaced by a word of its own kind, which nobody can tell.
    assert figures["accuracy"] > 0.9
    assert figures["precision"] > 0.8
    (answer,) = predictor(["dog bone bark a dog leash dog bone"])
    assert [found["token"] for found in answer["suspected"]] == ["a"]
    assert (answer["suspected"][0]["start"], answer["suspected"][0]["end"]) == (14, 15)
    check_evaluation(model, predictor, sentences(48, seed=5))


def check_evaluation(model, predictor, records):
    """Keras measures the same replaced tokens as we do: those of epoch 0."""
    task = predictor.task
    dataset = task.dataset(records, predictor.tokenizer, batch_size=48, shuffle=False)
    figures = model.evaluate(dataset, verbose=0, return_dict=True)
    ours = predictor.scores(records)
    assert figures["accuracy"] == pytest.approx(ours["accuracy"], abs=1e-5)
    assert figures["loss"] == pytest.approx(ours["loss"], abs=1e-4)
    assert ours["tokens"] == sum(int(w.sum()) for *_, w in dataset.as_numpy_iterator())


def batches(dataset):
    return list(dataset.as_numpy_iterator())


def test_tokens_are_replaced_anew_in_each_epoch_of_training_alone(loaded):
    def epochs(**settings):
        dataset = TASK.dataset(sentences(29), loaded.tokenizer, batch_size=29, **settings)
        return [sorted(f["token_ids"].tolist()) for _ in range(2) for f, *_ in batches(dataset)]

    first, second = epochs(shuffle=True, seed=3)
    assert first != second
    assert epochs(shuffle=True, seed=3) == [first, second]
    same, again = epochs(shuffle=False)
    assert same == again


def test_words_with_labels_are_trained_on_as_they_are(loaded):
    task = ReplacedToken(words="w", label="l", max_length=23)
    records = [{"w": ["my", "qqcat", "dog"], "l": [0, 1, 0]}, {"w": ["cat"], "l": [1]}]
    task.check(records)
    dataset = task.dataset(records, loaded.tokenizer, batch_size=2, shuffle=False)
    ((features, targets, weights),) = batches(dataset)
    my, *pieces, dog = loaded.tokenizer(["my qqcat dog"])[0]
    assert len(pieces) > 1
    assert features["token_ids"][1, : len(pieces) + 4].tolist() == [2, my, *pieces, dog, 3]
    assert targets[1, : len(pieces) + 4].tolist() == [0, 0, *[1] * len(pieces), 0, 0]
    assert weights[1, : len(pieces) + 4].tolist() == [0, 1, *[1] * len(pieces), 1, 0]
    assert (targets[0, :3].tolist(), weights[0, :3].tolist()) == ([0, 1, 0], [0, 1, 0])


def test_words_are_measured_by_their_labels(model, loaded):
    task = ReplacedToken(words="w", label="l", max_length=23)
    records = [{"w": ["my", "cat"] * 30, "l": [0, 1] * 30}]
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    figures = predictor.scores(records)
    rows, targets = task.rows(records, loaded.tokenizer)
    assert len(rows) == 3
    logits = predictor.outputs(rows)
    right = [
        (x[: len(t)] > 0)[t != IGNORED] == t[t != IGNORED]
        for x, t in zip(logits, targets, strict=True)
    ]
    assert figures["accuracy"] == pytest.approx(np.concatenate(right).mean())
    assert (figures["tokens"], figures["examples"]) == (60, 1)


# Answers


def test_every_token_of_a_long_text_is_judged_once_with_context(model, predictor, loaded):
    """As if alone, where the text fits; a longer one in windows."""
    prepared = TASK.prepare(STRANGE, loaded.tokenizer)
    results = TASK.merged(predictor.outputs(prepared.rows), prepared)
    ids = loaded.tokenizer(STRANGE)
    assert [len(x) for x in results] == [len(x) for x in ids]
    packer = TASK.packer(loaded.tokenizer)
    for number in (0, 2, 4):
        row = packer.pack(ids[number])
        alone = run(model, packer.pad([row], len(row[0])))[0, 1:-1]
        np.testing.assert_allclose(results[number], alone, atol=1e-5)
    assert len(prepared.rows) > len(STRANGE) + 3


def test_answers_are_worked_out_by_hand(loaded):
    """Special tokens are not asked; of the others all but the first have 4 : 1 against them."""
    text = "my [SEP] qqcat"
    prepared = TASK.prepare([text], loaded.tokenizer)
    _, _, *pieces = prepared.details.encodings[0].offsets
    logits = np.full(2 + len(pieces), np.log(4.0), "float32")
    logits[0] = np.log(0.25)
    (answer,) = TASK.answers([logits], prepared)
    assert answer["suspected"] == [
        {"token": text[start:end], "start": start, "end": end, "score": pytest.approx(0.8)}
        for start, end in pieces
    ]
    assert pieces[0][0] == 9
    (answer,) = ReplacedToken(threshold=0.19).answers([logits], prepared)
    assert answer["suspected"][0]["token"] == "my"


def test_scores_are_worked_out_by_hand():
    """Two found of three, one suspected wrongly, two left in peace."""
    targets = [np.array([IGNORED, 1, 1, 0, IGNORED]), np.array([IGNORED, 1, 0, 0, IGNORED])]
    logits = [np.array([9, 2, 1, 1, 9, 9.0]), np.array([9, -1, -1, -2, 9.0])]
    results = TASK.merged(logits, Prepared([], np.zeros(2), [], details=targets))
    signed = np.array([2, 1, -1, -1, 1, 2])  # how far each is on the right side
    assert TASK.scores(results, [{}, {}]) == {
        "accuracy": pytest.approx(4 / 6),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "loss": pytest.approx(np.log1p(np.exp(-signed)).mean(), abs=1e-6),
        "tokens": 6,
        "examples": 2,
    }


# Settings and files


def test_settings_bring_the_task_back():
    task = ReplacedToken("t", "w", "l", 29, 0.25, 0.7)
    assert tasks.from_settings(task.settings({"model_type": "bert"})) == task
    settings = {"architectures": ["ElectraForPreTraining"], "model_type": "electra"}
    assert tasks.from_settings(settings) == ReplacedToken()


def test_texts_and_lists_of_words_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("my cat\n\ndog\n", "utf-8")
    assert ReplacedToken.read(tmp_path / "a.txt") == [{"text": "my cat"}, {"text": "dog"}]
    record = {"w": ["my", "cat"], "label": [0, 1]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    assert ReplacedToken.read(tmp_path / "a.jsonl", words="w") == [record]


def test_transformers_opens_a_saved_electra_and_gives_the_same_logits(vocabulary, tmp_path):
    sizes = {"embedding_width": 17, "num_layers": 1}
    folder = tiny.write_encoder(tmp_path / "tiny", vocabulary, electra, ElectraConfig, **sizes)
    loaded = kbert.load(folder, dtype="float32")
    model = TASK.model(loaded.encoder)
    randomize(model, 0.1)
    kbert.save(tmp_path / "run", model, TASK.settings(loaded.settings), loaded.tokenizer)
    opened = theirs.opened(tmp_path / "run", "AutoModelForPreTraining")
    assert type(opened).__name__ == "ElectraForPreTraining"
    features = TASK.packer(loaded.tokenizer).pad(TASK.prepare(STRANGE, loaded.tokenizer).rows, 23)
    expected = theirs.logits(opened, features)
    check_saved(tmp_path / "run", model, features, expected, features["padding_mask"])


def check_saved(folder, model, features, expected, real):
    again = kbert.load(folder, task="replaced-token", dtype="float32")
    assert (again.task, again.new) == (TASK, [])
    for ours in (model, again.model):
        assert np.abs(run(ours, features) - expected)[real].max() < 5e-5


def test_on_other_architectures_the_head_is_kberts_own(model, loaded, tmp_path):
    kbert.save(tmp_path, model, TASK.settings(loaded.settings), loaded.tokenizer)
    settings = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert settings["architectures"] == ["BertModel"]
    features = TASK.packer(loaded.tokenizer).pad(TASK.prepare(STRANGE, loaded.tokenizer).rows, 23)
    check_saved(tmp_path, model, features, run(model, features), features["padding_mask"])


# The command and the served graph


@TENSORFLOW_ONLY
def test_the_command_trains_evaluates_and_answers(one_block_dir, tmp_path, capsys):
    for name, number in {"train": 192, "test": 32}.items():
        lines = [record["text"] for record in sentences(number, seed=number)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines), "utf-8")
    output = tmp_path / "run"
    code = tiny.kbert(
        "finetune", "replaced-token", "--checkpoint", one_block_dir, "--output", output,
        "--train", tmp_path / "train.txt", "--validation", tmp_path / "test.txt",
        "--max-length", 17, "--share", 0.2, "--epochs", 14, "--learning-rate", 0.005,
        "--batch-size", 16, "--dropout", 0, "--dtype", "float32",
    )  # fmt: skip
    assert code == 0
    capsys.readouterr()
    assert tiny.kbert("evaluate", output, "--data", tmp_path / "test.txt") == 0
    told = capsys.readouterr().out
    accuracy, f1 = re.search(
        r"accuracy (\S+)%, precision \S+, recall \S+, F1 (\S+)%", told
    ).groups()
    assert float(accuracy) > 85
    assert float(f1) > 50
    assert tiny.kbert("predict", output, "dog bone bark a dog leash dog bone") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [found["token"] for found in answer["suspected"]] == ["a"]
    assert tiny.kbert("export", output, tmp_path / "served") == 0


def test_the_served_graph_gives_the_answers_of_python(model, predictor, loaded, tmp_path):
    version = kbert.export(model, TASK, loaded.tokenizer, tmp_path)
    found = theirs.served(version, text=STRANGE)
    answers = [answer["suspected"] for answer in predictor(STRANGE)]
    most = max(map(len, answers))
    assert most > 2
    assert min(map(len, answers)) == 0
    for row, suspected in enumerate(answers):
        padding = most - len(suspected)
        for name, nothing in {"token": "", "start": -1, "end": -1}.items():
            expected = [each[name] for each in suspected] + [nothing] * padding
            assert list(found[name][row]) == expected
        scores = [each["score"] for each in suspected] + [0.0] * padding
        np.testing.assert_allclose(found["score"][row], scores, rtol=0, atol=1e-5)


@TENSORFLOW_ONLY
def test_the_served_graph_answers_no_texts_and_ids(model, predictor, loaded, tmp_path):
    import tensorflow as tf

    version = kbert.export(model, TASK, loaded.tokenizer, tmp_path)
    none = theirs.served(version, text=tf.constant([], tf.string))
    assert none["score"].shape == (0, 0)
    my, cat = loaded.tokenizer(["my cat"])[0]
    found = theirs.served(version, "tokens", token_ids=[[2, my, cat, 3, 0], [2, cat, 3, 0, 0]])
    prepared = TASK.prepare(["my cat", "cat"], loaded.tokenizer)
    results = TASK.merged(predictor.outputs(prepared.rows), prepared)
    scores = 1 / (1 + np.exp(-results[0]))
    np.testing.assert_allclose(found["score"][0], [0, *scores, 0, 0], atol=1e-5)


# Bad input


def test_a_share_of_nothing_is_refused():
    with pytest.raises(InputError, match="between 0 and 1, came 0.0: ELECTRA's is"):
        ReplacedToken(share=0.0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"w": ["a", "b"], "label": [0]}, r"as many labels in 'label', came \['a', 'b'\] and \[0"),
        ({"w": "a b", "label": [0]}, "a list of words in column 'w' .*, came 'a b' and"),
        ({"w": ["a", 7], "label": [0, 1]}, "a list of words in column 'w'"),
        ({"w": ["a"], "label": [2]}, r"labels 0 \(as it was\) and 1 .* came 2 in record 1"),
    ],
)
def test_lists_that_do_not_fit_are_refused(record, words):
    with pytest.raises(InputError, match=words):
        ReplacedToken(words="w").check([record])


def test_texts_of_which_nothing_can_be_replaced_are_refused(predictor, loaded):
    with pytest.raises(InputError, match="put in the place of others, came none"):
        predictor.scores([{"text": ""}])
    with pytest.raises(InputError, match="texts in column 'text', came 7 in record 1"):
        TASK.check([{"text": 7}])
    with pytest.raises(InputError, match="none of 0 texts has a token that could be replaced"):
        TASK.scores([], [])
