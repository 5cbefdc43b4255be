"""Fill-mask: masks of each epoch, gaps and their words, figures, and the served answers."""

import json
import re
import warnings

import keras
import numpy as np
import pytest
import tiny
from harness import BACKEND, randomize, run

import kbert
from kbert import tasks
from kbert.errors import InputError
from kbert.heads.masked_lm import masked_lm
from kbert.inputs.gaps import Gap
from kbert.tasks.fill_mask import FillMask
from kbert.tasks.parts import Prepared

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="once is enough")
TASK = FillMask(max_length=23, top=3)
WORDS = ("cat", "dog", "bird", "bone", "wing")
STRANGE = [
    "no gap", "", "[MASK]", "my [MASK], a\u00a0 [MASK]s ö[MASK]", "猫[MASK]狗",
    "(the [MASK]) cat[MASK]",
    " ".join(["cat [MASK] the qqcat dog,"] * 11), "[MASK] " * 29, "[SEP] [MASK] [PAD]",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(loaded):
    model = TASK.model(loaded.encoder)
    randomize(model, 0.1)
    return model


@pytest.fixture(scope="module")
def predictor(model, loaded):
    return kbert.Predictor(model, TASK, loaded.tokenizer, batch_size=4)


def repeated(number, seed=0):
    """Texts of one word over and over: what is masked stands right beside."""
    chance = np.random.default_rng(seed)
    return [
        {"text": " ".join([str(chance.choice(WORDS))] * int(chance.integers(4, 15)))}
        for _ in range(number)
    ]


# Training


def test_a_tiny_model_learns_to_repeat_a_word(one_block_dir):
    loaded = kbert.load(one_block_dir, dtype="float32", dropout=0.0)
    task = FillMask(max_length=17, share=0.2)
    keras.utils.set_random_seed(1)
    model = task.model(loaded.encoder)
    model.compile(
        keras.optimizers.Adam(0.005), task.loss(), weighted_metrics=task.metrics(),
        jit_compile=BACKEND == "jax",
    )  # fmt: skip
    dataset = task.dataset(repeated(96), loaded.tokenizer, batch_size=32, remainder="fill")
    history = model.fit(dataset, epochs=12, verbose=0).history
    assert history["accuracy"][-1] > 0.95
    assert history["loss"][-1] < 0.3 < 3 < history["loss"][0]
    predictor = kbert.Predictor(model, task, loaded.tokenizer)
    answers = list(predictor([f"{word} {word} [MASK] {word} {word}" for word in WORDS]))
    assert tuple(answer["gaps"][0]["words"][0]["token"] for answer in answers) == WORDS
    check_evaluation(model, predictor, repeated(48, seed=5))


def check_evaluation(model, predictor, records):
    """Keras measures the same masks as we do: those of epoch 0."""
    task = predictor.task
    dataset = task.dataset(records, predictor.tokenizer, batch_size=48, shuffle=False)
    figures = model.evaluate(dataset, verbose=0, return_dict=True)
    ours = predictor.scores(records)
    assert figures["accuracy"] == pytest.approx(ours["accuracy"], abs=1e-5)
    assert figures["loss"] == pytest.approx(ours["loss"], abs=1e-4)
    assert ours["examples"] == 48
    assert ours["masked"] == sum(int(w.sum()) for *_, w in dataset.as_numpy_iterator())
    assert predictor.scores(records) == ours


def batches(dataset):
    return list(dataset.as_numpy_iterator())


def test_batches_have_masks_their_places_and_what_was_there(loaded):
    records = repeated(13)
    dataset = TASK.dataset(records, loaded.tokenizer, batch_size=13, shuffle=False)
    ((features, targets, weights),) = batches(dataset)
    ids = features["token_ids"]
    most = min(ids.shape[1], int(np.ceil(0.15 * ids.shape[1])) + 7)
    assert features["masked_positions"].shape == targets.shape == weights.shape == (13, most)
    is_masked = weights == 1
    assert is_masked.sum() > 5
    row, _ = np.nonzero(is_masked)
    (word,) = zip(*(np.unique(targets[n][is_masked[n]]) for n in np.unique(row)), strict=True)
    texts = [record["text"] for record in records]
    assert set(word) <= {x[0] for x in loaded.tokenizer(texts)}
    columns = features["masked_positions"][is_masked]
    assert columns.min() > 0
    assert (ids[row, columns] == 4).mean() > 0.4
    assert features["padding_mask"][row, columns].all()


def test_masks_are_drawn_anew_in_each_epoch_of_training_alone(loaded):
    def epochs(**settings):
        dataset = TASK.dataset(repeated(29), loaded.tokenizer, batch_size=29, **settings)
        return [sorted(f["token_ids"].tolist()) for _ in range(2) for f, *_ in batches(dataset)]

    first, second = epochs(shuffle=True, seed=3)
    assert first != second
    assert epochs(shuffle=True, seed=3) == [first, second]
    assert epochs(shuffle=True, seed=4)[0] != first
    same, again = epochs(shuffle=False)
    assert same == again


def test_long_texts_are_trained_on_in_several_rows(loaded):
    words = [str(word) for word in np.random.default_rng(0).choice(WORDS, 50)]
    rows, numbers = TASK.rows([" ".join(words), "cat"], loaded.tokenizer)
    assert [len(ids) for ids, _ in rows] == [23, 23, 10, 3]
    tokens = [token for ids, _ in rows[:3] for token in ids[1:-1]]
    assert tokens == [ids[0] for ids in loaded.tokenizer(words)]
    assert [x.tolist() for x in numbers[2:]] == [[-1, *range(42, 50), -1], [-1, 0, -1]]


# Answers


def test_words_are_those_of_the_whole_models_logits(loaded, model, predictor):
    """The plain head computes every place of one padded batch; ours the gaps alone."""
    texts = STRANGE[:6]
    whole = masked_lm(loaded.encoder)
    for weight, ours in zip(whole.weights, model.weights, strict=True):
        weight.assign(ours)
    packer = TASK.packer(loaded.tokenizer).packer
    ids = [packer.pack(x) for x in loaded.tokenizer(texts)]
    features = packer.pad(ids, 23)
    logits = run(whole, features).astype("float64")
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    number = 0
    for row, answer in enumerate(predictor(texts)):
        columns = np.flatnonzero(features["token_ids"][row] == 4)
        assert len(answer["gaps"]) == len(columns)
        for column, gap in zip(columns, answer["gaps"], strict=True):
            best = np.argsort(-probabilities[row, column])[:3]
            scores = [word["score"] for word in gap["words"]]
            np.testing.assert_allclose(scores, probabilities[row, column, best], atol=1e-5)
            tokens = [loaded.tokenizer.vocab[i].removeprefix("##") for i in best]
            assert [word["token"] for word in gap["words"]] == tokens
            assert texts[row][gap["start"] : gap["end"]] == "[MASK]"
            number += 1
    assert number == 7


def test_texts_without_gaps_have_none_and_the_model_is_not_run(loaded, monkeypatch):
    predictor = kbert.Predictor(TASK.model(loaded.encoder), TASK, loaded.tokenizer)
    monkeypatch.setattr(predictor, "function", None)
    assert list(predictor(["my cat", ""])) == [{"gaps": []}, {"gaps": []}]
    assert list(predictor([])) == []


def test_answers_are_worked_out_by_hand(loaded):
    """Of four numbers the best three; each read into the text of its own gap."""
    tokenizer = loaded.tokenizer
    logits = np.full((5, 3001), -900.0, "float32")
    cat, dog, s, the = (tokenizer.vocab.index(piece) for piece in ("cat", "dog", "##s", "the"))
    for token, probability in {cat: 0.4, s: 0.3, dog: 0.2, the: 0.1}.items():
        logits[1, token] = np.log(probability) + 500
    logits[0, dog] = 0
    output = TASK.reduced(logits, ([], [], [7, 9]))
    text = "[MASK] my [MASK]."
    found = [[Gap(0, 0, 6), Gap(0, 10, 16)]]
    prepared = TASK.prepare([text], tokenizer)
    assert prepared.details[0] == found
    (answer,) = TASK.answers(TASK.merged([output], prepared), prepared)
    assert [(gap["start"], gap["end"]) for gap in answer["gaps"]] == [(0, 6), (10, 16)]
    assert answer["gaps"][1]["words"] == [
        {"token": "cat", "score": pytest.approx(0.4, abs=1e-4), "filled": "[MASK] my cat."},
        {"token": "s", "score": pytest.approx(0.3, abs=1e-4), "filled": "[MASK] mys."},
        {"token": "dog", "score": pytest.approx(0.2, abs=1e-4), "filled": "[MASK] my dog."},
    ]
    assert answer["gaps"][0]["words"][0]["filled"] == "dog my [MASK]."


def test_scores_are_worked_out_by_hand():
    """Three masks in two rows: found with probability 0.5, missed with 0.1, found with 0.8."""
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.1, 0.1, 0.8]])
    logits = np.log(probabilities).astype("float32")
    first = TASK.reduced(logits[:2], ([], [], [1, 2], [0, 0]))
    second = TASK.reduced(logits[2:], ([], [], [5], [2]))
    results = TASK.merged([first, second], Prepared([], np.zeros(2), []))
    assert TASK.scores(results, [{}, {}, {}]) == {
        "accuracy": pytest.approx(2 / 3),
        "loss": pytest.approx(-np.log([0.5, 0.1, 0.8]).mean(), abs=1e-6),
        "masked": 3,
        "examples": 3,
    }


# Settings and files


def test_settings_bring_the_task_back():
    task = FillMask("t", 29, 0.25, False, 7)
    settings = task.settings({"model_type": "bert", "hidden_dropout_prob": 0.2})
    assert tasks.from_settings(settings) == task
    assert settings["kbert"]["head"] == "MaskedLM"
    assert (
        FillMask.from_settings({"hidden_dropout_prob": 0.2, "kbert": {"task": "x"}}) == FillMask()
    )


def test_a_text_file_has_a_record_for_each_line_that_is_not_blank(tmp_path):
    (tmp_path / "a.txt").write_text("my cat\n\n a dog \n  \n", "utf-8")
    assert FillMask.read(tmp_path / "a.txt", text="t") == [{"t": "my cat"}, {"t": " a dog "}]
    tiny.write_csv(tmp_path / "a.csv", [{"t": "my cat", "x": "7"}, {"t": "dog", "x": "7"}])
    assert FillMask.read(tmp_path / "a.csv", text="t") == [{"t": "my cat"}, {"t": "dog"}]


def test_transformers_opens_what_is_saved_and_gives_the_same_logits(model, loaded, tmp_path):
    import torch
    from transformers import AutoModelForMaskedLM

    kbert.save(tmp_path, model, TASK.settings(loaded.settings), loaded.tokenizer)
    theirs, told = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    rows = TASK.prepare(STRANGE[:6], loaded.tokenizer).rows
    features = TASK.packer(loaded.tokenizer).pad(rows, 23)
    given = {"input_ids": "token_ids", "attention_mask": "padding_mask"}
    given = {name: torch.tensor(features[ours]).long() for name, ours in given.items()}
    with torch.no_grad():
        expected = theirs.eval()(**given).logits.numpy()
    expected = np.take_along_axis(expected, features["masked_positions"][:, :, None], 1)
    again = kbert.load(tmp_path, task="fill-mask", dtype="float32")
    assert (again.task, again.new) == (TASK, [])
    for ours in (model, again.model):
        assert np.abs(run(ours, features) - expected).max() < 5e-5


# The command and the served graph


@TENSORFLOW_ONLY
def test_the_command_trains_evaluates_and_answers(one_block_dir, tmp_path, capsys):
    for name, number in {"train": 96, "test": 32}.items():
        lines = [record["text"] for record in repeated(number, seed=number)]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(lines), "utf-8")
    output = tmp_path / "run"
    code = tiny.kbert(
        "finetune", "fill-mask", "--checkpoint", one_block_dir, "--output", output,
        "--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt",
        "--validation", tmp_path / "test.txt", "--max-length", 17, "--top", 2, "--epochs", 9,
        "--learning-rate", 0.01, "--dtype", "float32", "--dropout", 0, "--no-whole-words",
    )  # fmt: skip
    assert code == 0
    assert "test: accuracy " in capsys.readouterr().out
    assert tiny.kbert("evaluate", output, "--data", tmp_path / "test.txt") == 0
    told = capsys.readouterr().out
    accuracy, examples = re.search(r"accuracy (\S+)%, loss \S+, (\d+) examples", told).groups()
    assert float(accuracy) > 80
    assert examples == "32"
    assert tiny.kbert("predict", output, "bird bird [MASK] bird") == 0
    answer = json.loads(capsys.readouterr().out)
    (gap,) = answer["gaps"]
    assert (gap["start"], gap["end"], len(gap["words"])) == (10, 16, 2)
    assert gap["words"][0]["filled"] == "bird bird bird bird"
    assert tiny.kbert("export", output, tmp_path / "served") == 0
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


@pytest.fixture(scope="module")
def served(model, loaded, tmp_path_factory):
    """The signatures of the SavedModel, as functions of lists."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    folder = tmp_path_factory.mktemp("fill-mask")
    version = tf.saved_model.load(str(kbert.export(model, TASK, loaded.tokenizer, folder)))

    def call(signature, **inputs):
        tensors = {
            name: tf.constant(x, tf.string if name == "text" else tf.int32)
            for name, x in inputs.items()
        }
        answers = version.signatures[signature](**tensors)
        return {name: answer.numpy() for name, answer in answers.items()}

    return call


def test_the_served_graph_gives_the_answers_of_python(served, predictor):
    found = served("serving_default", text=STRANGE)
    assert set(found) == {"token", "score", "filled", "start", "end"}
    most = max(text.count("[MASK]") for text in STRANGE)
    assert found["token"].shape == found["filled"].shape == (len(STRANGE), most, 3)
    for row, answer in enumerate(predictor(STRANGE)):
        number = len(answer["gaps"])
        assert number == STRANGE[row].count("[MASK]")
        for name in ("start", "end"):
            expected = [gap[name] for gap in answer["gaps"]] + [-1] * (most - number)
            assert found[name][row].tolist() == expected
        for place, gap in enumerate(answer["gaps"]):
            for name in ("token", "filled"):
                words = [word.decode() for word in found[name][row, place]]
                assert words == [word[name] for word in gap["words"]]
            scores = [word["score"] for word in gap["words"]]
            np.testing.assert_allclose(found["score"][row, place], scores, atol=1e-5)
        assert not found["score"][row, number:].any()
        assert set(found["token"][row, number:].ravel()) <= {b""}
    assert found["score"].dtype == np.float32


@TENSORFLOW_ONLY
def test_the_served_graph_answers_no_gaps_no_texts_and_ids(served, predictor, loaded):
    assert served("serving_default", text=["my cat", ""])["token"].shape == (2, 0, 3)
    assert served("serving_default", text=[])["start"].shape == (0, 0)
    (cat,) = loaded.tokenizer(["cat"])[0]
    found = served("tokens", token_ids=[[2, cat, 3, 0, 0], [2, 4, cat, 4, 3]])
    assert found["column"].tolist() == [[-1, -1], [1, 3]]
    (answer,) = predictor(["[MASK] cat [MASK]"])
    for place, gap in enumerate(answer["gaps"]):
        scores = [word["score"] for word in gap["words"]]
        np.testing.assert_allclose(found["score"][1, place], scores, atol=1e-5)
    assert not found["score"][0].any()


# Real weights


PIECES = (
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|"
    r"\?|>>?|\*|\$|\%[0-9]{2}|[0-9])"
)
MODELS = {
    "rxnfp_pretrained": ("rxnfp_bert_pretrained_mlm", 468),
    "rxnmapper_albert": ("rxnmapper_albert_mlm", 498),
}


@pytest.fixture(scope="module")
def reactions(data_dir):
    """The first 40 reactions of at most 120 pieces, as ids, once for each model with its masks.

    The masks are those that the goldens were made with: 15% of each, rounded down.
    """
    weights = data_dir / "weights"
    vocab = (weights / "rxnfp_pretrained" / "vocab.txt").read_text().split("\n")
    number = {token: i for i, token in enumerate(vocab)}
    table = kbert.read_records(weights / "inputs" / "rxnmapper_example_rxns.csv", ["rxn"])
    rows = [[12, *(number[x] for x in re.findall(PIECES, r["rxn"])), 13] for r in table]
    rows = [row for row in rows if len(row) <= 122][:40]
    chance = np.random.default_rng(0)
    masked = {}
    for name in MODELS:
        masked[name] = []
        for row in rows:
            length = len(row) - 2
            places = chance.choice(length, int(0.15 * length), replace=False) + 1
            masked[name].append((row, sorted(places)))
    return masked


@pytest.mark.parametrize("name", MODELS)
def test_real_weights_fill_the_masks_that_transformers_fills(name, data_dir, reactions):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is new
        loaded = kbert.load(data_dir / "weights" / name, task="fill-mask", dtype="float32")
    assert loaded.new == []
    golden, expected = MODELS[name]
    goldens = np.load(data_dir / "weights" / "goldens" / f"{golden}.npz")
    rows = []
    for row, places in reactions[name]:
        ids = np.array(row)
        ids[places] = 14
        rows.append((ids.tolist(), [0] * len(ids), places))
    features = loaded.task.packer(loaded.tokenizer).pad(rows, 122)
    logits = run(loaded.model, features)
    for i in range(4):
        assert rows[i][0] == goldens[f"ids{i}"].tolist()
        places = rows[i][2]
        difference = np.abs(logits[i, : len(places)] - goldens[f"logits{i}"][places]).max()
        print(f"{name}, golden masks, text {i}, {BACKEND}: {difference:.1e}")
        assert difference <= 1e-4
    right = total = 0
    for of_row, (row, places) in zip(logits, reactions[name], strict=True):
        right += (of_row[: len(places)].argmax(-1) == np.array(row)[places]).sum()
        total += len(places)
    assert (right, total) == (expected, 511)


def test_a_checkpoint_without_the_head_is_said_to_have_none(minilm_dir):
    with pytest.warns(UserWarning, match="no weights for fill-mask: masked_lm_bias/bias missing"):
        loaded = kbert.load(minilm_dir, task="fill-mask", dtype="float32")
    assert len(loaded.new) == 5
    assert all(text.startswith("masked_lm_") for text in loaded.new)


# Bad input


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_of_nothing_or_all_is_refused(share):
    with pytest.raises(InputError, match=f"between 0 and 1, came {share}: BERT's is"):
        FillMask(share=share)


def test_a_file_of_blank_lines_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("\n \n")
    with pytest.raises(InputError, match="a.txt: expected texts, came none: every line is blank"):
        FillMask.read(tmp_path / "a.txt")


def test_a_vocabulary_without_a_mask_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    tokenizer = kbert.Tokenizer.from_folder(tmp_path)
    for asked in (TASK.prepare, TASK.examples):
        with pytest.raises(InputError, match="Expected a tokenizer with a mask_token"):
            asked([{"text": "a"}], tokenizer)


def test_texts_of_which_nothing_can_be_masked_are_refused(predictor):
    with pytest.raises(InputError, match="none of 2 texts has a token that could be masked"):
        predictor.scores([{"text": ""}, {"text": "[SEP]"}])


def test_a_text_that_is_no_string_is_refused():
    with pytest.raises(InputError, match="texts in column 'text', came 7 in record 1"):
        TASK.check([{"text": 7}])
