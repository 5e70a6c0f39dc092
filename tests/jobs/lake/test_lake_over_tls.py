"""The lake on an S3 whose certificate a team signed itself: boto3, Arrow and delta-rs trust it by two variables."""

from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import SSLError
from deltalake import DeltaTable

from jobs.errors import Misconfigured, NotReady
from jobs.lake.store import Lake, Lineage
from jobs.places import S3Path
from jobs.s3 import storage_options
from tests import certificates, moto_server

SLOT = {"day": "2026-01-01", "table": "clicks"}
ROWS = pa.table({"row_key": ["a"], "expectation": ["e"], "reason": [""], "payload": ["{}"]})
BY = Lineage("validate", "run1", "abc", "cfg")


def test_who_signed_it_is_trusted_by_every_client_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, nothing is sent; known to boto3 and Arrow alone, the sentence names the variable that is missing."""
    authority, shown = certificates.made(tmp_path)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with moto_server.serving(shown) as moto:
        with pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            moto.s3.list_buckets()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        trusting = moto.client("s3")
        trusting.create_bucket(Bucket="over-tls", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        root = S3Path("over-tls", "lake")
        Lake(root).publish("quarantine", SLOT, ROWS, BY)
        assert Lake(root).read("quarantine").column("row_key").to_pylist() == ["a"]
        with pytest.raises(Misconfigured, match="AWS_CA_BUNDLE needs SSL_CERT_FILE too"):
            storage_options()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        by_delta_rs = DeltaTable(str(root / "quarantine"), storage_options=storage_options())
        assert by_delta_rs.to_pyarrow_table(columns=["row_key"]).column(0).to_pylist() == ["a"]

        monkeypatch.delenv("AWS_CA_BUNDLE")
        with pytest.raises(NotReady, match="must answer"):
            S3Path("over-tls", "other").joinpath("x").read_bytes()
