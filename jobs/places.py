"""Where bytes lie: a folder of this machine, or `s3://bucket/prefix`. What is written to either is there whole or not.

A place of this machine is a `pathlib.Path`; one of S3 is an `S3Path`, which has of its methods those that the code
needs, so that either goes where a `Place` is asked for. S3 has no folders to make, swap or lock: an object appears
whole with its one put, and what several of them mean together is said by one more, which is put last.
"""

import fnmatch
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from jobs import aws, s3
from jobs.errors import Misconfigured, Refused

if TYPE_CHECKING:  # settings name places, and whoever reads a DAG file reads settings: Arrow is loaded by its first use
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

SCHEME = "s3://"
ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""Of an address, also of one whose slashes a path has folded."""
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
KEY = re.compile(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*")
"""What every client reads as it is; others escape what else there is, each in its own way."""
WILD = re.compile(r"[*?\[]")
TAIL_BYTES = 1 << 18
"""Of a Parquet file, asked for first: its footer, and of a small file all there is."""
AT_ONCE_BYTES = 1 << 26
"""So much is put in one request; more goes in parts, and is there with the last of them."""
LASTING = re.compile(r"/(parts/[^/]+|_[0-9a-f]{16})/")
"""In the keys of objects that are never put over: named by their run, or by what they hold."""
KEPT_OBJECTS = 256
ABSENT = ("404", "NoSuchKey", "NotFound")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")


class Object(NamedTuple):
    """Size in bytes, and when it was written, in seconds since 1970: named as a `Path`'s own.

    S3's `tag` is another one where the content is another; a file has none.
    """

    st_size: int
    st_mtime: float
    tag: str = ""

    @classmethod
    def of(cls, path: "Place") -> "Object":
        """A file's; raises FileNotFoundError where there is none."""
        found = path.stat()
        return cls(found.st_size, found.st_mtime)


@dataclass(frozen=True, order=True)
class S3Path:
    """An object, or all those whose keys begin with it and a slash.

    Every method that asks S3 raises `NotReady` where it does not answer and `Misconfigured` where it lets nobody in.
    """

    bucket: str
    key: str
    """Without a slash at either end; "" is the bucket itself."""

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> "S3Path":
        return S3Path(self.bucket, f"{self.key}/{name}".strip("/"))

    # -- names ------------------------------------------------------------------------------------
    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket, and the parts of the key."""
        return (self.bucket, *filter(None, self.key.split("/")))

    @property
    def parent(self) -> "S3Path":
        """Without its last part; of a bucket itself."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def as_posix(self) -> str:
        """As text."""
        return str(self)

    def as_uri(self) -> str:
        """As text."""
        return str(self)

    def absolute(self) -> "S3Path":
        """It always is."""
        return self

    def resolve(self) -> "S3Path":
        """There are no links."""
        return self

    def joinpath(self, *names: str) -> "S3Path":
        """As `/`, one after another."""
        found = self
        for name in names:
            found = found / name
        return found

    def with_name(self, name: str) -> "S3Path":
        """Another name beside it."""
        return self.parent / name

    def relative_to(self, other: "Place") -> PurePosixPath:
        """The rest of the key below `other`; raises ValueError where it does not lie there."""
        if not isinstance(other, S3Path) or other.bucket != self.bucket:
            raise ValueError(f"{self} does not lie below {other}")
        return PurePosixPath(self.key).relative_to(other.key)

    # -- reading ----------------------------------------------------------------------------------
    def is_file(self) -> bool:
        """Whether there is an object of this key."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether any object lies below it."""
        with self._asked():
            return bool(s3.client().list_objects_v2(Bucket=self.bucket, Prefix=self._below, MaxKeys=1)["KeyCount"])

    def exists(self) -> bool:
        """Whether there is an object, or any below it."""
        return self.is_file() or self.is_dir()

    def stat(self) -> Object:
        """Of the object; raises FileNotFoundError where there is none."""
        with self._found():
            found = s3.client().head_object(Bucket=self.bucket, Key=self.key)
        return Object(found["ContentLength"], found["LastModified"].timestamp(), found["ETag"])

    def read_bytes(self) -> bytes:
        """The whole object; raises FileNotFoundError where there is none."""
        return self.read_tagged()[0]

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The whole object as text."""
        return self.read_bytes().decode(encoding, errors)

    def read_tagged(self) -> tuple[bytes, str]:
        """The whole object, and the tag that says which it is; raises FileNotFoundError where there is none."""
        with self._found():
            found = s3.client().get_object(Bucket=self.bucket, Key=self.key)
            return bytes(found["Body"].read()), str(found["ETag"])

    def read_tail(self, size: int) -> tuple[bytes, int]:
        """The last `size` bytes or all there are, and how many there are; raises FileNotFoundError where none are."""
        with self._found():
            found = s3.client().get_object(Bucket=self.bucket, Key=self.key, Range=f"bytes=-{size}")
            content = bytes(found["Body"].read())
        return content, int(str(found.get("ContentRange") or len(content)).rpartition("/")[2])

    def iterdir(self) -> Iterator["S3Path"]:
        """Objects and folders right below it, by their names."""
        return iter(self._listed("", "/"))

    def glob(self, pattern: str) -> Iterator["S3Path"]:
        """What lies below it, as deep as the pattern; of several parts only objects, never folders."""
        whole = pattern.split("/")
        literal = pattern[: found.start()] if (found := WILD.search(pattern)) else pattern
        for path in self._listed(literal, "/" if len(whole) == 1 else ""):
            names = path.key[len(self._below) :].split("/")
            if len(names) == len(whole) and all(map(fnmatch.fnmatchcase, names, whole)):
                yield path

    def rglob(self, pattern: str) -> Iterator["S3Path"]:
        """Every object below it with such a name."""
        return (path for path in self._listed("", "") if fnmatch.fnmatchcase(path.name, pattern))

    def after(self, name: str) -> Iterator["S3Path"]:
        """Objects below it whose keys come after that one's, sorted."""
        pages = s3.client().get_paginator("list_objects_v2")
        with self._asked():
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._below, StartAfter=self._below + name):
                yield from (S3Path(self.bucket, one["Key"]) for one in page.get("Contents", ()))

    def objects(self) -> dict["S3Path", Object]:
        """Every object below it."""
        return {S3Path(self.bucket, one["Key"]): Object(one["Size"], one["LastModified"].timestamp(), one["ETag"])
                for page in self._pages("", "") for one in page.get("Contents", ())}  # fmt: skip

    # -- writing ----------------------------------------------------------------------------------
    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: S3 has no folders."""

    def write_bytes(self, content: bytes) -> int:
        """Put the object, instead of any there is; returns its size."""
        with self._asked():
            if len(content) <= AT_ONCE_BYTES:
                s3.client().put_object(Bucket=self.bucket, Key=self.key, Body=content)
            else:
                s3.client().upload_fileobj(BytesIO(content), self.bucket, self.key)
        return len(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Put text."""
        return self.write_bytes(text.encode(encoding))

    def write_over(self, content: bytes, tag: str | None) -> bool:
        """Put the object if it still is the one of `tag` (None: if there is none); False where another was faster."""
        with self._asked():
            condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
            try:
                s3.client().put_object(Bucket=self.bucket, Key=self.key, Body=content, **condition)
                return True
            except _client_error() as error:
                if error.response["Error"]["Code"] in (*TAKEN, *ABSENT):
                    return False
                raise

    def unlink(self) -> None:
        """Delete the object; S3 does not say whether there was one."""
        with self._asked():
            s3.client().delete_object(Bucket=self.bucket, Key=self.key)

    # -- asking -----------------------------------------------------------------------------------
    @property
    def _below(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _pages(self, prefix: str, delimiter: str) -> Iterator[dict[str, Any]]:
        pages = s3.client().get_paginator("list_objects_v2")
        with self._asked():
            yield from pages.paginate(Bucket=self.bucket, Prefix=self._below + prefix, Delimiter=delimiter)

    def _listed(self, prefix: str, delimiter: str) -> list["S3Path"]:
        """Of the names below it that begin so, sorted."""
        keys: list[str] = []
        for page in self._pages(prefix, delimiter):
            keys += [one["Key"] for one in page.get("Contents", ())]
            keys += [one["Prefix"].rstrip("/") for one in page.get("CommonPrefixes", ())]
        return [S3Path(self.bucket, key) for key in sorted(keys) if key != self._below]

    @contextmanager
    def _found(self) -> Iterator[None]:
        """As `_asked`, of an object; raises FileNotFoundError where S3 has none."""
        with self._asked():
            try:
                yield
            except _client_error() as error:
                if error.response["Error"].get("Code") not in ABSENT:
                    raise
                raise FileNotFoundError(f"no object {self}") from error

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            with aws.reached(f"S3 at {s3.endpoint() or 'AWS'} ({self})"):
                yield
        except Refused as error:
            if "NoSuchBucket" in str(error):
                raise Misconfigured(str(error)) from error
            raise


Place: TypeAlias = Path | S3Path


def place(address: Place | str) -> Place:
    """The place an address names; raises `Misconfigured` for one that is neither a folder here nor on S3."""
    try:
        return _place(address)
    except ValueError as error:
        raise Misconfigured(f"a place {error}") from error


def _place(address: object) -> Place:
    if isinstance(address, S3Path):
        return address
    text = os.fspath(address) if isinstance(address, str | os.PathLike) else ""
    if not text or not isinstance(text, str):
        raise ValueError(f"must be a folder of this machine or {SCHEME}bucket/prefix; found {address!r}")
    if not text.startswith(SCHEME):
        return _folder(text, f" or {SCHEME}bucket/prefix")
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    key = key.rstrip("/")
    if not BUCKET.fullmatch(bucket) or (key and not KEY.fullmatch(key)) or {".", ".."} & set(key.split("/")):
        raise ValueError(f"must be {SCHEME}bucket/prefix, the prefix of letters, digits and _.=-/ only; found {text!r}")
    return S3Path(bucket, key)


def _folder(address: object, otherwise: str = "") -> Path:
    if ANY_SCHEME.match(str(address)):
        raise ValueError(f"must be a folder of this machine{otherwise}; found {str(address)!r}")
    return Path(str(address))


Placed = Annotated[Place, PlainValidator(_place), PlainSerializer(str, return_type=str)]
"""A setting that names a place."""
Folder = Annotated[Path, BeforeValidator(_folder)]
"""A setting that names a folder of this machine, and can name no other."""
NO_SCHEME = BeforeValidator(lambda address: None if address is None else _folder(address))
"""As `Folder`, of a setting that may be None."""


# -- folders as one ---------------------------------------------------------------------------------
def remove(folder: Place) -> None:
    """Delete all below it, and itself; nothing where nothing is."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.rglob("*"):
        path.unlink()


def listed(folder: Place, pattern: str) -> list[Place]:
    """What `glob` finds, sorted."""
    found: list[Place] = [*folder.glob(pattern)]
    return sorted(found, key=str)


def here(folder: Place) -> Path:
    """Where what is of no use to others is written: the folder itself, else where this machine has room for a while."""
    return folder if isinstance(folder, Path) else Path(tempfile.gettempdir())


def copied(folder: Place, target: Path) -> Path:
    """The folder itself where it is on this machine, else a copy of it at `target`."""
    if isinstance(folder, Path):
        return folder
    for path in folder.rglob("*"):
        here = target / path.relative_to(folder)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(path.read_bytes())
    return target


def content(path: Place) -> bytes:
    """The whole of a file; raises FileNotFoundError where there is none."""
    if isinstance(path, S3Path) and LASTING.search(path.key):
        tail, size = _kept_tail(path)
        return tail if size <= len(tail) else path.read_bytes()
    return path.read_bytes()


# -- Parquet ----------------------------------------------------------------------------------------
def parquet(path: Place | str, **options: Any) -> "pq.ParquetFile":
    """To read from; raises FileNotFoundError where there is none, and what Arrow raises where it is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = _parsed(path)
    if isinstance(found, Path):
        return pq.ParquetFile(found, **options)
    content, size = _kept_tail(found) if LASTING.search(found.key) else found.read_tail(TAIL_BYTES)
    if size <= len(content):
        return pq.ParquetFile(pa.BufferReader(content), **options)
    return pq.ParquetFile(f"{found.bucket}/{found.key}", filesystem=s3.arrow(), pre_buffer=True, **options)


def read_anew() -> None:
    """What was kept of objects is read again: one that is never put over was, without somebody who is forgotten."""
    _kept_tail.cache_clear()


@lru_cache(KEPT_OBJECTS)
def _kept_tail(path: S3Path) -> tuple[bytes, int]:
    """A stage looks at the same file for its rows, its columns and what it holds."""
    return path.read_tail(TAIL_BYTES)


def footer(path: Place | str) -> "pq.FileMetaData":
    """What a Parquet file says of itself: rows, schema, statistics. Raises as `parquet` does."""
    import pyarrow.parquet as pq

    found = _parsed(path)
    return pq.read_metadata(found) if isinstance(found, Path) else parquet(found).metadata


def dataset(paths: Sequence[str], schema: "pa.Schema") -> "ds.Dataset":
    """Parquet files, all here or all on S3, to scan."""
    import pyarrow.dataset as ds

    found = [_parsed(path) for path in paths]
    remote = [f"{path.bucket}/{path.key}" for path in found if isinstance(path, S3Path)]
    if remote:
        return ds.dataset(remote, schema, format="parquet", filesystem=s3.arrow())
    return ds.dataset(list(paths), schema, format="parquet")


def write_parquet(rows: "pa.Table", path: Place, **options: Any) -> Object:
    """Put a Parquet file whole; whoever writes the same one at the same time leaves one of the two."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(path, S3Path):
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, **options)
        return Object(path.write_bytes(sink.getvalue().to_pybytes()), time.time())
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    pq.write_table(rows, draft, **options)
    draft.replace(path)
    return Object.of(path)


def _parsed(path: Place | str) -> Place:
    """A path that the code made itself: only S3's has a scheme."""
    if not isinstance(path, str):
        return path
    if not path.startswith(SCHEME):
        return Path(path)
    bucket, _, key = path.removeprefix(SCHEME).partition("/")
    return S3Path(bucket, key)


def _client_error() -> Any:
    from botocore.exceptions import ClientError

    return ClientError
