"""`kbert serve` and `kbert query`; the files that a server is started with."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import tiny
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from kbert.errors import InputError
from kbert.serving import deployment, launch

# A server that says what it was started with, is up at the third question, and then ends.
FAKE = """#!{python}
import http.server, json, os, re, sys
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
with open(os.environ["RECORD"], "w") as file:
    json.dump(options, file)
print("a word of the server", flush=True)
if os.environ.get("ENDS"):
    sys.exit(int(os.environ["ENDS"]))
asked = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        state = "AVAILABLE" if asked > 2 else "LOADING"
        state = os.environ.get("STATE", state)
        body = json.dumps({{"model_version_status": [{{"version": "3", "state": state}}]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(options["rest_api_port"])), Handler)
while asked < 4:
    server.handle_request()
sys.exit(int(os.environ.get("AFTER", "0")))
"""


@pytest.fixture
def run(capfd):
    """The command with these arguments: its exit code, standard output and standard error."""

    def run(*arguments):
        capfd.readouterr()
        code = tiny.kbert(*arguments)
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def folder(tmp_path):
    """Two models, of which nobody looks into the versions."""
    for name in ("cats", "dogs"):
        (tmp_path / "saved models" / name / "3").mkdir(parents=True)
    return tmp_path / "saved models"


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Makes a program of this name, on a path where there is nothing else."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("RECORD", str(tmp_path / "record.json"))

    def on_path(name, text=FAKE):
        (programs / name).write_text(text.format(python=sys.executable))
        (programs / name).chmod(0o755)

    return on_path


def recorded():
    return json.loads(Path(os.environ["RECORD"]).read_text())


def test_the_server_on_the_path_is_started_and_waited_for(run, folder, on_path, free_port):
    on_path("tensorflow_model_server")
    code, output, _ = run("serve", folder, "--rest-port", free_port, "--port", 7)
    assert code == 0
    assert "a word of the server" in output
    assert f"Starting: tensorflow_model_server --port=7 --rest_api_port={free_port}" in output
    assert "cats: version 3 AVAILABLE\ndogs: version 3 AVAILABLE\n" in output
    assert f"REST http://localhost:{free_port}/v1/models/NAME:predict, gRPC localhost:7" in output
    assert recorded() == {
        "port": "7",
        "rest_api_port": str(free_port),
        "model_config_file": str(folder / "models.config"),
        "model_config_file_poll_wait_seconds": "2",
        "allow_version_labels_for_unavailable_models": "true",
        "monitoring_config_file": str(folder / "monitoring.config"),
        "enable_batching": "true",
        "batching_parameters_file": str(folder / "batching.config"),
    }


def test_a_server_that_ends_is_told(run, folder, on_path, free_port, monkeypatch):
    on_path("tensorflow_model_server")
    monkeypatch.setenv("ENDS", "7")
    code, _, error = run("serve", folder, "--rest-port", free_port, "--no-batching")
    assert code == 2 and "ended with code 7 before its models were up" in error
    assert "enable_batching" not in recorded()
    monkeypatch.setenv("ENDS", "")
    monkeypatch.setenv("AFTER", "5")
    code, output, error = run("serve", folder, "--rest-port", free_port)
    assert code == 2 and "AVAILABLE" in output
    assert "tensorflow_model_server ended with code 5; what it printed says why." in error


def test_a_model_that_cannot_be_loaded_is_told(run, folder, on_path, free_port, monkeypatch):
    on_path("tensorflow_model_server")
    monkeypatch.setenv("STATE", "END")
    code, _, error = run("serve", folder, "--rest-port", free_port)
    assert code == 2 and "cats: no version could be loaded" in error
    monkeypatch.setenv("STATE", "LOADING")
    code, _, error = run("serve", folder, "--rest-port", free_port, "--wait", 0.1)
    assert code == 2 and "cats: not up after 0.1 seconds" in error


def test_docker_is_taken_where_it_answers(run, folder, on_path):
    on_path("docker", "#!{python}\n")
    code, output, _ = run("serve", folder, "--dry-run", "--rest-port", 9000, "--image", "mine:3")
    assert code == 0
    assert f"docker run --rm -p 8500:8500 -p 9000:8501 -v '{folder}:{folder}:ro' mine:3" in output
    assert f"'--model_config_file={folder}/models.config'" in output


@pytest.mark.parametrize(
    ("engine", "docker", "words"),
    [
        ("auto", None, "tensorflow_model_server is not on the path, and docker is not on the path"),
        ("docker", "import sys; sys.exit('no daemon')", "docker cannot be used (no daemon)"),
        ("tensorflow-serving", "", "tensorflow_model_server is not on the path."),
    ],
)
def test_without_a_server_it_is_said_how_to_get_one(run, folder, on_path, engine, docker, words):
    if docker is not None:
        on_path("docker", "#!{python}\n" + docker)
    code, _, error = run("serve", folder, "--engine", engine)
    assert code == 2 and words in error
    assert "docker pull tensorflow/serving" in error and "--engine embedded" in error


def test_the_embedded_engine_serves_for_real(run, saved_models, free_port):
    command = [sys.executable, "-m", "kbert.cli", "serve", str(saved_models)]
    command += ["--engine", "embedded", "--rest-port", str(free_port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        told = [process.stdout.readline() for _ in range(6)]
        assert told[1] == "banking77: version 2 AVAILABLE\n", told
        url = f"http://127.0.0.1:{free_port}/v1/models/banking77"
        assert told[5] == f'Ask it: kbert query {url} "a text"\n'
        code, output, _ = run("query", url, "my card", "x\ty")
        rows = [json.loads(line) for line in output.splitlines()]
        assert code == 0 and [row["text"] for row in rows] == ["my card", "x\ty"]
        assert len(rows[0]["probabilities"]) == 3
        process.send_signal(signal.SIGINT)
        assert "kbert: stopped" in process.communicate(timeout=60)[1]
        assert process.returncode == 0
    finally:
        process.kill()


def test_a_taken_port_is_told(run, saved_models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, error = run("serve", saved_models, "--engine", "embedded", "--rest-port", port)
    assert code == 2 and f"127.0.0.1:{port} cannot be served on" in error


def test_a_model_that_the_embedded_engine_cannot_load_is_told(run, folder, free_port):
    code, _, error = run("serve", folder, "--engine", "embedded", "--rest-port", free_port)
    assert code == 2 and "cats: no version could be loaded: " in error and "SavedModel" in error


# The files


def test_the_files_are_those_that_the_server_reads(folder):
    deployment.prepare(folder)
    config = text_format.Parse((folder / "models.config").read_text(), ModelServerConfig())
    told = [(c.name, c.base_path, c.model_platform) for c in config.model_config_list.config]
    assert told == [(n, str(folder / n), "tensorflow") for n in ("cats", "dogs")]
    assert "max_batch_size { value: 64 }" in (folder / "batching.config").read_text()
    assert 'path: "/monitoring/prometheus/metrics"' in (folder / "monitoring.config").read_text()


def test_what_was_written_by_hand_stays_and_new_models_are_added(folder):
    deployment.prepare(folder)
    config = folder / "models.config"
    labelled = deployment.ModelConfig(
        "cats", str(folder / "cats"), "specific", chosen=(3,), labels={"stable": 3}
    )
    config.write_text(deployment.models_text([labelled]))
    (folder / "batching.config").write_text("mine")
    assert [c.name for c in deployment.prepare(folder)] == ["cats", "dogs"]
    assert deployment.read_models(config)[0] == labelled
    assert (folder / "batching.config").read_text() == "mine"


def test_policies_choose_versions():
    config = deployment.ModelConfig("m", "/m")
    assert config.wanted([1, 10, 9]) == [10]
    config = deployment.ModelConfig("m", "/m", number=2)
    assert config.wanted([1, 10, 9]) == [9, 10]
    assert deployment.ModelConfig("m", "/m", "all").wanted([3, 1]) == [1, 3]
    assert deployment.ModelConfig("m", "/m", "specific", chosen=(1, 7)).wanted([1, 2]) == [1]


def test_folders_that_cannot_be_served_are_told(folder, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        deployment.prepare(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"expected folders NAME/VERSION .* `kbert export"):
        deployment.prepare(folder / "cats" / "3")
    with pytest.raises(InputError, match="versions of one model: give the folder above"):
        deployment.prepare(folder / "cats")
    deployment.prepare(folder)
    (folder / "dogs").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"folders are not there: dogs .* load no model at all"):
        deployment.prepare(folder)
    (folder / "models.config").write_text("no config")
    with pytest.raises(InputError, match="expected a model_config_list as TF Serving reads it"):
        deployment.prepare(folder)


def test_what_cannot_be_started_is_told(tmp_path):
    with pytest.raises(InputError, match="nothing cannot be started"):
        launch.start([str(tmp_path / "nothing")])


# kbert query


def test_pairs_and_tables_are_asked_by_the_inputs_names(run, server, tmp_path):
    table = tmp_path / "asked.jsonl"
    table.write_text('{"a": 3.0, "b": 2}\n{"a": 1.0, "b": 7}\n')
    code, output, error = run("query", server, "--model", "kinds", "--input", table)
    assert code == 0, error
    rows = [json.loads(line) for line in output.splitlines()]
    assert rows[0] == {"a": 3, "b": 2, "half": 1.5, "even": True, "whole": 2, "raw_bytes": "32"}
    code, _, error = run("query", server, "--model", "kinds", "3", "--pair", "2")
    assert code == 2 and 'JSON Value: "3" Type: String is not of expected type: float' in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a"], "which model? Give --model NAME"),
        (["a", "--model", "nobody"], "Servable not found for request: Latest(nobody)"),
        (["a", "--model", "kinds"], "this signature asks a, b; came 1 texts and 0 --pair."),
        (["a", "--model", "banking77", "--signature", "x"], "it has serving_default, tokens."),
        (["a", "--model", "banking77", "--pair", "b"], "this signature asks text; came 1 texts"),
        (["a", "--model", "banking77", "--input", "b.txt"], "arguments or --input FILE, not both"),
    ],
)
def test_what_cannot_be_asked_is_told(run, server, arguments, words):
    code, _, error = run("query", server, *arguments)
    assert code == 2 and words in error


def test_the_addresses_of_a_version_or_a_label_are_understood(run, server):
    model = f"{server}/v1/models/banking77"
    assert run("query", f"{model}/versions/2:predict", "a")[0] == 0
    assert "version label: canary" in run("query", f"{model}/labels/canary", "a")[2]
    assert urllib.request.urlopen(model).status == 200


# The manifests


@pytest.mark.parametrize("name", ["docker-compose.yml", "kubernetes.yaml"])
def test_the_manifests_start_the_server_as_the_command_does(name):
    text = (Path(__file__).resolve().parents[2] / "docs" / "serving" / name).read_text("utf-8")
    options = launch.command("tensorflow-serving", Path("/x"), 8500, 8501)[3:]
    said = []
    for part in yaml.safe_load_all(text):
        if "services" in part:
            said += part["services"]["serving"]["command"]
        elif part["kind"] == "Deployment":
            said += part["spec"]["template"]["spec"]["containers"][0]["args"]
        elif part["kind"] == "ConfigMap":
            text_format.Parse(part["data"]["models.config"], ModelServerConfig())
            assert part["data"]["monitoring.config"] == deployment.monitoring_text()
    assert sorted(re.sub("=.*/", "=/x/", word) for word in said) == sorted(options)
