"""Tables of names that run both ways: a checkpoint's tensors ⇄ kbert's variables.

A row pairs one of our variable paths with the checkpoint's tensor name; `{i}` stands for the
number of a block, and another letter in braces for another number. A tensor that a checkpoint may
hold and that no layer of ours takes has a row without a path of ours, so that nothing is skipped
in silence.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

# Before the names of a head that Hugging Face has not for an architecture: "kbert.pooler.kernel".
OURS = "kbert"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        ours: variable path, "block_{i}/attention/query/kernel"; None for a tensor we leave out;
            several paths where their tensor is ours of equal shape, one below the other.
        theirs: tensor name, "encoder.layer.{i}.attention.self.query.weight".
        transpose: whether the two hold each other's transpose (dense kernels do).
        aliases: other names that older files use for the same tensor; read, never written.
        head: whether the tensor belongs to a head, so that it carries no architecture prefix.
        tied_to: our variable path that `theirs` repeats (a decoder's weight, tied to the
            embedding); read to be compared, never written. `ours` is None then.
        spare: whether a file may hold the tensor though the model does without.
    """

    ours: str | tuple[str, ...] | None
    theirs: str
    transpose: bool = False
    aliases: tuple[str, ...] = ()
    head: bool = False
    tied_to: str | None = None
    spare: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Our variables of this row: none, one or several."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours or ()

    def taken_apart(self, array: np.ndarray) -> list[np.ndarray]:
        """Their tensor as our arrays, one for each of `paths`."""
        # What cannot be shared out equally is misshapen, which `differences` tells.
        pieces = np.array_split(array, len(self.paths)) if len(self.paths) > 1 else [array]
        return [piece.T if self.transpose else piece for piece in pieces]

    def joined(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Our arrays, one for each of `paths`, as their tensor."""
        pieces = [array.T if self.transpose else array for array in arrays]
        return np.ascontiguousarray(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))


def dense(ours: str, theirs: str, *, head: bool = False) -> tuple[Row, Row]:
    """Kernel (in, out) ⇄ PyTorch's weight (out, in), and the bias."""
    return (
        Row(f"{ours}/kernel", f"{theirs}.weight", transpose=True, head=head),
        Row(f"{ours}/bias", f"{theirs}.bias", head=head),
    )


def norm(ours: str, theirs: str, *, head: bool = False) -> tuple[Row, Row]:
    """Layer normalisation; files converted from TensorFlow say gamma and beta."""
    return (
        Row(f"{ours}/gamma", f"{theirs}.weight", aliases=(f"{theirs}.gamma",), head=head),
        Row(f"{ours}/beta", f"{theirs}.bias", aliases=(f"{theirs}.beta",), head=head),
    )


def left_out(*theirs: str, head: bool = False) -> tuple[Row, ...]:
    """Tensors that a checkpoint may hold and that no layer of ours takes."""
    return tuple(Row(None, name, head=head) for name in theirs)


def tied(theirs: str, tied_to: str) -> tuple[Row]:
    """A head's tensor that repeats one of ours; a file where it differs is refused."""
    return (Row(None, theirs, head=True, tied_to=tied_to),)


@dataclass
class Matched:
    """What a table made of a checkpoint.

    Attributes:
        arrays: our variable path → array in our layout.
        unknown: tensor names that no row has.
        tied: tensor name → our variable path that it repeats.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    tied: dict[str, str] = field(default_factory=dict)


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
                if row.paths:
                    paths = (path.format(**found.groupdict()) for path in row.paths)
                    matched.arrays.update(zip(paths, row.taken_apart(array), strict=True))
                elif row.tied_to is not None:
                    matched.tied[name] = row.tied_to
                break
        else:
            matched.unknown.append(name)
    return matched


def to_checkpoint(
    arrays: Mapping[str, np.ndarray], table: Iterable[Row], prefix: str
) -> dict[str, np.ndarray]:
    """Rename our variables to a checkpoint's tensors: the other way of `from_checkpoint`.

    Raises:
        KeyError: a variable has no row, or another that belongs to the same tensor is not there.
    """
    patterns = [(_pattern(path), row) for row in table for path in row.paths]
    tensors = {}
    for path in arrays:
        for pattern, row in patterns:
            found = pattern.match(path)
            if found:
                name = row.theirs.format(**found.groupdict())
                parts = [part.format(**found.groupdict()) for part in row.paths]
                if missing := [part for part in parts if part not in arrays]:
                    raise KeyError(f"{name} joins {', '.join(parts)}; {missing[0]} is not there.")
                if path == parts[0]:
                    name = name if row.head else prefix + name
                    tensors[name] = row.joined([arrays[part] for part in parts])
                break
        else:
            raise KeyError(f"{path} has no row in the table of names.")
    return tensors


def known(table: Iterable[Row]) -> Callable[[str], bool]:
    """Whether a table has a row for one of our variable paths."""
    patterns = [_pattern(path) for row in table for path in row.paths]
    return lambda path: any(pattern.match(path) for pattern in patterns)


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


def head_of(model, encoder) -> list:
    """The variables of a model that its encoder does not have."""
    ours = {variable.path for variable in encoder.weights}
    return [variable for variable in model.weights if variable.path not in ours]


def load_head(model, encoder, head: str) -> list[str]:
    """Give a head what its encoder's checkpoint holds for it.

    Args:
        model: the encoder with the head.
        encoder: its `head_weights` (set by `checkpoint.load`) maps a head's name to arrays.
        head: the head's name, "MaskedLM".

    Returns:
        The variables that stay new, in words: the checkpoint lacks them, or has another shape.
    """
    variables = head_of(model, encoder)
    kept = getattr(encoder, "head_weights", {})
    held = {**kept.get(OURS, {}), **kept.get(head, {})}
    missing, misshapen = differences(variables, held)
    new = {*missing, *(text.split(" ")[0] for text in misshapen)}
    assign([variable for variable in variables if variable.path not in new], held)
    return sorted([*(f"{path} missing" for path in missing), *misshapen])


def _pattern(name):
    """`{i}` in a name matches a number, and is what the other side's `{i}` is filled with."""
    return re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(name)) + r"\Z")
