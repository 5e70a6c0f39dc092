"""The endpoint's data capture as rows: what was really answered, one row per placement."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

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


def lines(folder: Path) -> Iterable[str]:
    """Every line of a day's capture files, in order of file name; nothing where there is no folder."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as file:
            yield from file


def placements(captured: Iterable[str]) -> pa.Table:
    """One row per placement answered; the first answer to a request counts, a torn last line does not."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for text in captured:
        if not text.endswith("\n"):
            continue
        response = json.loads(text)["response"]
        rows.setdefault(response["request_id"], [_row(response, place) for place in response["items"]])
    return pa.Table.from_pylist([row for answer in rows.values() for row in answer], SCHEMA)


def _row(response: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    return {
        "request_id": response["request_id"],
        "item_id": place["item_id"],
        "bundle_sha256": response.get("bundle_sha256"),
        "fallback": bool(response["fallback"]),
        "features_day": response.get("features_day"),
        "served_p_click": float(place["p_click"]),
    }
