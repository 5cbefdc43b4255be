"""Training on several devices, by names that say which engine runs."""

import contextlib

import keras

from kbert.errors import InputError

# Name → the backend whose engine it is; None for any.
STRATEGIES = {"none": None, "mirrored": "tensorflow", "data-parallel": "jax"}


def distribution(name: str):
    """A context in which a model is made and trained on the devices of this machine.

    Args:
        name: "none", one device; "mirrored", `tf.distribute.MirroredStrategy` over all GPUs, or
            all logical CPUs where there is none (TensorFlow); "data-parallel",
            `keras.distribution.DataParallel` over all devices (JAX).

    Returns:
        A context manager; entering it gives the number of devices.

    Raises:
        InputError: the name is unknown, or its engine belongs to another backend (on TensorFlow
            `keras.distribution` would silently train on one device).
    """
    if name not in STRATEGIES:
        raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}; got {name!r}.")
    backend = keras.backend.backend()
    needed = STRATEGIES[name]
    if needed not in (None, backend):
        fitting = [n for n, b in STRATEGIES.items() if b in (None, backend)]
        raise InputError(
            f"strategy {name!r} runs on the {needed} backend; this is {backend}, which has "
            f"{' and '.join(fitting)}. Set KERAS_BACKEND={needed}, or choose another."
        )
    if name == "mirrored":
        return _mirrored()
    return _data_parallel() if name == "data-parallel" else contextlib.nullcontext(1)


@contextlib.contextmanager
def _mirrored():
    import tensorflow as tf

    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        yield strategy.num_replicas_in_sync


@contextlib.contextmanager
def _data_parallel():
    before = keras.distribution.distribution()
    parallel = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
    keras.distribution.set_distribution(parallel)
    try:
        yield parallel.device_mesh.devices.size
    finally:
        keras.distribution.set_distribution(before)
