"""Tables of names that run both ways: a checkpoint's tensors ⇄ kbert's variables.

A row pairs one of our variable paths with the checkpoint's tensor name; `{i}` stands for the
number of a block, and another letter in braces for another number. A tensor that a checkpoint may
hold and that no layer of ours takes has a row without a path of ours, so that nothing is skipped
in silence.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        ours: variable path, "block_{i}/attention/query/kernel"; None for a tensor we leave out.
        theirs: tensor name, "encoder.layer.{i}.attention.self.query.weight".
        transpose: whether the two hold each other's transpose (dense kernels do).
        aliases: other names that older files use for the same tensor; read, never written.
        head: whether the tensor belongs to a head, so that it carries no architecture prefix.
    """

    ours: str | None
    theirs: str
    transpose: bool = False
    aliases: tuple[str, ...] = ()
    head: bool = False


def dense(ours: str, theirs: str, *, head: bool = False) -> tuple[Row, Row]:
    """Kernel (in, out) ⇄ PyTorch's weight (out, in), and the bias."""
    return (
        Row(f"{ours}/kernel", f"{theirs}.weight", transpose=True, head=head),
        Row(f"{ours}/bias", f"{theirs}.bias", head=head),
    )


def norm(ours: str, theirs: str) -> tuple[Row, Row]:
    """Layer normalisation; files converted from TensorFlow say gamma and beta."""
    return (
        Row(f"{ours}/gamma", f"{theirs}.weight", aliases=(f"{theirs}.gamma",)),
        Row(f"{ours}/beta", f"{theirs}.bias", aliases=(f"{theirs}.beta",)),
    )


def left_out(*theirs: str, head: bool = False) -> tuple[Row, ...]:
    """Tensors that a checkpoint may hold and that no layer of ours takes."""
    return tuple(Row(None, name, head=head) for name in theirs)


@dataclass
class Matched:
    """What a table made of a checkpoint.

    Attributes:
        arrays: our variable path → array in our layout.
        unknown: tensor names that no row has.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def from_checkpoint(
    tensors: Mapping[str, np.ndarray], table: Iterable[Row], prefix: str
) -> Matched:
    """Rename a checkpoint's tensors to our variable paths.

    Args:
        tensors: tensor name → array.
        table: rows of names.
        prefix: what a model with a head puts before the encoder's names ("bert."); a bare encoder
            does without, and both are read.
    """
    patterns = [(_pattern(name), row) for row in table for name in (row.theirs, *row.aliases)]
    matched = Matched()
    for name, array in tensors.items():
        for pattern, row in patterns:
            found = pattern.match(name if row.head else name.removeprefix(prefix))
            if found:
                if row.ours is not None:
                    path = row.ours.format(**found.groupdict())
                    matched.arrays[path] = array.T if row.transpose else array
                break
        else:
            matched.unknown.append(name)
    return matched


def to_checkpoint(
    arrays: Mapping[str, np.ndarray], table: Iterable[Row], prefix: str
) -> dict[str, np.ndarray]:
    """Rename our variables to a checkpoint's tensors: the other way of `from_checkpoint`.

    Raises:
        KeyError: a variable has no row.
    """
    patterns = [(_pattern(row.ours), row) for row in table if row.ours is not None]
    tensors = {}
    for path, array in arrays.items():
        for pattern, row in patterns:
            found = pattern.match(path)
            if found:
                name = row.theirs.format(**found.groupdict())
                name = name if row.head else prefix + name
                tensors[name] = np.ascontiguousarray(array.T if row.transpose else array)
                break
        else:
            raise KeyError(f"{path} has no row in the table of names.")
    return tensors


def differences(variables, arrays: Mapping[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Which variables `arrays` lacks, and which it holds in another shape: two lists of words."""
    missing = [v.path for v in variables if v.path not in arrays]
    misshapen = [
        f"{v.path} {tuple(arrays[v.path].shape)}, expected {tuple(v.shape)}"
        for v in variables
        if v.path in arrays and tuple(arrays[v.path].shape) != tuple(v.shape)
    ]
    return missing, misshapen


def assign(variables, arrays: Mapping[str, np.ndarray]) -> None:
    """Give every variable the array at its path (shapes checked before, by `differences`)."""
    for variable in variables:
        variable.assign(arrays[variable.path])


def take(variables) -> dict[str, np.ndarray]:
    """Variable path → its value as float32."""
    from keras import ops

    return {v.path: ops.convert_to_numpy(ops.cast(v.value, "float32")) for v in variables}


def _pattern(name):
    """`{i}` in a name matches a number, and is what the other side's `{i}` is filled with."""
    return re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(name)) + r"\Z")
