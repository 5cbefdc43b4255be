"""Several devices train the model that one trains."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny
from harness import BACKEND

import kbert
from kbert.errors import InputError
from kbert.training import callbacks
from kbert.training.distribution import chosen, distribution
from kbert.training.recipe import Recipe

OURS = {"tensorflow": ["mirrored"], "jax": ["data-parallel", "model-parallel"]}.get(BACKEND, [])


@pytest.fixture(scope="module")
def without_dropout(vocabulary, tmp_path_factory):
    """Each device draws dropout of its own, so that only a model without it can be compared."""
    folder = tmp_path_factory.mktemp("without-dropout")
    sizes = {"width": 38, "num_heads": 2, "inner_width": 58, "num_layers": 2}  # halves of primes
    return tiny.write_checkpoint(folder, vocabulary, dropout=0.0, attention_dropout=0.0, **sizes)


@pytest.mark.skipif(not OURS, reason="PyTorch has no strategy yet")
@pytest.mark.parametrize("strategy", OURS or ["none"])
def test_two_devices_train_as_one(strategy, without_dropout, tiny_data, tmp_path):
    """24 clipped steps, each epoch's last batch not full: losses and weights to 1e-5."""
    script = Path(__file__).with_name("two_devices.py")
    command = [script, strategy, without_dropout, tiny_data / "train.csv", tmp_path]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("none", strategy))
    assert len(one["losses"]) == 24
    assert one["losses"][-1] < one["losses"][0] - 0.01
    for name, expected in one.items():
        # A key's bias changes no score (softmax): its gradient is rounding, which Adam blows up.
        if name.endswith("/key/bias"):
            continue
        np.testing.assert_allclose(two[name], expected, rtol=0, atol=1e-5, err_msg=name)


def test_no_strategy_is_one_device():
    with distribution("none") as num_devices:
        assert num_devices == 1


@pytest.mark.skipif(BACKEND != "jax", reason="an engine of JAX's")
def test_data_parallel_ends_with_its_context():
    before = keras.distribution.distribution()
    with distribution("data-parallel") as num_devices:
        assert num_devices == len(keras.distribution.list_devices())
        assert keras.distribution.distribution() is not before
    assert keras.distribution.distribution() is before


@pytest.mark.parametrize("name", sorted({"mirrored", "data-parallel", "model-parallel"} - {*OURS}))
def test_a_strategy_of_another_backend_is_refused(name):
    with pytest.raises(InputError, match=f"'{name}' runs on the .*this is {BACKEND}, which has"):
        distribution(name)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InputError, match="one of none, auto, mirrored, .*; got 'horovod'"):
        distribution("horovod")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="engines of TensorFlow's")
def test_engines_that_do_not_work_or_are_not_there_are_refused():
    with pytest.raises(InputError, match="20585.*Take data-parallel with KERAS_BACKEND=jax"):
        distribution("multi-worker")
    with (
        pytest.raises(InputError, match="expected a TPU at 'local', came none"),
        distribution("tpu"),
    ):
        pass


@pytest.mark.skipif(BACKEND != "jax", reason="an engine of JAX's")
def test_a_mesh_has_as_many_devices_as_there_are():
    with pytest.raises(InputError, match="mesh: expected two numbers, as 2x4, came '8'"):
        distribution("model-parallel", "8")
    with pytest.raises(InputError, match="mesh 3x5 is of 15 devices; there are 1"):
        distribution("model-parallel", "3x5")
    with pytest.raises(InputError, match="mesh '1x1' is for the strategy model-parallel"):
        distribution("data-parallel", "1x1")


def test_auto_is_one_device_where_there_is_one():
    assert chosen("auto") == "none"
    assert chosen("mirrored") == "mirrored"


@pytest.mark.skipif(BACKEND != "jax", reason="an engine of JAX's")
def test_fine_tuning_runs_within_its_strategy(one_block_dir, tiny_data, tmp_path, monkeypatch):
    seen = []

    def look(self, batch, logs=None):
        seen.append(keras.distribution.distribution())

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", look)
    records = kbert.read_records(tiny_data / "train.csv", ("text", "label"))[:32]
    task = kbert.TextClassification.from_records(records, max_length=7)
    recipe = Recipe(epochs=1, batch_size=16, dtype="float32", strategy="data-parallel")
    kbert.finetune(task, records, None, one_block_dir, tmp_path / "run", recipe, verbose=0)
    assert [type(x).__name__ for x in seen] == ["DataParallel"] * 2
