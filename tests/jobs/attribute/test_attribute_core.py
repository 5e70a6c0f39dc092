"""Attribution: hand-written scenarios, a nested-loop oracle, and what a later event may not change."""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.attribute import core
from jobs.attribute.shares import shared_out
from jobs.config import AttributionSettings
from jobs.outcomes import so_far
from tests.jobs.attribute.attribution_oracle import START, by_nested_loops, events, known_before, random_events, rounded

RULES = st.builds(
    AttributionSettings,
    model=st.sampled_from(["last_click", "first_click", "linear", "time_decay"]),
    half_life_days=st.integers(1, 9),
    window=st.sampled_from([None, "90m", "31h", "2d"]),
    click_window=st.sampled_from([None, "45m", "7h"]),
)
MINUTE = "%Y-%m-%dT%H:%M"
SCENARIOS = sorted((Path(__file__).parents[2] / "golden" / "attribution").iterdir())


def scenario_rows(path: Path) -> list[dict[str, Any]]:
    """A scenario's CSV file: times in UTC, an empty cell is null."""

    def value(name: str, text: str) -> Any:
        if text == "":
            return None
        if name.endswith(("_time", "_at")):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return float(text) if name in ("value", "conversion_credit", "conversion_value") else text

    with path.open() as file:
        return [{name: value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def attributed(found: dict[str, list[dict[str, Any]]], rules: AttributionSettings) -> tuple[pa.Table, pa.Table]:
    return core.attribute(**{table: events(table, rows) for table, rows in found.items()}, settings=rules)


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda folder: folder.name)
def test_scenario(folder: Path) -> None:
    """Each folder of tests/golden/attribution says in about.txt what it protects; settings.json where not default."""
    rules = folder / "settings.json"
    found = {table: scenario_rows(folder / "in" / f"{table}.csv") for table in core.COLUMNS}
    found["impressions"] = [row | {"request_id": "r"} for row in found["impressions"]]
    given_rules = AttributionSettings.model_validate_json(rules.read_text() if rules.is_file() else "{}")
    labels, earned = attributed(found, given_rules)
    wanted = scenario_rows(folder / "expect" / "labels.csv")
    assert [told(row, wanted[0] if wanted else {}) for row in labels.to_pylist()] == sorted(
        wanted, key=lambda row: [r["impression_id"] for r in labels.to_pylist()].index(row["impression_id"])
    )
    with (folder / "expect" / "counts.csv").open() as file:
        counts = [
            {name: text if name == "day" else int(text) for name, text in row.items()} for row in csv.DictReader(file)
        ]
    assert sorted(core.counted(earned).to_pylist(), key=lambda row: row["day"]) == counts


def told(row: dict[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """A label as a scenario writes it down."""

    def text(value: Any) -> Any:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return round(value, 9)
        if isinstance(value, list):
            return "; ".join(f"{one['known_at']:{MINUTE}}..{one['until']:{MINUTE}}" for one in value)
        return value

    return {name: text(row[name]) for name in columns}


@pytest.mark.parametrize(
    ("given_rules", "spans"),
    [
        ({}, (timedelta(days=7), 7, timedelta(days=1), 1)),
        ({"window": "6h", "click_window": "90m"}, (timedelta(hours=6), 1, timedelta(minutes=90), 1)),
        ({"window": "49h", "click_window_days": 2}, (timedelta(hours=49), 3, timedelta(days=2), 2)),
        ({"window": "3d"}, (timedelta(days=3), 3, timedelta(days=1), 1)),
    ],
)
def test_windows_are_days_hours_or_minutes(given_rules: dict[str, Any], spans: tuple[Any, ...]) -> None:
    """Counted to the microsecond where events meet, and in whole days where days of the lake are looked at."""
    found = AttributionSettings.model_validate(given_rules)
    assert (found.to_purchase, found.purchase_days, found.to_click, found.click_days) == spans


def test_a_window_of_hours_ends_to_the_microsecond() -> None:
    """Six hours after the click are too late, a microsecond less is not; the label closes by the same hours."""
    rules = AttributionSettings(window="6h", click_window="30m")
    clicked = START + timedelta(minutes=29)
    known = {"ingested_at": START, "user_id": "u", "item_id": "i"}
    shown = {**known, "impression_id": "a", "request_id": "r", "event_time": START}
    found = {
        "impressions": [shown],
        "clicks": [{**known, "click_id": "c", "impression_id": None, "event_time": clicked}],
        "purchases": [
            {**known, "purchase_id": f"p{n}", "event_time": clicked + timedelta(hours=6, microseconds=n), "value": 1.0}
            for n in (-1, 0)
        ],
    }
    [label] = attributed(found, rules)[0].to_pylist()
    assert (label["clicked"], label["conversion_value"]) == (True, 1.0)
    assert label["click_matures_at"] == START + timedelta(minutes=30)
    assert label["matures_at"] == START + timedelta(hours=6, minutes=30)
    found["clicks"][0]["event_time"] = START + timedelta(minutes=30)
    assert not attributed(found, rules)[0].to_pylist()[0]["clicked"]


@given(st.integers(0, 10**6), st.integers(1, 14), RULES)
@settings(max_examples=120, deadline=None)
def test_it_is_the_nested_loop(seed: int, n: int, rules: AttributionSettings) -> None:
    """Every label of a crowded little world, its whole history included, is the oracle's: copies, ties, strangers."""
    found = random_events(seed, n)
    assert rounded(attributed(found, rules)[0]) == by_nested_loops(found, rules)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 340), RULES)
@settings(max_examples=200, deadline=None)
def test_reading_as_of_any_time_never_changes(seed: int, n: int, hours: int, rules: AttributionSettings) -> None:
    """Late purchases, clicks and impressions alike: labels computed with all that came later, read as of T, are those
    of a run that had only what was known before T.
    """
    found = random_events(seed, n, known_late=0.6)
    cut = START + timedelta(hours=hours)

    def read(events_read: dict[str, list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
        labels = attributed(events_read, rules)[0]
        labels = labels.filter(pc.less(labels.column("known_at"), pa.scalar(cut)))
        told = (so_far(labels, outcome, cut).to_pylist() for outcome in ("clicked", "converted"))
        return list(zip(labels.column("impression_id").to_pylist(), *told, strict=True))

    assert read(found) == read(known_before(found, cut))


@given(st.integers(0, 10**6), st.integers(1, 12), RULES, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_changes_nothing(seed: int, n: int, rules: AttributionSettings, random: Any) -> None:
    """Same rows, not nearly: a float sum must not depend on which file was read first."""
    found = random_events(seed, n)
    labels = attributed(found, rules)[0]
    for rows in found.values():
        random.shuffle(rows)
    assert attributed(found, rules)[0].equals(labels)


@given(st.integers(0, 10**6), st.integers(1, 14), RULES)
@settings(max_examples=40, deadline=None)
def test_every_purchase_shares_out_exactly_one_and_none_is_lost(seed: int, n: int, rules: AttributionSettings) -> None:
    """Attributed and unattributed purchases add up to all of them; credit and value handed out are those that came in.

    A share of a click whose impression is unknown goes to nobody, so the labels hold at most what was shared out.
    """
    found = random_events(seed, n)
    labels, earned = attributed(found, rules)
    totals = core.counted(earned).to_pylist()
    purchases = core.unique(events("purchases", found["purchases"]), "purchases", rules)
    assert sum(row["attributed"] + row["unattributed"] for row in totals) == len(purchases)
    clicks = core.unique(events("clicks", found["clicks"]), "clicks", rules)
    assert sum(row["clicks"] for row in totals) == len(clicks)
    shared = earned.filter(earned.column("bought"))
    assert sum(shared.column("credit").to_pylist()) == pytest.approx(sum(row["attributed"] for row in totals))
    known = shared.filter(shared.column("shown_id").is_valid())
    for ours, theirs in (("conversion_credit", "credit"), ("conversion_value", "value")):
        assert sum(labels.column(ours).to_pylist()) == pytest.approx(sum(known.column(theirs).to_pylist()))


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=40), min_size=1, max_size=20), st.randoms())
def test_shares_add_up_to_one_in_any_order(weights: list[list[float]], random: Any) -> None:
    """Exactly, as floats, however unequal the weights; and nothing that was shared with gets nothing."""
    flat = np.array([weight for purchase in weights for weight in (*purchase, 1.0)])
    purchase = np.repeat(np.arange(len(weights)), [len(of) + 1 for of in weights])
    share = shared_out(purchase, flat)
    assert (share > 0).all()
    for one in range(len(weights)):
        mine = share[purchase == one].tolist()
        random.shuffle(mine)
        assert sum(mine) == 1.0
