"""The files that TF Serving is started with: which models there are, batching, monitoring.

The embedded engine reads the same `models.config`, so that labels are moved in one way with both.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kbert.errors import InputError

MODELS, BATCHING, MONITORING = "models.config", "batching.config", "monitoring.config"
METRICS = "/monitoring/prometheus/metrics"
BATCH_SIZE = 64
LARGEST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class ModelConfig:
    """A model of `models.config`.

    Attributes:
        name: in the server's addresses.
        base_path: the folder with its versions.
        policy: "latest", "all" or "specific".
        number: of "latest": how many.
        chosen: of "specific": these.
        labels: names of versions.
    """

    name: str
    base_path: str
    policy: str = "latest"
    number: int = 1
    chosen: tuple[int, ...] = ()
    labels: dict[str, int] = field(default_factory=dict)

    def wanted(self, there: Iterable[int]) -> list[int]:
        """Of the versions that are there, those to load."""
        there = sorted(there)
        if self.policy == "specific":
            return [version for version in there if version in self.chosen]
        return there[-self.number :] if self.policy == "latest" else there


def versions(base_path: str | os.PathLike) -> list[int]:
    """The versions in a folder, as the server finds them: subfolders whose names are numbers."""
    found = (p for p in Path(base_path).iterdir() if p.name.isascii() and p.name.isdecimal())
    return sorted(v for v in (int(p.name) for p in found if p.is_dir()) if v <= LARGEST_VERSION)


def prepare(folder: str | os.PathLike) -> list[ModelConfig]:
    """Writes the three files into `folder`, where they are missing.

    A `models.config` that is there keeps what it says; models that it does not name are added.

    Args:
        folder: `saved_models`: a folder for each model, with a folder for each version.

    Returns:
        What `models.config` says now.

    Raises:
        InputError: there is no model, or the file names a folder that is not there.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Give the one that `kbert export` wrote into.")
    file = folder / MODELS
    known = read_models(file) if file.exists() else []
    names = {config.name for config in known}
    there = sorted(p for p in folder.iterdir() if p.is_dir() and versions(p))
    new = [ModelConfig(p.name, str(p)) for p in there if p.name not in names]
    if not known and not new:
        hint = ""
        if versions(folder):
            hint = f" It holds versions of one model: give the folder above, {folder.parent}."
        raise InputError(
            f"{folder}: expected folders NAME/VERSION with SavedModels, there is none.{hint} "
            "`kbert export RUN saved_models/NAME` writes one."
        )
    if new:
        write(file, models_text([*known, *new]))
    for name, text in ((BATCHING, batching_text()), (MONITORING, monitoring_text())):
        if not (folder / name).exists():
            write(folder / name, text)
    return [*known, *new]


def read_models(file: str | os.PathLike) -> list[ModelConfig]:
    """The models of a `models.config`.

    Raises:
        InputError: it cannot be read, or a base path is not there: the server would load no model
            at all then.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    try:
        text = Path(file).read_text("utf-8")
        parsed = text_format.Parse(text, ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise InputError(
            f"{file}: expected a model_config_list as TF Serving reads it; {error}."
        ) from error
    found = [_model(config) for config in parsed.model_config_list.config]
    missing = [config for config in found if not Path(config.base_path).is_dir()]
    if missing:
        listed = ", ".join(f"{config.name} ({config.base_path})" for config in missing)
        raise InputError(
            f"{file}: these models' folders are not there: {listed}. TF Serving would load no "
            "model at all. Export them, or take them out of the file."
        )
    return found


def _model(config) -> ModelConfig:
    policy = config.model_version_policy.WhichOneof("policy_choice") or "latest"
    return ModelConfig(
        config.name,
        config.base_path,
        policy,
        config.model_version_policy.latest.num_versions or 1,
        tuple(config.model_version_policy.specific.versions),
        dict(config.version_labels),
    )


def models_text(configs: Iterable[ModelConfig]) -> str:
    """`models.config` of these models."""
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    made = ModelServerConfig()
    for config in configs:
        model = made.model_config_list.config.add(
            name=config.name, base_path=config.base_path, model_platform="tensorflow"
        )
        policy = model.model_version_policy
        if config.policy == "specific":
            policy.specific.versions.extend(config.chosen)
        elif config.policy == "all":
            policy.all.SetInParent()
        elif config.number != 1:
            policy.latest.num_versions = config.number
        model.version_labels.update(config.labels)
    return text_format.MessageToString(made)


def batching_text() -> str:
    """Requests are joined that wait for a thread; none waits for others to come."""
    cores = os.cpu_count() or 1
    return (
        f"max_batch_size {{ value: {BATCH_SIZE} }}\n"
        "batch_timeout_micros { value: 0 }\n"
        "max_enqueued_batches { value: 1000 }\n"
        f"num_batch_threads {{ value: {cores} }}\n"
    )


def monitoring_text() -> str:
    return f'prometheus_config {{\n  enable: true\n  path: "{METRICS}"\n}}\n'


def write(file: Path, text: str):
    """A file that is there whole or not at all: the server reads it again and again."""
    beside = file.with_name(f".{file.name}.part")
    try:
        beside.write_text(text, "utf-8")
        os.replace(beside, file)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}).") from error
