"""What a layer is handed: sublayers, to and from its config, and initializers, drawn anew."""

import keras


def to_config(layer, names):
    """The config of the sublayers that `layer` was handed under `names`."""
    return {name: keras.saving.serialize_keras_object(getattr(layer, name)) for name in names}


def from_config(config, names):
    """`config` with the sublayers made again, not yet built.

    Their owner builds them, and so gives their variables the same paths as at first; built here,
    from the shapes that Keras notes beside a config, they would be built twice.
    """
    sublayers = {
        name: keras.saving.deserialize_keras_object({**config[name], "build_config": None})
        for name in names
    }
    return {**config, **sublayers}


def fresh(initializer):
    """The same initializer with a seed of its own, where no seed was asked for.

    One Keras initializer gives the same numbers at every call: shared, it would make queries equal
    to keys, and every block equal to the first.
    """
    return initializer.clone() if isinstance(initializer, keras.Initializer) else initializer
