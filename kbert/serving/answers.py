"""What is answered over REST: tensors → JSON, the numbers written as TF Serving writes them."""

import base64
import json
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from kbert.serving.refusal import Refusal

DIGITS = {"float32": 9, "float64": 17}  # that tell any number of a type from its neighbours


def rows(outputs: Mapping[str, np.ndarray]) -> str:
    """{"predictions": [a row, …]}; a row is an object, or with one output its bare value."""
    number = None
    for name, array in outputs.items():
        if not array.ndim:
            raise Refusal(f"Tensor name: {name} has no shape information ")
        if number not in (None, len(array)):
            raise Refusal(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {number}"
            )
        number = len(array)
    columns = [nested(values(array, name), array.shape, 1) for name, array in outputs.items()]
    if len(columns) == 1:
        return _object(predictions=_list(columns[0]))
    keys = [text(name) for name in outputs]
    found = [
        "{" + ", ".join(f"{k}: {v}" for k, v in zip(keys, row, strict=True)) + "}"
        for row in zip(*columns, strict=True)
    ]
    return _object(predictions=_list(found))


def columns(outputs: Mapping[str, np.ndarray]) -> str:
    """{"outputs": {name: tensor, …}}, or with one output its bare tensor."""
    found = {
        name: nested(values(array, name), array.shape, 0)[0] for name, array in outputs.items()
    }
    if len(found) == 1:
        return _object(outputs=next(iter(found.values())))
    return _object(outputs=_object(**found))


def classes(labels: np.ndarray | None, scores: np.ndarray | None) -> str:
    """Results of classify, string (B, C) and float (B, C): [[label, score], …] a row."""
    given = labels if scores is None else scores
    names = ['""'] * given.size if labels is None else values(labels, "")
    numbers = ["0.0"] * given.size if scores is None else decimals(scores)
    pairs = [f"[{name}, {number}]" for name, number in zip(names, numbers, strict=True)]
    return _object(results=_list(nested(pairs, given.shape, 1)))


def numbers(found: np.ndarray) -> str:
    """Results of regress, float (B,)."""
    return _object(results=_list(decimals(found)))


def error(message: str) -> str:
    return _object(error=text(message))


def document(value: dict) -> str:
    """Status and metadata."""
    return json.dumps(value, indent=1, ensure_ascii=False)


def text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def values(array: np.ndarray, name: str) -> list[str]:
    """Each value of a tensor as JSON; strings whose output's name ends in `_bytes` in base64."""
    kind = array.dtype.name
    if kind in ("object", "bytes") or array.dtype.kind == "S":
        if name.endswith("_bytes"):
            return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in array.flat]
        return [text(value.decode("utf-8", "replace")) for value in array.flat]
    if kind in DIGITS or kind == "float16":
        return decimals(array)
    if kind == "bool" or array.dtype.kind in "iu":
        return [str(value).lower() for value in array.ravel().tolist()]
    raise Refusal(f"Failed to write JSON value for tensor type: {kind}")


def decimals(array: np.ndarray) -> list[str]:
    """Numbers with six digits where they are enough, else all; 1 as 1.0, and bare NaN."""
    if array.dtype == np.float16:
        array = array.astype("float32")
    found = array.ravel()
    short = [f"{value:g}" for value in found.tolist()]
    lossy = np.array(short, dtype="float64").astype(found.dtype) != found
    digits = DIGITS[found.dtype.name]
    return [
        _finished(f"{value:.{digits}g}" if is_lossy else told)
        for value, told, is_lossy in zip(found.tolist(), short, lossy.tolist(), strict=True)
    ]


def _finished(told: str) -> str:
    if told[-1].isdigit():
        return told if "." in told or "e" in told else f"{told}.0"
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[told]


def nested(items: Sequence[str], shape: Sequence[int], kept: int) -> list[str]:
    """Flat values in brackets, as many lists as the first `kept` dimensions have places."""
    for depth in range(len(shape) - 1, kept - 1, -1):
        size = shape[depth]
        groups = range(prod(shape[:depth]))
        items = [_list(items[group * size : (group + 1) * size]) for group in groups]
    return list(items)


def _list(items: Sequence[str]) -> str:
    return f"[{', '.join(items)}]"


def _object(**members: str) -> str:
    inner = ",\n".join(f"    {text(name)}: {value}" for name, value in members.items())
    return f"{{\n{inner}\n}}"
