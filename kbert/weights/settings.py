"""Tables that run both ways between a config of ours and `config.json`.

A table maps our field to Hugging Face's key and the value that holds where the key is not there.
"""


def read(table: dict, settings: dict) -> dict:
    """Our fields with what `config.json` says of them, or leaves out.

    Raises:
        ValueError: a value is of another type than the one that stands for it in the table.
    """
    for key, default in table.values():
        value, kind = settings.get(key, default), type(default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{key} is {value!r}; expected {kind.__name__}, such as {default}.")
    return {ours: settings.get(key, default) for ours, (key, default) in table.items()}


def written(table: dict, config) -> dict:
    """`config.json`'s keys for a config: the other way of `read`."""
    return {key: getattr(config, ours) for ours, (key, _) in table.items()}
