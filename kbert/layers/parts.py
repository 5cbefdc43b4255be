"""What a layer is handed: sublayers, to and from its config, and initializers, drawn anew."""

import keras


def to_config(layer, names):
    """The config of the sublayers that `layer` was handed under `names`: each a layer, a list of
    layers, or None.
    """
    return {name: keras.saving.serialize_keras_object(getattr(layer, name)) for name in names}


def from_config(config, names):
    """`config` with the sublayers made again, not yet built.

    Their owner builds them, and so gives their variables the same paths as at first; built here,
    from the shapes that Keras notes beside a config, they would be built twice.
    """

    def sublayer(config):
        if config is None:
            return None
        if isinstance(config, list):
            return [sublayer(entry) for entry in config]
        return keras.saving.deserialize_keras_object({**config, "build_config": None})

    return {**config, **{name: sublayer(config[name]) for name in names}}


def fresh(initializer):
    """The same initializer with a seed of its own, where no seed was asked for.

    One Keras initializer gives the same numbers at every call: shared, it would make queries equal
    to keys, and every block equal to the first.
    """
    return initializer.clone() if isinstance(initializer, keras.Initializer) else initializer
