"""The endpoint's data capture, read back: what was really answered, as rows, one per placement, or one by one."""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.wanted import Wanted
from jobs.serving.answer import Answer, Placement, answer_of

CLOCKS_APART = timedelta(minutes=1)
"""How much older than its last line a file may look: Linux stamps it by a clock some milliseconds behind, and a network
disk by one of its own."""
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("item_id", pa.string()),
        ("policy", pa.string()),
        ("bundle_sha256", pa.string()),
        ("fallback", pa.bool_()),
        ("features_day", pa.string()),
        ("served_p_click", pa.float64()),
    ]
)


ANSWER = "answer"
"""The number of the answer that a placement is of."""
ANSWERED = SCHEMA.append(pa.field(ANSWER, pa.int64()))
AT_ONCE = 1 << 14
"""Placements that are words of Python's at a time; of those put away each text is there once a row, as bytes."""


class Piece(NamedTuple):
    """Of a file the lines that begin at a byte from `start` on, before `end`."""

    path: str
    start: int
    end: int


class Placements(NamedTuple):
    """What was answered, and how many lines hold no answer."""

    rows: pa.Table
    torn: int


class Said(NamedTuple):
    """An answer, when it was given, how long that took, and what had been asked."""

    at: datetime
    ms: float
    answer: Answer
    request: Mapping[str, Any]

    @property
    def user_id(self) -> str | None:
        """Who asked; None where nobody knows."""
        user: str | None = self.request.get("user_id")
        return user

    @property
    def asked_at(self) -> datetime:
        """On the clock of the events: what the request says, else when it was answered."""
        said = self.request.get("event_time")
        at = self.at if said is None else datetime.fromisoformat(said)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def since(folder: Path, endpoint: str, at: datetime, bundle_sha256: str) -> list[Said]:
    """What a bundle has answered at an endpoint since a moment, in its order.

    Torn lines are left out: they are of no answer that anybody can judge; so are mixed pages, which no bundle made.
    """
    found = []
    for path in folder.glob("date=*/*.jsonl"):
        if datetime.fromtimestamp(path.stat().st_mtime, UTC) < at - CLOCKS_APART:
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            # Most lines are not of this bundle, and the longest part of a line is its candidates.
            found += [said for text in file if bundle_sha256 in text and (said := _said(text, endpoint)) is not None]
    mine = [said for said in found if said.at >= at and said.answer.bundle_sha256 == bundle_sha256]
    return sorted(mine, key=lambda said: said.at)


def said(some: Iterable[str], endpoint: str) -> Iterator[Said]:
    """What an endpoint has answered, line by line, without what `since` leaves out."""
    return (said for text in some if (said := _said(text, endpoint)) is not None)


def asking(some: Iterable[str]) -> pa.Array:
    """Who asked: the user of each line that names one."""
    found = []
    for text in some:
        try:
            found.append(orjson.loads(text)["request"].get("user_id"))
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    return pa.array([user for user in found if isinstance(user, str)], pa.string())


def _said(text: str, endpoint: str) -> Said | None:
    try:
        line = orjson.loads(text)
        said, mine = _answered(line), line["endpoint"] == endpoint
    except (ValueError, LookupError, TypeError):
        return None
    return said if mine and said.answer.mix is None else None


def _answered(line: Mapping[str, Any]) -> Said:
    """Raises ValueError, LookupError or TypeError for a line that is no answer."""
    at, answer = datetime.fromisoformat(line["at"]), answer_of(line["response"])
    return Said(at, math.nan if line["ms"] is None else float(line["ms"]), answer, {**line["request"]})


def lines(folder: Path) -> Iterator[str]:
    """Every line of a day's capture files, in the order they were begun; nothing where there is no folder."""
    return (line for piece in pieces(folder) for line in lines_of(piece))


def pieces(folder: Path, most: int = 1 << 62) -> Iterator[Piece]:
    """The capture files of a day, in the order they were begun, in pieces of so many bytes at most."""
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: (len(path.name), path.name)):
        size = path.stat().st_size
        yield from (Piece(str(path), start, min(start + most, size)) for start in range(0, size, most))


def lines_of(piece: Piece) -> Iterator[str]:
    """The lines of a piece, without those of somebody who was forgotten."""
    with open(piece.path, "rb") as file:
        at = file.seek(max(0, piece.start - 1))
        if piece.start:
            at += len(file.readline())  # it began before
        for line in file:
            if at >= piece.end:
                return
            at += len(line)
            # A line may be cut off within a character.
            text = line.decode("utf-8", errors="replace")
            if not text.isspace():
                yield text


def placements(captured: Iterable[str], wanted: Wanted | None = None) -> Placements:
    """One row per placement answered, of the `wanted` requests (all by default); of each policy the first answer to a
    request counts, since what was shown is logged by its policy's name (on S3 a shadow's answers lie beside it). A torn
    line is counted and left out.

    A page that was mixed of several bundles' answers is left out too: it is no one's.
    """
    return first_answers([placed(captured, wanted)])


def placed(captured: Iterable[str], wanted: Wanted | None = None) -> Placements:
    """`placements` of some of a day's lines, `ANSWERED`, of all answers to a request."""
    parts, held = [ANSWERED.empty_table()], list[dict[str, Any]]()
    torn = answers = 0

    def put_away() -> None:
        rows = pa.Table.from_pylist(held, ANSWERED)
        parts.append(rows if wanted is None else wanted.among(rows, "request_id"))
        held.clear()

    for text in captured:
        try:
            answer = answer_of(orjson.loads(text)["response"])
        except (ValueError, LookupError, TypeError):
            torn += 1
            continue
        if answer.mix is None:
            answers += 1
            held += [{ANSWER: answers, **_row(answer, place)} for place in answer.items or (None,)]
        if len(held) >= AT_ONCE:
            put_away()
    put_away()
    return Placements(pa.concat_tables(parts).combine_chunks(), torn)


def first_answers(parts: Iterable[Placements]) -> Placements:
    """Of lines that were `placed` some at once, in their order, the placements of each request's and policy's first
    answer, which may have none.
    """
    found, torn, before = [ANSWERED.empty_table()], 0, 0
    for part in parts:
        at = pc.add(part.rows[ANSWER], before)
        found.append(part.rows.set_column(part.rows.column_names.index(ANSWER), ANSWERED.field(ANSWER), at))
        torn, before = torn + part.torn, max(before, pc.max(at).as_py() or 0)
    return Placements(_first_answers(pa.concat_tables(found).combine_chunks()), torn)


def _first_answers(rows: pa.Table) -> pa.Table:
    key = pc.binary_join_element_wise(rows["request_id"], rows["policy"], "\x1f").combine_chunks()
    code, answer = key.dictionary_encode().indices.to_numpy(), rows[ANSWER].to_numpy()
    first = answer[np.unique(code, return_index=True)[1]]
    mine = rows.filter(pa.array(answer == first[code]))
    return mine.filter(mine["item_id"].is_valid()).select(SCHEMA.names)


def _row(answer: Answer, place: Placement | None) -> dict[str, Any]:
    return {
        "request_id": answer.request_id,
        "item_id": None if place is None else place.item_id,
        "policy": answer.policy,
        "bundle_sha256": answer.bundle_sha256,
        "fallback": answer.fallback,
        "features_day": answer.features_day,
        "served_p_click": None if place is None else place.p_click,
    }


EXPOSED = pa.schema(
    [(name, pa.string()) for name in ("request_id", "user_id", "experiment", "arm", "unit", "candidate_id")]
    + [(name, pa.string()) for name in ("surface", "device")]
    + [("ms", pa.float64()), ("at", pa.timestamp("us", "UTC"))]
)
"""`at`: on the clock of the events."""


def exposed(captured: Iterable[str]) -> pa.Table:
    """One row per experiment that an answered request was part of, `EXPOSED`; torn lines are left out."""
    rows = []
    for text in captured:
        if '"exposures":[' not in text.replace(" ", ""):
            continue
        try:
            said = _answered(orjson.loads(text))
            asked = {
                "request_id": said.answer.request_id,
                "user_id": said.user_id,
                "candidate_id": said.answer.bundle_version,
                "surface": said.request.get("surface"),
                "device": (said.request.get("context") or {}).get("device"),
                "ms": said.ms,
                "at": said.asked_at,
            }
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        seen = said.answer.exposures or ()
        rows += [{**asked, "experiment": of.experiment, "arm": of.arm, "unit": of.unit} for of in seen]
    return pa.Table.from_pylist(rows, EXPOSED)


def pages(captured: Iterable[str], experiment: str) -> list[tuple[str | None, Answer]]:
    """Who asked, and the answer, of each request whose page an experiment mixed, the first to it; torn lines apart."""
    found: dict[str, tuple[str | None, Answer]] = {}
    for text in captured:
        if '"mix"' not in text:
            continue
        try:
            line = orjson.loads(text)
            answer = answer_of(line["response"])
            user = line["request"].get("user_id")
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        if answer.mix is not None and answer.mix.experiment == experiment:
            found.setdefault(answer.request_id, (user, answer))
    return list(found.values())
