"""The command, from labelled text to a SavedModel; and what it says to bad input."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from harness import BACKEND

import kbert
from kbert.training.finetune import load_predictor
from kbert.weights import safetensors

COMMANDS = ["", "finetune", "finetune text-classification", "evaluate", "predict", "export"]


@pytest.fixture
def run(capsys):
    """The command with these arguments: its exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        code = tiny.kbert(*arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def stdin(monkeypatch):
    """Sets standard input to these bytes."""
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return load_predictor(tiny_run)[1]


# What the user gets


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    code, output, _ = run(*command.split(), "--help")
    assert code == 0
    assert output.startswith("Usage: ")
    assert "  -" in output


def test_a_run_folder_is_evaluated(run, tiny_run, tiny_data):
    code, output, _ = run("evaluate", tiny_run, "--data", tiny_data / "test.csv")
    assert code == 0
    test = json.loads((tiny_run / "metrics.json").read_text("utf-8"))["test"]
    assert test["accuracy"] > 0.9
    assert f"accuracy {test['accuracy']:.2%}" in output
    assert "97 examples" in output


def test_columns_may_have_other_names(run, tiny_run, tmp_path):
    records = [{"was": r["text"], "ist": r["label"]} for r in tiny.animals(5, 9)]
    file = tiny.write_csv(tmp_path / "other.csv", records)
    code, output, _ = run("evaluate", tiny_run, "--data", file, "--text", "was", "--label", "ist")
    assert code == 0
    assert "5 examples" in output


def test_arguments_are_answered_in_order(run, tiny_run, predictor):
    texts = ["the bird", "my big dog is here", "", "a nest was not here"]
    code, output, _ = run("predict", tiny_run, *texts)
    assert code == 0
    assert_answers(output, texts, predictor)


def assert_answers(output, texts, predictor):
    given = [json.loads(line) for line in output.splitlines()]
    for answer, text, expected in zip(given, texts, predictor(texts), strict=True):
        assert list(answer) == ["text", "label", "score"]
        assert (answer["text"], answer["label"]) == (text, expected["label"])
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_lines_of_standard_input_are_answered_blank_ones_too(run, stdin, tiny_run, predictor):
    stdin("the bird\r\n\nmy naïve dog, 猫\n".encode())
    code, output, _ = run("predict", tiny_run, "--batch-size", "2")
    assert code == 0
    assert_answers(output, ["the bird", "", "my naïve dog, 猫"], predictor)
    assert "naïve dog, 猫" in output, "characters are not escaped"


def test_files_are_answered(run, tiny_run, tiny_data, predictor, tmp_path):
    records = kbert.read_records(tiny_data / "test.csv", ["text", "label"])
    code, output, _ = run("predict", tiny_run, "--input", tiny_data / "test.csv")
    assert code == 0
    assert_answers(output, [record["text"] for record in records], predictor)
    given = [json.loads(line)["label"] for line in output.splitlines()]
    right = np.mean([label == r["label"] for label, r in zip(given, records, strict=True)])
    assert right == json.loads((tiny_run / "metrics.json").read_text("utf-8"))["test"]["accuracy"]
    (tmp_path / "lines.txt").write_text("the bird\n\n", "utf-8")
    assert_answers(
        run("predict", tiny_run, "--input", tmp_path / "lines.txt")[1], ["the bird", ""], predictor
    )


def test_no_texts_are_no_answers(run, stdin, tiny_run):
    stdin(b"")
    assert run("predict", tiny_run)[:2] == (0, "")


def test_a_run_folder_is_exported(run, tiny_run, tmp_path):
    code, output, _ = run("export", tiny_run, tmp_path / "saved" / "animals")
    assert code == 0
    assert output.strip().endswith(str(Path("saved", "animals", "1")))
    assert (tmp_path / "saved" / "animals" / "1" / "saved_model.pb").is_file()


def test_runs_are_listed_with_their_figures(run, tiny_run, tmp_path):
    copy(tiny_run, tmp_path / "animals")
    (tmp_path / "begun.partial").mkdir()
    shutil.copy(tiny_run / "settings.json", tmp_path / "begun.partial")
    (tmp_path / "no run").mkdir()
    code, output, _ = run("runs", tmp_path)
    assert code == 0
    head, finished, begun = output.splitlines()
    assert head.split()[:4] == ["run", "task", "epochs", "kept"]
    accuracy = json.loads((tiny_run / "metrics.json").read_text("utf-8"))["test"]["accuracy"]
    assert finished.startswith("animals  text-classification  ")
    assert f"accuracy {accuracy:.2%}" in finished
    assert finished.endswith("finished")
    assert begun.startswith("begun ")
    assert begun.endswith("goes on with --resume")
    told = [json.loads(line) for line in run("runs", tmp_path, "--json")[1].splitlines()]
    assert [line["run"] for line in told] == ["animals", "begun"]
    assert run("runs", tmp_path / "no run")[1].startswith(f"{tmp_path / 'no run'} holds no run")
    code, _, errors = run("runs", tmp_path / "nowhere")
    assert (code, "no such folder" in errors) == (2, True)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one backend shows it")
def test_ctrl_c_leaves_a_usable_run_folder(run, one_block_dir, tiny_data, tmp_path):
    output = tmp_path / "run"
    arguments = [
        "finetune", "text-classification", "--train", tiny_data / "train.csv", "--checkpoint",
        one_block_dir, "--output", output, "--max-length", "23", "--epochs", "100000",
    ]  # fmt: skip
    command = [sys.executable, "-m", "kbert.cli", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    history = tmp_path / "run.partial" / "history.csv"
    for _ in range(600):
        if history.exists() or process.poll() is not None:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert json.loads((output / "metrics.json").read_text("utf-8"))["stopped"] == "interrupted"
    assert run("predict", output, "my dog")[0] == 0


# Bad input


def copy(folder, to):
    return Path(shutil.copytree(folder, to))


def changed(folder, **settings):
    """Other settings in a checkpoint's config.json."""
    file = folder / "config.json"
    content = json.loads(file.read_text("utf-8")) | settings
    file.write_text(json.dumps(content), "utf-8")


def broken_table(name, data, folder):
    """Options that give a broken file, and what the error must name."""
    train, other = data / "train.csv", folder / f"{name}.csv"
    records = kbert.read_records(train, ("text", "label"))[:7]
    if name == "missing":
        return ["--train", other], [str(other)]
    if name == "column":
        return ["--train", train, "--label", "category"], ["train.csv", "'category'", "'text', 'l"]
    if name == "encoding":
        tiny.write_csv(other, [{"text": "naïve", "label": "dog"}, *records], encoding="cp1252")
        return ["--train", other], [str(other), "row 2", "UTF-8", "cp1252"]
    if name == "one-class":
        tiny.write_csv(other, [{**record, "label": "dog"} for record in records])
        return ["--train", other], [str(other), "needs two labels or more", "'dog'"]
    if name == "unseen":
        tiny.write_csv(other, [*records, {"text": "moo", "label": "cow"}])
        return ["--train", train, "--test", other], [str(other), "never saw: 'cow'", "record 8"]
    if name == "unseen-validation":
        tiny.write_csv(other, [*records, {"text": "moo", "label": "cow"}])
        return ["--train", train, "--validation", other], [str(other), "never saw: 'cow'"]
    column = name.removeprefix("empty-")
    tiny.write_csv(other, [*records[:3], {**records[3], column: " "}, *records[4:]])
    return ["--train", train, "--test", other], [str(other), f"'{column}'", "row 5"]


TABLES = [
    "missing", "column", "encoding", "one-class", "unseen", "unseen-validation", "empty-text",
    "empty-label",
]  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_is_refused(run, name, tiny_dir, tiny_data, tmp_path):
    options, words = broken_table(name, tiny_data, tmp_path)
    output = tmp_path / "run"
    begin = ["finetune", "text-classification", "--checkpoint", tiny_dir, "--output", output]
    assert_refused(run(*begin, *options, "--max-length", "23"), words, output)


def break_checkpoint(name, folder):
    """Break a checkpoint folder; what the error must name."""
    weights = folder / "model.safetensors"
    if name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
        return [str(folder), name]
    if name == "vocabulary":
        (folder / "vocab.txt").unlink()
        (folder / "tokenizer.json").unlink()
        return [str(folder), "vocab.txt"]
    if name == "model_type":
        changed(folder, model_type="big_bird")
        return [str(folder / "config.json"), "'big_bird'", "knows albert, bert"]
    if name == "truncated":
        os.truncate(weights, weights.stat().st_size // 2)
        return [str(weights), "not a whole safetensors file"]
    if name == "not-safetensors":
        weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 3)
        return [str(weights), "not a whole safetensors file"]
    tensors = safetensors.read([weights])
    tensors["encoder.layer.3.strange"] = np.zeros(2, "float32")
    tensors["odd"] = np.zeros(2, "float32")
    del tensors["embeddings.LayerNorm.weight"], tensors["encoder.layer.2.output.dense.bias"]
    name = "encoder.layer.0.intermediate.dense.weight"
    tensors[name] = tensors[name][:, 1:].copy()
    safetensors.write(weights, tensors)
    return [
        str(folder), "2 unknown", "encoder.layer.3.strange", "odd", "2 missing", "1 misshapen",
        "embedding_norm/gamma", "block_2/feed_forward/outer/bias",
        "block_0/feed_forward/inner/kernel (34, 53), expected (35, 53)",
    ]  # fmt: skip


CHECKPOINTS = [
    "config.json", "model.safetensors", "vocabulary", "model_type", "truncated",
    "not-safetensors", "tensors",
]  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_bad_checkpoint_is_refused(run, name, tiny_dir, tiny_data, tmp_path):
    folder = copy(tiny_dir, tmp_path / "checkpoint")
    words = break_checkpoint(name, folder)
    assert_finetune_refuses(run, tiny_data, tmp_path / "run", words, "--checkpoint", folder)


def assert_finetune_refuses(run, data, output, words, *options):
    train = ["--train", data / "train.csv", "--max-length", "23"]
    result = run("finetune", "text-classification", "--output", output, *train, *options)
    assert_refused(result, words, output)


def assert_refused(result, words, output):
    """Exit code 2, a message without a traceback that names `words`, and nothing written."""
    code, _, errors = result
    assert code == 2, errors
    assert "Traceback" not in errors
    for word in words:
        assert word in errors
    assert not output.exists()
    assert not list(output.parent.glob(f"{output.name}.*"))


def test_a_hub_name_without_network_is_refused(run, tiny_data, tmp_path, monkeypatch):
    import huggingface_hub

    def fail(*arguments, **settings):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    words = ["bert-of-nobody", "no such folder", "check the name and the network"]
    options = ["--checkpoint", "nobody/bert-of-nobody"]
    assert_finetune_refuses(run, tiny_data, tmp_path / "run", words, *options)


@pytest.mark.parametrize("name", ["/no/such/bert", "./bert", "../a/b", "a/b/c"])
def test_a_path_that_is_not_there_is_not_sought_on_the_hub(run, name, tiny_data, tmp_path):
    words = [f"{name}: no such folder.\n"]
    assert_finetune_refuses(run, tiny_data, tmp_path / "run", words, "--checkpoint", name)


def test_a_max_length_beyond_the_positions_is_refused(run, tiny_dir, tiny_data, tmp_path):
    words = ["max_length 62", "the 61 positions", str(tiny_dir), "Choose 61 or less"]
    options = ["--checkpoint", tiny_dir, "--max-length", "62"]
    assert_finetune_refuses(run, tiny_data, tmp_path / "run", words, *options)


def test_a_stride_beyond_the_window_is_refused_before_training(run, tiny_dir, tiny_data, tmp_path):
    words = ["a stride", "less than the window of 21 tokens (max_length=23), came 21"]
    options = ["--checkpoint", tiny_dir, "--max-length", "23", "--stride", "21"]
    assert_finetune_refuses(run, tiny_data, tmp_path / "run", words, *options)


def test_a_strategy_of_another_backend_is_refused(run, tiny_dir, tiny_data, tmp_path):
    other = {"tensorflow": "data-parallel"}.get(BACKEND, "mirrored")
    words = [f"strategy {other!r}", f"this is {BACKEND}"]
    options = ["--checkpoint", tiny_dir, "--strategy", other]
    assert_finetune_refuses(run, tiny_data, tmp_path / "run", words, *options)


OUT_OF_RANGE = {
    "--epochs": "0", "--schedule": "step", "--warmup": "2", "--dropout": "1",
    "--learning-rate": "-1",
}  # fmt: skip


@pytest.mark.parametrize("options", OUT_OF_RANGE.items(), ids=" ".join)
def test_a_setting_out_of_range_is_refused(run, options, tiny_dir, tiny_data, tmp_path):
    words = [f"'{options[0]}'", options[1]]
    options = ["--checkpoint", tiny_dir, *options]
    assert_finetune_refuses(run, tiny_data, tmp_path / "run", words, *options)


def test_an_output_that_exists_is_refused(run, tiny_dir, tiny_data, tiny_run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    begin = ["finetune", "text-classification", "--train", tiny_data / "train.csv"]
    begin += ["--checkpoint", tiny_dir, "--max-length", "23", "--output"]
    for output, options, words in (
        (tiny_run, [], [f"{tiny_run} exists", "--overwrite"]),
        (mine, [], [f"{mine} exists", "--overwrite"]),
        (mine, ["--overwrite"], [f"{mine} exists and is no run folder", "not overwritten"]),
        (mine / "letter.txt", ["--overwrite"], ["letter.txt: expected a folder, it is a file"]),
    ):
        code, _, errors = run(*begin, output, *options)
        assert code == 2
        for word in words:
            assert word in errors
    assert (mine / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
def test_what_is_no_run_folder_is_refused(run, command, tiny_dir, tiny_data, tmp_path):
    rest = {"evaluate": ["--data", tiny_data / "test.csv"], "predict": ["a"]}
    rest = rest.get(command, [tmp_path / "saved"])
    assert_refused(run(command, tmp_path / "no", *rest), ["no: no such run fo"], tmp_path / "saved")
    words = [str(tiny_dir), "no id2label", "not a text classifier"]
    assert_refused(run(command, tiny_dir, *rest), words, tmp_path / "saved")


def test_a_run_folder_without_its_classifier_is_refused(run, tiny_run, tmp_path):
    folder = copy(tiny_run, tmp_path / "run")
    tensors = safetensors.read([folder / "model.safetensors"])
    del tensors["classifier.weight"]
    safetensors.write(folder / "model.safetensors", tensors)
    result = run("export", folder, tmp_path / "saved")
    assert_refused(result, [str(folder), "classifier/kernel", "missing"], tmp_path / "saved")


def test_labels_that_training_never_saw_are_not_evaluated(run, tiny_run, tmp_path):
    file = tiny.write_csv(tmp_path / "cows.csv", [{"text": "moo", "label": "cow"}])
    code, _, errors = run("evaluate", tiny_run, "--data", file)
    assert code == 2
    assert f"{file}: labels that training never saw: 'cow'" in errors


def test_texts_that_are_numbers_are_refused(run, tiny_run, tmp_path):
    file = tmp_path / "numbers.jsonl"
    file.write_text('{"text": "a", "label": "dog"}\n{"text": 7, "label": "dog"}\n', "utf-8")
    for arguments in (["evaluate", tiny_run, "--data"], ["predict", tiny_run, "--input"]):
        code, _, errors = run(*arguments, file)
        assert code == 2
        assert "came 7" in errors
        assert str(file) in errors


def test_texts_come_one_way(run, tiny_run, tiny_data):
    code, _, errors = run("predict", tiny_run, "a", "--input", tiny_data / "test.csv")
    assert code == 2
    assert "not both" in errors


def test_an_export_onto_a_file_is_refused(run, tiny_run, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, _, errors = run("export", tiny_run, tmp_path / "file")
    assert code == 2
    assert "file: expected a folder for versions" in errors
    assert (tmp_path / "file").read_text() == "mine"
