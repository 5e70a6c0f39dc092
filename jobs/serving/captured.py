"""The endpoint's data capture as rows: what was really answered, one row per placement."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from jobs.serving.answer import Answer, Placement, answer_of

SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("item_id", pa.string()),
        ("bundle_sha256", pa.string()),
        ("fallback", pa.bool_()),
        ("features_day", pa.string()),
        ("served_p_click", pa.float64()),
    ]
)


class Placements(NamedTuple):
    """What was answered, and how many lines hold no answer."""

    rows: pa.Table
    torn: int


def lines(folder: Path) -> Iterable[str]:
    """Every line of a day's capture files, in the order they were begun; nothing where there is no folder."""
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: (len(path.name), path.name)):
        # A line may be cut off within a character.
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from file


def placements(captured: Iterable[str]) -> Placements:
    """One row per placement answered; the first answer to a request counts, a torn line is counted and left out."""
    rows: dict[str, list[dict[str, Any]]] = {}
    torn = 0
    for text in captured:
        try:
            answer = answer_of(json.loads(text)["response"])
        except (ValueError, LookupError, TypeError):
            torn += 1
            continue
        rows.setdefault(answer.request_id, [_row(answer, place) for place in answer.items])
    return Placements(pa.Table.from_pylist([row for answer in rows.values() for row in answer], SCHEMA), torn)


def _row(answer: Answer, place: Placement) -> dict[str, Any]:
    return {
        "request_id": answer.request_id,
        "item_id": place.item_id,
        "bundle_sha256": answer.bundle_sha256,
        "fallback": answer.fallback,
        "features_day": answer.features_day,
        "served_p_click": place.p_click,
    }
