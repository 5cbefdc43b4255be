"""One version of a model, loaded: a SavedModel in a TensorFlow session, as TF Serving has it.

A session, not `tf.saved_model.load`: it runs the nodes that a signature names and nothing else, as
the real server does, answers as fast, and gives its memory back when it is closed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401 (registers its operations)
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.config_pb2 import CallableOptions
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from kbert.serving import answers, rest
from kbert.serving.batching import Batcher
from kbert.serving.refusal import HTTP_STATUS, Refusal

WARMUP = Path("assets.extra", "tf_serving_warmup_requests")
DEFAULT = "serving_default"
CODES = {getattr(tf.errors, name): name for name in HTTP_STATUS}


class Signature:
    """A signature that can be called: arrays by name → arrays by name."""

    def __init__(self, session, definition, batch_size: int, at_once: int):
        self.inputs = sorted(definition.inputs)
        self.outputs = sorted(definition.outputs)
        described = [definition.inputs[name] for name in self.inputs]
        self.dtypes = {
            name: tf.dtypes.as_dtype(x.dtype).name
            for name, x in zip(self.inputs, described, strict=True)
        }
        fetched = [definition.outputs[name] for name in self.outputs]
        options = CallableOptions(feed=[x.name for x in described], fetch=[x.name for x in fetched])
        # Not the public `run`, which refuses shapes that the signature does not have: the real
        # server leaves them to the graph.
        self.call = session._make_callable_from_options(options)
        is_by_row = all(_is_by_row(x.tensor_shape) for x in [*described, *fetched])
        joins = is_by_row and batch_size > 1
        self.batcher = Batcher(self._run, batch_size, at_once) if joins else self._run

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """
        Raises:
            Refusal: inputs are missing, or the graph failed.
        """
        if missing := [name for name in self.inputs if name not in inputs]:
            came, wanted = ",".join(sorted(inputs)), ",".join(self.inputs)
            raise Refusal(
                f"input size does not match signature: {len(inputs)}!={len(self.inputs)} "
                f"len({{{came}}}) != len({{{wanted}}}). Sent extra: {{}}. Missing but required: "
                f"{{{','.join(missing)}}}."
            )
        is_a_batch = all(x.ndim and len(x) for x in inputs.values())
        rows = {len(x) for x in inputs.values()} if is_a_batch else ()
        try:
            return (self.batcher if len(rows) == 1 else self._run)(inputs)
        except tf.errors.OpError as error:
            raise Refusal(error.message, CODES.get(error.error_code, "UNKNOWN")) from None

    def _run(self, inputs):
        found = self.call(*(inputs[name] for name in self.inputs))
        return {name: np.asarray(x) for name, x in zip(self.outputs, found, strict=True)}


class Servable:
    """A loaded version.

    Args:
        folder: the version's, with a SavedModel.
        batch_size: the most rows that parallel requests are joined to; 1 joins none.
        at_once: how many runs of a signature may be under way.
    """

    def __init__(self, folder: Path, batch_size: int = 64, at_once: int = 1):
        self.in_use = 0
        with tf.Graph().as_default() as graph:
            self.session = tf.compat.v1.Session(graph=graph)
            try:
                loaded = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder))
                self.definitions = SignatureDefMap(signature_def=loaded.signature_def)
                del loaded  # it holds the weights once more
                self.signatures = {
                    name: Signature(self.session, definition, batch_size, at_once)
                    for name, definition in self.definitions.signature_def.items()
                    if definition.inputs
                }
            except Exception:
                self.session.close()
                raise
            graph.finalize()
        self.warm_up(folder / WARMUP)

    def close(self):
        self.session.close()

    def signature(self, name: str) -> Signature:
        if name not in self.signatures:
            raise Refusal(f'Serving signature name: "{name}" not found in signature def')
        return self.signatures[name]

    def metadata(self) -> dict[str, Any]:
        """Signatures as the metadata route shows them."""
        return MessageToDict(
            self.definitions,
            always_print_fields_with_no_presence=True,
            preserving_proto_field_name=True,
        )

    def predict(self, document: Mapping[str, Any]) -> str:
        """A predict request → its answer, both as REST has them."""
        signature = self.signature(rest.signature_name(document))
        outputs = signature(rest.tensors(document, signature.dtypes))
        return (answers.rows if "instances" in document else answers.columns)(outputs)

    def classify(self, document: Mapping[str, Any], asked: np.ndarray) -> str:
        """`asked`: serialized examples, see `examples.serialized`."""
        signature = self._of_examples(document, (1, 2), "Expected one or two output Tensors")
        if not {"classes", "scores"} & set(signature.outputs):
            raise Refusal(
                "Expected classification signature outputs to contain at least one of "
                f'"classes" or "scores". Signature has: {", ".join(signature.outputs)}',
                "FAILED_PRECONDITION",
            )
        found = signature({"inputs": asked})
        for name, array in found.items():
            if array.ndim != 2:
                raise Refusal(
                    "Expected Tensor shape: [batch_size num_classes] but got "
                    f"[{','.join(map(str, array.shape))}] of {name}"
                )
        return answers.classes(found.get("classes"), found.get("scores"))

    def regress(self, document: Mapping[str, Any], asked: np.ndarray) -> str:
        """`asked`: serialized examples."""
        signature = self._of_examples(document, (1,), "Expected one output Tensor.")
        if "outputs" not in signature.outputs:
            raise Refusal(
                f"No regression outputs found in SignatureDef: {', '.join(signature.outputs)}",
                "FAILED_PRECONDITION",
            )
        found = signature({"inputs": asked})["outputs"]
        if found.shape not in {(len(asked),), (len(asked), 1)}:
            raise Refusal(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
                f"[{','.join(map(str, found.shape))}]"
            )
        return answers.numbers(found)

    def _of_examples(self, document, outputs: tuple[int, ...], message: str) -> Signature:
        name = rest.signature_name(document)
        if name not in self.signatures:
            raise Refusal(f"No signature was found with the name: {name}")
        signature = self.signatures[name]
        if len(signature.inputs) != 1:
            raise Refusal("Expected one input Tensor.")
        if len(signature.outputs) not in outputs:
            found = f", found {len(signature.outputs)}" if len(outputs) > 1 else ""
            raise Refusal(f"{message}{found}")
        if "inputs" not in signature.inputs:
            raise Refusal(
                f"No inputs found in SignatureDef: {signature.inputs[0]}", "FAILED_PRECONDITION"
            )
        return signature

    def warm_up(self, file: Path):
        """Answers the requests that an export left for it, so that the first user need not wait."""
        if not file.is_file():
            return
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            log = PredictionLog.FromString(record)
            request = getattr(log, log.WhichOneof("log_type")).request
            signature = self.signature(request.model_spec.signature_name or DEFAULT)
            if hasattr(request, "inputs"):
                asked = {name: tf.make_ndarray(x) for name, x in request.inputs.items()}
            else:
                listed = request.input.example_list.examples
                asked = {"inputs": np.array([x.SerializeToString() for x in listed], object)}
            signature(asked)


def _is_by_row(shape) -> bool:
    return not shape.unknown_rank and len(shape.dim) > 0 and shape.dim[0].size == -1
