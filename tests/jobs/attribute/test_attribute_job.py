"""The attribute stage on a small lake: what it publishes, publishes again, refuses to, and that Spark says the same."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import config
from jobs.attribute import core, job
from jobs.attribute.told import Told
from jobs.config import AttributionSettings, Config, SurfaceLabelSettings
from jobs.errors import NotReady
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage, midnight
from jobs.lake.tables import LAKE
from jobs.outcomes import so_far
from tests.jobs.attribute.attribution_oracle import (
    START,
    by_nested_loops,
    events,
    known_before,
    random_events,
    rounded,
    unique,
)
from tests.jobs.attribute.test_attribute_outcomes import DECLARED, with_feedback

FIRST = START.date()
LINEAGE = Lineage("test", "run0", "code", "settings")
EMPTY: dict[str, Any] = {"surface": "home", "position": 1, "policy": "logging", "attributes": []}


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config.load({"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__ROOT": str(tmp_path / "lake")})


def put(settings: Config, table: str, day: date, rows: list[dict[str, Any]]) -> None:
    """Publish a day of a validated event table."""
    spec = LAKE[table]
    full = [{name: (EMPTY | row).get(name) for name in spec.columns} for row in rows]
    Lake(settings.lake.root).publish(table, {"day": str(day)}, pa.Table.from_pylist(full, spec.schema), LINEAGE)


def put_all(settings: Config, found: dict[str, list[dict[str, Any]]], days: int) -> None:
    """Publish events by the day they happened, empty days included."""
    for table, rows in found.items():
        for day in (FIRST + timedelta(days=n) for n in range(days)):
            put(settings, table, day, [row for row in rows if row["event_time"].date() == day])


def attribute(settings: Config, day: date, since: date | None = None) -> dict[str, Any]:
    return job.run(Run(STAGES["attribute"], settings, day, since))


def published(settings: Config) -> pa.Table:
    labels = Lake(settings.lake.root).read("labels")
    assert labels.column("event_time").cast(pa.date32()).cast(pa.string()).equals(labels.column("day"))
    return labels.drop_columns(["day"]).sort_by([("event_time", "ascending"), ("impression_id", "ascending")])


DAYS = 13
"""`random_events` live for 11 days; a click comes at most 30 hours after its impression."""


def test_all_days_at_once_are_the_oracle_s(settings: Config) -> None:
    """The stage publishes exactly the nested loop's labels, each in its own day's partition."""
    found = random_events(3, 60)
    put_all(settings, found, DAYS)
    counts = attribute(settings, FIRST + timedelta(days=DAYS - 1), FIRST)
    labels = published(settings)
    assert rounded(labels) == by_nested_loops(found, settings.attribution)
    assert counts["impressions"] == len(labels)
    copies = [len(found[table]) - len(unique(found[table], table, settings.attribution)) for table in core.COLUMNS]
    assert counts["duplicates"] == sum(copies) > 0


def test_day_by_day_ends_where_all_at_once_does(settings: Config) -> None:
    """A day's run re-publishes the earlier days its events change: no purchase is lost because it came later."""
    found = random_events(1, 40)
    put_all(settings, found, DAYS)
    for n in range(DAYS):
        attribute(settings, FIRST + timedelta(days=n))
    assert rounded(published(settings)) == by_nested_loops(found, settings.attribution)


@pytest.mark.parametrize(("model", "anonymous"), [("last_click", True), ("linear", False)])
def test_as_the_lake_grows_no_label_is_lost_and_none_read_as_of_a_past_time_changes(
    tmp_path: Path, model: str, anonymous: bool
) -> None:
    """What a team's lake does: every night has what was known by then, late events re-open the days they touch.

    In the end the labels are the oracle's on all events, and each night's labels, read as of that night, are what the
    last night's labels say about it.
    """
    names = {"TIDEGATE__LAKE__ROOT": str(tmp_path / "lake"), "TIDEGATE__ATTRIBUTION__MODEL": model}
    settings = config.load({"TIDEGATE_ENV": "test", **names})
    found = random_events(13, 60, known_late=0.5, late_hours=40)
    found = {t: [row for row in rows if anonymous or row["user_id"]] for t, rows in found.items()}
    nights = [midnight(FIRST + timedelta(days=n + 1)) for n in range(DAYS + 2)]
    told: dict[datetime, Any] = {}
    laid: Laid = {}
    for cut in nights:
        run_the_night(settings, found, cut, laid)
        told[cut] = as_of(published(settings), cut)
    final = published(settings)
    assert rounded(final) == by_nested_loops(found, settings.attribution)
    assert {cut: as_of(final, cut) for cut in nights} == told
    assert pc.count(final.column("conversion_superseded")).as_py() > 0


Laid = dict[tuple[str, date], list[dict[str, Any]]]


def run_the_night(
    settings: Config, found: dict[str, list[dict[str, Any]]], cut: datetime, laid: Laid
) -> dict[str, Any]:
    """Publish the day before `cut` and the days its late events belong to, as known by then; then their labels.

    `laid` is what the nights before have published: a day that is as it was is not published again.
    """
    day = (cut - timedelta(days=1)).date()
    for table, rows in known_before(found, cut).items():
        for late in (day - timedelta(days=n) for n in range(settings.attribution.late_days + 1)):
            known = [row for row in rows if row["event_time"].date() == late]
            if laid.get((table, late)) != known:
                put(settings, table, late, known)
                laid[table, late] = known
    return attribute(settings, day)


def test_the_latest_of_late_purchases_still_finds_its_impression(settings: Config) -> None:
    """Nearly a day to the click, nearly seven to the purchase, two more until that is known: ten days back, one day."""
    hour = timedelta(hours=1)
    common = {"user_id": "ann", "item_id": "tea"}
    found = {
        "impressions": [{"impression_id": "s", "request_id": "r", "event_time": START + 23 * hour}],
        "clicks": [{"click_id": "c", "impression_id": "s", "event_time": START + 46 * hour}],
        "purchases": [{"purchase_id": "p", "event_time": START + 213 * hour, "value": 2.0}],
    }
    known = {"impressions": START + 24 * hour, "clicks": START + 47 * hour, "purchases": START + 260 * hour}
    found = {t: [row | common | {"ingested_at": known[t]} for row in rows] for t, rows in found.items()}
    laid: Laid = {}
    counts = [run_the_night(settings, found, START + 24 * n * hour, laid) for n in range(1, 12)]
    assert [counted["republished"] for counted in counts[2:]] == [[]] * 8 + [[str(FIRST)]]
    (row,) = published(settings).to_pylist()
    assert row["converted"]
    assert row["conversion_known_at"] == known["purchases"]


def as_of(labels: pa.Table, cut: datetime) -> list[tuple[Any, ...]]:
    """What the labels of the impressions known before `cut` say as of it."""
    labels = labels.filter(pc.less(labels.column("known_at"), pa.scalar(cut)))
    outcomes = (so_far(labels, outcome, cut).to_pylist() for outcome in ("clicked", "converted"))
    return list(zip(labels.column("impression_id").to_pylist(), *outcomes, strict=True))


def test_a_rerun_publishes_the_same_rows_and_leaves_the_other_days_alone(settings: Config) -> None:
    """Clearing the task is always safe: no commit for a day whose labels did not change."""
    put_all(settings, random_events(5, 40), DAYS)
    last = FIRST + timedelta(days=DAYS - 1)
    attribute(settings, last, FIRST)
    before, lake = published(settings), Lake(settings.lake.root)
    version = lake.version("labels")
    assert attribute(settings, last)["republished"] == []
    assert published(settings).equals(before)
    assert lake.version("labels") == (version or 0) + 1


def test_a_late_purchase_reopens_only_its_impression_s_day(settings: Config) -> None:
    """Day D re-publishes an earlier day if, and only if, its rows changed; the commit counts what it holds."""
    hour = timedelta(hours=1)
    common = {"user_id": "ann", "item_id": "tea"}
    shown = {**common, "impression_id": "s", "request_id": "r", "event_time": START, "ingested_at": START}
    other = shown | {"impression_id": "x", "user_id": "bob", "event_time": START + 24 * hour}
    click = {**common, "click_id": "c", "impression_id": "s", "event_time": START + hour, "ingested_at": START + hour}
    put_all(settings, {"impressions": [shown, other], "clicks": [click], "purchases": []}, 3)
    attribute(settings, FIRST + timedelta(days=2), FIRST)
    bought = START + 72 * hour
    for table in ("impressions", "clicks"):
        put(settings, table, bought.date(), [])
    sale = {**common, "purchase_id": "p", "event_time": bought, "ingested_at": bought, "value": 2.0}
    stray = sale | {"purchase_id": "q", "user_id": "bob"}
    put(settings, "purchases", bought.date(), [sale, stray])
    counts = attribute(settings, bought.date())
    assert counts["republished"] == [str(FIRST)]
    assert (counts["attributed"], counts["unattributed"], counts["impressions"]) == (1, 1, 0)
    (row,) = [r for r in published(settings).to_pylist() if r["impression_id"] == "s"]
    assert row["converted"]
    assert row["conversion_known_at"] == bought
    assert row["conversion_value"] == 2.0
    lineage = Lake(settings.lake.root).lineage("labels", {"day": str(bought.date())})
    assert lineage is not None
    assert '"unattributed": 1' in lineage["counts"]


def test_an_old_day_run_again_keeps_the_conversions_that_came_later(settings: Config) -> None:
    """Backfilling day D by hand must not forget the purchases of D + 3 that are already there."""
    put_all(settings, random_events(7, 60), DAYS)
    attribute(settings, FIRST + timedelta(days=DAYS - 1), FIRST)
    before = published(settings)
    attribute(settings, FIRST + timedelta(days=2))
    assert published(settings).equals(before)


def test_a_missing_day_is_not_ready(settings: Config) -> None:
    """Retry, do not invent: the message names the table and the day; nothing is published."""
    put_all(settings, random_events(1, 5), 2)
    with pytest.raises(NotReady, match=r"clicks needs 2026-01-03"):
        attribute(settings, FIRST + timedelta(days=2))
    assert Lake(settings.lake.root).version("labels") is None


def test_empty_days_have_empty_partitions(settings: Config) -> None:
    """No impressions is a fact, not a missing input."""
    put_all(settings, {"impressions": [], "clicks": [], "purchases": []}, 2)
    counts = attribute(settings, FIRST + timedelta(days=1), FIRST)
    assert counts["impressions"] == 0
    assert Lake(settings.lake.root).days("labels") == [FIRST, FIRST + timedelta(days=1)]


@pytest.mark.spark
def test_spark_is_the_core(settings: Config, tmp_path: Path) -> None:
    """The distributed steps give the very rows and counts of one machine, however keys meet across buckets.

    Wherever the lake lies: Spark takes a path for a pattern unless it is told not to. However many ask for another
    impression than the one they name: few, more than workers are told of, or nobody.
    """
    from jobs.attribute.spark import ASKING, write_labels
    from jobs.spark import session

    rows_of = with_feedback(random_events(11, 400), 11)
    found = {table: events(table, rows) for table, rows in rows_of.items()}
    files, odd = {}, tmp_path / "run[1]{a,b}*?"
    odd.mkdir()
    for table, rows in found.items():
        half = len(rows) // 2
        files[table] = [str(odd / f"{table}-{n}.parquet") for n in (0, 1)]
        for path, part in zip(files[table], (rows.slice(0, half), rows.slice(half)), strict=True):
            pq.write_table(part, path)
    with session(settings.spark, "test") as spark:
        windows = {"home": SurfaceLabelSettings(window_days=2)}
        for model, surfaces, most in (("last_click", {}, ASKING), ("time_decay", windows, 0)):
            rules = AttributionSettings(model=model, surfaces=surfaces)
            labels, earned = core.attribute(**found, settings=rules, outcomes=DECLARED)
            assert pc.count(labels.column("conversion_superseded")).as_py() > 0
            days = sorted(set(labels.column("event_time").cast(pa.date32()).cast(pa.string()).to_pylist()))
            told = write_labels(spark, files | {"labels": []}, days, [], rules, DECLARED, 3, odd / model, most)
            paths = sorted(odd.glob(f"{model}/*/*.parquet"))
            written = [pq.ParquetFile(path).read().cast(LAKE["labels"].schema) for path in paths]
            order = [("event_time", "ascending"), ("impression_id", "ascending")]
            assert all(part.equals(part.sort_by(order)) for part in written)
            assert pa.concat_tables(written).sort_by(order).equals(labels.sort_by(order))
            shown_on = labels.column("event_time").cast(pa.date32()).cast(pa.string())
            by_day = {day: labels.filter(pc.equal(shown_on, day)) for day in days}
            assert told == Told.of(by_day, {}, core.counted(earned), DECLARED)
        # What is published is compared where it is: by day, whichever files and buckets its rows lie in.
        again = {"labels": [str(path) for path in paths]}
        told = write_labels(spark, files | again, days, days[1:], rules, DECLARED, 2, odd / "again")
        assert told.changed == set()
        again = {"labels": [str(path) for path in paths if days[2] not in str(path) or "00001" in str(path)]}
        told = write_labels(spark, files | again, days, days[1:], rules, DECLARED, 2, odd / "fewer")
        assert told.changed == {days[2]}
        silent = found | {table: found[table].slice(0, 0) for table in ("clicks", "feedback")}
        labels, _ = core.attribute(**silent, settings=rules, outcomes=DECLARED)
        nothing: dict[str, list[str]] = {"clicks": [], "feedback": [], "labels": []}
        write_labels(spark, files | nothing, days, [], rules, DECLARED, 2, odd)
        written = [pq.ParquetFile(path).read().cast(LAKE["labels"].schema) for path in odd.glob("day=*/*.parquet")]
        assert pa.concat_tables(written).sort_by(order).equals(labels.sort_by(order))
