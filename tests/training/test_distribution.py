"""Several devices train the model that one trains."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from harness import BACKEND

from kbert.errors import InputError
from kbert.training.distribution import distribution

STRATEGY = {"tensorflow": "mirrored", "jax": "data-parallel"}.get(BACKEND)


@pytest.fixture(scope="module")
def without_dropout(tiny_dir, tmp_path_factory):
    """Each device draws dropout of its own, so that only a model without it can be compared."""
    folder = tmp_path_factory.mktemp("without-dropout")
    for file in tiny_dir.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")
    return folder


@pytest.mark.skipif(STRATEGY is None, reason="PyTorch has no strategy yet")
def test_two_devices_train_as_one(without_dropout, tiny_data, tmp_path):
    """24 clipped steps, each epoch's last batch not full: losses and weights to 1e-5."""
    script = Path(__file__).with_name("two_devices.py")
    command = [script, STRATEGY, without_dropout, tiny_data / "train.csv", tmp_path]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("none", STRATEGY))
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


@pytest.mark.parametrize("name", {"mirrored", "data-parallel"} - {STRATEGY})
def test_a_strategy_of_another_backend_is_refused(name):
    with pytest.raises(InputError, match=f"'{name}' runs on the .*this is {BACKEND}, which has"):
        distribution(name)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InputError, match="one of none, mirrored, data-parallel; got 'horovod'"):
        distribution("horovod")
