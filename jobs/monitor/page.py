"""The report of a day for the eyes: one page that needs nothing beside itself, made from rows of `serving_reports`.

`report.html` is its text and order; looks and drawing are those of the evidence page (`jobs.evidence`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from markupsafe import Markup

from jobs.evidence import charts
from jobs.evidence.charts import Mark, Scale
from jobs.evidence.page import template
from jobs.lake.run import Run
from jobs.lake.swap import write_whole
from jobs.monitor.incidents import CAUSES, STATES, Incident, cause_of, sentence
from jobs.monitor.past import TRENDS_DAYS, Past
from jobs.places import Place

FOLDER = "reports"
NAMES = {
    "drift": "distribution of {}",
    "nulls": "nulls of {}",
    "unseen": "unseen words of {}",
    "stays": "{}",
}
"""Of a metric with a dot in it, by what stands before the dot."""
TOP = 8
"""Figures of a group that are shown at once: the furthest off."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A figure: what it is, its interval within its bounds, and its last days."""

    name: str
    note: str
    value: str
    range: str
    expected: str
    chart: Markup | None
    trend: Markup | None
    state: str
    closes: str
    refused: str


@dataclass(frozen=True)
class Group:
    """The figures of a cause, the furthest off first: those shown at once, and the others."""

    name: str
    top: tuple[Line, ...]
    rest: tuple[Line, ...]


def put(run: Run, day: date, past: Past, found: Sequence[Incident], model: str) -> Place:
    """Write the day's page, whole or not at all; returns where. `past` ends with the day."""
    return write_whole(run.config.lake.results.parent / FOLDER / f"{day}.html", html(day, past, found, model))


def html(day: date, past: Past, found: Sequence[Incident], model: str) -> str:
    """The page of a day; `past` ends with it."""
    rows = [row for row in past.rows if row["day"] == str(day)]
    asked = [row for row in rows if row["p_value"] is not None or row["bound_high"] is not None or row["state"]]
    groups = [_group(cause.name, [row for row in asked if cause_of(row["metric"]) == cause], past) for cause in CAUSES]
    order = {one.cause.name: number for number, one in enumerate(found)}
    groups.sort(key=lambda group: order.get(group.name, len(order)))
    return template(Path(__file__).with_name("report.html")).render(
        day=day,
        model=model,
        incidents=found,
        states=STATES,
        sentence=sentence,
        mood=_mood(found),
        asked=len(asked),
        groups=[group for group in groups if group.top],
        open_figures=[row for row in rows if row["closes"]],
        curve=_curve(rows),
        stays=_stays([row for row in rows if row["metric"].startswith("stays.")], past),
        others=[_line(row, past) for row in rows if row not in asked and not row["metric"].startswith("stays.")],
        days=min(TRENDS_DAYS, len({row["day"] for row in past.rows})),
    )


def _mood(found: Sequence[Incident]) -> tuple[str, str, str]:
    """Class, word and sentence of the box at the top."""
    names = {state: ", ".join(one.cause.name for one in found if one.state == state) for state in STATES}
    said = [f"{STATES[state]}: {of}" for state, of in names.items() if of]
    if names["opened"]:
        return "refuse", "Something is wrong", f"{'; '.join(said)}."
    if names["open"]:
        return "hold", "Still open", f"{'; '.join(said)}."
    return "promote", "All quiet", f"No figure is beyond its bound for sure. {'; '.join(said)}".rstrip()


def _group(name: str, rows: Sequence[Row], past: Past) -> Group:
    order = sorted(
        rows, key=lambda row: (not row["state"], 1.0 if row["p_value"] is None else row["p_value"], row["metric"])
    )
    shown = max(TOP, sum(bool(row["state"]) for row in rows))
    lines = tuple(_line(row, past) for row in order)
    return Group(name, lines[:shown], lines[shown:])


def _line(row: Row, past: Past) -> Line:
    kind, _, of = row["metric"].partition(".")
    name = NAMES[kind].format(of) if of and kind in NAMES else row["metric"].replace("_", " ")
    where = row["surface"] or "everywhere"
    held = f"against {row['reference']}" if row["reference"] else ""
    known = row["value"] is not None
    return Line(
        name=name.replace("p_click", "p(click)").replace("_", " "),
        note="; ".join(filter(None, (where, held, row["note"] if known else ""))),
        value=_number(row["value"]) if known else "refused",
        range=f"{_number(row['low'])} to {_number(row['high'])}" if known and row["low"] != row["high"] else "",
        expected="" if row["expected"] is None else f"expected {_number(row['expected'])}",
        chart=_chart(row, name) if known else None,
        trend=_trend(row, past) if known else None,
        state=STATES.get(row["state"], ""),
        closes=row["closes"] or "",
        refused="" if known else row["note"],
    )


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 1_000 else f"{figure:.3g}"


def _side(row: Row) -> str:
    return "alarmed" if row["alarm"] else "challenger"


def _chart(row: Row, name: str) -> Markup | None:
    """The interval and the bound that is nearest; None where nothing bounds it."""
    bounds = [
        (bound, below) for bound, below in ((row["bound_low"], True), (row["bound_high"], False)) if bound is not None
    ]
    if not bounds:
        return None
    bound, below = min(bounds, key=lambda pair: abs(pair[0] - row["value"]))
    ends = [row["low"], row["high"], *(bound for bound, _ in bounds)]
    scale = Scale.around([*ends, *([] if row["expected"] is None else [row["expected"]])], room=0.2)
    mark = Mark(_side(row), row["value"], row["low"], row["high"], row["expected"])
    says = f"{name} {row['surface']}: {_number(row['value'])}, bound {_number(bound)}"
    return charts.interval_row([mark], scale, says, bound=bound, bad_below=below)


def _trend(row: Row, past: Past) -> Markup | None:
    """The last days; None where there is only this one."""
    days = sorted({one["day"] for one in past.rows})[-TRENDS_DAYS:]
    found = {one["day"]: one for one in past.of_figure(row["metric"], row["surface"])}
    marks = [_mark(found[day]) if day in found else None for day in days]
    if sum(mark is not None for mark in marks) < 2:
        return None
    alarmed = [day in found and bool(found[day]["alarm"]) for day in days]
    return charts.trend(marks, alarmed, f"{row['metric']} over {len(days)} days")


def _mark(row: Row) -> Mark | None:
    return None if row["value"] is None else Mark("challenger", row["value"], row["low"], row["high"])


def _stays(rows: Sequence[Row], past: Past) -> list[Line]:
    """Proxies of churn on one scale about one half, those that say most first."""
    known = [row for row in rows if row["value"] is not None]
    scale = Scale.about_zero(end - 0.5 for row in known for end in (row["low"], row["high"]))
    lines = []
    for row in sorted(known, key=lambda row: -abs(row["value"] - 0.5)):
        mark = Mark("challenger", *(row[end] - 0.5 for end in ("value", "low", "high")))
        says = f"{row['metric']}: {_number(row['value'])}, one half says nothing"
        lines.append(replace(_line(row, past), note="", chart=charts.interval_row([mark], scale, says)))
    return lines


def _curve(rows: Sequence[Row]) -> Markup | None:
    """Share of the shown items behind each share of what was shown."""
    found = {row["metric"]: row["value"] for row in rows if row["metric"].startswith("items_behind_")}
    shares = [n / 10 for n in range(1, 11)]
    behind = [found.get(f"items_behind_{n}") for n in range(10, 101, 10)]
    if None in behind:
        return None
    ys = [float(share or 0.0) for share in behind]
    return charts.curves({"logging": (shares, ys)}, "of what was shown", "of the items", "Items behind what was shown")
