"""Which format a folder is in, and what it holds if that is not Hugging Face's."""

from pathlib import Path

from kbert.weights import tf_checkpoint
from kbert.weights.foreign import Foreign
from kbert.weights.keras_hub import presets

HUGGING_FACE, GOOGLE, KERAS = "hugging-face", "google", "keras"


def format_of(folder: Path) -> str:
    """One of the three; Hugging Face's where nothing tells otherwise."""
    if presets.is_keras_hub(folder):
        return KERAS
    # Repositories on the hub have both configs at times; then config.json tells of all weights.
    has_theirs = (folder / "config.json").is_file()
    return GOOGLE if tf_checkpoint.is_google(folder) and not has_theirs else HUGGING_FACE


def read(folder: Path) -> Foreign | None:
    """What a folder of Google's or keras-hub's holds; None for one of Hugging Face's.

    Raises:
        InputError: it is broken, or holds what is not known here.
    """
    readers = {GOOGLE: tf_checkpoint.read, KERAS: presets.read}
    reader = readers.get(format_of(folder))
    return reader and reader(folder)
