"""The embedded server beside the transcripts: all forms of requests, and those that are none."""

import base64
import json
import math
import resource
import socket
import time

import pytest

from kbert.serving import embedded

PREDICT = "/v1/models/banking77:predict"
KINDS = "/v1/models/kinds:predict"
OTHERS = "/v1/models/others"


@pytest.fixture
def answer(ask):
    """What a POST of this body is answered, which must be 200."""

    def answer(path, body):
        status, _, text = ask("POST", path, body)
        assert status == 200, text
        return json.loads(text)

    return answer


@pytest.fixture
def refused(ask):
    """Status and error of a POST."""

    def refused(path, body):
        status, _, text = ask("POST", path, body)
        return status, json.loads(text)["error"]

    return refused


# What is answered


def test_every_kind_of_output_has_its_form(answer):
    found = answer(KINDS, {"instances": [{"a": 3, "b": 2}, {"a": 0.2, "b": 2**62 + 1}]})
    first, second = found["predictions"]
    raw = {"b64": base64.b64encode(b"2").decode()}
    assert first == {"half": 1.5, "even": True, "whole": 2, "raw_bytes": raw}
    assert second["half"] == 0.1 and second["whole"] == 2**62 + 1 and second["even"] is False


def test_columns_have_the_answers_of_rows(answer):
    columns = answer(KINDS, {"inputs": {"a": [3, 1], "b": [2, 7]}})["outputs"]
    rows = answer(KINDS, {"instances": [{"a": 3, "b": 2}, {"a": 1, "b": 7}]})["predictions"]
    assert [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ] == rows


def test_numbers_are_written_with_the_digits_they_need(ask):
    text = ask("POST", KINDS, {"inputs": {"a": [2, 0.2, 2e8, 1e-9, 1 / 3], "b": [0] * 5}})[2]
    assert '"half": [1.0, 0.1, 1e+08, 5e-10, 0.166666672]' in text


def test_numbers_that_are_none_are_written_bare(ask):
    text = ask("POST", KINDS, b'{"inputs": {"a": [NaN, Infinity, -Infinity], "b": [0, 0, 0]}}')[2]
    assert '"half": [NaN, Infinity, -Infinity]' in text


def test_a_single_output_stands_bare(answer):
    assert answer(KINDS, {"signature_name": "scalar", "inputs": [True, False]}) == {"outputs": True}


def test_examples_are_classified(answer):
    rows = answer(f"{OTHERS}:classify", {
        "signature_name": "classify", "context": {"x": 3.0}, "examples": [{"y": "a"}, {"x": [5.0]}],
    })["results"]  # fmt: skip
    assert [[label for label, _ in row] for row in rows] == 2 * [
        ["card_arrival", "cancel_transfer", "top_up"]
    ]
    assert math.isclose(sum(score for _, score in rows[0]), 1, abs_tol=1e-6) and rows[0] != rows[1]


def test_examples_are_regressed(answer):
    body = {"signature_name": "regress", "examples": [{"x": 1.5}, {"x": [2.5]}]}
    assert answer(f"{OTHERS}:regress", body) == {"results": [3.0, 5.0]}


def test_texts_with_nul_are_texts(answer):
    one, other = answer(PREDICT, {"instances": ["a\0b", "a"]})["predictions"]
    assert one["score"] != other["score"]


def test_a_body_of_ten_megabytes_is_answered(answer):
    assert len(answer(PREDICT, {"instances": ["x" * 10_000_000]})["predictions"]) == 1
    assert len(answer(PREDICT, {"instances": ["x" * 200] * 50_000})["predictions"]) == 50_000


def test_bytes_that_are_not_utf8_read_as_replacement_characters(answer):
    found = answer(PREDICT, b'{"instances": ["a\xff", "a\xef\xbf\xbd"]}')["predictions"]
    assert found[0] == found[1]


def test_an_address_may_be_escaped_and_in_capitals(answer):
    assert answer("/V1/models/banking%377:PREDICT", {"instances": ["a"]})["predictions"]


# What is refused

LIST = "of 'instances' list. Error: INVALID_ARGUMENT:"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b'{"instances": ["a"', "JSON Parse error: Missing a comma or "),
        (b'{"instances": ["a\0"]}', "Missing a closing quotation mark in string. at offset: 17"),
        (b'{"instances": ["\\ud800"]}', "The surrogate pair in string is invalid."),
        (b'{"instances": ["a"]} x', "must not be followed by other values. at offset: 21"),
        (b"[" * 100_000, "JSON Parse error: nested too deeply"),
        (b'["a"]', 'JSON Value: ["a"] Is not object'),
        (b'{"signature_name": 3}', "'signature_name' key must be a string value."),
        (b'{"instances": "a"}', "Excepting 'instances' to be an list/array"),
        (b'{"instances": [{"b64": "?"}]}', f"element: 0 {LIST} Unable to base64 decode"),
        (b'{"instances": ["a", {"text": "b"}]}', "Expecting value/list but got object at item 1"),
        (b'{"instances": [{"text": "b"}, "a"]}', "Expecting object but got list at item 1"),
        (b'{"instances": [["a", ["b"]]]}', "Encountered list at unexpected level: 1 expected < 1"),
        (b'{"instances": [[["a"], "b"]]}', '"b" found at incorrect level: 2 in the JSON DOM'),
        (b'{"instances": [[["a"], ["b", "c"]]]}', "size: 2 at level: 1 expected size: 1"),
        (b'{"instances": [["a", "b"], [["c"], ["d"]]]}', "Expecting shape [2] but got: [2,1]"),
        (b'{"instances": [true]}', "JSON Value: true Type: True is not of expected type: string"),
        (b'{"inputs": {"texto": ["a"]}}', "Missing named input: text in 'inputs' object."),
        (b'{"inputs": [3.5]}', "JSON Value: 3.5 Type: Number is not of expected type: string"),
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused(refused, body, words):
    status, error = refused(PREDICT, body)
    assert (status, words in error) == (400, True), error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [1]}, "instances is a plain list, but expecting list of objects"),
        ({"inputs": [1]}, "inputs is a plain value/list, but expecting an object"),
        ({"instances": [{"a": 1}]}, "keys must be equal to: a,b"),
        ({"inputs": {"a": [2**24], "b": [1]}}, "16777216 to float without loss of precision"),
        ({"inputs": {"a": [1], "b": [1.0]}}, "1.0 Type: Number is not of expected type: int64"),
        ({"signature_name": "bfloat16", "inputs": [1]}, "for tensor type: bfloat16"),
        ({"signature_name": "scalar", "instances": [True]}, "any has no shape information"),
        ({"signature_name": "__saved_model_init_op", "inputs": []}, "not found in signature def"),
    ],
)
def test_values_that_do_not_fit_are_refused(refused, body, words):
    status, error = refused(KINDS, body)
    assert (status, words in error) == (400, True), error


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("classify", {"examples": []}, "'examples' value is an empty array"),
        ("classify", {"example": []}, "key 'examples' is expected and was not found"),
        ("classify", {"examples": [3]}, "Example must be JSON object but got JSON Number"),
        ("classify", {"examples": [{"x": [1.0, 2]}]}, "feature: x expecting type: float"),
        ("classify", {"examples": [{"x": None}]}, "element with unexpected JSON type: Null"),
        ("classify", {"examples": [{"x": 3}], "signature_name": "classify"}, "types don't match"),
        ("classify", {"examples": [{}]}, "No signature was found with the name: serving_default"),
        ("regress", {"examples": [{}], "signature_name": "classify"}, "Expected one output"),
        ("classify", {"examples": [{}], "signature_name": "regress"}, '"classes" or "scores"'),
    ],
)  # fmt: skip
def test_examples_that_do_not_fit_are_refused(refused, path, body, words):
    status, error = refused(f"{OTHERS}:{path}", body)
    assert (status, words in error) == (400, True), error


def test_what_the_graph_refuses_is_told(refused):
    body = {"signature_name": "classify", "inputs": ["no example"]}
    status, error = refused(f"{OTHERS}:predict", body)
    assert (status, "Could not parse example input, value: 'no example'" in error) == (400, True)


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/models/a/b", f"{PREDICT}/x", "/v1/%00"])
def test_addresses_that_are_none_are_refused(ask, path):
    status, kind, text = ask("GET", path)
    assert (status, kind) == (400, "application/json")
    assert ("Missing model name" if path == "/v1/models" else "Malformed") in text


def test_a_label_that_nobody_gave_is_refused(ask):
    path = "/v1/models/banking77/labels/canary"
    for status, _, text in (ask("POST", f"{path}:predict", {"instances": ["a"]}), ask("GET", path)):
        assert (status, "Unrecognized servable version label: canary" in text) == (400, True)


def test_what_is_repeated_of_a_long_request_is_cut(refused):
    status, error = refused(PREDICT, {"instances": ["x" * 100_000], "inputs": []})
    assert status == 400 and len(error) < 3000


# Bad company


def connect(server):
    host, port = server.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(length):
    return f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_body_that_is_too_long_is_refused(refused, monkeypatch):
    monkeypatch.setattr(embedded, "LARGEST_BODY", 1000)
    assert refused(PREDICT, b"x" * 1001) == (413, "A request may have 1000 bytes at most")
    assert refused(PREDICT, b"x" * 1000)[0] == 400


def test_a_slow_client_is_told_and_holds_up_nobody(server, answer, monkeypatch):
    monkeypatch.setattr(embedded, "BODY_SECONDS", 0.5)
    with connect(server) as slow:
        slow.sendall(head(100) + b'{"instances"')
        assert answer(PREDICT, {"instances": ["a"]})["predictions"]
        told = slow.recv(10_000)
    assert told.startswith(b"HTTP/1.1 408") and b"within 0.5 seconds" in told


def test_clients_that_hang_up_leave_nothing_behind(server, answer):
    body = b'{"instances": ["a"]}'
    for sent in (b"", b"POST", head(100), head(100) + body, head(len(body)) + body):
        for _ in range(7):
            with connect(server) as client:
                client.sendall(sent)
    assert answer(PREDICT, {"instances": ["a"]})["predictions"]


def test_what_is_no_http_is_refused(server, answer):
    with connect(server) as client:
        client.sendall(b"\x16\x03\x01\0 hello\r\n\r\n")
        assert b"400 Bad Request" in client.recv(1000)
    assert answer(PREDICT, {"instances": ["a"]})["predictions"]


def memory():
    """Bytes of memory in use by this process, where the server is."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_memory_is_back_after_large_bodies(refused):
    body = b'{"instances": ["' + b"x" * 10_000_000 + b'"], "inputs": []}'
    for _ in range(5):
        refused(PREDICT, body)
    before = memory()
    for _ in range(15):
        refused(PREDICT, body)
    deadline = time.monotonic() + 20
    while memory() > before + 60e6 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert memory() < before + 60e6
