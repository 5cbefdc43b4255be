"""Safetensors files, whole, in shards and broken."""

import json

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.weights import safetensors

TENSORS = {
    "embeddings.weight": np.random.default_rng(1).standard_normal((7, 11), "float32"),
    "dense.bias": np.arange(13, dtype="float32"),
    "position_ids": np.arange(5)[None],
    "flag": np.array([True, False]),
}


def write_index(folder, weight_map):
    content = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def test_what_is_written_is_read_back_bit_equal(tmp_path):
    safetensors.write(tmp_path / "model.safetensors", TENSORS)
    read = safetensors.read(safetensors.weight_files(tmp_path))
    assert set(read) == set(TENSORS)
    for name, array in TENSORS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_pytorch_reads_what_is_written(tmp_path):
    torch_reader = pytest.importorskip("safetensors.torch")
    safetensors.write(tmp_path / "model.safetensors", TENSORS)
    read = torch_reader.load_file(tmp_path / "model.safetensors")
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(read[name].numpy(), array)


def test_no_half_written_file_is_left_under_the_name(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    safetensors.write(file, TENSORS)
    before = file.read_bytes()

    def fail(tensors, path, metadata=None):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        safetensors.write(file, {"dense.bias": np.zeros(3)})
    assert file.read_bytes() == before


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_floats_are_read_as_float32(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    values = torch.tensor([[1.5, -2.25, 0.0078125]], dtype=getattr(torch, dtype))
    save_file({"dense.weight": values}, tmp_path / "model.safetensors")
    read = safetensors.read([tmp_path / "model.safetensors"])["dense.weight"]
    assert read.dtype == np.float32
    assert read.tolist() == [[1.5, -2.25, 0.0078125]]


def test_shards_are_read_together(tmp_path):
    for shard, names in {"a": ["embeddings.weight"], "b": ["dense.bias", "flag"]}.items():
        safetensors.write(tmp_path / f"{shard}.safetensors", {n: TENSORS[n] for n in names})
    write_index(
        tmp_path,
        {
            "dense.bias": "b.safetensors",
            "embeddings.weight": "a.safetensors",
            "flag": "b.safetensors",
        },
    )
    files = safetensors.weight_files(tmp_path)
    assert [file.name for file in files] == ["a.safetensors", "b.safetensors"]
    assert set(safetensors.read(files)) == {"embeddings.weight", "dense.bias", "flag"}


def test_a_missing_shard_is_named(tmp_path):
    safetensors.write(tmp_path / "a.safetensors", TENSORS)
    write_index(tmp_path, {"x": "a.safetensors", "y": "b.safetensors", "z": "c.safetensors"})
    message = r"names shards that are not there: \['b.safetensors', 'c.safetensors'\]"
    with pytest.raises(InputError, match=message):
        safetensors.weight_files(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", '{"weights": {}}', '{"weight_map": [1]}'])
def test_an_index_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match="index.json: not an index of shards"):
        safetensors.weight_files(tmp_path)


def test_a_folder_without_weights_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="expected model.safetensors; there is config.json.$"):
        safetensors.weight_files(tmp_path)


def test_a_pickle_is_not_opened_and_the_way_out_is_named(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="is a pickle and is not opened unless asked: `kbert"):
        safetensors.weight_files(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_refused_with_its_size(tmp_path, kept):
    file = tmp_path / "model.safetensors"
    safetensors.write(file, TENSORS)
    file.write_bytes(file.read_bytes()[:kept])
    size = file.stat().st_size
    message = rf"model.safetensors: not a whole safetensors file \(.*\); it has {size} bytes. Fetch"
    with pytest.raises(InputError, match=message):
        safetensors.read([file])


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"<html>Not found</html>" * 11)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        safetensors.read([file])
