"""When labels close, by attribution itself; which figures a document has; what the difference of two of them is."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import config as configuration
from jobs.attribute import job as attribute
from jobs.config import Config
from jobs.evidence.document import Document
from jobs.evidence.figures import Earned, Estimated, Finding, Pages, Refused, Sides, Slice, Slices
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage, midnight
from jobs.lake.tables import LAKE
from jobs.outcomes import as_known, closes_on
from jobs.reevaluate import core
from models.settings import OutcomeSettings
from tests.jobs.reevaluate.closing_lake import CLOSING, FIRST_CUT, LAST_CUT, LATE_DAYS, labels
from tests.jobs.small_lake import TEST_DAY, World, examples

LINEAGE = Lineage("test", "run0", "code", "settings")
FIRST = date(2026, 3, 1)
SHOWN = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


# -- when labels close ---------------------------------------------------------------------------------------------
def event(table: str, **given: Any) -> dict[str, Any]:
    """A row of a validated event table."""
    plain = {"user_id": "u", "item_id": "i", "surface": "home", "position": 1, "policy": "logging", "attributes": []}
    return {name: (plain | given).get(name) for name in LAKE[table].columns}


def publish(config: Config, table: str, day: date, *rows: dict[str, Any]) -> None:
    data = pa.Table.from_pylist(list(rows), LAKE[table].schema)
    Lake(config.lake.root).publish(table, {"day": str(day)}, data, LINEAGE)


def test_the_last_event_that_can_change_a_day_comes_on_the_day_it_closes(tmp_path: Path) -> None:
    """Shown in the day's last second, clicked at the click window's end, bought at the other's, told late: the run of
    `attribute` on the closing day finds it, as the label was not before, and no later run looks at the day again.
    """
    config = configuration.load({"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__ROOT": str(tmp_path / "lake")})
    windows = config.attribution
    clicked = SHOWN + timedelta(days=windows.click_window_days) - MINUTE
    bought = clicked + timedelta(days=windows.window_days) - MINUTE
    told = bought + timedelta(days=windows.late_days)
    closing = FIRST + timedelta(days=windows.click_window_days + windows.window_days + windows.late_days)
    assert told.date() == closing
    days = [FIRST + timedelta(days=n) for n in range((closing - FIRST).days + 2)]
    for day in days:
        for table in ("impressions", "clicks", "purchases"):
            publish(config, table, day)
    shown = event("impressions", impression_id="m", request_id="r", event_time=SHOWN, ingested_at=SHOWN)
    click = event("clicks", click_id="c", impression_id="m", event_time=clicked, ingested_at=clicked)
    publish(config, "impressions", FIRST, shown)
    publish(config, "clicks", clicked.date(), click)

    def run(day: date, since: date | None = None) -> Any:
        return attribute.run(Run(STAGES["attribute"], config, day, since))["republished"]

    run(closing - timedelta(days=1), FIRST)
    purchase = event("purchases", purchase_id="p", event_time=bought, ingested_at=told, value=1.0)
    publish(config, "purchases", bought.date(), purchase)
    assert run(closing) == [str(FIRST)]
    label = Lake(config.lake.root).read("labels", [FIRST])
    at_the_end = midnight(closing + timedelta(days=1))
    assert as_known(label, "converted", at_the_end, windows.late_days).to_pylist() == [True]
    assert as_known(label, "converted", told, windows.late_days).to_pylist() == [None]
    assert closes_on(SHOWN, windows, {}) == closing
    publish(config, "purchases", bought.date(), purchase, {**purchase, "purchase_id": "q"})
    assert str(FIRST) not in run(closing + timedelta(days=1))


def test_a_document_says_itself_when_it_closes() -> None:
    assert core.closes_on({"conversions": {"closes_on": "2026-01-17"}}) == date(2026, 1, 17) == CLOSING
    assert core.closes_on({"schema_version": 3}) is None
    assert core.days_of(["2026-01-06 23:59:59+00:00", "2026-01-08 00:00:00+00:00"]) == [
        date(2026, 1, 6),
        date(2026, 1, 7),
        date(2026, 1, 8),
    ]


# -- labels --------------------------------------------------------------------------------------------------------
ROWS = examples(World(), TEST_DAY, "test", 20)
SOME = st.sets(st.integers(0, len(ROWS) - 1))


@settings(deadline=None)
@given(SOME, SOME, SOME)
def test_only_the_outcomes_are_replaced_and_every_change_is_counted(late: Any, bought: Any, taken: Any) -> None:
    """As known at the first cut they are what was judged, whatever came later; at the last cut all is told."""
    found = labels(ROWS, late, bought, taken)
    then = core.relabelled(ROWS, found, FIRST_CUT, LATE_DAYS, {})
    assert then["clicked"].equals(ROWS["clicked"])
    now = core.relabelled(ROWS, found, LAST_CUT, LATE_DAYS, {})
    rest = [name for name in ROWS.column_names if name not in core.OUTCOMES]
    assert now.select(rest).equals(ROWS.select(rest))
    assert now.schema == ROWS.schema
    was = ROWS["clicked"].to_pylist()
    expected = [n not in taken if before else n in late for n, before in enumerate(was)]
    assert now["clicked"].to_pylist() == expected
    assert now["converted"].to_pylist() == [n in bought for n in range(len(ROWS))]
    changes = core.label_changes(ROWS, now)
    assert sum(c.rows for c in changes if c.outcome == "clicked") == sum(
        a != b for a, b in zip(was, expected, strict=True)
    )
    assert all(c.before is not c.after and c.rows for c in changes)


def test_a_further_outcome_is_filled_in_once_it_is_closed() -> None:
    """One of a long window was open when it was judged; nothing else of the rows changes."""
    found, like = labels(ROWS), {"like": OutcomeSettings(window_days=5)}
    told = [
        [
            {
                "outcome": "like",
                "matures_at": row["event_time"] + timedelta(days=5),
                "events": [{"value": 0.0, "known_at": row["known_at"], "until": None}] if n % 2 else None,
            }
        ]
        for n, row in enumerate(found.to_pylist())
    ]
    at = found.schema.get_field_index("outcomes")
    found = found.set_column(at, found.schema.field("outcomes"), pa.array(told, found.schema.field("outcomes").type))
    before = core.relabelled(ROWS, found, FIRST_CUT, LATE_DAYS, like)
    assert before["outcomes"].to_pylist() == [[]] * len(ROWS)
    after = core.relabelled(ROWS, found, LAST_CUT, LATE_DAYS, like)
    assert after["outcomes"].to_pylist() == [[("like", float(n % 2))] for n in range(len(ROWS))]
    assert after.drop_columns(["outcomes", *core.OUTCOMES]).equals(ROWS.drop_columns(["outcomes", *core.OUTCOMES]))
    assert after.schema == ROWS.schema


def test_a_row_without_a_label_is_unknown_and_of_two_labels_the_one_known_first_counts() -> None:
    found = labels(ROWS)
    clicked = ROWS["clicked"].to_pylist().index(True)
    other = labels(ROWS.slice(clicked, 1), taken_back=[0])  # the same impression, not clicked, known a minute later
    later = pa.array([other["known_at"][0].as_py() + MINUTE], other.schema.field("known_at").type)
    other = other.set_column(other.schema.get_field_index("known_at"), other.schema.field("known_at"), later)
    for order in ([found, other], [other, found]):
        assert (
            core.relabelled(ROWS, pa.concat_tables(order), LAST_CUT, LATE_DAYS, {})["clicked"][clicked].as_py() is True
        )
    rest = core.relabelled(ROWS, found.slice(1), LAST_CUT, LATE_DAYS, {})
    assert (rest["clicked"][0].as_py(), rest["converted"][0].as_py()) == (None, None)


# -- figures -------------------------------------------------------------------------------------------------------
FINITE = st.floats(-10, 10)
FINDING = st.one_of(
    st.builds(
        lambda v, r: Estimated(value=v, stderr=r, low=v - r, high=v + r, n=3, effective_n=3.0),
        FINITE,
        st.floats(0, 1),
    ),
    st.just(Refused(refused="too few", n=1, effective_n=1.0)),
)
SIDES = st.builds(Sides, champion=FINDING, challenger=FINDING, difference=FINDING)
DEPTH = st.builds(Earned, champion=FINDING, challenger=FINDING, difference=FINDING, logging=FINDING)
SLICE = Slice(attribute="surface", value="home", n=9, share=1.0, difference=Refused(refused="x", n=9, effective_n=9.0))
DOCUMENTS = st.builds(
    Document.model_construct,  # of a part of the fields
    comparison=st.dictionaries(st.sampled_from(["auc", "log_loss", "mrr"]), SIDES),
    value=SIDES,
    estimators=st.dictionaries(st.sampled_from(["dr", "sndr"]), SIDES),
    parity=st.one_of(st.none(), FINDING),
    pages=st.builds(
        Pages,
        pages=st.just(1),
        places=st.just(2),
        left_out=st.just({}),
        depths=st.dictionaries(st.sampled_from("12"), DEPTH),
    ),
    slices=st.just(Slices(metric="auc", slices=[SLICE], reversals=[])),
    dataset=st.just({"splits": {"train": {"rows": 3}}}),
    day=st.just("2026-01-08"),
)


def told(found: Finding, end: str = "value") -> float | None:
    return getattr(found, end) if isinstance(found, Estimated) else None


@given(DOCUMENTS, DOCUMENTS)
def test_every_figure_of_either_document_is_told_once_and_differences_add_up(
    first: Document, matured: Document
) -> None:
    """By name, never by place: whatever a document holds, and in whatever order."""
    found = {moved.figure: moved for moved in core.moved(first, matured)}
    assert len(found) == len(core.moved(first, matured))
    expected = {f"value.{side}" for side in Sides.model_fields}
    for document in (first, matured):
        expected |= {f"{metric}.{side}" for metric in document.comparison for side in Sides.model_fields}
        expected |= {f"estimators.{name}.{side}" for name in document.estimators for side in Sides.model_fields}
        expected |= {f"pages.depths.{n}.{side}" for n in document.pages.depths for side in Earned.model_fields}
        expected |= {"parity"} if document.parity else set()
    assert set(found) == expected
    for side in Sides.model_fields:
        one, before, after = found[f"value.{side}"], getattr(first.value, side), getattr(matured.value, side)
        assert (one.first, one.first_low, one.matured_high) == (told(before), told(before, "low"), told(after, "high"))
        known = isinstance(before, Estimated) and isinstance(after, Estimated)
        assert one.difference == (after.value - before.value if known else None)
    mirrored = {moved.figure: moved.difference for moved in core.moved(matured, first)}
    assert {name: None if moved.difference is None else -moved.difference for name, moved in found.items()} == mirrored
    shuffled = first.model_copy(update={"comparison": dict(reversed(first.comparison.items()))})
    assert core.moved(shuffled, matured) == core.moved(first, matured)


@pytest.mark.parametrize(
    ("first", "matured", "changed"),
    [("promote", "hold", True), ("hold", "hold", False), (None, "hold", None), ("hold", None, None)],
)
def test_a_verdict_changed_only_where_both_are_known(first: Any, matured: Any, changed: Any) -> None:
    assert core.changed(first, matured) is changed


@pytest.mark.parametrize("verdict", ["promote", "hold", "refuse", None])
def test_only_a_model_that_serves_raises_an_alarm(verdict: Any) -> None:
    assert not core.alarming(False, verdict)
    assert core.alarming(True, verdict) == (verdict != "promote")
