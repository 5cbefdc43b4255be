"""Versions come and go whole, and nothing else is touched."""

import errno
import os
from pathlib import Path

import pytest

import kbert
from kbert.export import versions
from kbert.export.saved_model import Settings


def folder_of(tmp_path, *names):
    """A folder of whole versions."""
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").write_text(name)
    return tmp_path


def published(folder, version=None):
    with versions.beside(folder) as beside:
        (beside / "saved_model.pb").write_text("new")
        return versions.publish(beside, folder, version)


def test_the_first_version_is_one_and_the_next_is_above_the_highest(tmp_path):
    assert published(tmp_path / "new" / "name").name == "1"
    folder = folder_of(tmp_path / "old", "2", "10", "7")
    assert published(folder).name == "11"
    assert published(folder, 5).name == "5"
    assert sorted(os.listdir(folder), key=int) == ["2", "5", "7", "10", "11"]


def test_what_is_being_written_is_hidden_and_goes_if_it_fails(tmp_path):
    with pytest.raises(OSError, match="full"), versions.beside(tmp_path) as beside:
        assert beside.parent == tmp_path
        assert beside.name.startswith(".")
        raise OSError("full")
    assert os.listdir(tmp_path) == []


def test_a_number_that_another_export_took_meanwhile_is_passed_over(tmp_path, monkeypatch):
    folder, rename = folder_of(tmp_path, "1"), os.rename

    def late(source, target):
        if Path(target).name == "2" and not Path(target).exists():
            folder_of(folder, "2")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert published(folder).name == "3"
    assert (folder / "2" / "saved_model.pb").read_text() == "2"


def test_another_error_of_renaming_is_told(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="no space left"):
        published(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_version_that_exists_is_refused_before_and_after_the_work(tmp_path):
    folder = folder_of(tmp_path, "3")
    words = "3 exists: a version never changes once it is served. Name another"
    with pytest.raises(kbert.InputError, match=words):
        versions.check(folder, 3)
    with pytest.raises(kbert.InputError, match=words):
        published(folder, 3)
    assert (folder / "3" / "saved_model.pb").read_text() == "3"
    versions.check(folder, 4)


@pytest.mark.parametrize("name", ["config.json", "ten", "1.old"])
def test_a_foreign_folder_is_refused(tmp_path, name):
    (folder_of(tmp_path, "1") / name).mkdir()
    (tmp_path / ".hidden").mkdir()
    words = rf"expected a folder with versions alone \(1, 2, …\), it has {name}: name another"
    with pytest.raises(kbert.InputError, match=words):
        versions.check(tmp_path)


def test_a_file_with_a_number_for_a_name_is_no_version(tmp_path):
    (tmp_path / "7").write_text("mine")
    with pytest.raises(kbert.InputError, match="versions alone .*it has 7"):
        versions.check(tmp_path)


def test_half_a_version_is_refused(tmp_path):
    (folder_of(tmp_path, "1", "12") / "12" / "saved_model.pb").unlink()
    words = "version 12 has no saved_model.pb: half a version, which a server .* Remove it"
    with pytest.raises(kbert.InputError, match=words):
        versions.check(tmp_path)


def test_old_versions_go_by_their_numbers_and_are_hidden_first(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "9", "10", "2", "11")
    seen, remove = [], versions.shutil.rmtree

    def watched(path, **settings):
        seen.append(sorted(p.name for p in folder.iterdir() if p.name.isdecimal()))
        remove(path, **settings)

    monkeypatch.setattr(versions.shutil, "rmtree", watched)
    versions.remove_old(folder, 2)
    assert seen == [["10", "11", "9"], ["10", "11"]]
    assert sorted(os.listdir(folder)) == ["10", "11"]
    versions.remove_old(folder, 5)
    assert sorted(os.listdir(folder)) == ["10", "11"]


def test_the_version_that_is_served_while_the_next_loads_is_always_kept():
    with pytest.raises(kbert.InputError, match="keep: expected 2 or more .a server answers .* 1"):
        Settings(keep=1)
    with pytest.raises(kbert.InputError, match="version: expected 1 or more, came 0"):
        Settings(version=0)
