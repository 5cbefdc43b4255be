"""What a folder of another format than Hugging Face's holds, in the terms of both."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from kbert.errors import InputError, InputWarning
from kbert.weights import names
from kbert.weights.names import Row

# The first word of a head's variable paths → the head. A pooler alone is no head.
PARTS = {
    "masked_lm_transform": "MaskedLM",
    "masked_lm_norm": "MaskedLM",
    "masked_lm_bias": "MaskedLM",
    "masked_lm_extra": "MaskedLM",
    "next_sentence": "NextSentencePrediction",
    "classifier": "SequenceClassification",
    "span": "QuestionAnswering",
    "replaced_token_transform": "PreTraining",
    "replaced_token": "PreTraining",
}


@dataclass
class Foreign:
    """A checkpoint, whatever it was written in.

    Attributes:
        settings: what `config.json` would say.
        arrays: our variable path → array in our layout, those of a head too.
        tokenizer_files: Hugging Face's file name → its contents.
        left_out: names of what is known and holds no weights of the model (an optimizer's slots).
        notes: sentences on what is not the same in both formats.
    """

    settings: dict
    arrays: dict[str, np.ndarray]
    tokenizer_files: dict[str, bytes] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def alike(ours: str, theirs: str, *words: str) -> tuple[Row, ...]:
    """Rows for variables that both sides call by the same last word, in the same layout."""
    return tuple(Row(f"{ours}/{word}", f"{theirs}/{word}") for word in words)


def head_of(paths: Iterable[str]) -> str | None:
    """The name of the one head that variable paths make up; None for an encoder with or without
    pooler.

    Raises:
        InputError: there are several that no model holds together.
    """
    heads = {PARTS[path.split("/")[0]] for path in paths if path.split("/")[0] in PARTS}
    if heads == {"MaskedLM", "NextSentencePrediction"}:
        return "PreTraining"
    if len(heads) > 1:
        raise InputError(f"expected the weights of one head, came those of {sorted(heads)}.")
    return heads.pop() if heads else None


def to_hugging_face(
    arrays: Mapping[str, np.ndarray], architecture: ModuleType, head: str | None
) -> dict[str, np.ndarray]:
    """Hugging Face's tensor name → array.

    Args:
        arrays: our variable path → array.
        architecture: its file of models/.
        head: a name of its HEADS, or None for a bare encoder, which may have a pooler.
    """
    rows = (*architecture.NAMES, *architecture.HEADS.get(head, ()), *bare_rows(architecture))
    prefix = architecture.PREFIX if head in architecture.HEADS else ""
    return names.to_checkpoint(arrays, rows, prefix)


def bare_rows(architecture: ModuleType) -> list[Row]:
    """Rows of what a head takes of transformers' bare model: the pooler, where there is one."""
    return [row for rows in architecture.HEADS.values() for row in rows if not row.head]


def bare_arrays(
    head_weights: Mapping[str, Mapping[str, np.ndarray]], architecture: ModuleType
) -> dict[str, np.ndarray]:
    """Of what `checkpoint.load` keeps for heads that which `bare_rows` name: path → array."""
    found = {}
    for head, rows in architecture.HEADS.items():
        # Another head's variable may have the same path: RoBERTa's classifier has its own pooler.
        is_bare = names.known(row for row in rows if not row.head)
        arrays = head_weights.get(head, {})
        found |= {path: array for path, array in arrays.items() if is_bare(path)}
    return found


def bare_tensors(
    head_weights: Mapping[str, Mapping[str, np.ndarray]], architecture: ModuleType
) -> dict[str, np.ndarray]:
    """`bare_arrays` under Hugging Face's names; a warning tells of what else heads have."""
    bare = bare_arrays(head_weights, architecture)
    others = {
        path.split("/")[0]
        for arrays in head_weights.values()
        for path, array in arrays.items()
        if not np.array_equal(array, bare.get(path))
    }
    if others:
        warnings.warn(
            "The encoder is saved without the head that its folder holds: "
            f"{', '.join(sorted(others))}. Save kbert.load(path, task=…).model to keep it, or copy "
            "the folder: kbert convert.",
            InputWarning,
            stacklevel=3,
        )
    bare = {path: array.astype("float32") for path, array in bare.items()}
    return names.to_checkpoint(bare, bare_rows(architecture), "")


def refuse(place: str, arrays: Mapping[str, np.ndarray], unknown: Iterable[str]) -> None:
    """Raises InputError if a format has no place for some of the arrays."""
    lines = [f"  {path} {arrays[path].shape}" for path in sorted(unknown)]
    if lines:
        raise InputError(
            f"{place} has no place for these weights; nothing was written:\n" + "\n".join(lines)
        )
