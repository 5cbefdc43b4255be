"""Why the embedded server does not answer: TensorFlow's codes, and their HTTP statuses."""

# As TF Serving's http_server.cc maps them.
HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


class Refusal(Exception):
    """A request that gets an error for an answer.

    Attributes:
        code: TensorFlow's name of it, a key of `HTTP_STATUS`.
        message: TF Serving's own words.
    """

    def __init__(self, message: str, code: str = "INVALID_ARGUMENT"):
        super().__init__(message)
        self.message, self.code = message, code

    @property
    def status(self) -> int:
        return HTTP_STATUS[self.code]
