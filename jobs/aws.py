"""Clients of AWS's services, or of what speaks like them at another address."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from jobs import aws_errors
from jobs.errors import Misconfigured, NotReady, Refused

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECT_SECONDS, READ_SECONDS, TRIES = 3, 60, 3
_ONE_AT_A_TIME = Lock()


def is_local(url: str | None) -> bool:
    """Whether a server on this machine is meant; None is AWS itself."""
    return url is not None and urlsplit(url).hostname in LOOPBACK


def keys(url: str | None) -> dict[str, str]:
    """A made-up key is good for a server that checks none, and must never be sent anywhere else."""
    return {"aws_access_key_id": "local", "aws_secret_access_key": "local"} if is_local(url) else {}


def client(service: str, region: str, url: str | None, setting: str) -> Any:
    """Of a service; `setting` names where its address comes from. Raises `Misconfigured` where that is none."""
    from botocore.config import Config

    retries = {"total_max_attempts": TRIES, "mode": "standard"}
    # A server of one's own seldom has a name for each bucket.
    style = {"s3": {"addressing_style": "path"}} if url else {}
    options = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries=retries, **style)
    with reached(named(service, url)):
        try:
            return made(service, region, url, options)
        except ValueError as error:
            raise Misconfigured(f"{setting} must be a URL; found {url!r}") from error


def made(service: str, region: str, url: str | None, options: Any) -> Any:
    """boto3's client with botocore's `Config`, as boto3 raises it."""
    if not is_local(url):
        import boto3

        return boto3.Session(region_name=region).client(service, endpoint_url=url, config=options)
    with _ONE_AT_A_TIME:
        return _local(region).client(service, endpoint_url=url, config=options)


@cache
def _local(region: str) -> Any:
    """The session of all local servers, whose keys never change: what a new one reads first takes longer than a call.

    Clients are safe among threads, the session that makes them is not.
    """
    import boto3

    return boto3.Session(region_name=region, **keys("http://localhost"))


def named(service: str, url: str | None) -> str:
    """How a sentence calls it."""
    return f"{service} at {url}" if url else f"AWS's {service}"


@contextmanager
def reached(who: str) -> Iterator[None]:
    """Errors on the way, by what they mean: see `jobs.aws_errors` for those that AWS sends."""
    from boto3.exceptions import S3UploadFailedError
    from botocore import exceptions as boto

    no_keys = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoAuthTokenError, boto.ProfileNotFound)
    no_login = (boto.SSOError, boto.TokenRetrievalError, boto.LoginTokenLoadError)
    no_region = (boto.NoRegionError, boto.InvalidRegionError)
    try:
        yield
    except boto.ClientError as error:
        kind = aws_errors.kind(error.response)
        needs = {NotReady: "answer", Misconfigured: "let us in", Refused: "do what was asked"}[kind]
        raise kind(f"{who} must {needs}; it said: {error}") from error
    except (*no_keys, *no_login, *no_region) as error:
        raise Misconfigured(f"{who} needs AWS credentials and a region: {error}") from error
    except S3UploadFailedError as error:
        cause = error.__context__
        if isinstance(cause, boto.ClientError):
            raise aws_errors.kind(cause.response)(f"{who} must take what was sent; it said: {cause}") from error
        raise NotReady(f"{who} must take what was sent; found: {error}") from error
    except (boto.HTTPClientError, boto.ConnectionError, boto.CredentialRetrievalError, boto.WaiterError) as error:
        raise NotReady(f"{who} must answer; found: {error}") from error
