"""Data capture: one JSON line per answered request, in a folder per UTC day of the request's event time."""

import os
import threading
from collections import OrderedDict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson

OPEN_DAYS = 8


class Capture:
    """Appends to `folder/date=YYYY-MM-DD/<n>.jsonl`; a server run opens its own file, so it never edits another's.

    A line is written with one system call before the answer leaves: a kill loses no answered request and tears none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[date, int] = OrderedDict()
        self._numbers: dict[date, int] = {}
        self._lock = threading.Lock()

    def write(self, day: date, endpoint: str, request: dict[str, Any], response: dict[str, Any]) -> None:
        """One line: what was asked, what was answered, by which endpoint, when."""
        line = {"endpoint": endpoint, "request": request, "response": response, "at": datetime.now(UTC).isoformat()}
        content = orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        with self._lock:
            os.write(self._file(day), content)

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

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
