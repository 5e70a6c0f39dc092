"""A folder or a file put in the place of another in one step: a kill leaves the old or the new one, never neither."""

import ctypes
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from jobs.places import Place, S3Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def swap(draft: Path, final: Path) -> None:
    """Put `draft` at `final`; what lay there is left at `draft`. Both lie on one file system."""
    if not final.exists():
        os.rename(draft, final)
        return
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename and rename(_AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(final), _RENAME_EXCHANGE) == 0:
        return
    # No exchange on this system: a kill between these two lines leaves the name free, never mixed.
    aside = draft.with_name(draft.name + ".old")
    os.rename(final, aside)
    os.rename(draft, final)
    os.rename(aside, draft)


def put_folder(folder: Place, files: Mapping[str, bytes], last: str) -> None:
    """The folder has these files and no others, whole.

    On S3 they are there one by one, `last` the last: readers begin with it, and it must tell them which others belong
    to it, by their digests or otherwise.
    """
    if isinstance(folder, S3Path):
        for there in folder.rglob("*"):
            if there.relative_to(folder).as_posix() not in files:
                there.unlink()
        for name in sorted(files, key=lambda name: name == last):
            (folder / name).write_bytes(files[name])
        return
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    for name, content in files.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    swap(draft, folder)
    shutil.rmtree(draft, ignore_errors=True)  # what lay there before


def write_whole(path: Place, content: str | bytes) -> Place:
    """Put a file of this content at `path`, whose folder need not be there yet; returns `path`."""
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, S3Path):
        path.write_bytes(data)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)
    return path
