"""Room for what a training makes of every row: files without a name, which memory need not hold whole.

The system takes their pages back where it needs them, and whatever ends the process, nothing is left lying about.
"""

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 1 << 16
"""Bytes that are not worth a file."""


@dataclass(frozen=True)
class Files:
    """A `models.rankers.protocol.Room` on the disk of `folder`."""

    folder: Path

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Raises OSError where the disk has no room: now, since a write to a page of it would end the process."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size < SMALL or np.dtype(dtype).hasobject:
            return np.empty(shape, dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if size > free:  # said before others have none left either
            raise OSError(
                errno.ENOSPC, f"a training needs {size} bytes for an array; found {free} free", str(self.folder)
            )
        with tempfile.TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))

    def pages(self) -> "tempfile.TemporaryDirectory[str]":
        """Hidden, so that `python -m jobs vacuum` deletes what a process that was killed has left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".pages-", dir=self.folder)
