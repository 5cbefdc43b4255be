"""pytorch_model.bin: read when asked, through the reader that runs no program."""

import json
import os
import pickle

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.weights import torch_pickle

torch = pytest.importorskip("torch")

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.ids": torch.arange(5)}


def test_tensors_are_read_floats_as_float32(tmp_path):
    halves = {"a.weight": TENSORS["a.weight"].bfloat16(), "b.ids": TENSORS["b.ids"]}
    torch.save(halves, tmp_path / "pytorch_model.bin")
    found = torch_pickle.read(torch_pickle.weight_files(tmp_path))
    assert {name: array.dtype for name, array in found.items()} == {
        "a.weight": np.float32,
        "b.ids": np.int64,
    }
    np.testing.assert_array_equal(found["a.weight"], TENSORS["a.weight"].numpy())


def test_the_form_before_zip_files_is_read(tmp_path):
    file = tmp_path / "pytorch_model.bin"
    torch.save(TENSORS, file, _use_new_zipfile_serialization=False)
    assert set(torch_pickle.read([file])) == set(TENSORS)


def test_shards_are_read_together_and_a_missing_one_is_named(tmp_path):
    shards = {name: f"pytorch_model-{i}.bin" for i, name in enumerate(TENSORS)}
    for name, shard in shards.items():
        torch.save({name: TENSORS[name]}, tmp_path / shard)
    (tmp_path / torch_pickle.INDEX).write_text(json.dumps({"weight_map": shards}))
    assert set(torch_pickle.read(torch_pickle.weight_files(tmp_path))) == set(TENSORS)
    (tmp_path / "pytorch_model-1.bin").unlink()
    with pytest.raises(InputError, match=r"shards that are not there: \['pytorch_model-1.bin'\]"):
        torch_pickle.weight_files(tmp_path)


class Program:
    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_program_in_a_pickle_is_not_run(tmp_path):
    program, file = Program(), tmp_path / "pytorch_model.bin"
    program.folder = str(tmp_path / "made by the pickle")
    torch.save({**TENSORS, "c": program}, file)
    with pytest.raises(InputError, match="weights_only reader does not take it"):
        torch_pickle.read([file])
    file.write_bytes(pickle.dumps(program))
    with pytest.raises(InputError, match="weights_only reader does not take it"):
        torch_pickle.read([file])
    assert os.listdir(tmp_path) == ["pytorch_model.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": TENSORS}, "expected tensors under their names; 'model' is none"),
        ([1, 2], "expected tensors under their names; came a list"),
    ],
)
def test_other_contents_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=message):
        torch_pickle.read([tmp_path / "pytorch_model.bin"])


@pytest.mark.parametrize("size", [0, 100])
def test_a_broken_file_is_refused(tmp_path, size):
    file = tmp_path / "pytorch_model.bin"
    torch.save(TENSORS, file)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError, match="holds more than tensors, or is broken"):
        torch_pickle.read([file])
