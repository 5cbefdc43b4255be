"""A SavedModel served: TF Serving's files, a client, and a small server with the same REST API."""

from kbert.serving.client import Client, ServingError

__all__ = ["Client", "ServingError"]
