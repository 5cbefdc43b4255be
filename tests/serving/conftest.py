"""Models that are served, and the embedded server over a real socket."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from kbert.serving import deployment, embedded


@pytest.fixture(scope="module")
def saved_models(tmp_path_factory):
    """banking77 in versions 1 and 2, and `others`; each file of tests has its own."""
    import tiny_models as models

    folder = tmp_path_factory.mktemp("saved_models")
    for name in ("banking77", "others", "kinds"):
        (folder / name).mkdir()
    for version in (1, 2):
        models.write(folder / "banking77", version, models.Tiny())
    models.write(folder / "others", 1, models.Tiny(), ("classify", "regress"))
    models.write(folder / "kinds", 1, models.Kinds(), ("serving_default", "bfloat16", "scalar"))
    deployment.prepare(folder)
    return folder


@pytest.fixture(scope="module")
def server(saved_models):
    """The address of an embedded server of `saved_models`."""
    with embedded.running(saved_models / deployment.MODELS, poll_seconds=0.1) as (address, _):
        yield address


@pytest.fixture(scope="module")
def ask(server):
    """Method, path and body (JSON, or bytes as they are) → status, content type and text."""

    def ask(method, path, body=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(server + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers["content-type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["content-type"], error.read().decode()

    return ask


@pytest.fixture
def free_port():
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
