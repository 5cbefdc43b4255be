"""What is asked of classify and regress: JSON → serialized `tf.Example`, as json_tensor.cc does."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kbert.serving import rest
from kbert.serving.refusal import Refusal


def serialized(document: Mapping[str, Any]) -> np.ndarray:
    """The examples of a classify or regress request, each with the context: bytes (B,).

    Raises:
        Refusal: it has none, or a feature mixes types.
    """
    context = example(document["context"]) if "context" in document else b""
    shown = f"JSON Value: {rest.echo(document)}"
    if "examples" not in document:
        raise Refusal(
            f"{shown} When method is classify, key 'examples' is expected and was not found"
        )
    came = document["examples"]
    if not isinstance(came, list):
        raise Refusal(f"{shown} Expecting 'examples' value to be an list/array")
    if not came:
        raise Refusal(f"{shown} 'examples' value is an empty array")
    # Two messages of one kind, one after another, are read as both in one.
    return np.array([context + example(value) for value in came], object)


def example(value: Any) -> bytes:
    from tensorflow.train import Example

    if not isinstance(value, dict):
        raise Refusal(f"Example must be JSON object but got JSON {rest.kind(value)}")
    made = Example()
    for name, content in value.items():
        feature = made.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            kind, converted = _typed(item, name)
            there = feature.WhichOneof("kind")
            if there not in (None, kind):
                raise Refusal(
                    f"Unexpected element type in feature: {name} expecting type: "
                    f"{there.removesuffix('_list')}"
                )
            getattr(feature, kind).value.append(converted)
    return made.SerializeToString()


def _typed(item: Any, name: str) -> tuple[str, Any]:
    """The list of a feature that an item belongs to, and its value there: 3 is no float."""
    if isinstance(item, str):
        return "bytes_list", item.encode()
    if isinstance(item, bool):
        return "int64_list", int(item)
    if isinstance(item, int):
        if item > 2**63 - 1:
            raise Refusal(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64_list", item
    if isinstance(item, float):
        return "float_list", rest.converter("float32")(item)
    if isinstance(item, dict) and item.keys() == {"b64"}:
        return "bytes_list", rest.decoded(item)
    raise Refusal(f"Feature: {name} has element with unexpected JSON type: {rest.kind(item)}")
