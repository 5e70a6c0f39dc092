"""`python -m infra.stack.s3 FOLDER PORT BUCKET`: an S3 on loopback, moto's, whose objects are files below FOLDER too.

moto keeps objects in memory. Here each is also a file, FOLDER/BUCKET/KEY, before its put is answered, and the next
server on that folder begins with what lies there: neither a kill nor `down` loses any. When all is stopped, the Delta
tables can still be read where they lie.
"""

import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from infra.stack.processes import StackError

NAME = "s3"
"""Of the service, and of its folder in a stack's."""
BUCKET = "tidegate"
DRAFTS = "_drafts"
"""Beside the buckets: no bucket has a name so; what a kill leaves there nobody reads."""


def refuse_missing() -> None:
    """Raises `StackError` where moto cannot be imported."""
    try:
        import moto.server  # noqa: F401
    except ImportError as error:
        raise StackError(
            f"a lake on S3 needs moto on this machine, of the extra `dev` (`make setup`); found: {error}"
        ) from error


def one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """S3 looks whether an object is there and puts it in one step; moto has threads and two steps."""
    lock = threading.RLock()

    def locked(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return function(*args, **kwargs)

    return locked


def atomic_puts() -> None:
    """From now on this process's moto takes a conditional put from one of two writers only."""
    from moto.s3.responses import S3Response

    if not hasattr(S3Response.put_object, "locked"):
        S3Response.put_object = one_at_a_time(S3Response.put_object)  # type: ignore[method-assign]
        S3Response.put_object.locked = True  # type: ignore[attr-defined]


def file_of(folder: Path, bucket: str, key: str) -> Path:
    """Where an object lies as a file; raises `ValueError` for a key that leads elsewhere."""
    path = PurePosixPath(bucket, key)
    if path.is_absolute() or {".", ".."} & set(path.parts) or len(path.parts) < 2:
        raise ValueError(f"an object needs a key that is a path below its bucket; found {key!r}")
    return folder / path


def keep(folder: Path) -> None:
    """From now on every object of this process's moto is a file below `folder` too."""
    from moto.s3.models import S3Backend

    put, delete = S3Backend.put_object, S3Backend.delete_object

    def put_object(self: Any, bucket_name: str, key_name: str, value: bytes, *args: Any, **kwargs: Any) -> Any:
        _write(folder, file_of(folder, bucket_name, key_name), value)
        return put(self, bucket_name, key_name, value, *args, **kwargs)

    def delete_object(self: Any, bucket_name: str, key_name: str, *args: Any, **kwargs: Any) -> Any:
        file_of(folder, bucket_name, key_name).unlink(missing_ok=True)
        return delete(self, bucket_name, key_name, *args, **kwargs)

    S3Backend.put_object = put_object  # type: ignore[method-assign]
    S3Backend.delete_object = delete_object  # type: ignore[method-assign]


def begin(folder: Path, bucket: str) -> int:
    """The bucket is there with every object that lies below `folder`, as old as its file; returns how many."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket(bucket, os.environ["AWS_REGION"])
    files = [path for path in sorted((folder / bucket).rglob("*")) if path.is_file()]
    for path in files:
        found = backend.put_object(bucket, path.relative_to(folder / bucket).as_posix(), path.read_bytes())
        found.last_modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    return len(files)


def _write(folder: Path, path: Path, content: bytes) -> None:
    draft = folder / DRAFTS / uuid.uuid4().hex
    for parent in (draft.parent, path.parent):
        parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(content)
    draft.replace(path)


def main(argv: Sequence[str]) -> None:
    """Serve until ended."""
    from moto.server import ThreadedMotoServer

    folder, port, bucket = Path(argv[0]), int(argv[1]), argv[2]
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    atomic_puts()
    found = begin(folder, bucket)
    keep(folder)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    print(f"bucket {bucket} at http://127.0.0.1:{port}, its objects in {folder / bucket}: {found} so far", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
