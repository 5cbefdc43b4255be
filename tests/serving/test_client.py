"""The client over REST against the embedded server, over gRPC against a stub of TF Serving."""

import http.server
import json
import math
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse

import kbert
from kbert.errors import InputError
from kbert.serving import Client, ServingError


@pytest.fixture
def client(server):
    with Client(server, deadline=20) as client:
        yield client


# Over REST


def test_texts_get_an_answer_each_in_order(client):
    texts = ["a", "my card", "x" * 99]
    found = client.predict("banking77", texts)
    assert [set(row) for row in found] == 3 * [{"label", "score", "probabilities"}]
    assert found == [client.predict("banking77", [text])[0] for text in texts]
    assert len({row["score"] for row in found}) == 3


def test_many_rows_go_in_batches(server):
    texts = ["x" * (1 + number % 13) for number in range(101)]
    with Client(server, batch_size=7) as small, Client(server, batch_size=1000) as large:
        sent = []
        ask = small.transport.predict
        small.transport.predict = lambda *asked: sent.append(len(asked[3]["text"])) or ask(*asked)
        expected = large.predict("banking77", texts)
        found = small.predict("banking77", texts)
    assert sent == 14 * [7] + [3]
    for one, other in zip(found, expected, strict=True):
        assert one["label"] == other["label"] and math.isclose(one["score"], other["score"])


def test_nothing_asked_is_nothing_answered(client):
    assert client.predict("banking77", []) == []


def test_columns_signatures_and_versions_can_be_named(client):
    tokens = {"token_ids": np.array([[101, 2026, 102], [101, 7, 102]], "int32")}
    for version in (None, 2):
        rows = client.predict("banking77", tokens, signature="tokens", version=version)
        assert [len(row["probabilities"]) for row in rows] == [3, 3]
    kinds = client.predict("kinds", {"a": [3.0, 1.0], "b": (2, 7)})
    assert [row["raw_bytes"] for row in kinds] == [b"2", b"7"]
    assert kinds[0] == {"half": 1.5, "even": True, "whole": 2, "raw_bytes": b"2"}


def test_a_single_output_has_its_name(client):
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(1.5)
    inputs = {"inputs": [example.SerializeToString()]}
    assert client.predict("others", inputs, signature="regress") == [{"outputs": 3.0}]


def test_an_answer_that_is_not_one_a_row_is_told(client):
    with pytest.raises(ServingError, match="expected an answer for each of 2 rows, 'any' has one"):
        client.predict("kinds", {"flags": [True, False]}, signature="scalar")


def test_numbers_that_are_none_arrive(client):
    assert math.isnan(client.predict("banking77", [""])[0]["score"])


def test_status_and_metadata_are_told(client):
    assert client.status("banking77") == {2: "AVAILABLE"}
    metadata = client.metadata("banking77")
    assert metadata["model_spec"]["version"] == "2"
    assert "tokens" in metadata["metadata"]["signature_def"]["signature_def"]


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "nobody", "inputs": ["a"]}, 404, r"404: Servable not found .* Latest\(nobody\)"),
        ({"model": "banking77", "inputs": ["a"], "version": 7}, 404, r"Specific\(banking77, 7\)"),
        ({"model": "banking77", "inputs": ["a"], "version": "x/y"}, 400, "version label: x/y"),
        ({"model": "banking77", "inputs": [3]}, 400, "3 Type: Number is not of expected type"),
        ({"model": "banking77", "inputs": ["a"], "signature": "no"}, 400, '"no" not found'),
    ],
)
def test_what_the_server_refuses_is_told_at_once(client, asked, status, words):
    client.attempts = 1000
    with pytest.raises(ServingError, match=words) as caught:
        client.predict(**asked)
    assert caught.value.status == status and isinstance(caught.value, InputError)


def test_what_cannot_be_asked_is_refused(client):
    with pytest.raises(InputError, match=r"columns of one length, came \{'a': 1, 'b': 2\}"):
        client.predict("kinds", {"a": [1], "b": [2, 3]})
    with pytest.raises(InputError, match="expected a list of texts"):
        client.predict("banking77", "a text")
    for url in ("localhost:8501", "ftp://x", "http://"):
        with pytest.raises(InputError, match="expected the address of a server: http://localhost"):
            Client(url)


def test_the_client_is_at_hand():
    assert kbert.serving.Client is Client


class Moody(http.server.BaseHTTPRequestHandler):
    """Answers what it is told to, one after another: (status, body), or hangs up (None)."""

    def do_GET(self):
        answer = self.server.answers.pop(0)
        if answer is None:
            self.connection.close()
        elif answer == "sleep":
            self.server.free.wait(20)
        else:
            status, body = answer
            self.send_response(status)
            if status == 503:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def moody():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    server.free = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.free.set()
    server.shutdown()
    server.server_close()


FINE = (200, json.dumps({"model_version_status": [{"version": "3", "state": "LOADING"}]}).encode())


def test_what_passes_is_tried_again(moody, monkeypatch):
    pauses = []
    monkeypatch.setattr("kbert.serving.client.time.sleep", pauses.append)
    moody.answers = [(503, b"{}"), (429, b'{"error": "too much"}'), None, None, FINE]
    assert Client(moody.url).status("m") == {3: "LOADING"}
    for pause, longest in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert longest / 2 <= pause <= longest


def test_what_does_not_pass_is_given_up_after_the_attempts(moody, monkeypatch):
    monkeypatch.setattr("kbert.serving.client.time.sleep", lambda _: None)
    moody.answers = 5 * [(429, b'{"error": "too much"}')]
    with pytest.raises(ServingError, match="429: too much Gave up after 3 attempts") as caught:
        Client(moody.url, attempts=3).status("m")
    assert caught.value.status == 429 and len(moody.answers) == 2


def test_no_answer_until_the_deadline_is_told(moody):
    moody.answers = ["sleep"]
    with pytest.raises(ServingError, match="no answer within"):
        Client(moody.url, deadline=0.3).status("m")


def test_no_pause_goes_beyond_the_deadline(moody):
    moody.answers = 99 * [(429, b'{"error": "too much"}')]
    began = time.monotonic()
    with pytest.raises(ServingError, match="429: too much Gave up after [123] attempt"):
        Client(moody.url, deadline=0.2, attempts=99).status("m")
    assert time.monotonic() - began < 20


def test_nobody_there_is_told(free_port, monkeypatch):
    monkeypatch.setattr("kbert.serving.client.time.sleep", lambda _: None)
    with pytest.raises(ServingError, match=r"no connection \(.*\)\. Gave up after 2 attempts"):
        Client(f"http://127.0.0.1:{free_port}", attempts=2).predict("m", ["a"])


def test_an_answer_that_is_no_json_is_told(moody):
    moody.answers = [(200, b"<html>"), (502, b"Bad gateway")]
    for _ in range(2):
        with pytest.raises(ServingError, match="expected JSON, came .* is this the address of TF"):
            Client(moody.url).status("m")


# Over gRPC


class Stub:
    """As much of TF Serving as the client asks: says how long texts are."""

    def __init__(self):
        self.failures, self.asked = [], []

    def Predict(self, request, context):
        self.asked.append(request)
        if self.failures:
            context.abort(*self.failures.pop(0))
        response = PredictResponse()
        given = {name: tf.make_ndarray(x) for name, x in request.inputs.items()}
        first = next(iter(given.values()))
        sizes = [len(x) or float("nan") for x in first]
        outputs = {
            "score": np.array(sizes, "float32"),
            "label": np.array([f"ü{len(x)}".encode() for x in first], object),
            "raw_bytes": np.array([b"\xff"] * len(first), object),
            "probabilities": np.ones((len(first), 3), "float32"),
        }
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response

    def GetModelMetadata(self, request, context):
        response = GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        signatures = SignatureDefMap()
        signatures.signature_def["serving_default"].inputs["text"].dtype = 7
        response.metadata["signature_def"].Pack(signatures)
        return response

    def GetModelStatus(self, request, context):
        response = GetModelStatusResponse()
        response.model_version_status.add(version=7, state="AVAILABLE")
        return response

    def __getattr__(self, name):  # the other methods of the services, which nobody calls
        if name[0].isupper():
            return
        raise AttributeError(name)


@pytest.fixture(scope="module")
def stub():
    stub = Stub()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(stub, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(stub, server)
    stub.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield stub
    server.stop(None)


@pytest.fixture
def over_grpc(stub, monkeypatch):
    monkeypatch.setattr("kbert.serving.client.time.sleep", lambda _: None)
    stub.failures, stub.asked = [], []
    with Client(stub.url, deadline=20, batch_size=2) as client:
        yield client


def test_texts_are_asked_over_grpc(over_grpc, stub):
    found = over_grpc.predict("m", ["abc", "ä\0", ""], version="canary")
    assert [row["label"] for row in found] == ["ü3", "ü3", "ü0"]
    assert found[0] == {"score": 3, "label": "ü3", "raw_bytes": b"\xff", "probabilities": 3 * [1]}
    assert math.isnan(found[2]["score"])
    assert [len(request.inputs["text"].string_val) for request in stub.asked] == [2, 1]
    assert stub.asked[0].model_spec.version_label == "canary"
    assert stub.asked[0].model_spec.signature_name == "serving_default"


def test_lists_of_integers_are_int32_over_grpc(over_grpc, stub):
    over_grpc.predict("m", {"token_ids": [[1, 2, 3]]}, signature="tokens", version=5)
    assert tf.make_ndarray(stub.asked[0].inputs["token_ids"]).dtype == "int32"
    assert stub.asked[0].model_spec.version.value == 5


def test_status_and_metadata_are_told_over_grpc(over_grpc):
    assert over_grpc.status("m") == {7: "AVAILABLE"}
    signatures = over_grpc.metadata("m")["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["inputs"]["text"]["dtype"] == "DT_STRING"


def test_what_passes_is_tried_again_over_grpc(over_grpc, stub):
    stub.failures = [(grpc.StatusCode.UNAVAILABLE, "x"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "y")]
    assert len(over_grpc.predict("m", ["a"])) == 1
    assert len(stub.asked) == 3


def test_what_the_server_refuses_is_told_over_grpc(over_grpc, stub):
    stub.failures = [(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(m)")]
    with pytest.raises(ServingError, match="NOT_FOUND: Servable not found") as caught:
        over_grpc.predict("m", ["a"])
    assert caught.value.status == "NOT_FOUND" and len(stub.asked) == 1
