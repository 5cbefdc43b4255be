"""PyTorch's old `pytorch_model.bin`, whole or in shards: a pickle.

A pickle can run any program as it is opened. PyTorch's `weights_only` reader takes tensors and
plain containers and stops at everything else; still, a folder's pickle is only read when asked for.
"""

from pathlib import Path

import numpy as np

from kbert.errors import InputError
from kbert.weights import safetensors

WEIGHTS = "pytorch_model.bin"
INDEX = "pytorch_model.bin.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The pickles of a folder; none if it has none.

    Raises:
        InputError: a shard is missing.
    """
    return safetensors.find(folder, WEIGHTS, INDEX)


def read(files: list[Path]) -> dict[str, np.ndarray]:
    """Tensor name → array, floats as float32.

    Raises:
        InputError: a file is broken, or holds anything but tensors under names; there is no
            PyTorch.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{files[0]}: expected PyTorch, which reads it, to be installed: "
            "pip install 'kbert[torch]'."
        ) from error
    tensors = {}
    for file in files:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a broken file raises almost anything
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is cut off"
            raise InputError(
                f"{file}: PyTorch's weights_only reader does not take it ({reason}). It holds "
                "more than tensors, or is broken: do not open it another way unless you trust "
                "whoever made it."
            ) from error
        wrong = [str(name) for name, x in _items(found) if not isinstance(x, torch.Tensor)]
        if wrong or not isinstance(found, dict):
            what = f"{wrong[0]!r} is none" if wrong else f"came a {type(found).__name__}"
            raise InputError(f"{file}: expected tensors under their names; {what}.")
        tensors |= {name: _array(tensor) for name, tensor in found.items()}
    return tensors


def _items(found):
    return found.items() if isinstance(found, dict) else ()


def _array(tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
