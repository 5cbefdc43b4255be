"""Requests that a server answers before it says it is ready.

TensorFlow prepares a graph at its first request, and oneDNN each length that it has not seen: the
first of each would wait for seconds. TensorFlow Serving reads FILE when it loads a version.
"""

from collections.abc import Callable
from pathlib import Path

from kbert.inputs.buckets import bucket_lengths

FILE = Path("assets.extra", "tf_serving_warmup_requests")
WORD = "a"  # one token of any vocabulary, with the blank before it


def requests(function: Callable, task, tokenizer) -> list[dict]:
    """Inputs of a served function by name, NumPy arrays of one text each: of all lengths.

    Args:
        function: `serving_default`.
        task: its `max_length` is the longest.
        tokenizer: for the gap, where the task fills gaps.
    """
    import numpy as np

    gap = tokenizer.special_tokens["mask_token"] if task.name == "fill-mask" else WORD
    specs = function.get_concrete_function().structured_input_signature[0]
    found = []
    for length in bucket_lengths(task.max_length):
        text = " ".join([gap, *[WORD] * (length // len(specs))])
        found.append({x.name: np.full([n or 1 for n in x.shape], text, object) for x in specs})
    return found


def write(folder: Path, name: str, asked: list[dict]) -> None:
    """Write requests of `serving_default` for a version's folder.

    Args:
        folder: the version's.
        name: what the server calls the model.
        asked: inputs by name, see `requests`.
    """
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    (folder / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as file:
        for inputs in asked:
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = "serving_default"
            for key, array in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
            file.write(log.SerializeToString())
