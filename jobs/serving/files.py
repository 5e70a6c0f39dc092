"""Files below an address: a folder of this machine, or s3://bucket/prefix through Arrow, with the settings' region."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pyarrow import fs

from jobs.aws import CONNECT_SECONDS, READ_SECONDS, keys
from jobs.config import EndpointSettings
from jobs.errors import Misconfigured, NotReady, one_line
from jobs.lake import raw_bucket
from jobs.places import S3Path, content

SCHEME = "s3://"
CLOSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "NO_SUCH_BUCKET", "EXPIRED_TOKEN")
"""What Arrow says of S3 that another try does not change."""


class Files(Protocol):
    """What lies below an address; paths are relative to it."""

    address: str

    def below(self, folder: str) -> list[str]:
        """What lies in a folder of it, sorted; nothing where there is no folder."""
        ...

    def read(self, path: str) -> bytes:
        """The whole of a file; raises `NotReady` where that cannot be had now."""
        ...


class Folder:
    """Of this machine."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._path = path

    def below(self, folder: str) -> list[str]:
        """See `Files`."""
        return sorted(path.relative_to(self._path).as_posix() for path in (self._path / folder).glob("*"))

    def read(self, path: str) -> bytes:
        """See `Files`."""
        try:
            return (self._path / path).read_bytes()
        except OSError as error:
            raise NotReady(f"{self._path / path} must be readable; found: {error}") from error


class Bucket:
    """On S3; every method raises `NotReady` where it does not answer, `Misconfigured` where it lets nobody in.

    Keys are those of the environment, as for every other service of AWS.
    """

    def __init__(self, address: str, settings: EndpointSettings) -> None:
        self.address = address.rstrip("/")
        self._root = self.address.removeprefix(SCHEME)
        url = settings.aws.s3_url
        known = keys(url)
        where = urlsplit(url or "")
        with self._reached():
            self._files = fs.S3FileSystem(
                region=settings.region,
                connect_timeout=CONNECT_SECONDS,
                request_timeout=READ_SECONDS,
                **({"endpoint_override": where.netloc, "scheme": where.scheme} if url else {}),
                **({"access_key": known["aws_access_key_id"], "secret_key": known["aws_secret_access_key"]}
                   if known else {}),
            )  # fmt: skip

    def below(self, folder: str) -> list[str]:
        """See `Files`."""
        return list(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """What lies in a folder of it, sorted, and how many bytes each file has."""
        selector = fs.FileSelector(f"{self._root}/{folder}".rstrip("/"), allow_not_found=True)
        with self._reached():
            found = self._files.get_file_info(selector)
        return dict(sorted((one.path.removeprefix(f"{self._root}/"), one.size or 0) for one in found))

    def read(self, path: str) -> bytes:
        """See `Files`."""
        with self._reached(), self._files.open_input_stream(f"{self._root}/{path}") as file:
            return bytes(file.read())

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = f"{self.address} must be readable; found: {one_line(error, 500)}"
            raise (Misconfigured if any(word in str(error) for word in CLOSED) else NotReady)(said) from error


class RawLake:
    """The raw lake on S3, by the variables of all of the lake; a day that ingest wrote is what its manifest names."""

    def __init__(self, root: S3Path) -> None:
        self.address = str(root)
        self._root = root

    def below(self, folder: str) -> list[str]:
        """See `Files`."""
        day, hour = self._day(folder)
        named = raw_bucket.named(self._root / day) if day else None
        if named is None:
            return [path.relative_to(self._root).as_posix() for path in (self._root / folder).iterdir()]
        found = {file for file in named if file.startswith(f"{hour}/")} if hour else {file[:7] for file in named}
        return sorted(f"{day}/{name}" for name in found)

    def read(self, path: str) -> bytes:
        """See `Files`."""
        day, file = self._day(path)
        named = raw_bucket.named(self._root / day) or {}
        try:
            return content(self._root / day / named.get(file, file))
        except FileNotFoundError as error:
            raise NotReady(f"{self._root / path} must be readable; found: {error}") from error

    def _day(self, path: str) -> tuple[str, str]:
        """The folder of a table's day, "" for one above it, and the rest of the path."""
        table, _, rest = path.partition("/")
        date, _, below = rest.partition("/")
        return (f"{table}/{date}", below) if date else ("", "")


def files(address: str, settings: EndpointSettings) -> Files:
    """Those of an address."""
    return Bucket(address, settings) if address.startswith(SCHEME) else Folder(Path(address))
