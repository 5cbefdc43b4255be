"""What is asked over REST: JSON → tensors, with the words of TF Serving where it cannot be.

Follows tensorflow_serving/util/json_tensor.cc (TF Serving 2.20). Texts are RapidJSON's there and
here: what does not parse is told alike.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rapidjson

from kbert.serving.answers import decimals
from kbert.serving.refusal import Refusal

# The real server repeats all of a request that it does not understand; so much must do here.
LONGEST_ECHO = 2000

# NumPy's names of types → TensorFlow's in messages, which are C++'s.
NAMES = {"float32": "float", "float64": "double", "float16": "half"}
INTEGERS = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8"), (-(2**31), 2**31 - 1)),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
DIGITS = {"float32": 24, "float64": 53}  # of a mantissa: larger integers are not exact


def parsed(body: bytes) -> dict[str, Any]:
    """A request's body as an object.

    Raises:
        Refusal: it is no JSON, or no object.
    """
    if not body:
        raise Refusal("JSON Parse error: The document is empty")
    try:
        document = rapidjson.loads(body, number_mode=rapidjson.NM_NAN)
    except UnicodeDecodeError:  # which the real server leaves to the model, which replaces it
        return parsed(body.decode("utf-8", "replace").encode())
    except RecursionError:
        raise Refusal("JSON Parse error: nested too deeply") from None
    except ValueError as error:
        offset, told = re.fullmatch(r"Parse error at offset (\d+): (.*)", str(error)).groups()
        raise Refusal(f"JSON Parse error: {told} at offset: {offset}") from None
    if not isinstance(document, dict):
        raise Refusal(f"JSON Value: {echo(document)} Is not object")
    return document


def signature_name(document: Mapping[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise Refusal(
            f"JSON Value: {echo(document)} not formatted correctly. 'signature_name' key must be a "
            "string value."
        )
    return name or "serving_default"


def tensors(document: Mapping[str, Any], dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tensors of a predict request, in rows ("instances") or columns ("inputs").

    Args:
        document: what `parsed` gives.
        dtypes: names of the signature's inputs → NumPy's names of their types, or "string".

    Returns:
        Arrays by name; strings are bytes in arrays of objects.

    Raises:
        Refusal: it does not fit the signature.
    """
    is_rows, is_columns = "instances" in document, "inputs" in document
    if is_rows and is_columns:
        raise _misformed(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if is_columns:
        return _columns(document["inputs"], dtypes)
    if not is_rows:
        raise Refusal("Missing 'inputs' or 'instances' key")
    rows = document["instances"]
    if not isinstance(rows, list):
        raise _misformed(document, "Excepting 'instances' to be an list/array")
    if not rows:
        raise _misformed(document, "No values in 'instances' array")
    return _rows(rows, dtypes)


def _rows(rows: list, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    if not isinstance(rows[0], dict) and len(dtypes) > 1:
        raise Refusal(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    by_name = _is_object(rows[0])
    columns = {name: Column(dtype) for name, dtype in dtypes.items()}
    for number, row in enumerate(rows):
        if _is_object(row) != by_name:
            expected, came = ("object", "list") if by_name else ("value/list", "object")
            raise Refusal(f"Expecting {expected} but got {came} at item {number} of input list")
        for name, value in row.items() if by_name else [(None, row)]:
            try:
                if name is not None and name not in columns:
                    raise Refusal(f"JSON object: does not have named input: {name}")
                columns[next(iter(columns)) if name is None else name].add(value)
            except Refusal as error:
                key = "" if name is None else f" key: {name}"
                raise Refusal(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: "
                    f"{error.code}: {error.message}"
                ) from None
        if by_name and row.keys() != columns.keys():
            raise Refusal(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{echo(row)} keys must be equal to: {','.join(sorted(columns))}"
            )
    return {name: column.array() for name, column in columns.items()}


def _columns(inputs: Any, dtypes: Mapping[str, str]) -> dict[str, np.ndarray]:
    if _is_object(inputs):
        for name in sorted(dtypes):
            if name not in inputs:
                raise Refusal(f"Missing named input: {name} in 'inputs' object.")
        return {name: _whole(inputs[name], dtype) for name, dtype in dtypes.items()}
    if len(dtypes) > 1:
        raise Refusal(
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map"
        )
    ((name, dtype),) = dtypes.items()
    return {name: _whole(inputs, dtype)}


def _whole(value: Any, dtype: str) -> np.ndarray:
    column = Column(dtype)
    column.add(value)
    return column.array()[0]


class Column:
    """The values of one input, one row after another; all rows have one shape."""

    def __init__(self, dtype: str):
        self.dtype, self.shape, self.number, self.values = dtype, None, 0, []
        self.converted = converter(dtype)

    def add(self, value: Any):
        shape, inner = [], value
        while isinstance(inner, list):
            shape.append(len(inner))
            inner = inner[0] if inner else None
        before = len(self.values)
        self._fill(value, shape, 0)
        size = len(self.values) - before
        if self.shape is None:
            self.shape, self.size = shape, size
        elif size != self.size:
            raise Refusal(f"Expecting tensor size: {self.size} but got: {size}")
        elif shape != self.shape:
            raise Refusal(f"Expecting shape {_shown(self.shape)} but got: {_shown(shape)}")
        self.number += 1

    def _fill(self, value: Any, shape: list[int], level: int):
        if not isinstance(value, list):
            if level != len(shape):
                raise Refusal(
                    f"JSON Value: {echo(value)} found at incorrect level: {level + 1} in the JSON "
                    f"DOM. Expected at level: {len(shape)}"
                )
            self.values.append(self.converted(value))
            return
        if level >= len(shape):
            raise Refusal(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            raise Refusal(
                f"Encountered list at unexpected size: {len(value)} at level: {level} expected "
                f"size: {shape[level]}"
            )
        for inner in value:
            self._fill(inner, shape, level + 1)

    def array(self) -> np.ndarray:
        """Shape (rows, …)."""
        dtype = object if self.dtype == "string" else self.dtype
        return np.array(self.values, dtype).reshape(self.number, *self.shape)


def converter(dtype: str) -> Callable[[Any], Any]:
    """A function: JSON's value → what an array of that type takes, or a Refusal."""
    name = NAMES.get(dtype, dtype)

    def wrong(value):
        return Refusal(
            f"JSON Value: {echo(value)} Type: {kind(value)} is not of expected type: {name}"
        )

    def text(value):
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict):
            return decoded(value)
        raise wrong(value)

    def integer(value):
        low, high = INTEGERS[dtype]
        if type(value) is not int or not low <= value <= high:
            raise wrong(value)
        return value

    def real(value):
        if type(value) not in (int, float):
            raise wrong(value)
        is_lossy = abs(value) >= 2 ** DIGITS[dtype] if type(value) is int else (
            np.isfinite(value) and abs(value) > np.finfo(dtype).max
        )  # fmt: skip
        if is_lossy:
            raise Refusal(
                f"Cannot convert JSON value: {echo(value)} to {name} without loss of precision."
            )
        return value

    def boolean(value):
        if not isinstance(value, bool):
            raise wrong(value)
        return value

    def unknown(value):
        raise Refusal(
            f"Conversion of JSON Value: {echo(value)} to type: {name}", code="UNIMPLEMENTED"
        )

    kinds = {"string": text, "bool": boolean, **dict.fromkeys(DIGITS, real)}
    return kinds.get(dtype) or (integer if dtype in INTEGERS else unknown)


def decoded(value: Mapping[str, Any]) -> bytes:
    """{"b64": text} → bytes."""
    if not _is_base64(value):
        raise Refusal(f"JSON Value: {echo(value)} not formatted correctly for base64 data")
    text = value["b64"].rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise Refusal("Unable to base64 decode") from None


def kind(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if isinstance(value, bool):
        return str(value)
    kinds = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    return kinds.get(type(value), "Number")


def echo(value: Any) -> str:
    """A value as the real server repeats it in its errors; a long one is cut."""
    if isinstance(value, float):
        return decimals(np.array([value]))[0]
    text = rapidjson.dumps(
        value, indent=4, ensure_ascii=False, write_mode=rapidjson.WM_SINGLE_LINE_ARRAY,
        number_mode=rapidjson.NM_NAN,
    )  # fmt: skip
    return text if len(text) <= LONGEST_ECHO else f"{text[:LONGEST_ECHO]}…"


def _misformed(document: Mapping[str, Any], why: str) -> Refusal:
    return Refusal(f"JSON Value: {echo(document)} {why}")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _shown(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
