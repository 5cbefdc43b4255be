"""Next sentence and sentence order: pairs, their probability, figures, and the served answers."""

import json
import re
import warnings

import keras
import numpy as np
import pytest
import theirs
import tiny
from harness import BACKEND, randomize, run

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.models import albert
from kbert.models.albert import AlbertConfig
from kbert.tasks.next_sentence import NextSentence
from kbert.tasks.sentence_order import SentenceOrder

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="once is enough")
BOTH = pytest.mark.parametrize("kind", [NextSentence, SentenceOrder])
WORDS = ("cat", "dog", "bird", "bone", "wing")
# A pair that is true, and one that is not, of what a tiny model learns.
ASKED = {
    NextSentence: [("dog was here", "the dog was here"), ("dog was here", "a dog was here")],
    SentenceOrder: [
        ("A cat was here.", "The cat cat is big."), ("The cat cat is big.", "A cat was here."),
    ],
}  # fmt: skip
PAIRS = [
    {"text": "my cat", "text_pair": "a dog [SEP] today"}, {"text": "", "text_pair": "wing"},
    {"text": "naïve 猫", "text_pair": ""}, {"text": "cat " * 40, "text_pair": "dog " * 9},
    {"text": "", "text_pair": ""},
]  # fmt: skip


def documents(number, seed=0):
    """Lines: what a beginning and what a second sentence is, and of which word, can be told."""
    chance = np.random.default_rng(seed)
    words = [str(chance.choice(WORDS)) for _ in range(number)]
    return [f"A {word} was here. The {word} {word} is big." for word in words]


# Training


def pairs_of(kind, folder):
    """Of next sentences a table, in which the second texts that follow begin with "the"; of
    sentence orders the pairs of running text, in which they do too."""
    if kind is SentenceOrder:
        (folder / "text.txt").write_text("\n".join(documents(96)), "utf-8")
        return kind.read(folder / "text.txt")
    chance = np.random.default_rng(0)
    firsts = [f"{word} was here" for word in chance.choice(WORDS, 96)]
    return [
        {"text": text, "text_pair": f"{'the' if n % 3 else 'a'} {text}", "label": int(n % 3 > 0)}
        for n, text in enumerate(firsts)
    ]


@BOTH
def test_a_tiny_model_learns_which_pairs_are_true(kind, one_block_dir, tmp_path):
    records = pairs_of(kind, tmp_path)
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    task = kind(max_length=29)
    task.check(records)
    keras.utils.set_random_seed(1)
    model = task.model(loaded.encoder)
    model.compile(
        keras.optimizers.Adam(0.003), task.loss(), weighted_metrics=task.metrics(),
        jit_compile=BACKEND == "jax",
    )  # fmt: skip
    dataset = task.dataset(records, loaded.tokenizer, batch_size=32)
    model.fit(dataset, epochs=8, verbose=0)
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    figures = predictor.scores(records)
    assert figures["accuracy"] > 0.98
    ours = model.evaluate(dataset, verbose=0, return_dict=True)
    assert ours["accuracy"] == pytest.approx(figures["accuracy"], abs=1e-5)
    yes, no = predictor(ASKED[kind])
    assert yes[task.answer] is True and no[task.answer] is False
    assert yes["probability"] > 0.5 > no["probability"]


def test_targets_are_0_for_yes_and_1_for_no():
    said = ["yes", "No", 1, 0, "1", "0", True, False, " TRUE ", "false"]
    task = NextSentence(label="l")
    targets = task.targets([{"l": word} for word in said])
    assert targets.tolist() == [0, 1] * 5
    assert targets.dtype == np.int32


def test_a_batch_has_both_texts_with_their_segments(loaded):
    task = NextSentence(max_length=7)
    records = [{"text": "my cat", "text_pair": "dog", "label": "no"}]
    ((features, targets),) = task.dataset(records, loaded.tokenizer, batch_size=1)
    (my, cat), (dog,) = loaded.tokenizer(["my cat", "dog"])
    assert features["token_ids"].numpy().tolist() == [[2, my, cat, 3, dog, 3, 0]]
    assert features["segment_ids"].numpy().tolist() == [[0, 0, 0, 0, 1, 1, 0]]
    assert targets.numpy().tolist() == [1]


# Answers


def test_answers_and_scores_are_worked_out_by_hand():
    logits = np.log(np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]], "float32")) + 7
    task = SentenceOrder()
    answers = list(task.answers(logits))
    assert [answer["in_order"] for answer in answers] == [True, False, False]
    assert [answer["probability"] for answer in answers] == pytest.approx([0.8, 0.4, 0.3], abs=1e-6)
    assert list(NextSentence().answers(logits))[0]["follows"] is True
    assert task.scores(logits, [{"label": word} for word in ("yes", "yes", "no")]) == {
        "accuracy": pytest.approx(2 / 3),
        "loss": pytest.approx(-np.log([0.8, 0.4, 0.7]).mean(), abs=1e-6),
        "examples": 3,
    }


def test_the_published_head_gives_its_golden_logits(data_dir):
    weights = data_dir / "weights"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is new
        loaded = kbert.load(weights / "rxnfp_pretrained", task="next-sentence", dtype="float32")
    assert loaded.new == []
    goldens = np.load(weights / "goldens" / "rxnfp_bert_pretrained_mlm.npz")
    rows = [(goldens[f"ids{i}"].tolist(), [0] * len(goldens[f"ids{i}"])) for i in range(4)]
    got = run(loaded.model, loaded.task.packer(loaded.tokenizer).pad(rows, 106))
    difference = np.abs(got - np.stack([goldens[f"nsp{i}"] for i in range(4)])).max()
    print(f"rxnfp_pretrained next sentence {BACKEND}: {difference:.1e}")
    assert difference <= 1e-4


# Settings and files


@BOTH
def test_settings_bring_the_task_back(kind):
    task = kind("a", "b", "c", 31, delimiter="tab", quoting=False, header=False)
    assert tasks.from_settings(task.settings({"model_type": "bert"})) == task


@pytest.mark.parametrize(
    ("class_name", "model_type", "name"),
    [
        ("BertForMaskedLM", "bert", "fill-mask"),
        ("BertForPreTraining", "bert", "fill-mask"),
        ("BertForNextSentencePrediction", "bert", "next-sentence"),
        ("AlbertForPreTraining", "albert", "sentence-order"),
    ],
)
def test_the_task_of_a_model_of_transformers_is_told_by_its_class(class_name, model_type, name):
    settings = {"architectures": [class_name], "model_type": model_type}
    assert tasks.from_settings(settings).name == name


def test_running_text_becomes_pairs_and_a_table_is_read_as_it_is(tmp_path):
    (tmp_path / "a.txt").write_text("One. Two.\n\nThree. Four. Five.\n", "utf-8")
    records = NextSentence.read(tmp_path / "a.txt", text="a", text_pair="b", label="c")
    assert [record["a"] for record in records] == ["One.", "Three.", "Four."]
    assert sorted(record["c"] for record in records)[1] in ("no", "yes")
    assert records == NextSentence.read(tmp_path / "a.txt", text="a", text_pair="b", label="c")
    orders = SentenceOrder.read(tmp_path / "a.txt")
    assert {frozenset((r["text"], r["text_pair"])) for r in orders} == {
        frozenset(pair) for pair in (("One.", "Two."), ("Three.", "Four."), ("Four.", "Five."))
    }
    table = [{"text": "x", "text_pair": "y", "label": "1"}]
    tiny.write_csv(tmp_path / "a.csv", table)
    assert NextSentence.read(tmp_path / "a.csv") == table


def test_transformers_opens_a_saved_next_sentence_model(tiny_dir, tmp_path):
    task = NextSentence(max_length=23)
    loaded = kbert.load(tiny_dir, dtype="float32")
    model = task.model(loaded.encoder)
    randomize(model, 0.1)
    kbert.save(tmp_path, model, task.settings(loaded.settings), loaded.tokenizer)
    features = task.packer(loaded.tokenizer).pad(task.prepare(PAIRS, loaded.tokenizer).rows, 23)
    opened = theirs.opened(tmp_path, "AutoModelForNextSentencePrediction")
    assert opened.config.id2label == {0: "IsNext", 1: "NotNext"}
    check_saved(task, tmp_path, model, features, theirs.logits(opened, features))


def check_saved(task, folder, model, features, expected):
    again = kbert.load(folder, task=task.name, dtype="float32")
    assert (again.task, again.new) == (task, [])
    for ours in (model, again.model):
        assert np.abs(run(ours, features) - expected).max() < 5e-5


def test_transformers_opens_alberts_sentence_order(vocabulary, tmp_path):
    """Its ForPreTraining has a masked-LM head too, which this folder has no weights for."""
    import transformers

    sizes = {"embedding_width": 17, "num_layers": 1}
    folder = tiny.write_encoder(tmp_path / "albert", vocabulary, albert, AlbertConfig, **sizes)
    loaded = kbert.load(folder, dtype="float32")
    task = SentenceOrder(max_length=23)
    model = task.model(loaded.encoder)
    randomize(model, 0.1)
    kbert.save(tmp_path / "run", model, task.settings(loaded.settings), loaded.tokenizer)
    features = task.packer(loaded.tokenizer).pad(task.prepare(PAIRS, loaded.tokenizer).rows, 23)
    opened, told = transformers.AutoModelForPreTraining.from_pretrained(
        tmp_path / "run", output_loading_info=True
    )
    assert not told["unexpected_keys"]
    assert all(name.startswith("predictions.") for name in told["missing_keys"])
    expected = theirs.logits(opened.eval(), features, output="sop_logits")
    check_saved(task, tmp_path / "run", model, features, expected)


def test_on_other_architectures_sentence_order_has_a_head_of_its_own(tiny_dir, data_dir, tmp_path):
    """BertForPreTraining tells next sentences: neither is taken for the other."""
    with pytest.warns(UserWarning, match="for sentence-order: sentence_order/bias missing"):
        loaded = kbert.load(
            data_dir / "weights" / "rxnfp_pretrained", task="sentence-order", dtype="float32"
        )
    assert [text.split("/")[0] for text in loaded.new] == ["sentence_order"] * 2
    loaded = kbert.load(tiny_dir, dtype="float32")
    task = SentenceOrder(max_length=23)
    model = task.model(loaded.encoder)
    kbert.save(tmp_path, model, task.settings(loaded.settings), loaded.tokenizer)
    settings = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert settings["architectures"] == ["BertModel"]
    features = task.packer(loaded.tokenizer).pad(task.prepare(PAIRS, loaded.tokenizer).rows, 23)
    check_saved(task, tmp_path, model, features, run(model, features))


# The command and the served graph


@TENSORFLOW_ONLY
def test_the_command_trains_evaluates_and_answers(one_block_dir, tmp_path, capsys):
    for name, number in {"train": 64, "test": 16}.items():
        lines = "\n".join(documents(number, seed=number))
        (tmp_path / f"{name}.txt").write_text(lines, "utf-8")
    output = tmp_path / "run"
    code = tiny.kbert(
        "finetune", "sentence-order", "--checkpoint", one_block_dir, "--output", output,
        "--train", tmp_path / "train.txt", "--validation", tmp_path / "test.txt",
        "--max-length", 29, "--epochs", 6, "--learning-rate", 0.005, "--dropout", 0,
        "--dtype", "float32",
    )  # fmt: skip
    assert code == 0
    capsys.readouterr()
    assert tiny.kbert("evaluate", output, "--data", tmp_path / "test.txt") == 0
    told = capsys.readouterr().out
    accuracy, examples = re.search(r"accuracy (\S+)%, loss \S+, (\d+) examples", told).groups()
    assert float(accuracy) > 90
    assert examples == "16"
    assert tiny.kbert("predict", output, "The cat cat is big.", "A cat was here.") == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["text", "text_pair", "in_order", "probability"]
    assert answer["in_order"] is False
    assert tiny.kbert("export", output, tmp_path / "served") == 0


@TENSORFLOW_ONLY
def test_the_served_graph_gives_the_answers_of_python(loaded, tmp_path):
    task = NextSentence(max_length=23)
    model = task.model(loaded.encoder)
    randomize(model, 0.1)
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    version = kbert.export(model, task, loaded.tokenizer, tmp_path)
    texts = {name: [pair[name] for pair in PAIRS] for name in ("text", "text_pair")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one is cut
        answers = list(predictor(PAIRS))
    found = theirs.served(version, **texts)
    assert found["follows"].tolist() == [answer["follows"] for answer in answers]
    expected = [answer["probability"] for answer in answers]
    np.testing.assert_allclose(found["probability"], expected, rtol=0, atol=1e-5)


# Bad input


@BOTH
@pytest.mark.parametrize("label", ["maybe", 2, ""])
def test_a_label_that_is_neither_yes_nor_no_is_refused(kind, label):
    records = [{"text": "a", "text_pair": "b", "label": "yes"}]
    records.append({**records[0], "label": label})
    with pytest.raises(InputError, match=f"expected yes or no in column 'label', came {label!r} "):
        kind().check(records)


def test_text_without_pairs_is_refused_with_the_name_of_its_file(tmp_path):
    (tmp_path / "a.txt").write_text("One. Two.", "utf-8")
    with pytest.raises(InputError, match="a.txt: expected two documents or more"):
        NextSentence.read(tmp_path / "a.txt")
    assert len(SentenceOrder.read(tmp_path / "a.txt")) == 1
    (tmp_path / "b.txt").write_text("", "utf-8")
    with pytest.raises(InputError, match="b.txt: expected documents of two sentences or more"):
        SentenceOrder.read(tmp_path / "b.txt")


def test_a_text_that_is_no_string_is_refused():
    with pytest.raises(InputError, match="texts in column 'text_pair', came 7 in record 1"):
        NextSentence().check([{"text": "a", "text_pair": 7, "label": 1}])
