"""Serve what was judged: captured requests answered again offline, by the same bundle on the features they saw.

The features are the lake's of the answer's own `features_day`, whichever that was: being late is another alarm. From
columns to slate it is the endpoint's code (`jobs.serving.slates`, the bundle's own stages); from lake to columns the
one that learning and backtests use (`jobs.moment`). Candidates that a retriever found are taken as captured.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.asof.wanted import Wanted
from jobs.bundle import Bundle
from jobs.gathered import gathered
from jobs.lake.tables import ATTRIBUTES, LAKE, TIME
from jobs.moment.columns import Columns
from jobs.moment.decisions import Known, candidate_columns
from jobs.moment.known import Publication
from jobs.serving.answer import Placement
from jobs.serving.captured import Said
from jobs.serving.slates import drawn
from models.policies.heuristics import words_in
from models.settings import TaskSettings

SINCE_EVER = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
COLUMNS = ("device", "region", "query", "source_item_id")
"""Keys of a request's context that are columns of their own, as in the lake."""
NUMBERS = ("score", "p_click", "p_conversion", "propensity")
AT_ONCE = 1 << 16
"""Candidates whose columns are held together, of an answer with more than that all of its own."""


@dataclass(frozen=True)
class Replayed:
    """Of so many answers how many could be answered again, and how far the two are apart."""

    answers: int = 0
    compared: int = 0
    other_items: int = 0
    """Whose items, or their order, differ."""
    differing: int = 0
    """These, and whose items agree while a number is further off than tolerated."""
    largest: Mapping[str, float] = field(default_factory=dict)
    """The largest difference of each number where the items agree."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why others were not compared."""

    def __add__(self, other: "Replayed") -> "Replayed":
        """Of both sets of answers."""
        largest = {
            name: max(of.largest[name] for of in (self, other) if name in of.largest)
            for name in NUMBERS
            if name in self.largest or name in other.largest
        }
        return Replayed(
            self.answers + other.answers,
            self.compared + other.compared,
            self.other_items + other.other_items,
            self.differing + other.differing,
            largest,
            Counter(self.left_out) + Counter(other.left_out),
        )

    @property
    def share(self) -> float:
        """Of the compared answers that differ; 0 where none was compared."""
        return self.differing / self.compared if self.compared else 0.0

    @property
    def why(self) -> str:
        """In words."""
        left = "".join(f", {n} not ({reason})" for reason, n in sorted(self.left_out.items()))
        said = f"replayed offline {self.compared} of {self.answers} answers{left}"
        if not self.compared:
            return said
        furthest = max(self.largest.values(), default=0.0)
        return f"{said}: {self.differing} differ, {self.other_items} in their items, numbers by {furthest:.2g} at most"


class Seen:
    """What the answers to some users were made from: features and removed items of a day, read once they are asked for.

    `days`: those that are there; None is before the first publication.
    """

    def __init__(self, publications: Mapping[str, Publication], users: Wanted, tasks: TaskSettings) -> None:
        self.days = frozenset(publications) | {None}
        self.known = cache(lambda day: _nothing(tasks) if day is None else self._of(publications[day], users))
        self.removed = cache(lambda day: frozenset[str]() if day is None else publications[day].removed())

    @staticmethod
    def _of(publication: Publication, users: Wanted) -> Known:
        """Whatever the clock says: being late is another alarm."""
        return replace(publication.known(of=users), available_at=SINCE_EVER)


def replayed(seen: Seen, bundle: Bundle, said: Sequence[Said], tolerated: float) -> Replayed:
    """What the bundle says to the same requests again; `tolerated` is of a number's difference.

    One feature day at a time. An answer whose features the lake no longer has, or whose request is not whole, is left
    out and counted.
    """
    by_day: dict[str | None, list[Said]] = {}
    left_out: Counter[str] = Counter()
    for one in said:
        if "surface" not in one.request or (one.answer.candidates is None and "candidates" not in one.request):
            left_out["the request is not whole"] += 1
        elif one.answer.features_day not in seen.days:
            left_out["the lake has no such features"] += 1
        else:
            by_day.setdefault(one.answer.features_day, []).append(one)
    found: list[tuple[Said, list[Placement]]] = []
    for day, mine in sorted(by_day.items(), key=lambda pair: pair[0] or ""):
        for fallback in (False, True):
            for part in together([one for one in mine if one.answer.fallback is fallback], AT_ONCE):
                found += zip(part, _again(bundle, part, seen, day, fallback), strict=True)
    return _compared(len(said), found, left_out, tolerated)


def together(said: Iterable[Said], candidates: int) -> Iterator[list[Said]]:
    """Answers in their order, those together that had about so many candidates."""
    return gathered(said, candidates, lambda one: len(one.answer.candidates or one.request.get("candidates") or ()))


def _again(bundle: Bundle, said: Sequence[Said], seen: Seen, day: str | None, fallback: bool) -> list[list[Placement]]:
    """The slate of each request, all of whose answers saw the same features and were made by the same ranker."""
    if not said:
        return []
    removed, known = seen.removed(day), seen.known(day)
    lists = [_candidates(one, removed) for one in said]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    items = np.empty(offsets[-1], dtype=object)
    items[:] = [item for one in lists for item in one]
    if not len(items):
        return [[] for _ in said]
    row = np.repeat(np.arange(len(said)), np.diff(offsets))
    scored: Columns = {"item_id": items}
    if bundle.policy.columns or not fallback:
        scored = candidate_columns(_moments(said), row, items, [known])
    kept = None if fallback else bundle.kept(scored, offsets)
    if kept is not None:
        scored, row, items = {name: column[kept] for name, column in scored.items()}, row[kept], items[kept]
    predictions = (bundle.fallback if fallback else bundle.ranker).predict(scored)
    words = words_in(scored, bundle.policy)
    ends = np.searchsorted(row, np.arange(len(said) + 1))
    slates = []
    for number, one in enumerate(said):
        mine = np.arange(ends[number], ends[number + 1])
        k = int(one.request.get("k") or len(one.answer.items))
        asked = (one.request["surface"], one.answer.request_id, k)
        of = {column: word[mine] for column, word in words.items()}
        slates.append(drawn(items[mine], predictions.take(mine), bundle.policy, *asked, words=of))
    return slates


def _candidates(one: Said, removed: frozenset[str]) -> Sequence[str]:
    """What was chosen from: as the answer tells it, else the request's own that were not removed, or were shown."""
    if one.answer.candidates is not None:
        return one.answer.candidates
    shown = {place.item_id for place in one.answer.items}
    return [item for item in one.request["candidates"] if item not in removed or item in shown]


def _moments(said: Sequence[Said]) -> pa.Table:
    """What the requests said, as impressions have it."""
    rows: list[dict[str, Any]] = []
    for one in said:
        context = one.request.get("context", {})
        rows.append(
            {
                "user_id": one.user_id,
                "surface": one.request["surface"],
                **{name: context.get(name) for name in COLUMNS},
                "event_time": one.asked_at,
                "attributes": [(key, word) for key, word in context.items() if key not in COLUMNS],
            }
        )
    texts = [(name, pa.string()) for name in ("user_id", "surface", *COLUMNS)]
    return pa.Table.from_pylist(rows, pa.schema([*texts, ("event_time", TIME), ("attributes", ATTRIBUTES)]))


def _nothing(tasks: TaskSettings) -> Known:
    """What is known before the first publication."""
    empty: Callable[[str], pa.Table] = lambda name: LAKE[name].schema.empty_table()  # noqa: E731
    features = (empty("user_features"), empty("item_features"), empty("encodings"))
    return Known(date.min, NEVER, *features, empty("items"), empty("users"), tasks)


def _compared(
    answers: int, found: Sequence[tuple[Said, Sequence[Placement]]], left_out: Mapping[str, int], tolerated: float
) -> Replayed:
    other = differing = 0
    largest = dict.fromkeys(NUMBERS, 0.0)
    for said, again in found:
        served = said.answer.items
        if [place.item_id for place in served] != [place.item_id for place in again]:
            other, differing = other + 1, differing + 1
            continue
        apart = {name: max((_apart(a, b, name) for a, b in zip(served, again, strict=True)), default=0.0)
                 for name in NUMBERS}  # fmt: skip
        differing += max(apart.values()) > tolerated
        largest = {name: max(largest[name], apart[name]) for name in NUMBERS}
    return Replayed(answers, len(found), other, differing, largest if found else {}, dict(left_out))


def _apart(one: Placement, other: Placement, name: str) -> float:
    values = getattr(one, name), getattr(other, name)
    if None in values:
        return 0.0 if values == (None, None) else float("inf")
    return float(abs(values[0] - values[1]))
