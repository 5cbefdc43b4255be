"""A checkpoint's folder, local or fetched from the Hugging Face hub, and the JSON files in it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from kbert.errors import InputError

CONFIG = "config.json"
TOKENIZER_FILES = ["*.json", "vocab.txt", "merges.txt", "*.model"]
HUB_FILES = [*TOKENIZER_FILES, "*.safetensors"]
PICKLES = ["pytorch_model*.bin"]


def find_folder(
    path: str | os.PathLike,
    revision: str | None = None,
    allow_pickle: bool = False,
    files: Sequence[str] = HUB_FILES,
) -> Path:
    """The local folder of a path or hub name; a hub's model is fetched into the hub's cache.

    Args:
        path: a folder, or a hub name.
        revision: of the hub's model.
        allow_pickle: whether to fetch its pickles too.
        files: patterns of the files to fetch.

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

    patterns = [*files, *PICKLES] if allow_pickle else [*files]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:
        raise InputError(
            f"{name}: no such folder, and as a name on the Hugging Face hub it could not be "
            f"fetched ({type(error).__name__}). Give the path of a checkpoint folder, or check "
            "the name and the network."
        ) from error


def read_settings(folder: Path) -> dict:
    """`config.json` of a checkpoint folder.

    Raises:
        InputError: it is not there, or not a JSON object.
    """
    file = folder / CONFIG
    if not file.is_file():
        found = sorted(p.name for p in folder.iterdir()) or ["nothing"]
        there = ", ".join(found[:9]) + " …" * (len(found) > 9)
        raise InputError(f"{folder}: expected {CONFIG} of a checkpoint; there is {there}.")
    try:
        settings = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}).") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file}: expected a JSON object, it is a {type(settings).__name__}.")
    return settings


def write_json(file: Path, content) -> None:
    """Write beside, then rename."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    os.replace(beside, file)
