"""`import kbert` costs nothing, and TensorFlow waits until text or export needs it."""

import subprocess
import sys

import pytest
from harness import BACKEND

import kbert

SCRIPT = """
import sys
import kbert
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
loaded = kbert.load({folder!r})
task = kbert.TextClassification(("a", "b"), max_length=23)
answers = list(kbert.Predictor(task.model(loaded.encoder), task, loaded.tokenizer)(["my cat"]))
assert len(answers) == 1
others = {{"tensorflow", "jax", "torch"}} - {{{backend!r}}}
print(sorted(others & set(sys.modules)))
"""


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow is the backend")
def test_tensorflow_is_not_imported_to_answer(tiny_dir):
    script = SCRIPT.format(folder=str(tiny_dir), backend=BACKEND)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tensorflow" not in done.stdout


@pytest.mark.parametrize("name", kbert.HOMES)
def test_every_public_name_is_there(name):
    value = getattr(kbert, name)
    assert callable(value)
    assert value.__module__ == kbert.HOMES[name]
    assert name in dir(kbert)


def test_a_function_keeps_its_name_when_its_module_is_imported():
    import kbert.export.saved_model  # noqa: F401

    assert callable(kbert.export)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'kbert' has no attribute 'bret'"):
        kbert.bret  # noqa: B018
