"""TF Serving's REST API on a small ASGI server: for a laptop and for tests.

Answers as the real server does (predict, classify, regress, status, metadata; its errors in its
words), with versions that come and go in the folders. Needs the extra `serving`.
"""

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import anyio
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from kbert.errors import InputError
from kbert.serving import answers, deployment, examples, rest
from kbert.serving.refusal import Refusal
from kbert.serving.repository import Repository
from kbert.serving.servable import Servable

# As TF Serving's http_rest_api_util.cc has them.
VERSION = r"(?:/versions/(\d+)|/labels/([^/:]+))?"
ASKED = re.compile(rf"/v1/models/([^/:]+){VERSION}:(classify|regress|predict)", re.IGNORECASE)
SHOWN = re.compile(rf"/v1/models(?:/([^/:]+))?{VERSION}(?:/(metadata))?", re.IGNORECASE)

LARGEST_BODY = 128 * 2**20  # bytes; what is longer is refused before it is all in memory
BODY_SECONDS = 60.0  # in which a request must have come whole
THREADS = 64  # requests that are worked on at once; the others wait their turn
POLL_SECONDS = 1.0  # as TF Serving polls


class Api:
    """The REST API as a function: method, path and body → status and JSON."""

    def __init__(self, repository: Repository):
        self.repository = repository

    def __call__(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        try:
            return 200, self._answer(method, path, body)
        except Refusal as refusal:
            return refusal.status, answers.error(refusal.message)
        except Exception as error:  # ours, and no reason to fall silent
            logging.getLogger(__name__).exception("%s %s", method, path)
            return 500, answers.error(f"{type(error).__name__}: {error}")

    def _answer(self, method: str, path: str, body: bytes) -> str:
        if method == "POST" and (match := ASKED.fullmatch(path)):
            return self._ask(match[4].lower(), _spec(match), body)
        if method == "GET" and (match := SHOWN.fullmatch(path)):
            return self._show(match[4], _spec(match))
        raise Refusal(f"Malformed request: {method} {path}")

    def _ask(self, method: str, spec: tuple, body: bytes) -> str:
        document = rest.parsed(body)
        rest.signature_name(document)  # a name that is none is told before a model that is none
        asked = () if method == "predict" else (examples.serialized(document),)
        with self.repository.use(*spec) as (_, servable):
            return getattr(servable, method)(document, *asked)

    def _show(self, subresource: str | None, spec: tuple) -> str:
        if not spec[0]:
            raise Refusal("Missing model name in request.")
        if not subresource:
            return answers.document(self.repository.status(*spec))
        with self.repository.use(*spec) as (version, servable):
            model = {"name": spec[0], "version": str(version), "signature_name": ""}
            metadata = {"signature_def": servable.metadata()}
            return answers.document({"model_spec": model, "metadata": metadata})


def _spec(match: re.Match) -> tuple[str | None, int | None, str | None]:
    """Name, version and label of an address."""
    name, version, label = match[1], match[2], match[3]
    if version and int(version) > deployment.LARGEST_VERSION:
        raise Refusal(f"Failed to convert version: {version} to numeric.")
    return name and unquote(name), int(version) if version else None, label and unquote(label)


def application(api: Api):
    """The API as an ASGI application: bodies come in here, work is done in threads."""
    limiter = anyio.CapacityLimiter(THREADS)

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")

        async def respond(status, text, headers=None):
            response = Response(text.encode(), status, headers, media_type="application/json")
            await response(scope, receive, send)

        async def refuse(status, message):
            await respond(status, answers.error(message), {"connection": "close"})

        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except ClientDisconnect:
            return
        except TimeoutError:
            await refuse(408, f"No whole request came within {BODY_SECONDS:g} seconds")
            return
        if body is None:
            await refuse(413, f"A request may have {LARGEST_BODY} bytes at most")
            return
        asked = (request.method, path, body)
        await respond(*await anyio.to_thread.run_sync(api, *asked, limiter=limiter))

    return app


async def _body(request: Request) -> bytes | None:
    """The body; None as soon as it is too long."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > LARGEST_BODY:
            return None
    return b"".join(parts)


@contextmanager
def serving(
    config: Path, *, host="127.0.0.1", port=0, poll_seconds=POLL_SECONDS, batch_size=64, at_once=1
) -> Iterator[tuple[uvicorn.Server, str, Repository]]:
    """The models of a `models.config`, loaded and ready to be served.

    Args:
        config: the file; it is read again and again, as labels may move.
        port: 0 takes one that is free.
        poll_seconds: between looks into the folders.
        batch_size: the most rows that parallel requests are joined to; 1 joins none.
        at_once: how many runs of a signature may be under way.

    Yields:
        the server, to be run; its address; its models.

    Raises:
        InputError: a model's folder is not there, or the port is taken.
    """
    listening = listen(host, port)
    repository = Repository(
        lambda: deployment.read_models(config),
        lambda folder: Servable(folder, batch_size, at_once),
    )
    try:
        repository.refresh()
        repository.watch(poll_seconds)
        # Its logging is left as it is: uvicorn's own would close the handlers of everybody else.
        settings = uvicorn.Config(
            application(Api(repository)), log_config=None, log_level="warning", access_log=False,
            lifespan="off", ws="none", timeout_graceful_shutdown=30,
        )  # fmt: skip
        server = uvicorn.Server(settings)
        server.sockets = [listening]
        yield server, f"http://{host}:{listening.getsockname()[1]}", repository
    finally:
        repository.close()
        listening.close()


@contextmanager
def running(config: Path, **settings) -> Iterator[tuple[str, Repository]]:
    """The same, served by a thread of this process meanwhile: its address and its models."""
    with serving(config, **settings) as (server, address, repository):
        thread = threading.Thread(target=server.run, args=(server.sockets,), daemon=True)
        thread.start()
        try:
            yield address, repository
        finally:
            server.should_exit = True
            thread.join()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows that it may send at once; else an answer waits 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(
            f"{host}:{port} cannot be served on ({error}). Is another server there? Take another "
            "--rest-port."
        ) from error
    listening.listen(1024)
    return listening
