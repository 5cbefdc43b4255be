"""Asks a server of SavedModels: TF Serving over REST or gRPC, or the embedded server."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from kbert.errors import InputError

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before the second attempt, and at most


class ServingError(InputError):
    """The server gave no answer, or an error for one.

    Attributes:
        status: HTTP's number or gRPC's name of the error; None if no answer came.
        is_passing: whether the same request may well succeed later: 429, 503, no connection.
        pause: seconds that the server asks to wait, or None.
    """

    def __init__(self, message: str, status=None, *, is_passing=False, pause=None):
        super().__init__(message)
        self.status, self.is_passing, self.pause = status, is_passing, pause


class Client:
    """Asks one server; may be used by many threads.

        client = kbert.serving.Client("http://localhost:8501")
        client.predict("banking77", ["my card has not arrived"])
        → [{"label": "card_arrival", "score": 0.98, "probabilities": […]}]

    What is too much for the server now (429, 503) and what does not connect is tried again, after
    pauses that double and vary by chance, until the deadline.

    Args:
        url: http://HOST:8501 or https://… for REST, grpc://HOST:8500 or grpcs://… for gRPC.
        deadline: seconds for a call, all its batches and attempts together.
        attempts: at most, for each batch.
        batch_size: rows sent at once.

    Raises:
        InputError: the address is none.
    """

    def __init__(
        self, url: str, *, deadline: float = 60.0, attempts: int = 6, batch_size: int = 64
    ):
        self.url, self.deadline = url.rstrip("/"), deadline
        self.attempts, self.batch_size = attempts, batch_size
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https", "grpc", "grpcs") or not parts.hostname:
            raise InputError(
                f"{url!r}: expected the address of a server: http://localhost:8501 (REST) or "
                "grpc://localhost:8500."
            )
        if parts.scheme.startswith("grpc"):
            from kbert.serving.over_grpc import Grpc

            self.transport = Grpc(parts.netloc, is_secure=parts.scheme == "grpcs")
        else:
            from kbert.serving.over_rest import Rest

            self.transport = Rest(self.url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the connections."""
        self.transport.close()

    def predict(
        self,
        model: str,
        inputs: Sequence | Mapping[str, Sequence],
        *,
        signature: str = "serving_default",
        version: int | str | None = None,
    ) -> list[dict[str, Any]]:
        """One answer a row, in order.

        Args:
            model: its name on the server.
            inputs: texts; or a column of each of the signature's inputs, by name: lists or arrays,
                all of one length. Over gRPC, integers in lists are sent as int32.
            signature: which of the model's.
            version: its number, or a label ("canary"); None for the newest.

        Returns:
            The outputs by name: strings, numbers and lists of them; bytes where an output's name
            ends in `_bytes`.

        Raises:
            ServingError: the server refused, or was not there until the deadline.
            InputError: columns are of unequal length.
        """
        columns = dict(inputs) if isinstance(inputs, Mapping) else {"text": inputs}
        if isinstance(inputs, str | bytes) or not columns:
            raise InputError("expected a list of texts, or columns by name; came a text alone.")
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) > 1:
            raise InputError(f"expected columns of one length, came {sizes}.")
        ends = time.monotonic() + self.deadline
        found = []
        for start in range(0, next(iter(sizes.values())), self.batch_size):
            batch = {name: x[start : start + self.batch_size] for name, x in columns.items()}
            asked = (model, version, signature, batch)
            outputs = self._tried(
                lambda seconds, a=asked: self.transport.predict(*a, seconds), ends
            )
            found += rows(outputs, len(next(iter(batch.values()))), model)
        return found

    def status(self, model: str, version: int | str | None = None) -> dict[int, str]:
        """Versions of a model → how each stands: "AVAILABLE", "LOADING", "END", …"""
        ends = time.monotonic() + self.deadline
        return self._tried(lambda seconds: self.transport.status(model, version, seconds), ends)

    def metadata(self, model: str, version: int | str | None = None) -> dict[str, Any]:
        """The model's version and signatures, as the REST API shows them."""
        ends = time.monotonic() + self.deadline
        return self._tried(lambda seconds: self.transport.metadata(model, version, seconds), ends)

    def _tried(self, call: Callable[[float], Any], ends: float):
        """Calls with the seconds that are left, again as long as it is worth it."""
        pause = FIRST_PAUSE
        for attempt in range(1, self.attempts + 1):
            left = ends - time.monotonic()
            if left <= 0:
                raise ServingError(f"{self.url}: no answer within {self.deadline:g} seconds.")
            try:
                return call(left)
            except ServingError as error:
                left = ends - time.monotonic()
                # By chance between half and all of it, so that many clients do not come at once.
                wait = max(error.pause or 0.0, pause * random.uniform(0.5, 1.0))
                if not error.is_passing:
                    raise
                if attempt == self.attempts or wait >= left:
                    tried = f"{attempt} attempt{'s' * (attempt > 1)}"
                    raise ServingError(f"{error} Gave up after {tried}.", error.status) from error
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        return None


def rows(outputs: Mapping[str, Sequence], number: int, model: str) -> list[dict[str, Any]]:
    """Columns of answers → one dict a row."""
    for name, column in outputs.items():
        if not isinstance(column, list) or len(column) != number:
            came = len(column) if isinstance(column, list) else "one value"
            raise ServingError(
                f"{model}: expected an answer for each of {number} rows, {name!r} has {came}."
            )
    return [
        dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)
    ]
