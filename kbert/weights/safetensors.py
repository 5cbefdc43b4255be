"""Safetensors files, whole or in shards, to and from NumPy arrays."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kbert.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The weights files of a folder: one, or all shards that its index names.

    Raises:
        InputError: there is none, or a shard is missing.
    """
    if files := find(folder, WEIGHTS, INDEX):
        return files
    there = sorted(p.name for p in folder.iterdir())
    hint = ""
    if any(name.startswith("pytorch_model") for name in there):
        hint = (
            " pytorch_model.bin is a pickle and is not opened unless asked: `kbert convert FOLDER "
            "NEW --to hugging-face --allow-pickle`, or kbert.load(…, allow_pickle=True)."
        )
    raise InputError(f"{folder}: expected {WEIGHTS}; there is {', '.join(there)}.{hint}")


def find(folder: Path, whole: str, index: str) -> list[Path]:
    """The file called `whole`, or all shards that `index` names; none if neither is there.

    Raises:
        InputError: the index is broken, or a shard is missing.
    """
    if (folder / whole).is_file():
        return [folder / whole]
    if not (folder / index).is_file():
        return []
    try:
        shards = json.loads((folder / index).read_text("utf-8"))["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / index}: not an index of shards ({error}).") from error
    files = [folder / name for name in sorted(set(shards))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(f"{folder}: {index} names shards that are not there: {missing}.")
    return files


def read(files: list[Path]) -> dict[str, np.ndarray]:
    """Tensor name → array, floats as float32.

    Raises:
        InputError: a file is truncated or is not a safetensors file.
    """
    import ml_dtypes  # noqa: F401 (teaches NumPy bfloat16; a dependency of Keras)

    tensors = {}
    for file in files:
        with _opened(file) as opened:
            for name in opened.keys():  # noqa: SIM118 (not a dict)
                tensors[name] = _float32(opened.get_tensor(name))
    return tensors


def names(files: list[Path]) -> list[str]:
    """The names of all tensors; errors are those of `read`."""
    found = []
    for file in files:
        with _opened(file) as opened:
            found += opened.keys()
    return found


@contextmanager
def _opened(file: Path) -> Iterator:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            yield opened
    except SafetensorError as error:
        size = file.stat().st_size
        raise InputError(
            f"{file}: not a whole safetensors file ({error}); it has {size:,} bytes. "
            "Fetch or copy it again."
        ) from error


def write(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write beside, then rename, so that no half-written file is left under the name."""
    from safetensors.numpy import save_file

    beside = file.with_name(file.name + ".part")
    save_file(dict(tensors), beside, metadata={"format": "pt"})
    mask = os.umask(0)  # safetensors lets nobody else read the file; others follow the umask
    os.umask(mask)
    beside.chmod(0o666 & ~mask)
    os.replace(beside, file)


def _float32(array: np.ndarray) -> np.ndarray:
    is_integer = np.issubdtype(array.dtype, np.integer) or array.dtype == bool
    return array if is_integer else array.astype(np.float32)
