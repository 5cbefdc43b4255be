"""Plain text files of any size, read a block at a time."""

import codecs
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from kbert.errors import InputError

BLOCK_BYTES = 1 << 14  # longer texts at once, and Rust is slower by a tenth
BYTE_ORDER_MARK = "\ufeff"  # with which Windows' editors begin a file


def blocks(file: str | os.PathLike, told: Callable = lambda num_bytes: None) -> Iterator[str]:
    """The text of a file, piece by piece; they may end within a word.

    Args:
        file: UTF-8, with or without a byte order mark.
        told: is called with the number of bytes of every piece.

    Raises:
        InputError: the file is not there, or not UTF-8; the text gives byte and line.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    num_bytes = num_lines = 0
    try:
        with open(file, "rb") as opened:
            while block := opened.read(BLOCK_BYTES):
                text = decoder.decode(block)
                yield text if num_bytes else text.removeprefix(BYTE_ORDER_MARK)
                told(len(block))
                num_bytes += len(block)
                num_lines += block.count(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # Its bytes begin with those that the block before had left over.
        byte = num_bytes - (len(error.object) - len(block)) + error.start
        line = num_lines + error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{file}, line {line}: expected UTF-8, came {error.object[error.start : error.end]!r} "
            f"(byte {byte} of the file, {error.reason}). Convert it, for instance from Windows: "
            "iconv -f cp1252 -t utf-8."
        ) from None
    except OSError as error:
        raise InputError(f"{file}: expected a text file, came none: {error.strerror}.") from None


def lines(file: str | os.PathLike) -> Iterator[list[str]]:
    """The lines of a file, some at a time, without their ends.

    A line longer than a block is given in parts, which end between words where it has blanks.
    """
    rest = ""
    for block in blocks(file):
        text = (rest + block).replace("\r\n", "\n")
        end = text.rfind("\n") + 1
        if not end and len(text) >= BLOCK_BYTES:
            end = text.rfind(" ") + 1 or len(text)
        if end:
            yield text[:end].removesuffix("\n").split("\n")
        rest = text[end:]
    if rest:
        yield [rest]


def survey(
    files: Sequence[str | os.PathLike], progress: bool = False
) -> tuple[list[str], int, int]:
    """Reads files once, so that what is wrong with one is told before any work is done.

    Args:
        progress: whether to show a bar on standard error.

    Returns:
        All characters in them, sorted, and about how many blocks and lines there are.

    Raises:
        InputError: a file is not there, or not UTF-8.
    """
    seen = np.zeros(0x110000, bool)
    num_blocks = num_lines = 0
    sizes = [os.path.getsize(file) if os.path.isfile(file) else 0 for file in files]
    bar = tqdm(total=sum(sizes), desc="Survey", unit="B", unit_scale=True, disable=not progress)
    with bar:
        for file in files:
            for block in blocks(file, bar.update):
                seen[np.frombuffer(block.encode("utf-32-le"), np.uint32)] = True
                num_lines += block.count("\n")
                num_blocks += 1
            num_lines += 1
    return [chr(code) for code in np.flatnonzero(seen).tolist()], num_blocks, num_lines
