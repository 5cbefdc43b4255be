"""Two processes train the model that one trains; one that dies ends the run, which goes on."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from harness import BACKEND

import kbert
from kbert.errors import InputError
from kbert.training import processes
from kbert.training.distribution import distribution
from kbert.training.recipe import Recipe
from kbert.weights import safetensors

EPOCHS, MAX_LENGTH, BATCH = 3, 11, 42  # of 320 rows the last batch of 42 is not full


@pytest.fixture(scope="module")
def without_dropout(vocabulary, tmp_path_factory):
    folder = tmp_path_factory.mktemp("without-dropout")
    none = {"dropout": 0.0, "attention_dropout": 0.0}
    return tiny.write_checkpoint(folder, vocabulary, num_layers=1, **none)


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def start(command):
    """The command in two processes of one run."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-m", "kbert.cli", *map(str, command)],
            env={
                **os.environ,
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
                "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(2)
    ]  # fmt: skip


def kill_after_a_state(process, folder):
    while not list(folder.glob("state/0*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)


def until(words, process):
    """What a process tells, up to the line with these words."""
    for line in process.stdout:
        yield line
        if words in line:
            return


@pytest.mark.skipif(BACKEND != "jax", reason="several processes train on JAX alone")
def test_two_processes_of_which_one_is_killed_train_as_one_process(
    without_dropout, tiny_data, tmp_path
):
    several = tmp_path / "several"
    command = [
        "finetune", "text-classification", "--checkpoint", without_dropout, "--output", several,
        "--train", tiny_data / "train.csv", "--test", tiny_data / "test.csv",
        "--epochs", EPOCHS, "--max-length", MAX_LENGTH, "--batch-size", BATCH, "--dropout", "0",
        "--dtype", "float32", "--strategy", "data-parallel", "--save-steps", "1", "--resume",
    ]  # fmt: skip
    first, second = start(command)
    kill_after_a_state(second, tmp_path / "several.partial")
    told = list(until("another process of this run ended", first))
    first.kill()  # JAX lets it end when it has missed the other's sign of life for half a minute
    assert "Start all of them again with --resume" in told[-1], told
    assert not several.exists()

    both = start(command)
    told = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert "test: accuracy" in told[0]
    assert "test: accuracy" not in told[1]
    assert sorted(x.name for x in tmp_path.iterdir()) == ["several"]

    records, test = (kbert.read_records(tiny_data / f"{n}.csv", ("text", "label"))
                     for n in ("train", "test"))  # fmt: skip
    task = kbert.TextClassification.from_records(records, max_length=MAX_LENGTH, dropout=0.0)
    recipe = Recipe(epochs=EPOCHS, batch_size=BATCH, dropout=0.0, dtype="float32")
    kbert.finetune(
        task, records, test, without_dropout, tmp_path / "one", recipe, verbose=0
    )  # fmt: skip
    found, expected = (safetensors.read([folder / "model.safetensors"])
                       for folder in (several, tmp_path / "one"))  # fmt: skip
    for name, array in expected.items():
        if not name.endswith("key.bias"):  # its gradient is rounding
            np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5, err_msg=name)


def test_a_share_is_the_rows_of_its_process(monkeypatch):
    """Together the shares are the whole batch, without overlap."""
    tf = pytest.importorskip("tensorflow")
    whole = np.arange(12).reshape(6, 2)
    dataset = tf.data.Dataset.from_tensors(({"x": whole}, whole[:, 0]))
    shares = []
    for this in range(3):
        monkeypatch.setattr(processes, "place", lambda this=this: (3, this))
        ((features, targets),) = processes.share_of(dataset).as_numpy_iterator()
        np.testing.assert_array_equal(features["x"][:, 0], targets)
        shares.append(features["x"])
    np.testing.assert_array_equal(np.concatenate(shares), whole)


@pytest.mark.parametrize(
    "variables, message",
    [
        (("h:1", "2", ""), "expected .*NUM_PROCESSES as a number .* came '2' and ''"),
        (("h:1", "2", "2"), "came '2' and '2'"),
        (("h", "2", "1"), "expected HOST:PORT of the first process, or of all 2 .*came 'h'"),
        (("h:1,h:2,h:3", "2", "1"), "or of all 2 with commas between"),
    ],
)
def test_wrong_variables_are_refused(variables, message, monkeypatch):
    for name, value in zip(
        (processes.ADDRESSES, processes.NUMBER, processes.THIS), variables, strict=True
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        processes.environment()


# On JAX "auto" finds the devices of the others, and takes data-parallel.
@pytest.mark.parametrize("name", ["none"] if BACKEND == "jax" else ["none", "auto"])
def test_one_of_several_processes_does_not_train_alone(name, monkeypatch):
    monkeypatch.setenv(processes.NUMBER, "2")
    with pytest.raises(InputError, match="one of several, which only data-parallel on the jax"):
        distribution(name)
