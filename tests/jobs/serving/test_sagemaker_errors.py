"""What AWS answers when it does not do what was asked: come again, put the access right, or no."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from jobs.config import EndpointSettings
from jobs.deployments.release import Release
from jobs.errors import Misconfigured, NotReady, Refused, TidegateError
from jobs.serving.sagemaker import Endpoint

RELEASE = Release("xgboost-full-2026-01-08", "2026-01-08", "full", "/b", "a" * 64, "e" * 64, "alice", "")
LOCAL = EndpointSettings(url="http://127.0.0.1:9")
KINDS: list[tuple[str, int, str, type[TidegateError]]] = [
    # throttling and time, most of it with status 400 in a JSON service
    ("ThrottlingException", 400, "Rate exceeded", NotReady),
    ("Throttling", 400, "Rate exceeded", NotReady),
    ("TooManyRequestsException", 429, "Too many requests", NotReady),
    ("RequestLimitExceeded", 503, "Request limit exceeded", NotReady),
    ("RequestTimeout", 400, "Your socket connection was not read in time", NotReady),
    ("RequestTimeoutException", 408, "Request timed out", NotReady),
    ("ServiceUnavailable", 503, "try later", NotReady),
    ("InternalFailure", 500, "sorry", NotReady),
    ("NobodyKnowsThisOne", 502, "bad gateway", NotReady),
    ("429", 429, "", NotReady),
    ("ResourceInUse", 400, "Resource in use", NotReady),
    ("ValidationException", 400, 'Cannot update in-progress endpoint "arn:aws:sagemaker:…"', NotReady),
    # access: keys, rights, clocks, quotas
    ("AccessDeniedException", 400, "not authorized to perform: sagemaker:DescribeEndpoint", Misconfigured),
    ("AccessDenied", 403, "Access Denied", Misconfigured),
    ("UnrecognizedClientException", 400, "The security token included in the request is invalid", Misconfigured),
    ("InvalidClientTokenId", 403, "The security token included in the request is invalid", Misconfigured),
    ("SignatureDoesNotMatch", 403, "The request signature we calculated does not match", Misconfigured),
    ("InvalidSignatureException", 400, "Signature expired", Misconfigured),
    ("ExpiredTokenException", 400, "The security token included in the request is expired", Misconfigured),
    ("ExpiredToken", 403, "The provided token has expired", Misconfigured),
    ("MissingAuthenticationTokenException", 400, "Missing Authentication Token", Misconfigured),
    ("OptInRequired", 403, "needs a subscription", Misconfigured),
    ("SomethingNew", 403, "forbidden", Misconfigured),
    ("ResourceLimitExceeded", 400, "The account-level service limit 'ml.m5.large' is 0 Instances", Misconfigured),
    # no
    ("ValidationException", 400, "1 validation error detected: Value 'x y' at 'endpointName'", Refused),
    ("UnknownOperationException", 404, "", Refused),
    ("ModelError", 424, "Received server error (500) from primary", Refused),
]


def endpoint(settings: EndpointSettings = LOCAL) -> Any:
    return Endpoint(settings)


@pytest.mark.parametrize(("code", "status", "message", "kind"), KINDS)
def test_each_error_is_of_its_kind(code: str, status: int, message: str, kind: type[TidegateError]) -> None:
    """Throttled, a deployment was refused for good, as if the data were wrong; so was one with an expired token."""
    found = endpoint()
    with Stubber(found._control) as answers:
        answers.add_client_error("describe_endpoint", code, message, status)
        with pytest.raises(TidegateError, match=r"the endpoint at http://127\.0\.0\.1:9 must") as caught:
            found.serving()
    assert type(caught.value) is kind
    assert message in str(caught.value)


def test_only_what_is_not_there_is_none() -> None:
    """A name that is no name, or a right that is missing, once looked like an endpoint yet to be created."""
    found = endpoint()
    with Stubber(found._control) as answers:
        message = 'Could not find endpoint "arn:aws:sagemaker:eu-central-1:1:endpoint/tidegate".'
        answers.add_client_error("describe_endpoint", "ValidationException", message, 400)
        assert found.serving() is None
        answers.add_client_error("describe_endpoint", "ValidationException", "Value 'x y' at 'endpointName'", 400)
        with pytest.raises(Refused, match="endpointName"):
            found.serving()


@pytest.mark.parametrize("status", ["UpdateRollbackFailed", "OutOfService", "Failed"])
def test_a_state_it_does_not_leave_by_itself_is_not_waited_for(status: str) -> None:
    """Half an hour of waiting would not end it."""
    found = endpoint()
    described = {"EndpointName": "tidegate", "EndpointArn": "arn:aws:sagemaker:x:1:endpoint/t" + "-" * 20}
    described |= {"EndpointConfigName": "a", "EndpointStatus": status, "CreationTime": 0, "LastModifiedTime": 0}
    with Stubber(found._control) as answers:
        answers.add_response("describe_endpoint", described)
        assert found.serving() is None


def test_an_update_whose_rollback_failed_ends_the_waiting() -> None:
    """boto3's own waiter asks on for an hour: neither InService nor Failed."""
    found = endpoint()
    found._delay = 0.0
    described = {"EndpointName": "tidegate", "EndpointArn": "arn:aws:sagemaker:x:1:endpoint/t" + "-" * 20}
    described |= {"EndpointConfigName": "a", "CreationTime": 0, "LastModifiedTime": 0}
    with Stubber(found._control) as answers:
        answers.add_response("describe_endpoint", {**described, "EndpointStatus": "InService"})
        answers.add_response("update_endpoint", {"EndpointArn": described["EndpointArn"]})
        for status in ("Updating", "RollingBack", "UpdateRollbackFailed"):
            answers.add_response("describe_endpoint", {**described, "EndpointStatus": status})
        with pytest.raises(Refused, match="must serve b; it is UpdateRollbackFailed with a"):
            found.switch("b")
        answers.assert_no_pending_responses()


class Answering(BaseHTTPRequestHandler):
    """Says the same to every request, in the shape of a JSON service."""

    status, body, headers_sent = 400, b"{}", {"Content-Type": "application/x-amz-json-1.1"}

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def answering(status: int, error: dict[str, str]) -> Iterator[Any]:
    """An endpoint whose server answers every request with this error."""
    said = {"Content-Type": "application/x-amz-json-1.1"}
    if "__type" in error:
        said["x-amzn-ErrorType"] = error["__type"]
    handler = type(
        "Handler", (Answering,), {"status": status, "body": json.dumps(error).encode(), "headers_sent": said}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield endpoint(EndpointSettings(url=f"http://127.0.0.1:{server.server_port}"))
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"__type": "ThrottlingException", "message": "Rate exceeded"}, NotReady),
        (400, {"__type": "com.amazon.coral.service#ExpiredTokenException", "message": "expired"}, Misconfigured),
        (400, {"__type": "ValidationException", "message": "no such thing"}, Refused),
        (503, {}, NotReady),
        (403, {}, Misconfigured),
    ],
)
def test_as_it_comes_over_the_wire(status: int, error: dict[str, str], kind: type[TidegateError]) -> None:
    """With its namespace, or without a body at all, as a proxy answers; on every call that `deploy` makes."""
    with answering(status, error) as found:
        for call in (found.serving, lambda: found.prepare(RELEASE), lambda: found.smoke(RELEASE), found.remove):
            with pytest.raises(TidegateError) as caught:
                call()
            assert type(caught.value) is kind


def test_a_url_that_is_none_is_a_setting() -> None:
    with pytest.raises(Misconfigured, match=r"endpoint\.url must be a URL; found 'nonsense'"):
        endpoint(EndpointSettings(url="nonsense"))


def test_a_profile_or_keys_that_do_not_exist_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somewhere else than on this machine, real keys are needed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    away = EndpointSettings(url="https://sagemaker.invalid")
    with pytest.raises(Misconfigured, match="needs AWS credentials"):
        endpoint(away).serving()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Misconfigured, match="nobody"):
        endpoint(away)
