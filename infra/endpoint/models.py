"""Where a model's bundle comes from: a folder of this machine, or `model.tar.gz` on S3, where the settings know one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

from infra.endpoint.errors import Rejected
from jobs.aws import client, named, reached
from jobs.config import EndpointSettings
from jobs.serving.artifact import unpack


class Source(Protocol):
    """What a `ModelDataUrl` may name."""

    def check(self, url: object) -> Path | None:
        """The folder that is named, None for what is to be fetched; raises `Rejected` for an address of neither."""
        ...

    @contextmanager
    def folder(self, url: str) -> Iterator[Path]:
        """A bundle's folder, as long as it is needed; raises what the way to it raises."""
        ...


class Folders:
    """Folders of this machine only."""

    others = "(S3 only on AWS)"

    def check(self, url: object) -> Path | None:
        """See `Source`."""
        try:
            parts = urlparse(url if isinstance(url, str) else "")
        except ValueError:  # an address that is none
            parts = urlparse("")
        if parts.scheme != "file" or not parts.path:
            raise Rejected(f"ModelDataUrl must be file:///path/of/a/bundle here {self.others}; found {url!r}")
        return Path(unquote(parts.path))

    @contextmanager
    def folder(self, url: str) -> Iterator[Path]:
        """See `Source`."""
        found = self.check(url)
        if found is not None:
            yield found


class FoldersAndS3(Folders):
    """As SageMaker does it: fetched and unpacked; whether it is what was judged, its sha256 tells."""

    others = "or s3://bucket/key/model.tar.gz"

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings

    def check(self, url: object) -> Path | None:
        """See `Source`."""
        return None if isinstance(url, str) and url.startswith("s3://") else super().check(url)

    @contextmanager
    def folder(self, url: str) -> Iterator[Path]:
        """See `Source`."""
        if not url.startswith("s3://"):
            with super().folder(url) as found:
                yield found
            return
        aws = self._settings.aws
        bucket, _, key = url.removeprefix("s3://").partition("/")
        s3 = client("s3", self._settings.region, aws.s3_url, "endpoint.aws.s3_url")
        with tempfile.TemporaryDirectory(dir=self._settings.state, prefix="fetched-") as folder:
            with tempfile.TemporaryFile(dir=self._settings.state) as packed:
                with reached(named("s3", aws.s3_url)):
                    s3.download_fileobj(bucket, key, packed)
                packed.seek(0)
                unpack(packed, Path(folder))
            yield Path(folder)


def source_of(settings: EndpointSettings) -> Source:
    """By the settings: S3 where bundles are put there."""
    return FoldersAndS3(settings) if settings.aws.bucket else Folders()
