"""What `matured.html` shows: the first figures beside those with every label in, and what that did to the verdict."""

from dataclasses import dataclass

from markupsafe import Markup

from jobs.evidence import charts, wording
from jobs.evidence.charts import Mark, Scale
from jobs.evidence.judgement import Matured, Moved
from models.evaluation.comparison import LOWER_IS_BETTER

DIFFERENCE = ".difference"
FIRST_OF_ALL = ("value.champion", "value.challenger", "value.difference")
VALUES = {
    "value": "Clicks per request",
    "conversions": "Conversions per request",
    "conversions_so_far": "Conversions per request, first by the delay curve",
}
PAGES = "pages.depths."
OF_OUTCOMES = "outcomes."
KNOWN = {None: "unknown", True: "yes", False: "no"}


@dataclass(frozen=True)
class Line:
    """One figure, first and matured, as text and as intervals on one scale; `chart` is None where neither is known."""

    name: str
    note: str
    first: str
    matured: str
    difference: str
    chart: Markup | None


@dataclass(frozen=True)
class Section:
    """All of `matured.html`."""

    d: Matured
    headline: str
    labels: list[tuple[str, str, str, str]]
    """(outcome, before, after, how many) of the labels that changed."""
    lines: list[Line]


def section(found: Matured) -> Section:
    """What the section says."""
    return Section(found, headline(found), label_lines(found), lines(found))


def lines(matured: Matured) -> list[Line]:
    """The value of both sides, then every difference between them, in the order people know them by."""
    found = {moved.figure: moved for moved in matured.figures}
    names = [name for name in found if name.endswith(DIFFERENCE) and name not in FIRST_OF_ALL]
    known = list(wording.METRICS)
    names.sort(key=lambda name: (known.index(_base(name)) if _base(name) in known else len(known), name))
    return [_line(found[name]) for name in (*FIRST_OF_ALL, *names) if name in found]


def label_lines(matured: Matured) -> list[tuple[str, str, str, str]]:
    """Of each kind of change in words."""
    return [(c.outcome, KNOWN[c.before], KNOWN[c.after], f"{c.rows:,}") for c in matured.label_changes]


def headline(matured: Matured) -> str:
    """What became of the verdict, in a sentence."""
    first, later = (wording.VERDICTS[verdict] for verdict in (matured.first_verdict, matured.matured_verdict))
    if matured.matured_verdict is None:
        return f"The verdict was {first}; whether it lasts cannot be told: {matured.refused}."
    if matured.first_verdict is None:
        return f"Nobody had judged this evidence; with every label in the gate says {later}."
    return f"The verdict was {first} and is {later} now." if matured.changed else f"The verdict stands: {first}."


def _line(moved: Moved) -> Line:
    base, side = _base(moved.figure), moved.figure.rpartition(".")[2]
    sign = side == "difference"
    name = _name(moved.figure)
    return Line(
        name=name,
        note="challenger minus champion" if sign else side,
        first=_figure(moved.first, sign),
        matured=_figure(moved.matured, sign),
        difference="" if moved.difference is None else wording.signed(moved.difference),
        chart=_chart(moved, name, base in LOWER_IS_BETTER),
    )


def _name(figure: str) -> str:
    """What people call it; of a figure nobody has named, its path."""
    base = _base(figure)
    if figure.startswith(PAGES):
        return "Clicks on the first place" if base == "1" else f"Clicks on the first {base} places"
    if figure.startswith(OF_OUTCOMES):
        return f"{wording.metric(base)} of {figure.removeprefix(OF_OUTCOMES).partition('.')[0]}"
    known = {name: words for name, (words, _) in {**wording.METRICS, **wording.ESTIMATORS}.items()} | VALUES
    return known.get(base) or figure.removesuffix(DIFFERENCE).replace("_", " ").replace(".", ": ")


def _base(figure: str) -> str:
    """What a figure is of, without its side and the group it stands in."""
    return figure.rpartition(".")[0].rpartition(".")[2]


def _figure(value: float | None, sign: bool) -> str:
    return "refused" if value is None else wording.number(value, sign)


def _chart(moved: Moved, name: str, flipped: bool) -> Markup | None:
    """First in grey above matured in blue; to the right is better for the challenger."""
    marks = []
    if moved.first is not None and moved.first_low is not None and moved.first_high is not None:
        marks.append(Mark("logging", moved.first, moved.first_low, moved.first_high))
    if moved.matured is not None and moved.matured_low is not None and moved.matured_high is not None:
        marks.append(Mark("challenger", moved.matured, moved.matured_low, moved.matured_high))
    if not marks:
        return None
    reached = [end for mark in marks for end in (mark.low, mark.high)]
    scale = Scale.about_zero(reached, flipped=flipped) if moved.figure.endswith(DIFFERENCE) else Scale.around(reached)
    says = f"{name}: first {_figure(moved.first, False)}, matured {_figure(moved.matured, False)}"
    return charts.interval_row(marks, scale, says)
