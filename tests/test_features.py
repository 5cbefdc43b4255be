"""Vectors of texts: any layer, any pooling, as transformers has them; in a file as they come."""

import json
import tracemalloc

import numpy as np
import pytest
import theirs
import tiny
from harness import BACKEND, randomize, to_numpy

import kbert
from kbert import features as extraction
from kbert.errors import InputError
from kbert.models.albert import AlbertConfig, albert

TENSORFLOW_ONLY = pytest.mark.skipif(BACKEND != "tensorflow", reason="one backend shows it")
TEXTS = ["my cat", "", "the dog is big today and here", "a nest"]


@pytest.fixture(scope="module")
def states(tiny_dir, loaded):
    """transformers' hidden states of `TEXTS`, (layers, B, T, D), and the padding mask."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(tiny_dir).eval()
    rows = [([2, *ids, 3], [0] * (len(ids) + 2)) for ids in loaded.tokenizer(TEXTS)]
    packer = kbert.TextClassification(("a", "b")).packer(loaded.tokenizer)
    ours = packer.pad(rows, 13)
    given = {theirs.NAMES[name]: torch.from_numpy(x).long() for name, x in ours.items()}
    with torch.no_grad():
        found = model(**given, output_hidden_states=True).hidden_states
    return np.stack([state.numpy() for state in found]), ours["padding_mask"]


def test_hidden_states_are_numbered_as_in_transformers(loaded, states):
    assert len(extraction.hidden_states(loaded.encoder)) == len(states[0]) == 4


@pytest.mark.parametrize("layer", [0, 1, -2, -1])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_every_layer_and_pooling_gives_what_transformers_has(loaded, states, layer, pooling):
    if BACKEND == "jax" and (layer, pooling) not in ((1, "mean"), (-1, "cls")):
        pytest.skip("each is compiled anew, and TensorFlow and PyTorch show them all")
    sequence, mask = states[0][layer], states[1]
    expected = {
        "cls": sequence[:, 0],
        "mean": np.stack([x[m].mean(axis=0) for x, m in zip(sequence, mask, strict=True)]),
        "max": np.stack([x[m].max(axis=0) for x, m in zip(sequence, mask, strict=True)]),
    }[pooling]
    found = np.stack(list(extraction.features(loaded, iter(TEXTS), layer, pooling, 13)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_block_that_stands_for_several_layers_has_a_state_for_each():
    config = AlbertConfig(
        vocab_size=53, num_layers=5, num_groups=2, embedding_width=11, width=14, num_heads=2,
        inner_width=19, max_length=17,
    )  # fmt: skip
    encoder = albert(config, "float32")
    randomize(encoder)
    states = extraction.hidden_states(encoder)
    assert len(states) == 6
    assert len({id(state) for state in states}) == 6
    draw = np.random.default_rng(1)
    inputs = {
        "token_ids": draw.integers(5, 53, (2, 7), "int32"),
        "segment_ids": np.zeros((2, 7), "int32"),
        "padding_mask": np.ones((2, 7), bool),
    }
    third, fourth = (extraction.feature_model(encoder, i, "cls")(inputs) for i in (3, 4))
    assert np.abs(to_numpy(third) - to_numpy(fourth)).max() > 1e-3


def test_the_pooler_is_that_of_the_checkpoint(minilm_dir, data_dir):
    goldens = np.load(data_dir / "weights" / "goldens" / "minilm_l6.npz")
    loaded = kbert.load(minilm_dir, dtype="float32")
    sentences = goldens["sentences"].tolist()
    found = np.stack(list(extraction.features(loaded, sentences, pooling="pooler")))
    expected = np.stack([goldens[f"pooler{i}"] for i in range(3)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_vectors_are_written_as_they_come_in_constant_memory(tmp_path):
    def vectors():
        for number in range(20_011):
            yield np.full(101, number, "float32")

    labels = []
    tracemalloc.start()
    try:
        written = extraction.write(tmp_path / "a.npz", vectors(), labels=labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written == 20_011
    assert peak < 4_000_000  # of 8 MB
    with np.load(tmp_path / "a.npz") as held:
        assert held["features"].shape == (20_011, 101)
        assert held["features"].dtype == np.float32
        np.testing.assert_array_equal(held["features"][:, 7], np.arange(20_011))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_breaks_off_leaves_nothing_and_what_was_there(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"mine")

    def vectors():
        yield np.zeros(3, "float32")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        extraction.write(tmp_path / "a.npz", vectors())
    with pytest.raises(InputError, match="expected texts, came none"):
        extraction.write(tmp_path / "a.npz", iter(()))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == b"mine"


@TENSORFLOW_ONLY
def test_the_command_writes_vectors_and_labels(one_block_dir, tmp_path, capsys):
    records = [{"words": text, "kind": "ü" if text else "b"} for text in TEXTS]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), "utf-8")
    command = ["features", one_block_dir, "--input", file, "--output", tmp_path / "a.npz"]
    command += ["--text", "words", "--max-length", 5, "--pooling", "mean"]
    assert tiny.kbert(*command, "--label", "kind") == 0
    out, err = capsys.readouterr()
    assert "a.npz: 4 vectors." in out
    assert "more than max_length=5 tokens were cut: 1 of 4." in err
    loaded = kbert.load(one_block_dir, dtype="float32")
    with pytest.warns(kbert.errors.InputWarning):
        expected = list(extraction.features(loaded, TEXTS, pooling="mean", max_length=5))
    with np.load(tmp_path / "a.npz") as held:
        np.testing.assert_allclose(held["features"], expected, rtol=0, atol=1e-6)
        assert held["labels"].tolist() == ["ü", "b", "ü", "ü"]
    assert tiny.kbert(*command) == 2
    assert "a.npz exists. Choose another name, or pass --overwrite" in capsys.readouterr().err
    assert tiny.kbert(*command, "--overwrite", "--layer", 0) == 0
    with np.load(tmp_path / "a.npz") as held:
        assert list(held) == ["features"]
    file.write_text('{"words": "a", "kind": 1}\n{"words": 7, "kind": 1}\n', "utf-8")
    assert tiny.kbert(*command, "--overwrite", "--label", "kind") == 2
    assert "a.jsonl, row 2: expected texts in column 'words', came 7" in capsys.readouterr().err


# Bad input


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_is_not_there_is_refused(loaded, layer):
    with pytest.raises(InputError, match=f"layer {layer}: there are 0 .embeddings. to 3, or -1 "):
        extraction.features(loaded, TEXTS, layer)


def test_a_pooler_is_asked_of_the_last_layer_and_of_a_checkpoint_that_has_one(loaded):
    with pytest.raises(InputError, match="layer 1: the pooler reads the last layer only; take cl"):
        extraction.features(loaded, TEXTS, 1, "pooler")
    with pytest.raises(InputError, match="has no pooler .pooler/.*take cls or mean"):
        extraction.features(loaded, TEXTS, -1, "pooler")


def test_more_tokens_than_positions_are_refused(loaded):
    with pytest.raises(InputError, match="max_length 62 is above the 61 positions"):
        extraction.features(loaded, TEXTS, max_length=62)


@TENSORFLOW_ONLY
def test_a_logistic_regression_learns_on_the_vectors(one_block_dir, tiny_data, capsys):
    """scripts/logistic_regression.py, as it is run, on a random encoder's embeddings."""
    import runpy
    from pathlib import Path

    script = Path(__file__).parents[1] / "scripts" / "logistic_regression.py"
    files = ["--train", str(tiny_data / "train.csv"), "--test", str(tiny_data / "test.csv")]
    main = runpy.run_path(str(script))["main"]
    settings = ["--label", "label", "--layer", "0", "--pooling", "mean", "--max-length", "23"]
    main([str(one_block_dir), *files, *settings])
    said = capsys.readouterr().out
    assert said.startswith("mean: accuracy ")
    assert float(said.split()[2].rstrip("%")) > 80
    assert "on 97 texts" in said
