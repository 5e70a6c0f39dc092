"""A table's log on S3, kept on this machine as far as it is needed: each of its objects is asked for once.

delta-rs asks for each entry since the last checkpoint twice, for a checkpoint eleven times, and again for what it has
just written. Here it reads and writes a copy of the log; what it writes becomes the table's by one conditional put. A
log with more in it than delta-rs and this lake write is not copied: delta-rs reads it where it lies.
"""

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

import deltalake
from deltalake.exceptions import DeltaError

from jobs.errors import Refused, TidegateError
from jobs.lake import log
from jobs.places import S3Path

HINT = "_last_checkpoint"
CHECKPOINT = "{:020}.checkpoint.parquet"
FOREIGN = re.compile(r"\d{20}\.checkpoint\.(?!parquet$).*")
"""A checkpoint in parts, or one that names further files."""
READERS = 8
"""At once: most of the time goes into waiting for S3."""
NONE = -1


class NotCopied(Exception):
    """This log must be read where it lies."""


class Mirror:
    """The log of the table in `folder`; its copy goes with it."""

    def __init__(self, folder: S3Path) -> None:
        self._there = folder / log.FOLDER
        self._root = Path(tempfile.mkdtemp(prefix="tidegate-log-"))
        self._table = folder.name
        self._base, self._version = NONE, NONE
        self._one_at_a_time = Lock()
        self.seen: deltalake.DeltaTable | None = None
        """The table as it was last looked at, with what was put since; None where none was found."""
        weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)

    @property
    def where(self) -> Path:
        """The folder whose log delta-rs reads and writes."""
        return self._root / self._table

    def now(self) -> deltalake.DeltaTable | None:
        """The table at its newest version, the same object each time; None where there is none.

        Raises `NotCopied` where delta-rs must look itself, which then says what is wrong.
        """
        with self._one_at_a_time:
            if self.seen is None:
                self._copy_from_the_last_checkpoint()
            else:
                names = [path.name for path in self._there.after(log.ENTRY.format(self._version))]
                if self._copy(names, self._version):
                    self._move_on()
        if self.seen is not None and "deletionVectors" in (self.seen.protocol().reader_features or ()):
            raise NotCopied
        return self.seen

    def at(self, version: int) -> deltalake.DeltaTable | None:
        """The table at a version; None where the copy does not reach back to it."""
        if self.seen is None or not max(self._base, 0) <= version <= self._version:
            return None
        return log.opened(self._root, self._table, version)

    def entry(self, version: int) -> S3Path | Path:
        """Where an entry is read: here, if it is here."""
        here = self.where / log.FOLDER / log.ENTRY.format(version)
        return here if here.exists() else self._there / here.name

    def put(self, version: int) -> None:
        """The entry that delta-rs has just written here is the table's; raises `DeltaError` where another was faster.

        Of an entry that could not be put nothing is left here, whatever became of it there: the next look tells.
        """
        here = self.where / log.FOLDER / log.ENTRY.format(version)
        try:
            if not (self._there / here.name).write_over(here.read_bytes(), None):
                raise DeltaError(f"version {version} of table {self._table} is there already")
        except BaseException:
            here.unlink()
            raise
        self._version = version
        # The commit stands whatever becomes of this: an opening finds an older checkpoint and asks for more entries.
        with suppress(DeltaError, TidegateError, NotCopied):
            self._move_on()
            self._checkpoint(version)

    def _checkpoint(self, version: int) -> None:
        """Where one is due, as the table's settings say it."""
        if self.seen is None or (version + 1) % int(self.seen.metadata().configuration.get(log.INTERVAL) or 100):
            return
        self.seen.create_checkpoint()
        for name in (CHECKPOINT.format(version), HINT):  # the hint last: it names the other
            (self._there / name).write_bytes((self.where / log.FOLDER / name).read_bytes())

    def _copy_from_the_last_checkpoint(self) -> None:
        hint = self._hinted()
        names = [path.name for path in self._there.after("" if hint == NONE else f"{hint:020}")]
        checkpoints = [int(name[:20]) for name in names if name == CHECKPOINT.format(log.version_of(name))]
        self._base = self._version = max(checkpoints, default=NONE)
        if any(map(FOREIGN.fullmatch, names)) or self._base < hint:
            raise NotCopied
        if self._base != NONE:
            # Its own entry too: where none came since, a commit asks which version is the newest, and finds it by that.
            own = log.ENTRY.format(self._base)
            self._fetch([CHECKPOINT.format(self._base), *([own] if own in names else ())])
        self._copy(names, self._base)
        if self._version != NONE:
            self.seen = self._opened(None)

    def _hinted(self) -> int:
        try:
            found = re.search(r'"version"\s*:\s*(\d+)', (self._there / HINT).read_text())
        except FileNotFoundError:
            return NONE
        if found is None:
            raise NotCopied
        return int(found[1])

    def _copy(self, names: Iterable[str], known: int) -> bool:
        """Whether entries came after a version; raises `NotCopied` where one between them is missing."""
        numbers = sorted(n for name in names if name == log.ENTRY.format(n := log.version_of(name)) and n > known)
        if numbers != list(range(known + 1, known + 1 + len(numbers))):
            raise NotCopied
        self._fetch([log.ENTRY.format(number) for number in numbers])
        self._version = known + len(numbers)
        return bool(numbers)

    def _fetch(self, names: list[str]) -> None:
        here = self.where / log.FOLDER
        here.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(READERS) as pool:
            try:
                for name, content in zip(
                    names, pool.map(lambda name: (self._there / name).read_bytes(), names), strict=True
                ):
                    (here / name).write_bytes(content)
            except FileNotFoundError as error:  # cut off since it was listed
                raise NotCopied from error

    def _opened(self, version: int | None) -> deltalake.DeltaTable | None:
        try:
            return log.opened(self._root, self._table, version)
        except Refused as error:
            raise NotCopied from error

    def _move_on(self) -> None:
        try:
            if self.seen is None:
                self.seen = log.opened(self._root, self._table)
            else:
                log.move_on(self.seen, self._table)
        except Refused as error:
            raise NotCopied from error
