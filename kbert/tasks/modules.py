"""What sentence-transformers keeps beside an encoder: its modules, pooling and length."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbert.errors import InputError

MODULES = "modules.json"  # the list of what stands after one another
LENGTH = "sentence_bert_config.json"
# Our pooling → their flag. They have no pooler.
POOLINGS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
}
KINDS = ("Transformer", "Pooling", "Normalize")


def files(task, encoder_settings: Mapping[str, Any]) -> dict[str, Any]:
    """A task's pooling, length and normalisation as their files: path → contents."""
    kinds = KINDS if task.normalize else KINDS[:2]
    width = encoder_settings.get("hidden_size", encoder_settings.get("dim"))
    flags = {flag: pooling == task.pooling for pooling, flag in POOLINGS.items()}
    return {
        MODULES: [
            {
                "idx": number,
                "name": str(number),
                "path": f"{number}_{kind}" if number else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, kind in enumerate(kinds)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": width, **flags},
        LENGTH: {"max_seq_length": task.max_length, "do_lower_case": False},
    }


def are_in(folder) -> bool:
    """Whether a folder is one of sentence-transformers."""
    return (Path(folder) / MODULES).is_file()


def settings(folder) -> dict[str, Any]:
    """A task's settings of a folder of theirs; none of another.

    Raises:
        InputError: the folder has modules or a pooling that kbert has not.
    """
    folder = Path(folder)
    if not are_in(folder):
        return {}
    modules = _read(folder / MODULES)
    kinds = tuple(module["type"].rpartition(".")[2] for module in modules)
    if kinds not in (KINDS, KINDS[:2]):
        raise InputError(
            f"{folder / MODULES}: expected {', '.join(KINDS)}, or the first two, came "
            f"{', '.join(kinds)}: kbert's vectors come from these alone."
        )
    file = folder / modules[1]["path"] / "config.json"
    found = _read(file)
    flagged = [pooling for pooling, flag in POOLINGS.items() if found.pop(flag, False)]
    others = [key for key, flag in found.items() if key.startswith("pooling_mode_") and flag]
    chosen = [found["pooling_mode"]] if "pooling_mode" in found else flagged + others
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise InputError(f"{file}: expected a pooling of {', '.join(POOLINGS)}, came {chosen}.")
    length = _read(folder / LENGTH).get("max_seq_length") if (folder / LENGTH).is_file() else None
    own = {"pooling": chosen[0], "normalize": "Normalize" in kinds}
    return {**own, "max_length": length} if length else own


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file}: expected a file of sentence-transformers, came: {error}."
        ) from None
