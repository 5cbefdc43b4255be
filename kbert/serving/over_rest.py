"""The client's requests over TF Serving's REST API."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import urllib3

from kbert.serving.client import ServingError

PASSING = (429, 503)
CONNECTIONS = 64  # kept open at most; more are opened when more threads ask


class Rest:
    """See `client.Client`; every method takes the seconds it has left."""

    def __init__(self, url: str):
        self.url = url
        self.pool = urllib3.PoolManager(maxsize=CONNECTIONS, retries=False)
        self.single = {}  # signatures of one output, whose name REST does not tell

    def close(self):
        self.pool.clear()

    def predict(self, model, version, signature, columns, seconds) -> dict[str, list]:
        inputs = {name: [_sendable(x) for x in column] for name, column in columns.items()}
        body = {"signature_name": signature, "inputs": inputs}
        outputs = self._ask("POST", f"{_path(model, version)}:predict", seconds, body)["outputs"]
        if not isinstance(outputs, dict):
            outputs = {self._only_output(model, version, signature, seconds): outputs}
        return {name: _received(name, x) for name, x in outputs.items()}

    def status(self, model, version, seconds) -> dict[int, str]:
        told = self._ask("GET", _path(model, version), seconds)["model_version_status"]
        return {int(one["version"]): one["state"] for one in told}

    def metadata(self, model, version, seconds) -> dict[str, Any]:
        return self._ask("GET", f"{_path(model, version)}/metadata", seconds)

    def _only_output(self, model, version, signature, seconds) -> str:
        key = model, version, signature
        if key not in self.single:
            told = self.metadata(model, version, seconds)["metadata"]["signature_def"]
            (self.single[key],) = told["signature_def"][signature]["outputs"]
        return self.single[key]

    def _ask(self, method: str, path: str, seconds: float, body=None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.url}{path}"
        timeout = urllib3.Timeout(total=seconds)
        headers = {"content-type": "application/json"} if data else None
        try:
            answer = self.pool.request(method, address, data, timeout=timeout, headers=headers)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise ServingError(f"{address}: no answer within {seconds:.3g} seconds.") from error
        except urllib3.exceptions.LocationParseError as error:
            raise ServingError(f"{address}: expected an address ({error}).") from error
        except urllib3.exceptions.HTTPError as error:
            why = f"{type(error).__name__}: {error}"
            raise ServingError(f"{address}: no connection ({why}).", is_passing=True) from error
        return _read(answer, address)


def _read(answer, address: str) -> dict[str, Any]:
    status = answer.status
    is_passing = status in PASSING
    pause = answer.headers.get("retry-after", "")
    try:
        found = json.loads(answer.data)  # which takes bare NaN, too
        if status == 200 and isinstance(found, dict):
            return found
        told = found["error"]
    except (ValueError, TypeError, KeyError):
        told = f"expected JSON, came {answer.data[:200]!r}"
        if not is_passing:
            told += ": is this the address of TF Serving's REST API (8501; 8500 is gRPC)?"
    raise ServingError(
        f"{address}: {status}: {told}", status, is_passing=is_passing,
        pause=float(pause) if pause.isdecimal() else None,
    )  # fmt: skip


def _path(model: str, version: int | str | None) -> str:
    of = "" if version is None else (
        f"/versions/{version}" if isinstance(version, int) else f"/labels/{quote(version, safe='')}"
    )  # fmt: skip
    return f"/v1/models/{quote(model, safe='')}{of}"


def _sendable(value: Any) -> Any:
    """A row of an input as JSON has it."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_sendable(inner) for inner in value]
    return value


def _received(name: str, value: Any) -> Any:
    """An output: of `…_bytes` the bytes."""
    if not name.endswith("_bytes"):
        return value
    if isinstance(value, list):
        return [_received(name, inner) for inner in value]
    return base64.b64decode(value["b64"]) if isinstance(value, Mapping) else value
