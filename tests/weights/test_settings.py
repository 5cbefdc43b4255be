"""Tables between a config of ours and config.json run both ways."""

from types import SimpleNamespace

import pytest

from kbert.weights import settings

TABLE = {"width": ("hidden_size", 7), "dropout": ("drop", 0.5), "shared": ("share", False)}


def test_what_config_json_leaves_out_has_the_tables_value():
    assert settings.read(TABLE, {}) == {"width": 7, "dropout": 0.5, "shared": False}
    found = {"hidden_size": 11, "drop": 0, "share": True, "other": "x"}
    assert settings.read(TABLE, found) == {"width": 11, "dropout": 0, "shared": True}


def test_what_is_written_is_read_again():
    config = SimpleNamespace(width=13, dropout=0.25, shared=True)
    written = settings.written(TABLE, config)
    assert written == {"hidden_size": 13, "drop": 0.25, "share": True}
    assert settings.read(TABLE, written) == vars(config)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"hidden_size": "11"}, "hidden_size is '11'; expected int, such as 7"),
        ({"drop": None}, "drop is None; expected float, such as 0.5"),
        ({"share": 1}, "share is 1; expected bool, such as False"),
    ],
)
def test_a_value_of_another_type_is_refused(found, message):
    with pytest.raises(ValueError, match=message):
        settings.read(TABLE, found)
