"""Versions that come and go while requests are answered; labels; warm-up."""

import json
import shutil
import threading

import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tiny_models import Counting, Tiny, write

from kbert.serving import deployment
from kbert.serving.embedded import Api
from kbert.serving.refusal import Refusal
from kbert.serving.repository import Repository
from kbert.serving.servable import WARMUP, Servable

PATH = "/v1/models/m"


@pytest.fixture
def folder(tmp_path):
    """A model's folder; the next call of `refreshed` finds what is written there."""
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


@pytest.fixture
def api(folder):
    """The API over that folder; nothing watches it, the tests refresh."""
    write(folder, 1, Tiny(" 1"))
    deployment.prepare(folder.parent)
    config = folder.parent / deployment.MODELS
    repository = Repository(lambda: deployment.read_models(config), Servable)
    repository.refresh()
    yield Api(repository)
    repository.close()


def label(api, of=""):
    """Who answers: the last word of a label; or the error."""
    status, text = api("POST", f"{PATH}{of}:predict", b'{"instances": ["my card"]}')
    found = json.loads(text)
    return found["predictions"][0]["label"].split()[-1] if status == 200 else found["error"]


def states(api):
    found = json.loads(api("GET", PATH)[1])["model_version_status"]
    return {int(one["version"]): one["state"] for one in found}


def test_the_newest_version_answers_and_the_old_one_goes(api, folder):
    write(folder, 2, Tiny(" 2"))
    assert label(api) == "1"
    api.repository.refresh()
    assert label(api) == label(api, "/versions/2") == "2"
    assert label(api, "/versions/1") == "Servable not found for request: Specific(m, 1)"
    assert states(api) == {2: "AVAILABLE", 1: "END"}


def test_removing_the_newest_brings_the_old_one_back(api, folder):
    write(folder, 2, Tiny(" 2"))
    api.repository.refresh()
    shutil.rmtree(folder / "2")
    api.repository.refresh()
    assert label(api) == "1"
    assert states(api) == {2: "END", 1: "AVAILABLE"}


def test_a_version_in_use_is_unloaded_only_when_it_is_free(api, folder):
    write(folder, 2, Tiny(" 2"))
    with api.repository.use("m", None, None) as (version, servable):
        refreshing = threading.Thread(target=api.repository.refresh)
        refreshing.start()
        expected = {2: "AVAILABLE", 1: "UNLOADING"}
        with api.repository.changed:
            api.repository.changed.wait_for(lambda: states(api) == expected, timeout=20)
        assert (version, states(api), label(api)) == (1, expected, "2")
        document = {"instances": ["my card"]}
        assert json.loads(servable.predict(document))["predictions"]
    refreshing.join()
    assert states(api)[1] == "END"


def test_folders_that_are_no_versions_are_not_seen(api, folder):
    for name in (".exporting-x", "ten", "2.part", "²"):
        (folder / name).mkdir()
    (folder / "7").write_text("a file")
    api.repository.refresh()
    assert states(api) == {1: "AVAILABLE"}


def test_a_broken_version_is_told_and_tried_again_when_it_is_whole(api, folder):
    (folder / "2").mkdir()
    api.repository.refresh()
    assert label(api) == "1" and states(api) == {2: "END", 1: "AVAILABLE"}
    told = json.loads(api("GET", f"{PATH}/versions/2")[1])["model_version_status"][0]["status"]
    assert told["error_code"] == "UNKNOWN" and "SavedModel" in told["error_message"]
    whole = write(folder, 3, Tiny(" 2"))
    shutil.rmtree(folder / "2")
    whole.rename(folder / "2")
    api.repository.refresh()
    assert label(api) == "2"


def configure(folder, text):
    base = f'name: "m" base_path: "{folder}"'
    (folder.parent / deployment.MODELS).write_text(
        f"model_config_list {{ config {{ {base} {text} }} }}"
    )


TWO = "model_version_policy { specific { versions: 1 versions: 2 } }"


def test_labels_are_moved_in_the_configuration(api, folder):
    write(folder, 2, Tiny(" 2"))
    labels = (
        'version_labels {{ key: "stable" value: {} }} version_labels {{ key: "canary" value: 2 }}'
    )
    configure(folder, f"{TWO} {labels.format(1)}")
    api.repository.refresh()
    assert (label(api, "/labels/stable"), label(api, "/labels/canary")) == ("1", "2")
    configure(folder, f"{TWO} {labels.format(2)}")
    api.repository.refresh()
    assert label(api, "/labels/stable") == "2"
    assert (
        json.loads(api("GET", f"{PATH}/labels/canary/metadata")[1])["model_spec"]["version"] == "2"
    )


def test_a_mistake_in_the_configuration_changes_nothing(api, folder, capsys):
    for text in ("nonsense", 'version_policy: "x"'):
        configure(folder, text)
        api.repository.refresh()
        api.repository.refresh()
        assert label(api) == "1"
    assert capsys.readouterr().out.count("What was served is served on.") == 2


def test_a_folder_that_goes_meanwhile_changes_nothing(api, folder):
    folder.rename(folder.with_name("away"))
    api.repository.refresh()
    assert label(api) == "1"
    folder.with_name("away").rename(folder)


def test_a_model_taken_out_of_the_configuration_is_unloaded(api, folder):
    (folder.parent / deployment.MODELS).write_text("model_config_list {}")
    api.repository.refresh()
    assert label(api) == "Servable not found for request: Latest(m)"


def requests(folder, number, signature, text="a"):
    """Writes warm-up requests as TF Serving reads them."""
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    log.predict_log.request.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
    (folder / WARMUP).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as file:
        for _ in range(number):
            file.write(log.SerializeToString())


def test_warm_up_requests_are_answered_at_load(folder):
    version = write(folder, 1, Counting(), ("serving_default",))
    requests(version, 3, "serving_default")
    servable = Servable(version)
    assert json.loads(servable.predict({"instances": ["a"]})) == {"predictions": [4]}
    servable.close()


def test_a_warm_up_request_that_does_not_fit_is_told(folder):
    version = write(folder, 1, Counting(), ("serving_default",))
    requests(version, 1, "nobody")
    with pytest.raises(Refusal, match='Serving signature name: "nobody" not found'):
        Servable(version)
