"""Incidents and their page, from rows of reports alone: nothing is kept beside them."""

from datetime import date, timedelta
from typing import Any

import pytest

from jobs.lake.tables import LAKE
from jobs.monitor import page
from jobs.monitor.core import Figure
from jobs.monitor.incidents import CAUSES, cause_of, incidents
from jobs.monitor.past import Past
from models.evaluation.estimate import Estimate, Finding, Refusal

DAY = date(2026, 2, 5)
QUIET_DAYS = 2


def figure(value: float = 0.3, alarm: bool = False, metric: str = "drift.item_price", surface: str = "") -> Figure:
    found = Estimate(value, 0.01, value - 0.02, value + 0.02, 900, 900.0)
    return Figure(metric, found, alarm, "moved", surface, "training", 0.0, (None, 0.1), 1e-9 if alarm else 0.9)


def followed(*days: list[Figure]) -> Past:
    """Reports of days in a row, up to `DAY`, each with the states that those before it make."""
    past = Past((), QUIET_DAYS)
    for back, report in zip(range(len(days) - 1, -1, -1), days, strict=True):
        rows = [one.row(past.state(one.metric, one.surface, one.said), "", "m") for one in report]
        past = past.and_day(rows, DAY - timedelta(days=back))
    return past


def last(past: Past) -> list[dict[str, Any]]:
    return [dict(row) for row in past.rows if row["day"] == str(DAY)]


def told(past: Past) -> dict[str, str]:
    return {one.cause.name: one.state for one in incidents(last(past), str(DAY))}


def test_a_row_has_the_columns_of_the_table() -> None:
    assert sorted(figure().row()) == sorted(LAKE["serving_reports"].columns)


@pytest.mark.parametrize(
    ("metric", "cause"),
    [
        ("drift.p_click", "scores"),
        ("drift.clicked", "features"),
        ("unseen.device", "features"),
        ("clicks_per_impression", "clicks"),
        ("conversion_wait_seconds", "conversions"),
        ("skew_max", "serving"),
        ("auc_shortfall", "model"),
        ("mean_weight", "propensities"),
    ],
)
def test_a_figure_has_the_cause_its_name_begins_like(metric: str, cause: str) -> None:
    assert cause_of(metric).name == cause
    assert CAUSES[-1].figures == ("",)


def test_an_incident_opens_stays_open_and_closes_whatever_figure_carries_it() -> None:
    """Another column alarms the day after: it is the same incident, and no second message says that one opened."""
    bad, fine = figure(alarm=True), figure(0.01)
    other = figure(alarm=True, metric="nulls.item_price")
    assert told(followed([fine])) == {}
    assert told(followed([fine], [bad])) == {"features": "opened"}
    assert told(followed([bad], [fine, other])) == {"features": "open"}
    assert told(followed([bad], [fine])) == {"features": "open"}
    assert told(followed([bad], [fine], [fine])) == {"features": "closed"}
    assert told(followed([bad], [fine], [fine], [fine])) == {}


def test_causes_are_incidents_of_their_own_opened_ones_first() -> None:
    clicks = figure(0.04, True, "clicks_per_impression")
    found = incidents(last(followed([figure(alarm=True)], [figure(alarm=True), clicks])), str(DAY))
    assert [(one.cause.name, one.state) for one in found] == [("clicks", "opened"), ("features", "open")]


def test_a_message_names_figures_bounds_suspect_and_next_step() -> None:
    many = [figure(0.3 + n / 10, True, surface=f"s{n}") for n in range(5)]
    [one] = incidents(last(followed(many)), str(DAY))
    text = one.text()
    assert text.startswith("features, 2026-02-05: opened. drift.item_price on s4 is 0.7, expected 0 (bound 0.1)")
    assert "; and 2 more. First suspect: the newest change to what the column is made of" in text
    assert text.endswith(".")
    fine = [figure(0.0, surface=f"s{n}") for n in range(5)]
    [closed] = incidents(last(followed(many, fine, fine)), str(DAY))
    assert closed.text().startswith("features, 2026-02-05: closed. drift.item_price on s0 is 0")
    assert "suspect" not in closed.text()


def test_days_with_an_open_incident_are_nobodys_usual_days() -> None:
    clicks = "clicks_per_impression"
    past = followed([figure(0.1, metric=clicks)], [figure(0.05, True, clicks)], [figure(0.1, metric=clicks)])
    found = past.findings(clicks, "", "m", 28)
    assert [one.value for one in found if isinstance(one, Estimate)] == [0.1]
    assert past.still_open() == [(clicks, "")]


def test_what_a_model_predicts_is_held_against_its_own_days() -> None:
    past = followed([figure(metric="predicted_clicks"), figure(metric="requests")])
    assert len(past.findings("predicted_clicks", "", "m", 28)) == 1
    assert len(past.findings("predicted_clicks", "", "another", 28)) == 0
    assert len(past.findings("requests", "", "another", 28)) == 1


def test_a_figure_without_a_value_neither_opens_nor_closes() -> None:
    none: Finding = Refusal("fewer than 30 users")
    past = followed([figure(alarm=True)], *[[Figure("drift.item_price", none)]] * (QUIET_DAYS + 1))
    assert told(past) == {"features": "open"}
    assert past.findings("drift.item_price", "", "m", 28) == []


def test_the_page_has_figures_in_the_order_of_their_incidents() -> None:
    """What has opened is read before what has closed, whatever a cause's name is; what is quiet comes last."""
    away, back = figure(0.4, True, "drift.x"), figure(0.02, metric="drift.x")
    quiet, lost = figure(0.05, metric="clicks_per_impression"), figure(0.4, True, "clicks_per_impression")
    past = followed([away, quiet], [back, quiet], [back, lost, figure(0.02, metric="requests")])
    html = page.html(DAY, past, incidents(last(past), str(DAY)), "m")
    first, second, third = (html.index(f"<h2>{name}</h2>") for name in ("Clicks", "Features", "Traffic"))
    assert first < second < third


def test_the_page_shows_what_is_open_and_escapes_what_it_shows() -> None:
    fine, bad = figure(0.02, metric="requests"), figure(0.4, True, "drift.<b>")
    past = followed([fine, figure(0.02, metric="drift.<b>")], [fine, bad])
    html = page.html(DAY, past, incidents(last(past), str(DAY)), "logistic-full-2026-02-01")
    assert "Something is wrong" in html
    assert "drift.&lt;b&gt;" in html
    assert "<b>b" not in html
    assert 'class="spark"' in html
    quiet = followed([fine], [fine, figure(0.35, metric="stays.days_since_click"), figure(0.7, metric="stays.clicks")])
    shown = page.html(DAY, quiet, [], "m")
    assert "All quiet" in shown
    assert shown.index(">clicks<") < shown.index(">days since click<")  # the one that says more is first
    assert "No impression of the day" in page.html(DAY, followed([Figure("served", Refusal("none"))]), [], "")
