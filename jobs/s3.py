"""Clients of S3, as the environment says where it is and who asks.

One set of variables serves every client there is (boto3's for objects, Arrow's for Parquet, delta-rs's for the log):
AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) where AWS itself is not meant, AWS_REGION, and keys as AWS's own tools have
them. A server on loopback checks no keys and is sent made-up ones. One whose certificate a team signed itself needs
AWS_CA_BUNDLE, the file of who signed it, and SSL_CERT_FILE, which is all that delta-rs knows of.
"""

import os
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobs import aws
from jobs.errors import Misconfigured

if TYPE_CHECKING:  # settings name places, and whoever reads a DAG file reads settings: Arrow is loaded by its first use
    from pyarrow import fs


def endpoint() -> str | None:
    """Where S3 is asked for; None is AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def region() -> str:
    """Of the buckets: AWS_REGION, else what AWS's own tools have."""
    import boto3

    found = os.environ.get("AWS_REGION") or boto3.Session().region_name
    if not found and endpoint() is None:
        raise Misconfigured("S3 needs AWS_REGION, or a region in AWS's own settings; found neither")
    return found or "us-east-1"


def storage_options() -> dict[str, str]:
    """For delta-rs: a commit's entry is put only if there is none, so that one of two writers fails.

    Raises `Misconfigured` where boto3 and Arrow are told whose certificates to trust and delta-rs is not: it would only
    say that nothing answers. SSL_CERT_FILE counts for everything else in the process too, so it is not set here.
    """
    if authorities() and not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        raise Misconfigured(
            "S3 with AWS_CA_BUNDLE needs SSL_CERT_FILE too, with these authorities and those of all others that are"
            " asked (Slack, MLflow): delta-rs reads no other variable; found none"
        )
    return {"aws_conditional_put": "etag", **_storage_options(endpoint(), region())}


@cache
def _storage_options(url: str | None, where: str) -> dict[str, str]:
    given = {"aws_region": where, **aws.keys(url)}
    plain = {"aws_allow_http": "true"} if url and urlsplit(url).scheme == "http" else {}
    return {**given, "aws_endpoint_url": url, **plain} if url else given


def authorities() -> str | None:
    """The file of those whose certificates S3 may have; None is those that the machine trusts."""
    return os.environ.get("AWS_CA_BUNDLE") or None


def arrow() -> "fs.S3FileSystem":
    """Arrow's client, one for all."""
    return _arrow(endpoint(), region(), authorities())


@cache
def _arrow(url: str | None, where: str, trusted: str | None) -> "fs.S3FileSystem":
    from pyarrow import fs

    known = aws.keys(url)
    named = urlsplit(url or "")
    return fs.S3FileSystem(
        region=where,
        connect_timeout=aws.CONNECT_SECONDS,
        request_timeout=aws.READ_SECONDS,
        **({"endpoint_override": named.netloc, "scheme": named.scheme} if url else {}),
        **({"tls_ca_file_path": trusted} if trusted else {}),
        **({"access_key": known["aws_access_key_id"], "secret_key": known["aws_secret_access_key"]} if known else {}),
    )


def client() -> Any:
    """boto3's, one for all."""
    return _s3(endpoint(), region(), authorities())


@cache
def _s3(url: str | None, where: str, _trusted: str | None) -> Any:  # botocore reads AWS_CA_BUNDLE itself
    return aws.client("s3", where, url, "AWS_ENDPOINT_URL")


os.register_at_fork(after_in_child=_s3.cache_clear)  # a connection is nothing that two processes can share
os.register_at_fork(after_in_child=_arrow.cache_clear)
