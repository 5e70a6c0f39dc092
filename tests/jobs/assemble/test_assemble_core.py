"""Labels as known at the cut, the split's calendar, maps put together: rule by rule."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.assemble import core
from jobs.config import AttributionSettings, DatasetSettings
from jobs.errors import NotReady, Refused
from jobs.lake.tables import ATTRIBUTES, TIME

DAY = date(2026, 1, 30)
CUT = datetime(2026, 1, 31, tzinfo=UTC)
TEXTS = st.text("ab", max_size=2)
MAPS = st.one_of(st.none(), st.lists(st.tuples(TEXTS, TEXTS), max_size=3))


def dataset(train: int, validate: int, test: int, embargo: int, published: list[date]) -> core.Dataset:
    chosen = DatasetSettings(train_days=train, validate_days=validate, test_days=test)
    return core.dataset(DAY, chosen, AttributionSettings(click_window_days=embargo), published)


def days(*spans: tuple[int, int]) -> list[date]:
    return [date(2026, 1, n) for first, last in spans for n in range(first, last + 1)]


def test_the_split_is_train_then_validate_then_test_then_an_embargo() -> None:
    """By event time, never random; a click of the newest day still belongs to the day before it."""
    data = dataset(20, 1, 2, 1, days((1, 30)))
    assert data.splits == {"train": days((7, 26)), "validate": days((27, 27)), "test": days((28, 29))}
    assert data.cut == CUT
    assert data.days == days((7, 29))


def test_a_short_history_trains_on_what_there_is_and_none_is_not_ready() -> None:
    """Real samples are shorter than 28 days; without a single train day there is nothing to learn from."""
    assert dataset(20, 1, 1, 1, days((26, 30))).splits["train"] == days((26, 27))
    with pytest.raises(NotReady, match=r"2026-01-27 or earlier to train on; the first published is 2026-01-28"):
        dataset(20, 1, 1, 1, days((28, 30)))
    with pytest.raises(NotReady, match="none is published"):
        dataset(20, 1, 1, 1, [])


def test_a_warm_start_sees_the_last_train_days_and_is_judged_on_the_same() -> None:
    """Mode changes what is learned from, never what is judged on."""
    full = dataset(20, 1, 1, 1, days((1, 30)))
    warm = core.warm(full, 3)
    assert warm.splits == full.splits | {"train": full.splits["train"][-3:]}
    assert warm.cut == full.cut


@given(st.lists(st.tuples(MAPS, MAPS, MAPS), max_size=8), st.integers(0, 3))
@settings(deadline=None)
def test_maps_are_put_together_row_by_row(rows: list[tuple[Any, ...]], skip: int) -> None:
    """Each row's entries in the order of the parts; null maps have none; sliced input is read where it starts."""
    parts = [pa.array([row[k] for row in rows], ATTRIBUTES).slice(skip) for k in range(3)]
    wanted = [[entry for part in row for entry in part or []] for row in rows[skip:]]
    assert core.merged(parts).to_pylist() == wanted


def test_a_feature_row_of_the_future_is_refused() -> None:
    """The planted leak: a join that handed out later rows would make every offline number too good."""
    rows = pa.table({"event_time": pa.array([CUT, CUT], TIME)})
    core.refuse_leaks(rows, pa.chunked_array([pa.array([CUT, None], TIME)]), "user_features")
    late = pa.chunked_array([pa.array([CUT, CUT + timedelta(microseconds=1)], TIME)])
    with pytest.raises(Refused, match=r"user_features rows .* found 1 available later"):
        core.refuse_leaks(rows, late, "user_features")


SHOWN = st.tuples(st.integers(0, 32 * 24), st.integers(0, 72), st.booleans(), st.integers(0, 96))
"""Of an impression: its hour in January, hours until it was known, whether clicked, hours until that was known."""


@given(st.lists(SHOWN, min_size=1, max_size=20))
@settings(deadline=None)
def test_no_row_of_another_day_and_no_label_from_after_the_cut(rows: list[tuple[int, int, bool, int]]) -> None:
    """Every impression of the days that was known is there once, in its day's split; labels say what was known then."""
    data = dataset(20, 1, 2, 1, days((1, 30)))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    shown: list[dict[str, Any]] = []
    label: list[dict[str, Any]] = []
    for n, (hour, late, clicked, after) in enumerate(rows):
        time = start + timedelta(hours=hour)
        known = {"impression_id": f"i{n}", "event_time": time}
        shown.append(known | {"ingested_at": time + timedelta(hours=late)})
        outcome = {"clicked": clicked, "click_known_at": time + timedelta(hours=after) if clicked else None}
        mature = {"click_matures_at": time + timedelta(days=1), "matures_at": time + timedelta(days=8)}
        label.append(known | outcome | mature | {"known_at": time, "converted": False, "conversion_value": 0.0})
    found = core.labelled(
        pa.Table.from_pylist([*shown, *shown], core.IMPRESSIONS), pa.Table.from_pylist(label, core.LABELS), data
    )
    wanted = {}
    for seen, came in zip(shown, label, strict=True):
        split = [name for name, of in data.splits.items() if seen["event_time"].date() in of]
        if split and seen["ingested_at"] < CUT:
            known = came["clicked"] and came["click_known_at"] < CUT
            assert came["click_matures_at"] <= CUT, "the embargo closes every click"
            wanted[seen["impression_id"]] = (*split, known)
    names = ("impression_id", "split", "clicked")
    got = [tuple(row[name] for name in names) for row in found.select(names).to_pylist()]
    assert sorted(got) == sorted((key, *value) for key, value in wanted.items())


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 8), st.integers(0, 3), st.booleans())
@settings(deadline=None)
def test_every_click_of_a_dataset_is_closed_and_conversions_only_of_its_older_days(
    click_window: int, validate: int, test: int, window: int, late: int, outcome: bool
) -> None:
    """The embargo is as long as a click can take, whatever the settings: to the last microsecond of every day. Which
    conversions are known depends on when they close, never on what they say.
    """
    windows = AttributionSettings(click_window_days=click_window, window_days=window, late_days=late)
    chosen = DatasetSettings(train_days=20, validate_days=validate, test_days=test)
    data = core.dataset(DAY, chosen, windows, days((1, 30)))
    shown = [
        {"impression_id": str(day), "event_time": time, "ingested_at": time}
        for day in data.days
        for time in [datetime(day.year, day.month, day.day, 23, 59, 59, 999_999, UTC)]
    ]
    labels = [
        row
        | {"known_at": row["ingested_at"], "clicked": True, "click_known_at": row["event_time"]}
        | {"click_matures_at": row["event_time"] + timedelta(days=click_window)}
        | {"converted": outcome, "conversion_known_at": row["event_time"] if outcome else None}
        | {"matures_at": row["event_time"] + timedelta(days=click_window + window), "conversion_value": 0.0}
        for row in shown
    ]
    found = core.labelled(
        pa.Table.from_pylist(shown, core.IMPRESSIONS), pa.Table.from_pylist(labels, core.LABELS), data
    )
    told = dict(zip(found["impression_id"].to_pylist(), found["converted"].to_pylist(), strict=True))
    assert found["clicked"].to_pylist() == [True] * len(data.days)
    last = DAY - timedelta(days=click_window + window + late)
    assert told == {str(day): outcome if day <= last else None for day in data.days}


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 60))
@settings(deadline=None)
def test_the_days_of_a_dataset_are_apart_and_in_order(
    train: int, validate: int, test: int, embargo: int, history: int
) -> None:
    """Whatever the lengths: train, validate, test, embargo in this order, no day twice, none missing between."""
    published = [DAY - timedelta(days=n) for n in range(validate + test + embargo + history)]
    data = dataset(train, validate, test, embargo, published)
    ordered = [day for name in ("train", "validate", "test") for day in data.splits[name]]
    assert ordered == [ordered[0] + timedelta(days=n) for n in range(len(ordered))]
    assert ordered[-1] == DAY - timedelta(days=embargo)
    assert len(ordered) == validate + test + min(train, history)
    assert all(datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) <= data.cut for day in ordered)
    assert core.warm(data, 2).days == ordered[-(validate + test + min(train, history, 2)) :]
