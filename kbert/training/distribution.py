"""Training on several devices, by names that say which engine runs."""

import contextlib
import os
from collections.abc import Iterator

import keras

from kbert.errors import InputError
from kbert.training import processes

# Name → the backend whose engine it is; None for any.
STRATEGIES = {
    "none": None,
    "auto": None,
    "mirrored": "tensorflow",
    "tpu": "tensorflow",
    "multi-worker": "tensorflow",
    "data-parallel": "jax",
    "model-parallel": "jax",
}
BATCH, MODEL = "batch", "model"  # the axes of a mesh of devices

# How a model's variables are cut over the axis `MODEL` (Shoeybi et al. 2019, 3): attention by
# heads, the feed-forward layer by its inner width, so that each needs one sum over the devices; a
# vocabulary by its tokens. Other variables are on every device.
LAYOUT = {
    r".*attention/(query|key|value)/(kernel|lora_kernel_b)": (None, MODEL),
    r".*attention/(query|key|value)/bias": (MODEL,),
    r".*attention/output/(kernel|lora_kernel_a)": (MODEL, None),
    r".*feed_forward(_\d+)?/inner/(kernel|lora_kernel_b)": (None, MODEL),
    r".*feed_forward(_\d+)?/inner/bias": (MODEL,),
    r".*feed_forward(_\d+)?/outer/(kernel|lora_kernel_a)": (MODEL, None),
    r".*token_embedding/embeddings": (MODEL, None),
}


def distribution(name: str, mesh: str | None = None):
    """A context in which a model is made and trained on the devices of this machine.

    Args:
        name: "none", one device.
            "auto", the one of these that fits the devices found (`chosen` says which).
            "mirrored", `tf.distribute.MirroredStrategy` over all GPUs, or all logical CPUs where
            there is none (TensorFlow).
            "tpu", `tf.distribute.TPUStrategy`; the environment's TPU_NAME says where, else this
            machine's own (TensorFlow).
            "data-parallel", `keras.distribution.DataParallel` over all devices (JAX), also those
            of several processes on one host or many; see `processes.py`.
            "model-parallel", `keras.distribution.ModelParallel`, variables cut as `LAYOUT` says
            (JAX).
        mesh: of "model-parallel", as "2x4": devices over which a batch is shared, times those over
            which the model is cut. All devices cut the model if it is not given.

    Returns:
        A context manager; entering it gives the number of shares of a batch.

    Raises:
        InputError: the name is unknown, its engine belongs to another backend (on TensorFlow
            `keras.distribution` would silently train on one device) or does not work there, or the
            devices are other than asked for.
    """
    _check(name, mesh)
    name = chosen(name)
    if processes.are_several():
        if name != "data-parallel":
            raise InputError(
                f"{processes.NUMBER} says that this process is one of several, which only "
                f"data-parallel on the jax backend can be; this is {name!r} on "
                f"{keras.backend.backend()}. Take that, or unset the variable."
            )
        processes.join()
    if name == "mirrored":
        return _mirrored()
    if name == "tpu":
        return _tpu()
    if name == "none":
        return contextlib.nullcontext(1)
    devices = keras.distribution.list_devices()
    if name == "data-parallel":
        # Each process makes its own share of the data: `processes.share_of`.
        parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        return _of_keras(parallel, len(devices))
    return _model_parallel(devices, mesh)


def chosen(name: str) -> str:
    """The strategy that "auto" stands for on the devices found; others as they are."""
    if name != "auto":
        return name
    backend = keras.backend.backend()
    if backend == "jax":
        processes.join()
    if backend == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("TPU"):
            return "tpu"
        return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "none"
    if backend == "jax" and len(keras.distribution.list_devices()) > 1:
        return "data-parallel"
    return "none"


def _check(name: str, mesh: str | None):
    if name not in STRATEGIES:
        raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}; got {name!r}.")
    backend = keras.backend.backend()
    needed = STRATEGIES[name]
    if needed not in (None, backend):
        fitting = [n for n, b in STRATEGIES.items() if b in (None, backend) and n != "multi-worker"]
        raise InputError(
            f"strategy {name!r} runs on the {needed} backend; this is {backend}, which has "
            f"{' and '.join(fitting)}. Set KERAS_BACKEND={needed}, or choose another."
        )
    if name == "multi-worker":
        raise InputError(
            "strategy 'multi-worker': Keras 3 cannot train under MultiWorkerMirroredStrategy (its "
            "issue 20585). Take data-parallel with KERAS_BACKEND=jax, which runs on many hosts, or "
            "mirrored on one."
        )
    if mesh and name != "model-parallel":
        raise InputError(f"mesh {mesh!r} is for the strategy model-parallel; this is {name!r}.")


@contextlib.contextmanager
def _mirrored() -> Iterator[int]:
    import tensorflow as tf

    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        yield strategy.num_replicas_in_sync


@contextlib.contextmanager
def _tpu() -> Iterator[int]:
    import tensorflow as tf

    where = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=where)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"strategy 'tpu': expected a TPU at {where!r}, came none ({error}). Set TPU_NAME "
            "to its name or address, or choose another strategy."
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    with strategy.scope():
        yield strategy.num_replicas_in_sync


def _model_parallel(devices: list[str], mesh: str | None):
    shape = _shape(mesh or f"1x{len(devices)}", len(devices))
    grid = keras.distribution.DeviceMesh(shape, (BATCH, MODEL), devices)
    layout = keras.distribution.LayoutMap(grid)
    for pattern, axes in LAYOUT.items():
        layout[pattern] = axes
    return _of_keras(_EvenParts(layout_map=layout, batch_dim_name=BATCH), shape[0])


class _EvenParts(keras.distribution.ModelParallel):
    """Cuts what can be cut into equal parts, as XLA wants them.

    The vocabularies of published models hardly ever can; their embeddings are cut by width then.
    """

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        if layout is None or MODEL not in layout.axes:
            return layout
        parts = self.device_mesh.shape[1]
        for axes in (layout.axes, layout.axes[::-1]):
            if variable.shape[axes.index(MODEL)] % parts == 0:
                return keras.distribution.TensorLayout(axes, layout.device_mesh)
        return keras.distribution.TensorLayout([None] * len(axes), layout.device_mesh)


def _shape(mesh: str, num_devices: int) -> tuple[int, int]:
    batch, times, model = mesh.partition("x")
    if not (times and batch.isdecimal() and model.isdecimal()):
        raise InputError(f"mesh: expected two numbers, as 2x4, came {mesh!r}.")
    shape = int(batch), int(model)
    if shape[0] * shape[1] != num_devices:
        raise InputError(
            f"mesh {mesh} is of {shape[0] * shape[1]} devices; there are {num_devices}."
        )
    return shape


@contextlib.contextmanager
def _of_keras(parallel, num_shares: int) -> Iterator[int]:
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(parallel)
    try:
        yield num_shares
    finally:
        keras.distribution.set_distribution(before)
