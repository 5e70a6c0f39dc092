"""What an error of AWS means for the caller: come again, put the access right, or it will not be done.

Codes and HTTP statuses are those of AWS's common errors and of botocore's service models. The code decides where it is
known, for JSON services send throttling and access errors with status 400; else the status does.
"""

from collections.abc import Mapping
from typing import Any

from jobs.errors import Misconfigured, NotReady, Refused, TidegateError

BUSY = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException"),
        *("TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded", "LimitExceededException", "SlowDown"),
        *("RequestTimeout", "RequestTimeoutException", "RequestAbortedException", "PriorRequestNotComplete"),
        *("ServiceUnavailable", "ServiceUnavailableException", "InternalFailure", "InternalServerError"),
        *("InternalDependencyException", "ModelNotReadyException", "ResourceInUse", "ConflictException"),
    }
)
"""A service or a resource that may answer later."""
DENIED = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation", "OptInRequired"),
        *("UnrecognizedClient", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"),
        *("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "IncompleteSignatureException"),
        *("ExpiredToken", "ExpiredTokenException", "MissingAuthenticationToken", "MissingAuthenticationTokenException"),
        *("RequestExpired", "RequestTimeTooSkewed"),
        "ResourceLimitExceeded",  # the account's quota: only whoever owns the account can raise it
    }
)
"""Keys, rights, quotas and clocks: they stay wrong until somebody puts them right."""
ABSENT = "could not find"
"""How SageMaker says in a ValidationException that a name is unknown; other such errors are about something else."""
UNDER_WAY = "in-progress"
"""How it says that an endpoint is being changed already."""
UNAUTHORIZED, FORBIDDEN, TIMED_OUT, TOO_MANY, SERVER = 401, 403, 408, 429, 500


def kind(response: Mapping[str, Any]) -> type[TidegateError]:
    """What a `ClientError` with this response is to us: `NotReady`, `Misconfigured` or `Refused`."""
    code, status = str(response["Error"].get("Code", "")), int(response["ResponseMetadata"]["HTTPStatusCode"])
    if code in BUSY or UNDER_WAY in _message(response):
        return NotReady
    if code in DENIED:
        return Misconfigured
    if status in (TIMED_OUT, TOO_MANY) or status >= SERVER:
        return NotReady
    return Misconfigured if status in (UNAUTHORIZED, FORBIDDEN) else Refused


def absent(response: Mapping[str, Any]) -> bool:
    """Whether a `ClientError` with this response says that there is nothing of that name."""
    code = response["Error"].get("Code")
    return code == "ResourceNotFound" or (code == "ValidationException" and ABSENT in _message(response))


def _message(response: Mapping[str, Any]) -> str:
    return str(response["Error"].get("Message", "")).lower()
