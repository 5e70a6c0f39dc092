"""What is wrong, since when, who is suspected first and what to look at next: incidents, told from reports of days.

Nothing is kept beside the reports: an incident is open because the figures of its days say so. Figures of one cause
are one incident, whatever surfaces and columns they are of.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.monitoring.alarms import State

Row = Mapping[str, Any]
STATES = {"opened": "opened", "open": "still open", "closed": "closed"}
MOST_NAMED = 3
"""Figures an incident names; the report has the others."""


@dataclass(frozen=True)
class Cause:
    """A group of figures that go wrong together."""

    name: str
    figures: tuple[str, ...]
    """Beginnings of their names."""
    suspect: str
    step: str


CAUSES = (
    Cause("scores", ("drift.p_click", "nulls.p_click", "predicted_", "expected_"),
          "what the model is fed, or a release",
          "compare with the drift of its features, and with the ledger of releases"),
    Cause("features", ("drift.", "nulls.", "unseen."),
          "the newest change to what the column is made of, or who comes",
          "one column: look at its rule in jobs/featurize and its source; many of users: ask what campaign began;"
          " nearly all, in a lake younger than features.long_term_days: counts still grow, so train again"),
    Cause("clicks", ("clicks_per_impression", "calibration", "click_rate", "click_wait"),
          "the logger of clicks, or their delivery",
          "count raw clicks of the day by hour and device; look at validate's quarantine"),
    Cause("conversions", ("conversions_per_impression", "conversion_wait"),
          "the delivery of purchases", "compare ingested_at with event_time of the day's purchases"),
    Cause("traffic", ("requests", "busiest_users_share"),
          "bots, an outage or a campaign", "list the busiest users of the day and what they clicked"),
    Cause("repeats", ("repeated_share",),
          "an upstream day that was delivered twice", "compare the day's raw files with those of the day before"),
    Cause("propensities", ("mean_weight", "mean_propensity"),
          "the logging policy, or what writes its propensities",
          "do not trust backtests on these days; ask what was released where slates are drawn"),
    Cause("model", ("auc", "value", "model_age", "log_loss", "offline_online"),
          "a model that has grown old, or another one than was judged",
          "see its age and who put it live; start weekly_training, or roll back"),
    Cause("exposure", ("new_item_share", "items_behind", "coverage"),
          "a change of the catalogue or of the policy", "compare the items table with the day before"),
    Cause("serving", ("",), "the endpoint or its features", "read the endpoint's log of the day and daily_data's runs"),
)  # fmt: skip
"""In order: a figure is of the first whose beginnings it has; the last takes all others."""


@dataclass(frozen=True)
class Incident:
    """One cause on one day; `figures`: those that alarm, else those still waited for, the furthest off first."""

    cause: Cause
    state: State
    day: str
    figures: tuple[Row, ...]

    def text(self) -> str:
        """One sentence for each: figures with their bounds, first suspect, next step."""
        named = "; ".join(sentence(row) for row in self.figures[:MOST_NAMED])
        more = len(self.figures) - MOST_NAMED
        named += f"; and {more} more" if more > 0 else ""
        said = f"{self.cause.name}, {self.day}: {STATES[self.state]}. {named}."
        if self.state == "closed":
            return said
        return f"{said} First suspect: {self.cause.suspect}. Next: {self.cause.step}."


def cause_of(metric: str) -> Cause:
    """Of a figure, by its name."""
    return next(cause for cause in CAUSES if metric.startswith(cause.figures))


def sentence(row: Row) -> str:
    """A figure, where, its value, what it should be and its bound."""
    where = f" on {row['surface']}" if row["surface"] else ""
    found = "cannot be told" if row["value"] is None else f"is {row['value']:.4g}"
    should = "" if row["expected"] is None else f", expected {row['expected']:.4g}"
    ends = [f"{end:.4g}" for end in (row["bound_low"], row["bound_high"]) if end is not None]
    bound = f" (bound {' to '.join(ends)})" if ends else f" ({row['note']})" if row["note"] else ""
    return f"{row['metric']}{where} {found}{should}{bound}"


def incidents(rows: Iterable[Row], day: str) -> list[Incident]:
    """Of a day's rows of `serving_reports`: by cause, opened ones first.

    One is opened where none of its figures was open on the day before, and closed when all of them are.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["state"]:
            found.setdefault(cause_of(row["metric"]).name, []).append(row)
    told = []
    for cause in CAUSES:
        mine = found.get(cause.name, [])
        if mine:
            told.append(Incident(cause, _state([row["state"] for row in mine]), day, _worst_first(mine)))
    order = ("opened", "open", "closed")
    return sorted(told, key=lambda one: order.index(one.state))


def _state(states: Sequence[str]) -> State:
    if "open" in states:
        return "open"
    if "opened" in states:
        return "open" if "closed" in states else "opened"
    return "closed"


def _worst_first(rows: Sequence[Row]) -> tuple[Row, ...]:
    def far(row: Row) -> tuple[bool, float, float, str]:
        p = 1.0 if row["p_value"] is None else float(row["p_value"])
        return not row["alarm"], p, -abs(float(row["value"] or 0.0)), row["metric"] + row["surface"]

    return tuple(sorted(rows, key=far))
