"""Planted leaks: whatever part of featurize looks past its midnight, the stage refuses and publishes nothing of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.errors import Refused
from jobs.featurize import core, recent, users
from jobs.featurize.audit import Audit
from jobs.featurize.events import UserEvents
from jobs.featurize.items import ItemCounts

AVAILABLE, ROLLING, ROLLED, KNOWN = core.available, core.rolling, ItemCounts.rolled, recent._known
OF_USERS, FED = UserEvents.of_users, users._fed


def a_day_early(day: Any, n: int, settings: Any) -> Any:
    """Every row claims to have been available a day before it was."""
    return AVAILABLE(day - timedelta(days=1), n, settings)


def at_midnight(day: Any, n: int, settings: Any) -> Any:
    """Every row claims to have been available when its day ended, hours before it could be served."""
    return AVAILABLE(day, n, settings.model_copy(update={"available_after_hours": 0}))


def a_day_ahead(codes: Any, size: int, event_day: Any, start_day: Any, *more: Any) -> Any:
    """Every row counts the day that its examples are of, too."""
    return ROLLING(codes, size, event_day, start_day - 1, *more)


def conversions_ahead(counts: ItemCounts, kind: str, *more: Any) -> Any:
    """Only conversions do: the leak that makes an offline AUC shine."""
    shifted = replace(counts, start_day=counts.start_day - 1)
    return ROLLED(shifted if kind == "purchases" else counts, kind, *more)


def feedback_ahead(counts: ItemCounts, kind: str, *more: Any) -> Any:
    """Only a further outcome's events do, on the items' side."""
    return ROLLED(replace(counts, start_day=counts.start_day - kind.startswith("feedback")), kind, *more)


def fed_ahead(events: UserEvents, *more: Any) -> Any:
    """And on the users' side."""
    return FED(replace(events, feedback=replace(events.feedback, start_day=events.feedback.start_day - 1)), *more)


def recent_ahead(event_us: Any, start_day: Any, day: Any, window_days: int) -> Any:
    """The last session and the last items are those of the day itself."""
    return KNOWN(event_us, start_day, day + timedelta(days=1), window_days + 1)


def as_they_happen(event_us: Any, start_day: Any, day: Any, window_days: int) -> Any:
    """Late events count from the day they happened on, not from the day they were known."""
    return KNOWN(event_us, np.minimum(start_day, event_us // core.DAY_US), day, window_days)


@pytest.mark.parametrize(
    ("place", "leak", "says"),
    [
        ("users.available", a_day_early, "user_features of .* available_at of 'u"),
        ("items.available", a_day_early, "item_features of .* available_at of 'i"),
        ("encodings.available", a_day_early, "encodings of .* available_at of 'c"),
        ("users.available", at_midnight, "user_features of .* available_at of 'u"),
        ("items.available", at_midnight, "item_features of .* available_at of 'i"),
        ("encodings.available", at_midnight, "encodings of .* available_at of 'c"),
        ("users.rolling", a_day_ahead, "user_features of 2026-01-01 .* of 'u"),
        ("items.rolling", a_day_ahead, "user_features of 2026-01-01 .* click_rate of 'u"),  # its prior is everybody's
        ("encodings.rolling", a_day_ahead, "encodings of 2026-01-01 .* of 'c"),
        ("items.ItemCounts.rolled", conversions_ahead, "item_features of 2026-01-01 .* purchase_rate of 'i"),
        ("items.ItemCounts.rolled", feedback_ahead, "item_features of 2026-01-01 .* outcomes of 'i"),
        ("users._fed", fed_ahead, "user_features of 2026-01-01 .* outcomes of 'u"),
        ("recent._known", recent_ahead, "user_features of 2026-01-01 .* of 'u"),
        ("recent._known", as_they_happen, "user_features of .* of 'u"),
    ],
)
def test_a_planted_leak_is_refused(
    lively: Any, monkeypatch: pytest.MonkeyPatch, place: str, leak: Callable[..., Any], says: str
) -> None:
    """Each in the code that makes the rows; the message says which table, day, key and column, and what was known."""
    monkeypatch.setattr(f"jobs.featurize.{place}", leak)
    with pytest.raises(Refused, match=f"(?s){says}.* must be .*found "):
        lively.run(lively.first + timedelta(days=5), since=lively.first)
    assert lively.lake.days("user_features") == []


def test_honest_rows_pass_and_a_lost_user_does_not(lively: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit is no alarm that always rings; and a row that should be there is looked for too."""
    last = lively.first + timedelta(days=5)
    lively.run(last, since=lively.first)
    assert len(lively.lake.days("user_features")) == 6
    monkeypatch.setattr("jobs.featurize.users.USERS_AT_ONCE", 10**6)
    monkeypatch.setattr(
        "jobs.featurize.events.UserEvents.of_users", lambda events, low, high: OF_USERS(events, 5, high)
    )
    with pytest.raises(Refused, match=r"'u0.' has no row and had some event by then"):
        lively.run(last)


@pytest.mark.spark
def test_workers_find_the_leaks_that_one_process_finds(lively: Any, tmp_path: Path) -> None:
    """A user's click, an item's and a category's too many, each on a day of its own; the fourth day is honest."""
    from jobs.featurize.spark import OnWorkers
    from jobs.parcels.spark import Steps
    from jobs.spark import session

    *early, last = days = [lively.first + timedelta(days=n) for n in range(4)]
    lively.run(last, since=lively.first)
    tables = ("user_features", "item_features", "encodings")
    published = {
        day: {table: [path for path, _ in lively.lake.files(table, [day])] for table in tables} for day in days
    }
    for day, table in zip(early, tables, strict=True):
        rows = pq.ParquetFile(published[day][table][0]).read()
        clicks = pa.chunked_array([pc.add(rows["clicks"], 1.0).combine_chunks()])
        halves = rows.set_column(rows.column_names.index("clicks"), rows.schema.field("clicks"), clicks)
        published[day][table] = [str(tmp_path / f"{table}-{n}.parquet") for n in range(2)]
        for n, path in enumerate(published[day][table]):
            pq.write_table(halves.slice(n * 5, 5 if n == 0 else None), path)
    events = ("impressions", "clicks", "purchases", "feedback")
    files = {table: [path for path, _ in lively.lake.files(table, days)] for table in events}
    held = {day: [path for path, _ in lively.lake.files("items", [day])] for day in days}
    alone = Audit(files, held, lively.config.features, lively.config.outcomes)
    found = alone.leaks(published)
    assert [*found] == early
    for (day, says), what in zip(found.items(), ("'u", "'i", "'c"), strict=True):
        assert f"of {day} must say what was known before" in says
        assert f"clicks of {what}" in says
    with session(lively.config.spark, "test") as spark:
        assert replace(alone, over=OnWorkers(Steps(spark, 3))).leaks(published) == found
