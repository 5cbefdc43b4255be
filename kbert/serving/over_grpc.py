"""The client's requests over TF Serving's gRPC API, by the protocols of tensorflow-serving-api."""

from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from kbert.serving.client import ServingError

PASSING = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
# gRPC's own limit is 4 MB, for answers: attention maps are larger.
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Grpc:
    """See `client.Client`; every method takes the seconds it has left."""

    def __init__(self, address: str, is_secure: bool):
        self.address = address
        if is_secure:
            credentials = grpc.ssl_channel_credentials()
            self.channel = grpc.secure_channel(address, credentials, UNLIMITED)
        else:
            self.channel = grpc.insecure_channel(address, UNLIMITED)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def predict(self, model, version, signature, columns, seconds) -> dict[str, list]:
        request = _of(PredictRequest(), model, version)
        request.model_spec.signature_name = signature
        for name, column in columns.items():
            request.inputs[name].CopyFrom(make_tensor_proto(_array(column)))
        outputs = self._ask(self.predictions.Predict, request, seconds).outputs
        return {name: _listed(name, make_ndarray(x)) for name, x in outputs.items()}

    def status(self, model, version, seconds) -> dict[int, str]:
        request = _of(GetModelStatusRequest(), model, version)
        told = self._ask(self.models.GetModelStatus, request, seconds).model_version_status
        return {one.version: ModelVersionStatus.State.Name(one.state) for one in told}

    def metadata(self, model, version, seconds) -> dict[str, Any]:
        request = _of(GetModelMetadataRequest(metadata_field=["signature_def"]), model, version)
        answer = self._ask(self.predictions.GetModelMetadata, request, seconds)
        signatures = SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        shown = {
            "always_print_fields_with_no_presence": True,
            "preserving_proto_field_name": True,
        }
        return {
            "model_spec": MessageToDict(answer.model_spec, **shown),
            "metadata": {"signature_def": MessageToDict(signatures, **shown)},
        }

    def _ask(self, method, request, seconds):
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            code = error.code().name
            raise ServingError(
                f"grpc://{self.address}: {code}: {error.details()}", code,
                is_passing=code in PASSING,
            ) from error  # fmt: skip


def _of(request, model, version):
    request.model_spec.name = model
    if isinstance(version, str):
        request.model_spec.version_label = version
    elif version is not None:
        request.model_spec.version.value = version
    return request


def _array(column) -> np.ndarray:
    """A column as the tensor that is sent: texts as bytes, Python's numbers in 32 bits."""
    if isinstance(column, np.ndarray):
        return column
    if any(isinstance(x, str | bytes) for x in column):
        # As objects: NumPy's own strings lose NUL at their end.
        return np.array([x.encode() if isinstance(x, str) else x for x in column], object)
    array = np.array(column)
    return array.astype({"i": "int32", "f": "float32"}.get(array.dtype.kind, array.dtype))


def _listed(name: str, array: np.ndarray) -> Any:
    """An output as lists: strings as text, of `…_bytes` the bytes."""
    if array.dtype != object or name.endswith("_bytes"):
        return array.tolist()
    return np.vectorize(lambda x: x.decode("utf-8", "replace"), otypes=[object])(array).tolist()
