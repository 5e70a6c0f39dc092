"""A folder or a file put in the place of another in one step: a kill leaves the old or the new one, never neither."""

import ctypes
import os
from pathlib import Path

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


def write_whole(path: Path, text: str) -> Path:
    """Put a file of this text at `path`, whose folder need not be there yet; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path
