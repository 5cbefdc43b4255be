"""A run folder is taken, gone on with, or left alone; nothing of another's is lost."""

import json

import pytest

from kbert.errors import InputError
from kbert.training import run_folder

SETTINGS = {"epochs": 3, "seed": 1}


def folder(path, settings=SETTINGS, state=True):
    (path / "state" / "0001-00000000" if state else path).mkdir(parents=True)
    if settings is not None:
        (path / "settings.json").write_text(json.dumps(settings), "utf-8")
    return path


def names_in(path):
    return sorted(x.name for x in path.iterdir())


def test_a_run_that_goes_on_takes_no_folder_that_came_meanwhile(tmp_path):
    folder(tmp_path / "run.partial")
    run_folder.check(tmp_path / "run", overwrite=False, resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear", "utf-8")
    with pytest.raises(InputError, match="run exists. Choose another folder, or pass --overwrite"):
        run_folder.check(tmp_path / "run", overwrite=False, resume=True)
    with pytest.raises(InputError, match="exists and is no run folder .*: it is not overwritten"):
        run_folder.check(tmp_path / "run", overwrite=True, resume=True)


def test_a_folder_that_is_no_run_is_not_called_a_finished_one(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="run exists. Choose another folder"):
        run_folder.check(tmp_path / "run", overwrite=False, resume=True)
    folder(tmp_path / "done", state=False)
    with pytest.raises(InputError, match="nothing to go on with, the run is finished"):
        run_folder.check(tmp_path / "done", overwrite=False, resume=True)


def test_an_interrupted_run_stays_where_it_is_if_it_cannot_go_on(tmp_path):
    folder(tmp_path / "run")
    run_folder.check(tmp_path / "run", overwrite=False, resume=True)
    with pytest.raises(InputError, match="other settings, .*: seed was 1, is 2. Give those"):
        run_folder.begin(tmp_path / "run", {**SETTINGS, "seed": 2}, resume=True)
    assert names_in(tmp_path) == ["run"]


def test_what_is_begun_anew_has_its_settings_alone(tmp_path):
    folder(tmp_path / "run.partial")
    work, start = run_folder.begin(tmp_path / "run", SETTINGS, resume=False)
    assert (work, start) == (tmp_path / "run.partial", None)
    assert names_in(work) == ["settings.json"]
