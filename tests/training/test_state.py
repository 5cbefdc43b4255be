"""A run that was killed goes on as if nothing had happened, to the bit."""

import os
import signal
from dataclasses import replace

import keras
import numpy as np
import pytest

import kbert
from kbert.errors import Terminated
from kbert.training import callbacks, state
from kbert.training.finetune import Recipe
from kbert.training.state import Saving
from kbert.weights import safetensors

# 61 records in batches of 16: four batches, the last of them not full, in two epochs.
RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.01, dtype="float32")
EVERY_STEP = Saving(steps=1, minutes=0)


NEVER = Saving(steps=0, minutes=0)


class Killed(BaseException):
    """As SIGKILL is: nothing catches it."""


@pytest.fixture(scope="module")
def records(tiny_data):
    names = ("train", "validation")
    train, validation = (
        kbert.read_records(tiny_data / f"{name}.csv", ("text", "label")) for name in names
    )
    return train[:61], validation[:23]


@pytest.fixture
def run(records, one_block_dir, tmp_path):
    """Fine-tunes into a folder, with dropout; one length, so that there is one graph to trace."""
    task = kbert.TextClassification.from_records(records[0], max_length=7)

    def run(
        name="run", recipe=RECIPE, saving=EVERY_STEP, number=61, num_validated=23, **settings
    ):  # fmt: skip
        return kbert.finetune(
            task, records[0][:number], None, one_block_dir, tmp_path / name, recipe,
            validation=records[1][:num_validated], saving=saving, verbose=0, **settings,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def whole(records, one_block_dir, tmp_path_factory):
    """The run that nothing stopped."""
    task = kbert.TextClassification.from_records(records[0], max_length=7)
    output = tmp_path_factory.mktemp("whole") / "run"
    return kbert.finetune(
        task, records[0], None, one_block_dir, output, RECIPE, validation=records[1], verbose=0
    )


def at_step(patch, number, act):
    """`act()` behind a step and what was saved of it, counted from 1 over all epochs."""
    before, steps = state.SaveState.on_train_batch_end, []

    def after(self, batch, logs=None):
        before(self, batch, logs)
        steps.append(batch)
        if len(steps) == number:
            act()

    patch.setattr(state.SaveState, "on_train_batch_end", after)


def kill():
    raise Killed


def states_in(folder):
    return sorted(path.name for path in (folder / "state").iterdir())


def weights_of(folder):
    return safetensors.read([folder / "model.safetensors"])


def assert_same(resumed, whole):
    weights = weights_of(whole.folder)
    for name, array in weights_of(resumed.folder).items():
        np.testing.assert_array_equal(array, weights[name], name)
    assert resumed.metrics == whole.metrics
    for line, expected in zip(resumed.history, whole.history, strict=True):
        assert {**line, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize(
    "step, saving, expected",
    [(4, EVERY_STEP, "0000-00000003"), (7, Saving(steps=2, minutes=0), "0001-00000002")],
)
def test_a_killed_run_goes_on_to_the_same_bits(
    step, saving, expected, run, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        at_step(patch, step, kill)
        run(saving=saving)
    assert states_in(tmp_path / "run.partial") == [expected]
    assert_same(run(saving=saving, resume=True), whole)
    assert not (tmp_path / "run.partial").exists()
    assert not (tmp_path / "run" / "state").exists()


def test_ctrl_c_leaves_a_folder_of_use_with_the_state_to_go_on(run, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        at_step(patch, 6, lambda: os.kill(os.getpid(), signal.SIGINT))
        run(saving=NEVER)
    assert states_in(tmp_path / "run") == ["0001-00000002"]
    with pytest.raises(kbert.InputError, match="run exists. Choose another"):
        run()
    assert_same(run(saving=NEVER, resume=True), whole)
    with pytest.raises(kbert.InputError, match="nothing to go on with, the run is finished"):
        run(resume=True)


def test_sigterm_saves_the_state_and_ends(run, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Terminated):
        at_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run(saving=NEVER)
    assert signal.getsignal(signal.SIGTERM) is before
    assert states_in(tmp_path / "run.partial") == ["0000-00000002"]
    with pytest.raises(kbert.InputError, match=r"broken off: go on with it \(--resume\)"):
        run()
    recipe = replace(RECIPE, learning_rate=0.02)
    with pytest.raises(kbert.InputError, match="settings.*learning_rate was 0.01, is 0.02.*Give"):
        run(recipe=recipe, resume=True)
    with pytest.raises(kbert.InputError, match="data was records 61, .* is records 60, "):
        run(number=60, resume=True)
    with pytest.raises(kbert.InputError, match="other settings.*: validation was records 23"):
        run(num_validated=22, resume=True)


def test_a_full_disk_ends_the_run_and_keeps_the_last_state(run, tmp_path, monkeypatch):
    write, times = safetensors.write, []

    def full(file, tensors):
        times.append(file)
        if len(times) == 2:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(file, tensors)

    monkeypatch.setattr(state.safetensors, "write", full)
    with pytest.raises(kbert.InputError, match="No space left.*00000001, stays: make room.*resume"):
        run()
    assert states_in(tmp_path / "run.partial") == ["0000-00000001"]


def test_a_state_is_dropped_when_a_newer_one_is_whole(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    history = callbacks.History(tmp_path / "history.csv")
    saver = state.SaveState(tmp_path, Saving(keep=2), history, callbacks.SaveBest(lambda: None))
    saver.set_model(model)
    for epoch in range(4):
        saver.on_epoch_end(epoch)
    assert states_in(tmp_path) == ["0003-00000000", "0004-00000000"]
    (tmp_path / "state" / "unfinished").mkdir()  # as a kill leaves it
    assert state.latest(tmp_path).epoch == 4
    file = tmp_path / "state" / "0004-00000000" / "variables.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(kbert.InputError, match="variables.safetensors: not a whole safetensors"):
        state.latest(tmp_path)


def test_a_state_of_another_model_is_refused(tmp_path):
    def model(units):
        made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
        made.compile("sgd", "mse")
        return made

    history = callbacks.History(tmp_path / "history.csv")
    saver = state.SaveState(tmp_path, Saving(), history, callbacks.SaveBest(lambda: None))
    saver.set_model(model(2))
    saver.save()
    with pytest.raises(kbert.InputError, match="expected the variables of this run"):
        state.latest(tmp_path).restore(model(5))
