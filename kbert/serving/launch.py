"""Starts TensorFlow Serving: the one on the path, else in Docker; and waits until it is up."""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from kbert.errors import InputError
from kbert.serving import deployment
from kbert.serving.client import Client, ServingError

SERVER = "tensorflow_model_server"
IMAGE = "tensorflow/serving:latest"
ENGINES = ("auto", "tensorflow-serving", "docker", "embedded")
POLL_SECONDS = 2  # in which a label that is moved in models.config takes effect
HOW_TO_GET_ONE = f"""Any of these gives you one:
  Docker: docker pull {IMAGE}
  Debian, Ubuntu: the package tensorflow-model-server of TensorFlow Serving's own repository,
    see https://www.tensorflow.org/tfx/serving/setup
  or, on this machine and for trying: --engine embedded, the same REST API by kbert itself."""


def resolved(engine: str) -> str:
    """`engine`, of "auto" the first that is there.

    Raises:
        InputError: it is not there.
    """
    if engine == "embedded":
        return engine
    has_server = shutil.which(SERVER) is not None
    if engine in ("auto", "tensorflow-serving") and has_server:
        return "tensorflow-serving"
    if engine == "tensorflow-serving":
        raise InputError(f"{SERVER} is not on the path. {HOW_TO_GET_ONE}")
    if why := _no_docker():
        found = f"{SERVER} is not on the path, and {why}" if engine == "auto" else why
        raise InputError(f"{found}. {HOW_TO_GET_ONE}")
    return "docker"


def _no_docker() -> str | None:
    """Why Docker cannot be used; None if it can."""
    if shutil.which("docker") is None:
        return "docker is not on the path"
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return "docker does not answer"
    if done.returncode == 0:
        return None
    return (
        f"docker cannot be used ({(done.stderr.strip().splitlines() or ['no reason given'])[-1]})"
    )


def command(engine: str, folder: Path, port: int, rest_port: int, *, batching=True, image=IMAGE):
    """What starts the engine, with the files that `deployment.prepare` wrote into `folder`.

    In Docker the folder has the same path as outside: the same files serve both.
    """
    folder = Path(folder).absolute()
    options = [
        f"--model_config_file={folder / deployment.MODELS}",
        f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
        # Else labels in the file that it starts with are refused, as no version is loaded yet.
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={folder / deployment.MONITORING}",
    ]
    if batching:
        file = folder / deployment.BATCHING
        options += ["--enable_batching=true", f"--batching_parameters_file={file}"]
    if engine == "docker":
        ports = ["-p", f"{port}:8500", "-p", f"{rest_port}:8501"]
        return ["docker", "run", "--rm", *ports, "-v", f"{folder}:{folder}:ro", image, *options]
    return [SERVER, f"--port={port}", f"--rest_api_port={rest_port}", *options]


def start(words: list[str]) -> subprocess.Popen:
    """Runs the command; its output goes where ours goes.

    Raises:
        InputError: it cannot be run.
    """
    try:
        return subprocess.Popen(words, env={"TF_CPP_MIN_LOG_LEVEL": "1", **os.environ})
    except OSError as error:
        raise InputError(f"{words[0]} cannot be started ({error.strerror}).") from error


def wait_until_up(process: subprocess.Popen, url: str, models: Iterable[str], seconds: float):
    """Waits until each model has a version that is AVAILABLE.

    Returns:
        The versions that are, by model.

    Raises:
        InputError: the server ended, a model cannot be loaded, or it takes longer.
    """
    ends = time.monotonic() + seconds
    up = {}
    with Client(url, attempts=1, deadline=5.0) as client:
        for model in models:
            while model not in up:
                if (code := process.poll()) is not None:
                    raise InputError(
                        f"{shlex.join(process.args)}: ended with code {code} before its models "
                        "were up; what it printed above says why."
                    )
                try:
                    states = client.status(model)
                except ServingError:
                    states = {}  # not there yet
                found = sorted(v for v, state in states.items() if state == "AVAILABLE")
                if found:
                    up[model] = found
                elif states and set(states.values()) == {"END"}:
                    raise InputError(
                        f"{model}: no version could be loaded; what the server printed says why."
                    )
                elif time.monotonic() > ends:
                    raise InputError(
                        f"{model}: not up after {seconds:g} seconds ({states or 'no answer'}). "
                        "Give it longer with --wait."
                    )
                else:
                    time.sleep(0.2)
    return up
