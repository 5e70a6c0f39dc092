"""Captured answers without a person's: each of their lines becomes blanks of the same length, where it lies.

A server that writes to the file goes on, for no byte of another line moves; readers pass over blank lines.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.serving.capture import CAPTURE, SHADOWS


def forget(state: Path, user: str) -> int:
    """Blank a user's lines in the capture of a local endpoint and of its shadows; returns how many."""
    return sum(_blanked(path, user) for kind in (CAPTURE, SHADOWS) for path in sorted((state / kind).glob("*/*.jsonl")))


def _blanked(path: Path, user: str) -> int:
    with path.open("r+b") as file:
        found = list(_lines(file, user))
        for at, length in found:
            os.pwrite(file.fileno(), b" " * length, at)
        return len(found)


def _lines(file: Any, user: str) -> Iterator[tuple[int, int]]:
    """Where the user's lines begin, and how long they are without their ends."""
    written = {json.dumps(user, ensure_ascii=ascii_only).encode() for ascii_only in (True, False)}
    at = 0
    for line in file:
        if any(text in line for text in written) and _is_of(line, user):
            yield at, len(line.rstrip(b"\n"))
        at += len(line)


def _is_of(line: bytes, user: str) -> bool:
    """Of a line that holds the user's id somewhere: whether the user asked, or was the unit of an experiment."""
    try:
        told = json.loads(line)
        units = [seen.get("unit") for seen in told["response"].get("exposures") or ()]
        return user in (told["request"].get("user_id"), *units)
    except (ValueError, LookupError, TypeError, AttributeError):
        return True  # a line that was cut short is nobody's
