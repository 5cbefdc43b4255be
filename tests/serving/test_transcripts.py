"""What TensorFlow Serving's own server answered, the embedded server answers: 30 exchanges."""

import json
import math
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "serving" / "rest_transcripts.json"


def transcripts():
    """The exchanges; where the folder is not there, one that says so and fails."""
    import os

    data = os.environ.get("KBERT_DATA")
    file = Path(data).parent / "serving" / SHARED.name if data else SHARED
    if not file.is_file():
        return [{"case": f"no transcripts at {file}"}]
    return json.loads(file.read_text("utf-8"))


def form(value):
    """A value without what weights decide: numbers and labels by their kind."""
    if isinstance(value, dict):
        return {key: form(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [form(inner) for inner in value]
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else "float"
    return "label" if value in ("card_arrival", "cancel_transfer", "top_up") else value


@pytest.mark.parametrize("exchange", transcripts(), ids=lambda exchange: exchange["case"])
def test_the_answer_is_the_real_servers(exchange, ask):
    request = exchange["request"]
    body = request.encode() if isinstance(request, str) else request
    status, kind, text = ask(exchange["method"], exchange["path"], body)
    assert (status, kind) == (exchange["status"], exchange["content_type"]), text
    assert form(json.loads(text)) == form(exchange["response"])


def test_there_are_thirty():
    assert len(transcripts()) == 30
