"""A bundle as SageMaker fetches it: `model.tar.gz` on S3, whose files lie in /opt/ml/model of the container."""

import gzip
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

from jobs.aws import client, named, reached
from jobs.config import AwsSettings, EndpointSettings
from jobs.errors import Refused
from jobs.places import Place, copied

NAME = "model.tar.gz"
SHA256 = "bundle-sha256"
"""Of the object's metadata: the bundle that is inside."""


def put(settings: EndpointSettings, folder: Place, sha256: str) -> str:
    """The address of a judged bundle on S3, which it has only once it is there whole; sent once, whoever asks."""
    aws = settings.aws
    where = named("s3", aws.s3_url)
    s3 = client("s3", settings.region, aws.s3_url, "endpoint.aws.s3_url")
    key = f"{aws.prefix}/models/{sha256}/{NAME}"
    with reached(where):
        if _there(s3, aws, key) != sha256:
            with tempfile.TemporaryDirectory() as here, tempfile.TemporaryFile() as file:
                pack(copied(folder, Path(here)), file)
                file.seek(0)
                s3.upload_fileobj(file, aws.bucket, key, ExtraArgs={"Metadata": {SHA256: sha256}})
    return f"s3://{aws.bucket}/{key}"


def pack(folder: Path, into: IO[bytes]) -> None:
    """The same bytes for the same bundle: neither times, owners nor the order of a disk are in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise Refused(f"a bundle must be a folder with files; found {folder}")
    # The least compression: embeddings hardly shrink, and a gigabyte is to be sent within the minute.
    with (
        gzip.GzipFile(filename="", fileobj=into, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in files:
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)


def unpack(packed: IO[bytes], folder: Path) -> None:
    """Files and folders below `folder` only; raises `Refused` for an archive that is none, or holds anything else."""
    try:
        with tarfile.open(fileobj=packed, mode="r:gz") as archive:
            for member in archive:
                if not (member.isfile() or member.isdir()):
                    raise Refused(f"{NAME} must hold files and folders; found {member.name!r}")
                archive.extract(member, folder, filter="data")
    except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
        raise Refused(f"{NAME} must be a tar archive, packed by gzip; found: {error}") from error


def _there(s3: Any, aws: AwsSettings, key: str) -> str | None:
    """The bundle at a key; None without one."""
    from botocore.exceptions import ClientError

    try:
        return s3.head_object(Bucket=aws.bucket, Key=key)["Metadata"].get(SHA256)  # type: ignore[no-any-return]
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
