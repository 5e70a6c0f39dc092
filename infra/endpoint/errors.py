"""A request the endpoint will not serve, in SageMaker's words: an error code, one sentence, an HTTP status."""

from typing import Any

MODELLED = ("ResourceInUse", "ResourceLimitExceeded", "ResourceNotFound", "ConflictException")
"""Codes that the service model has shapes for, whose member is `Message`; of the others AWS writes it small."""


class Rejected(Exception):
    """The control plane's refusal; `code` is what boto3 shows as `error.response["Error"]["Code"]`."""

    def __init__(self, message: str, code: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status

    def body(self) -> dict[str, Any]:
        """The JSON body of the control plane (AWS JSON 1.1)."""
        return {"__type": self.code, "Message" if self.code in MODELLED else "message": self.message}


class BadRequest(Exception):
    """The serving container cannot read this request: it says 400, which the platform passes on as a ModelError."""


class Conflict(Exception):
    """The bundle in service cannot be asked this: 409, however often it is tried."""


class Unavailable(Exception):
    """Not in time, or the model raised: 503, and nothing could stand in for the answer."""
