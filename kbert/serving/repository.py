"""The models of a server: which versions are loaded, and those that come and go in the folders."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kbert.errors import InputError
from kbert.serving import deployment
from kbert.serving.refusal import Refusal


@dataclass
class State:
    """How a version stands, in the words of the status route."""

    state: str = "LOADING"
    code: str = "OK"
    message: str = ""


@dataclass
class Model:
    """A model's versions.

    Attributes:
        loaded: the servables that answer, by version.
        states: of all versions that were seen, by version.
        failed: folders that could not be loaded and when they were changed: not tried again before
            they are changed once more.
    """

    config: deployment.ModelConfig
    loaded: dict[int, object] = field(default_factory=dict)
    states: dict[int, State] = field(default_factory=dict)
    failed: dict[int, float] = field(default_factory=dict)


class Repository:
    """Models by name, kept as their folders are.

    Args:
        models: reads the server's configuration, again and again: labels may change in it.
        load: a version's folder → a servable.
    """

    def __init__(self, models: Callable[[], list[deployment.ModelConfig]], load: Callable):
        self.read_models, self.load = models, load
        self.models: dict[str, Model] = {}
        self.changed = threading.Condition()  # over who is loaded and who is in use
        self.stopped, self.watcher = threading.Event(), None
        self.told = None

    def refresh(self):
        """Loads what is new, then unloads what is no longer wanted."""
        configs = self._configs()
        for name in self.models.keys() - {config.name for config in configs}:
            for version in list(self.models[name].loaded):
                self._unload(self.models[name], version)
            del self.models[name]
        for config in configs:
            with self.changed:
                model = self.models.setdefault(config.name, Model(config))
                model.config = config
            if not Path(config.base_path).is_dir():
                continue  # it went meanwhile: what is loaded is served on
            there = deployment.versions(config.base_path)
            wanted = config.wanted(there)
            for version in wanted:
                if version not in model.loaded:
                    self._load(model, version)
            # As long as nothing that is wanted could be loaded, what was there stays.
            if any(version in model.loaded for version in wanted) or not there:
                for version in [v for v in model.loaded if v not in wanted]:
                    self._unload(model, version)

    def _configs(self) -> list[deployment.ModelConfig]:
        """The configuration; the one before, if somebody made a mistake in it meanwhile."""
        try:
            return self.read_models()
        except InputError as error:
            if not self.models:
                raise
            if str(error) != self.told:
                print(f"kbert: {error} What was served is served on.", flush=True)
            self.told = str(error)
            return [model.config for model in self.models.values()]

    def _load(self, model: Model, version: int):
        folder = Path(model.config.base_path, str(version))
        try:
            changed = folder.stat().st_mtime
            if model.failed.get(version) == changed:
                return
            model.states[version] = State()
            servable = self.load(folder)
        except Exception as error:  # whatever is wrong with a folder: the others are served on
            model.failed[version] = changed if folder.is_dir() else 0.0
            model.states[version] = State("END", "UNKNOWN", str(error)[:2000])
            return
        with self.changed:
            model.loaded[version] = servable
            model.states[version] = State("AVAILABLE")
            self.changed.notify_all()

    def _unload(self, model: Model, version: int):
        with self.changed:
            servable = model.loaded.pop(version)
            model.states[version] = State("UNLOADING")
            self.changed.notify_all()
            self.changed.wait_for(lambda: not servable.in_use)
        servable.close()
        model.states[version] = State("END")

    @contextmanager
    def use(self, name: str, version: int | None, label: str | None) -> Iterator[tuple]:
        """A version and its servable, which stays loaded meanwhile.

        Raises:
            Refusal: there is none.
        """
        with self.changed:
            version, servable = self._find(name, self.version_of(name, version, label))
            servable.in_use += 1
        try:
            yield version, servable
        finally:
            with self.changed:
                servable.in_use -= 1
                self.changed.notify_all()

    def _find(self, name: str, version: int | None):
        loaded = self.models[name].loaded if name in self.models else {}
        if version is None and loaded:
            version = max(loaded)
        if version not in loaded:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Refusal(f"Servable not found for request: {asked}", "NOT_FOUND")
        return version, loaded[version]

    def version_of(self, name: str, version: int | None, label: str | None) -> int | None:
        """The version that a label stands for, or the one that is given."""
        if label is None:
            return version
        labels = self.models[name].config.labels if name in self.models else {}
        if label not in labels:
            raise Refusal(f"Unrecognized servable version label: {label}")
        return labels[label]

    def status(self, name: str, version: int | None, label: str | None) -> dict:
        """What the status route says of a model, or of one of its versions."""
        version = self.version_of(name, version, label)
        states = self.models[name].states if name in self.models else {}
        if not states:
            raise Refusal(f"Could not find any versions of model {name}", "NOT_FOUND")
        if version is not None and version not in states:
            raise Refusal(f"Could not find version {version} of model {name}", "NOT_FOUND")
        shown = sorted(states.copy().items(), reverse=True)
        return {
            "model_version_status": [
                {
                    "version": str(number),
                    "state": state.state,
                    "status": {"error_code": state.code, "error_message": state.message},
                }
                for number, state in shown
                if version in (None, number)
            ]
        }

    def watch(self, seconds: float):
        """Keeps on refreshing, in a thread, until `close`."""

        def keep_on():
            while not self.stopped.wait(seconds):
                self.refresh()

        self.watcher = threading.Thread(target=keep_on, name="kbert-versions", daemon=True)
        self.watcher.start()

    def close(self):
        """Unloads everything, when it is no longer in use."""
        self.stopped.set()
        if self.watcher:
            self.watcher.join()
        for model in self.models.values():
            for version in list(model.loaded):
                self._unload(model, version)
