"""The versions of a served model: saved_models/NAME/1, 2, …, TensorFlow Serving's layout.

The server polls the folder and loads each version that it sees, so a version comes and goes whole:
by renaming.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbert.errors import InputError

GRAPH = "saved_model.pb"


def check(folder: Path, version: int | None = None) -> None:
    """Raises an InputError if a version may not be written here, or stands there already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder for versions, it is a file.")
    there = [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.exists() else []
    strange = sorted(p.name for p in there if not (p.name.isdecimal() and p.is_dir()))
    if strange:
        raise InputError(
            f"{folder}: expected a folder with versions alone (1, 2, …), it has "
            f"{', '.join(strange[:3])}{' …' if len(strange) > 3 else ''}: name another, such as "
            "saved_models/NAME."
        )
    half = sorted(p.name for p in there if not (p / GRAPH).is_file())
    if half:
        raise InputError(
            f"{folder}: version {', '.join(half)} has no {GRAPH}: half a version, which a server "
            "that polls this folder tries to load. Remove it, then export again."
        )
    if version is not None and (folder / str(version)).exists():
        raise _exists(folder, version)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A hidden folder to write a version in; what is left there at the end goes."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=".exporting-", dir=folder))
    try:
        hidden.chmod(0o755)
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def publish(whole: Path, folder: Path, version: int | None = None) -> Path:
    """Make a written version one that the server sees: the next, or the one that is named.

    Raises:
        InputError: the one that is named was written by another meanwhile.
    """
    while True:
        place = folder / str(version or 1 + max(numbers(folder), default=0))
        try:
            os.rename(whole, place)
            return place
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if version is not None:
                raise _exists(folder, version) from error
            # Another export took the number: the next, then.


def remove_old(folder: Path, keep: int) -> None:
    """Remove all but the `keep` highest versions: hidden at once, so that none is seen half."""
    for number in sorted(numbers(folder))[:-keep]:
        hidden = Path(tempfile.mkdtemp(prefix=".removing-", dir=folder))
        os.rename(folder / str(number), hidden / str(number))
        shutil.rmtree(hidden)


def numbers(folder: Path) -> list[int]:
    """The versions that are there."""
    return [int(p.name) for p in folder.iterdir() if p.name.isdecimal()]


def _exists(folder: Path, version: int) -> InputError:
    return InputError(
        f"{folder / str(version)} exists: a version never changes once it is served. Name another, "
        "or leave the number out for the next."
    )
