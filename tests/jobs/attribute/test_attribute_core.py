"""Attribution: hand-written scenarios, a nested-loop oracle, and what a later event may not change."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.attribute import core
from jobs.config import AttributionSettings
from tests.jobs.attribute.attribution_oracle import by_nested_loops, events, random_events, rounded

SETTINGS = AttributionSettings()
SCENARIOS = sorted((Path(__file__).parents[2] / "golden" / "attribution").iterdir())


def scenario_rows(path: Path) -> list[dict[str, Any]]:
    """A scenario's CSV file: times in UTC, an empty cell is null."""

    def value(name: str, text: str) -> Any:
        if text == "":
            return None
        if name.endswith(("_time", "_at")):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return float(text) if name in ("value", "conversion_value") else text

    with path.open() as file:
        return [{name: value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def attributed(found: dict[str, list[dict[str, Any]]]) -> tuple[pa.Table, pa.Table]:
    return core.attribute(**{table: events(table, rows) for table, rows in found.items()}, settings=SETTINGS)


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda folder: folder.name)
def test_scenario(folder: Path) -> None:
    """Each folder of tests/golden/attribution says in about.txt what it protects."""
    found = {table: scenario_rows(folder / "in" / f"{table}.csv") for table in core.COLUMNS}
    found["impressions"] = [row | {"request_id": "r"} for row in found["impressions"]]
    labels, earned = attributed(found)
    wanted = {row.pop("impression_id"): row for row in scenario_rows(folder / "expect" / "labels.csv")}
    told = {
        row["impression_id"]: {
            name: {True: "yes", False: "no"}.get(row[name], row[name])
            if name in ("clicked", "converted")
            else row[name]
            for name in ("clicked", "click_known_at", "converted", "conversion_known_at", "conversion_value")
        }
        for row in labels.to_pylist()
    }
    assert told == wanted
    with (folder / "expect" / "counts.csv").open() as file:
        counts = [
            {name: text if name == "day" else int(text) for name, text in row.items()} for row in csv.DictReader(file)
        ]
    assert sorted(core.counted(earned).to_pylist(), key=lambda row: row["day"]) == counts


@given(st.integers(0, 10**6), st.integers(1, 14))
@settings(max_examples=80, deadline=None)
def test_it_is_the_nested_loop(seed: int, n: int) -> None:
    """Every label of a crowded little world, copies and ties and strangers included, is the oracle's."""
    found = random_events(seed, n)
    assert rounded(attributed(found)[0]) == by_nested_loops(found, SETTINGS)


@given(st.integers(0, 10**6), st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_changes_nothing(seed: int, n: int, random: Any) -> None:
    """Same rows, not nearly: a float sum must not depend on which file was read first."""
    found = random_events(seed, n)
    labels = attributed(found)[0]
    for rows in found.values():
        random.shuffle(rows)
    assert attributed(found)[0].equals(labels)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 300))
@settings(max_examples=25, deadline=None)
def test_purchases_known_later_do_not_change_what_was_known(seed: int, n: int, hours: int) -> None:
    """Reading as of T: labels recomputed with purchases that arrived after T say the same about T."""
    found = random_events(seed, n)
    cut = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    # Copies aside: which copy counts is what was known first, so a later copy cannot matter either.
    early = found | {"purchases": [row for row in found["purchases"] if row["ingested_at"] < cut]}

    def known(labels: pa.Table) -> list[tuple[Any, ...]]:
        return [
            (r["impression_id"], r["converted"] and r["conversion_known_at"] < cut, r["clicked"], r["matures_at"])
            for r in labels.to_pylist()
        ]

    assert known(attributed(found)[0]) == known(attributed(early)[0])


@given(st.integers(0, 10**6), st.integers(1, 14))
@settings(max_examples=25, deadline=None)
def test_every_purchase_pays_at_most_one_click_and_none_is_lost(seed: int, n: int) -> None:
    """Attributed and unattributed purchases add up to all of them; the value paid is at most the value bought."""
    found = random_events(seed, n)
    labels, earned = attributed(found)
    totals = core.counted(earned).to_pylist()
    assert sum(row["attributed"] + row["unattributed"] for row in totals) == len(
        {r["purchase_id"] for r in found["purchases"]}
    )
    assert sum(row["clicks"] for row in totals) == len({r["click_id"] for r in found["clicks"]})
    paid = [row for row in earned.to_pylist() if row["kind"] == "purchase" and row["shown_id"]]
    assert sum(labels.column("conversion_value").to_pylist()) == pytest.approx(sum(row["value"] for row in paid))
