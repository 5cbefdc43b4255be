"""Tables of characters in the form that TensorFlow Text's operations read: double-array tries.

`FastBertNormalizer` and SentencePiece both look text up in a trie as darts-clone lays it out
(github.com/s-yata/darts-clone).
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

CHUNK = 2048  # code points that Rust is asked about at once; the surrogates are one such chunk
SURROGATES = 0xD800
GEORGIAN = "\u10d0"  # a letter without case, accent or space around it
# Unicode's private use areas. Their characters are no punctuation and no white space to any
# library; those that no piece holds have a meaning in the graph.
PRIVATE_USE = [*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE)]


def all_characters() -> Iterator[list[str]]:
    """Every character of Unicode, CHUNK at a time."""
    for first in range(0, 0x110000, CHUNK):
        if first != SURROGATES:
            yield [chr(code) for code in range(first, first + CHUNK)]


def normalize_each(normalizer, texts: list[str]) -> list[str]:
    """What Rust's normaliser makes of each text, a character or a few."""
    if normalizer is None:
        return texts
    # All at once, parted by a character that no other of them becomes.
    for parted in ("|", GEORGIAN):
        joined = parted.join(["", *texts, ""])
        normal = normalizer.normalize_str(joined)
        if normal == joined:
            return texts
        images = normal.split(parted)[1:-1]
        if len(images) == len(texts):
            break
    return images


def changed(normalizer) -> dict[str, str]:
    """What Rust's normaliser makes of those characters that do not stay as they are."""
    images = {}
    for characters in all_characters():
        normal = normalize_each(normalizer, characters)
        if normal is not characters:
            pairs = zip(characters, normal, strict=True)
            images.update(pair for pair in pairs if pair[0] != pair[1])
    return images


def private_characters(taken: Iterable[str]) -> Iterator[str]:
    """Characters that no piece holds, to have a meaning in the graph."""
    taken = set(taken)
    return (chr(code) for code in PRIVATE_USE if chr(code) not in taken)


def ranges(codes: Iterable[int]) -> str:
    """Characters as the inner part of a regular expression's class."""
    found, last = [], None
    for code in sorted(codes):
        if last is not None and code == last + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
        last = code
    return "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in found)


def trie(of_code: np.ndarray, broken: int) -> tuple[list, int]:
    """A trie over UTF-8 in which equal subtrees are one.

    Args:
        of_code: int32 (0x110000,), the value of each code point, 0 for none.
        broken: the value of byte sequences that are not a character.

    Returns:
        (nodes, root): a list of (value, edges), edges being (byte, number of a node), and the
        number of the root.
    """
    nodes = {}

    def number(value, edges=()) -> int:
        return nodes.setdefault((int(value), tuple(edges)), len(nodes))

    of_prefix, of_row = {}, {}
    for first in range(128, len(of_code), 64):  # 64 characters share all bytes but the last
        if SURROGATES <= first < SURROGATES + CHUNK:
            continue
        row = of_code[first : first + 64]
        if row.tobytes() not in of_row:
            edges = [(0x80 | i, number(row[i])) for i in np.flatnonzero(row).tolist()]
            of_row[row.tobytes()] = number(broken, edges)
        of_prefix[chr(first).encode()[:-1]] = of_row[row.tobytes()]
    for length in (3, 2):
        longer = defaultdict(list)
        for prefix in sorted(prefix for prefix in of_prefix if len(prefix) == length):
            longer[prefix[:-1]].append((prefix[-1], of_prefix[prefix]))
        of_prefix |= {prefix: number(broken, edges) for prefix, edges in longer.items()}
    edges = {byte: number(of_code[byte]) for byte in range(1, 128) if of_code[byte]}
    edges |= dict.fromkeys(range(128, 256), number(broken))
    edges |= {prefix[0]: node for prefix, node in of_prefix.items() if len(prefix) == 1}
    root = number(0, edges.items())
    return list(nodes), root


def double_array(nodes: list, root: int) -> np.ndarray:
    """The trie as darts-clone lays it out (github.com/s-yata/darts-clone, darts.h), uint32.

    A node has a base of its own. The unit at base ^ byte is its child for that byte, the one at
    base, if 0x100 is set in the node, its value with bit 31. A node's unit holds its byte and,
    from bit 10, its index ^ its base. The root is at 0.
    """
    base_of, taken = {}, {0}
    index = 1
    for node in sorted(range(len(nodes)), key=lambda node: -len(nodes[node][1])):
        value, edges = nodes[node]
        labels = [0] * bool(value) + [byte for byte, _ in edges]
        while (base := index ^ labels[0]) in base_of or any(base ^ b in taken for b in labels):
            index += 1
        base_of[base] = node
        taken.update(base ^ label for label in labels)
    base_of = {node: base for base, node in base_of.items()}

    units = np.zeros((max(taken) | 255) + 1, np.uint32)
    units[0] = base_of[root] << 10
    for node, (value, edges) in enumerate(nodes):
        base = base_of[node]
        if value:
            units[base] = value | 1 << 31
        for byte, child in edges:
            has_value = 0x100 * bool(nodes[child][0])
            units[base ^ byte] = byte | has_value | (base ^ byte ^ base_of[child]) << 10
    return units


def precompiled(images: dict[bytes, str]) -> bytes:
    """A table of SentencePiece's normaliser (`precompiled_charsmap`, normalizer.cc).

    Wherever a text goes on with a key, the longest such is written as its image; what no key
    begins stays as it is. In the file: the length of the trie in bytes, the trie, and the images,
    each with a NUL behind it. A key's value is where its image begins.

    Args:
        images: from the bytes of one character, or of several, to what is written for them.
    """
    pool, value_of = bytearray(1), {}  # 0 is no value in a trie
    for image in images.values():
        if image not in value_of:
            value_of[image] = len(pool)
            pool += image.encode() + b"\0"
    nodes: dict[tuple, int] = {}

    def number(entries: list[tuple[bytes, int]]) -> int:
        value, longer = 0, defaultdict(list)
        for rest, its_value in entries:
            if rest:
                longer[rest[0]].append((rest[1:], its_value))
            else:
                value = its_value
        edges = tuple((byte, number(rest)) for byte, rest in sorted(longer.items()))
        return nodes.setdefault((value, edges), len(nodes))

    root = number([(key, value_of[image]) for key, image in images.items()])
    units = double_array(list(nodes), root)
    return struct.pack("<I", units.nbytes) + units.tobytes() + bytes(pool)
