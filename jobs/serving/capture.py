"""Data capture: one JSON line per answered request, in a folder per UTC day of the request's event time."""

import errno
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson

from jobs.serving.answer import Answer

CAPTURE, SHADOWS = "capture", "shadows"
"""Folders of an endpoint's state: what was shown, and what its shadow would have said."""
OPEN_DAYS = 8
SPARED_BYTES = 64 * 2**20
"""Of the disk, which no line takes."""
LOOK_SECONDS = 1.0
"""Between two looks at how much is free."""
SAY_SECONDS = 60.0
"""While lines are lost that is said once in so long, not once a request; and so long without a loss is a recovery."""
_log = logging.getLogger(__name__)


class Capture:
    """Appends to `folder/date=YYYY-MM-DD/<n>.jsonl`; a server run opens its own file, so it never edits another's.

    A line is written before the answer leaves, with one system call: a kill loses no answered request and tears none. A
    disk that takes no line costs the line, never the answer: losses are counted, and said in the log. What a full disk
    took of a line is taken back; where even that fails the next line begins another file, so that only the last line
    of a file can be a torn one. The last of the disk is left to what must be written: no line is worth the way back to
    another model, which is written down beside them. (SageMaker's own capture stops at a high usage too.)
    """

    def __init__(
        self, folder: Path, clock: Callable[[], float] = time.monotonic, spared_bytes: int = SPARED_BYTES
    ) -> None:
        self.written = 0
        self.lost = 0
        self._folder = folder
        self._clock = clock
        self._spared_bytes = spared_bytes
        self._looked, self._short = float("-inf"), False
        self._open: OrderedDict[date, int] = OrderedDict()
        self._numbers: dict[date, int] = {}
        self._lock = threading.Lock()
        self._last_loss: float | None = None
        self._said = (float("-inf"), 0)
        """When losses were last spoken of, and how many there were by then."""

    @property
    def losing(self) -> bool:
        """Whether a line was lost a short while ago, with nothing known of a recovery."""
        return self._last_loss is not None

    def write(self, day: date, endpoint: str, request: dict[str, Any], response: Answer, ms: float) -> None:
        """One line: what was asked, what was answered, by which endpoint, when, `ms` after it was asked.

        Raises nothing of the disk's.
        """
        at = datetime.now(UTC).isoformat()
        line = {"endpoint": endpoint, "request": request, "response": response, "at": at, "ms": round(ms, 2)}
        content = orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        with self._lock:
            try:
                self._append(day, content)
            except OSError as error:
                self._lose(error)
            else:
                self._keep()

    def close(self) -> None:
        """Close every file; the number of lines lost is said once more."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])
            if self.lost:
                _log.warning("data capture ends; %d answers were lost, %d written", self.lost, self.written)

    def _append(self, day: date, content: bytes) -> None:
        file = self._file(day)
        if self._is_short(file):
            raise OSError(errno.ENOSPC, f"the last {self._spared_bytes >> 20} MiB of the disk are no capture's")
        done = 0
        try:
            while done < len(content):
                done += os.write(file, content[done:])
        except OSError:
            # A descriptor may be what is broken, on a network disk for one: the next line opens the file again.
            del self._open[day]
            try:
                if done:
                    os.ftruncate(file, os.fstat(file).st_size - done)
            except OSError:
                self._numbers[day] += 1
            finally:
                os.close(file)
            raise

    def _is_short(self, file: int) -> bool:
        """Whether the disk of a file has no more free than is spared, as of a moment ago."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            disk = os.fstatvfs(file)
            self._looked, self._short = now, disk.f_bavail * disk.f_frsize < self._spared_bytes
        return self._short

    def _file(self, day: date) -> int:
        if day in self._open:
            self._open.move_to_end(day)
            return self._open[day]
        folder = self._folder / f"date={day.isoformat()}"
        folder.mkdir(parents=True, exist_ok=True)
        if day not in self._numbers:
            self._numbers[day] = 1 + max((int(p.stem) for p in folder.glob("*.jsonl") if p.stem.isdigit()), default=-1)
        path = folder / f"{self._numbers[day]}.jsonl"
        self._open[day] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if len(self._open) > OPEN_DAYS:
            os.close(self._open.popitem(last=False)[1])
        return self._open[day]

    def _lose(self, error: OSError) -> None:
        self.lost += 1
        now = self._last_loss = self._clock()
        at, before = self._said
        if now - at >= SAY_SECONDS:
            self._said = (now, self.lost)
            _log.error(
                "data capture needs %s to take writes; found: %s; answers go out uncaptured: %d more, %d in all",
                *(self._folder, error, self.lost - before, self.lost),
            )

    def _keep(self) -> None:
        self.written += 1
        if self._last_loss is not None and self._clock() - self._last_loss >= SAY_SECONDS:
            self._last_loss = None
            self._said = (float("-inf"), self.lost)
            _log.warning("data capture is written again; %d answers were lost, %d written", self.lost, self.written)
