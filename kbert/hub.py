"""A local folder, or a model of the Hugging Face hub fetched into the hub's cache."""

import os
from pathlib import Path

from kbert.errors import InputError

HUB_FILES = ["*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model"]
PICKLES = ["pytorch_model*.bin"]


def find_folder(
    path: str | os.PathLike, revision: str | None = None, allow_pickle: bool = False
) -> Path:
    """The local folder of a path or hub name; a hub's model is fetched into the hub's cache.

    Raises:
        InputError: there is no such folder and the hub cannot be reached or has no such model.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    name = os.fspath(path)
    if folder.exists():
        raise InputError(f"{name}: expected a checkpoint folder, it is a file.")
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InputError(f"{name}: no such folder.")
    from huggingface_hub import snapshot_download

    patterns = HUB_FILES + PICKLES if allow_pickle else HUB_FILES
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:
        raise InputError(
            f"{name}: no such folder, and as a name on the Hugging Face hub it could not be "
            f"fetched ({type(error).__name__}). Give the path of a checkpoint folder, or check "
            "the name and the network."
        ) from error
