"""The evidence for the eyes: one page that needs nothing beside itself, made from the document and the verdict alone.

`page.html` is the page's text and order, `page.css` its looks; here stands what its rows and charts show.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from jobs.evidence import bundles, charts, data_warnings, dataset, delays, gain, trust, unknowns, wording
from jobs.evidence.charts import Mark, Scale
from jobs.evidence.document import Document
from jobs.evidence.figures import Curve, Estimated, Finding, Sides, Slice
from jobs.evidence.judgement import Judgement, Matured
from jobs.evidence.matured import section
from models.evaluation.choices import SIDES
from models.evaluation.comparison import LOWER_IS_BETTER
from models.settings import GateSettings


@dataclass(frozen=True)
class Row:
    """A line of a table of intervals: what it is, figures beside the chart, and the chart or the reason for none."""

    name: str
    note: str
    chart: Markup | None
    finding: Finding
    side: str = "challenger"
    before: Finding | None = None
    after: Finding | None = None
    flag: str = ""


def html(found: Document, judgement: Judgement | None = None, matured: Matured | None = None) -> str:
    """The page on a document, with the verdict and what `reevaluate` found where there are such."""
    return template(Path(__file__).with_name("page.html")).render(
        d=found,
        verdict=judgement,
        matured=None if matured is None else section(matured),
        outcome="none" if judgement is None else judgement.verdict,
        headline=wording.headline(found, judgement),
        gains=gain.gains(found),
        unknowns=unknowns.unknowns(found, judgement, matured),
        value_slices=value_slice_rows(found),
        value_slice_axis=value_slice_axis(found),
        slices=slice_rows(found),
        slice_axis=slice_axis(found),
        not_asked=[] if judgement is None else wording.not_asked(judgement, found),
        earned=earned_rows(found),
        earned_axis=earned_axis(found),
        lifts=lift_rows(found),
        depths=depth_rows(found),
        conversions=conversion_rows(found),
        delay_pictures=delays.pictures(found),
        outcomes=outcome_rows(found),
        metrics=metric_rows(found),
        diagrams=diagrams(found),
        weights=trust.weight_lines(found),
        carried=trust.carried(found),
        histogram=trust.histogram(found),
        groups=trust.groups(found),
        curves=popularity_curves(found),
        dataset_section=Markup(dataset.html(found.dataset)),
        warnings_section=Markup(data_warnings.html(found.warnings)),
        w=wording,
        sides=SIDES,
        differing=bundles.differing(found.champion, found.challenger),
        requests_a_day=gain.requests_a_day(found),
    )


@cache
def template(path: Path) -> Template:
    """Of a page that extends `base.html`, which has the looks of all; what a name lacks is an error, not a gap."""
    loader = FileSystemLoader([path.parent, Path(__file__).parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(path.name)


# -- what a request earns ------------------------------------------------------------------------------------------
def _earned(document: Document) -> dict[str, Finding]:
    value = document.value
    return {"logging": document.logging.value, "champion": value.champion, "challenger": value.challenger}


def _earned_scale(document: Document) -> Scale:
    truth = [] if document.truth is None else [getattr(document.truth, side) for side in _earned(document)]
    return Scale.around([*_ends(_earned(document).values()), *truth])


def earned_rows(document: Document) -> list[Row]:
    """Clicks per request of the logs and of both sides, on one scale; the truth as a diamond where it is known."""
    scale, notes = _earned_scale(document), {"logging": "what was really shown"}
    rows = []
    for side, found in _earned(document).items():
        truth = None if document.truth is None else getattr(document.truth, side)
        note = notes.get(side) or getattr(document, side).candidate_id
        rows.append(Row(side, note, _chart(side, side, found, scale, truth), found, side))
    return rows


def earned_axis(document: Document) -> Markup:
    """The scale under those rows."""
    scale = _earned_scale(document)
    return charts.axis_row(scale, {tick: wording.setting(round(tick, 12)) for tick in scale.ticks()})


def lift_rows(document: Document) -> list[Row]:
    """Challenger minus champion by every estimator; what does not clear the gate's bound is shaded."""
    first = document.primary
    differences = {first: document.value.difference}
    differences |= {name: sides.difference for name, sides in document.estimators.items()}
    if document.marginal is not None:
        differences["marginal"] = document.marginal.difference
    truth = None if document.truth is None else document.truth.difference
    bound = sure_gain(document)
    scale = Scale.about_zero([*_ends(differences.values()), bound, *([] if truth is None else [truth])])
    asked = {first, *document.gate.estimators}
    rows = []
    for name, found in differences.items():
        words, note = wording.ESTIMATORS.get(name, (name, ""))
        if name == "marginal":
            note = f"{note}; {wording.apart(document)}"
        held = bound if name in asked else None
        note = note if name in asked else f"{note}; a second opinion the gate does not ask"
        chart = _chart(f"{words}, challenger minus champion", "challenger", found, scale, truth, held)
        rows.append(Row(words, note, chart, found))
    return rows


def sure_gain(document: Document) -> float:
    """The gain in clicks per request that must be there for sure: none, unless the settings allow a loss."""
    champion = document.value.champion
    return min(0.0, document.gate.min_lift) * max(0.0, champion.value) if isinstance(champion, Estimated) else 0.0


def depth_rows(document: Document) -> list[Row]:
    """Challenger minus champion on the first place, the first two, ..., all on one scale; none for pages of one."""
    if document.pages.places < 2:
        return []
    depths = sorted(document.pages.depths.items(), key=lambda pair: int(pair[0]))
    asked = [places for places, depth in depths if isinstance(depth.difference, Estimated)][-1:]
    asked = asked if "pages" in document.gate.estimators else []
    scale = Scale.about_zero([*_ends(depth.difference for _, depth in depths), 0.0])
    rows = []
    for places, depth in depths:
        name = "First place" if places == "1" else f"First {places} places"
        found = depth.difference
        note = f"worth {wording.number(round(found.effective_n))} pages" if isinstance(found, Estimated) else ""
        bound = 0.0 if places in asked else None
        chart = _chart(f"{name}, challenger minus champion", "challenger", found, scale, None, bound)
        rows.append(Row(name, note, chart, found, before=depth.champion, after=depth.challenger))
    return rows


def conversion_rows(document: Document) -> list[Row]:
    """Challenger minus champion in conversions per request: by closed labels, also where that is refused, and by the
    delay curve as long as any is open. On one scale.
    """
    gate, early = document.gate, document.conversions_so_far
    said = "those of the first placement"
    asked: list[tuple[str, str, Sides, float | None]] = [
        ("Conversions per request", said, document.conversions, gate.max_conversion_drop)
    ]
    if early is not None and document.conversions.closed < document.conversions.decisions:
        said = "what open ones will come to" + ("; delays drift: trust its interval only" if early.drifted else "")
        asked.append(("By the delay curve", said, early, gate.max_conversion_drop_so_far))
    bounds = [_drop(sides, drop) for _, _, sides, drop in asked]
    scale = Scale.about_zero([*_ends(of.difference for _, _, of, _ in asked), *(bound or 0.0 for bound in bounds)])
    rows = []
    for (name, note, sides, drop), bound in zip(asked, bounds, strict=True):
        found = sides.difference
        chart = _chart(f"{name}, challenger minus champion", "challenger", found, scale, None, bound)
        allowed = "" if drop is None else f"; may fall by {wording.share(drop)}"
        rows.append(Row(name, note + allowed, chart, found, before=sides.champion, after=sides.challenger))
    return rows


def _drop(sides: Sides, drop: float | None) -> float | None:
    """The difference from which on conversions fell by more than allowed."""
    return -drop * sides.champion.value if drop is not None and isinstance(sides.champion, Estimated) else None


def outcome_rows(document: Document) -> dict[str, list[Row]]:
    """Of each further outcome, every metric's difference, as `metric_rows`."""
    gate = document.gate
    return {
        name: [
            _metric_row(
                metric,
                sides,
                _margin(f"{name}.{metric}", gate, gate.outcomes_must_not_fall.get),
                wording.OUTCOMES_METRICS,
            )
            for metric, sides in found.comparison.items()
        ]
        for name, found in document.outcomes.items()
    }


# -- ranking and probabilities -------------------------------------------------------------------------------------
def metric_rows(document: Document) -> list[Row]:
    """Every metric's difference on a scale of its own, zero lines aligned, better always on the right."""
    gate = document.gate
    margins = gate.must_not_fall.model_dump().get
    rows = [_metric_row(name, sides, _margin(name, gate, margins)) for name, sides in document.comparison.items()]
    order = list(wording.METRICS)
    names = list(document.comparison)
    return [row for _, row in sorted(zip(names, rows, strict=True), key=lambda p: _place(order, p[0]))]


def _place(order: list[str], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def _margin(name: str, gate: GateSettings, margins: Callable[[str], float | None]) -> float | None:
    """By how much it may be worse; None where the gate does not ask."""
    return 0.0 if name in gate.must_rise else margins(name)


def _metric_row(
    name: str, sides: Sides, margin: float | None, known: Mapping[str, tuple[str, str]] = wording.METRICS
) -> Row:
    lower = name in LOWER_IS_BETTER
    bound = None if margin is None else (margin if lower else -margin)
    scale = Scale.about_zero([*_ends([sides.difference]), bound or 0.0], flipped=lower)
    words, note = known.get(name, (name, ""))
    asked = "" if bound is None else f"may be worse by {wording.setting(abs(bound))}"
    chart = _chart(
        f"{words}, challenger minus champion", "challenger", sides.difference, scale, None, bound, bad_below=not lower
    )
    return Row(words, note, chart, sides.difference, before=sides.champion, after=sides.challenger, flag=asked)


def diagrams(document: Document) -> dict[str, Markup]:
    """A reliability diagram of each side that has one, on the same axes."""
    bins = {
        side: [(b.predicted, b.observed, b.low, b.high, b.n) for b in found.reliability]
        for side, found in document.calibration.items()
        if found.reliability
    }
    top = 1.05 * max((max(p, high) for of_side in bins.values() for p, _, _, high, _ in of_side), default=1.0)
    return {
        side: charts.reliability(
            bins[side], side, top, f"Reliability of the {side}: predicted against observed click rate"
        )
        for side in SIDES
        if side in bins
    }


# -- slices --------------------------------------------------------------------------------------------------------
def value_slice_rows(document: Document) -> list[Row]:
    """Clicks per request by part of the traffic and kind of item, worst first."""
    scale, rows = _value_slice_scale(document), []
    for part in _worst_first(document.value_slices, lower=False):
        name, found = wording.slice_name(part.attribute, part.value), part.difference
        flag = "worse for sure" if isinstance(found, Estimated) and found.high < 0 else ""
        chart = _chart(name, "challenger", found, scale)
        rows.append(Row(name, wording.slice_note(part), chart, found, flag=flag))
    return rows


def _value_slice_scale(document: Document) -> Scale:
    return Scale.around([*_ends(part.difference for part in document.value_slices), 0.0])


def value_slice_axis(document: Document) -> Markup:
    """The scale under those."""
    scale = _value_slice_scale(document)
    return charts.axis_row(scale, {tick: wording.setting(round(tick, 12), signed=True) for tick in scale.ticks(5)})


def slice_rows(document: Document) -> list[Row]:
    """Worst first, those that could not be compared last."""
    limit, lower = document.gate.max_slice_drop, document.slices.metric in LOWER_IS_BETTER
    scale = _slice_scale(document)
    rows = []
    for part in _worst_first(document.slices.slices, lower):
        name = wording.slice_name(part.attribute, part.value)
        chart = _chart(name, "challenger", part.difference, scale, None, _slice_bound(document), bad_below=not lower)
        note = f"{part.n:,} rows, {wording.share(part.share)}"
        rows.append(Row(name, note, chart, part.difference, flag=_slice_flag(part.difference, limit, lower)))
    return rows


def _worst_first(parts: Iterable[Slice], lower: bool) -> list[Slice]:
    """Those without a figure last; `lower`: less is better."""

    def badness(part: Slice) -> tuple[bool, float, str]:
        found = part.difference
        if isinstance(found, Estimated):
            return False, -found.value if lower else found.value, part.attribute
        return True, 0.0, part.attribute

    return sorted(parts, key=badness)


def _slice_flag(found: Finding, limit: float | None, lower: bool) -> str:
    if not isinstance(found, Estimated):
        return ""
    best = -found.low if lower else found.high
    if limit is not None and best < -limit:
        return "worse than allowed"
    return "worse for sure" if best < 0 else ""


def _slice_bound(document: Document) -> float | None:
    """The difference from which on a slice is worse than allowed: below it, or above where lower is better."""
    limit = document.gate.max_slice_drop
    return limit if limit is None or document.slices.metric in LOWER_IS_BETTER else -limit


def _slice_scale(document: Document) -> Scale:
    found = [part.difference for part in document.slices.slices]
    reach = [0.0, _slice_bound(document) or 0.0]
    return Scale.around([*_ends(found), *reach], flipped=document.slices.metric in LOWER_IS_BETTER)


def slice_axis(document: Document) -> Markup:
    """The scale under the slices."""
    scale = _slice_scale(document)
    return charts.axis_row(scale, {tick: wording.setting(round(tick, 12), signed=True) for tick in scale.ticks(5)})


# -- items ---------------------------------------------------------------------------------------------------------
def popularity_curves(document: Document) -> Markup | None:
    """Share of items behind each share of first places."""
    found: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        side: (
            spread.curve.recommendations,
            [share.value for share in spread.curve.items if isinstance(share, Estimated)],
        )
        for side, spread in sorted(document.popularity.items())
        if isinstance(spread.curve, Curve) and all(isinstance(share, Estimated) for share in spread.curve.items)
    }
    says = "Share of the catalogue behind each share of the first places, both sides"
    return charts.curves(found, "first places", "of all items", says) if found else None


# -- shared --------------------------------------------------------------------------------------------------------
def _ends(findings: Iterable[Finding]) -> list[float]:
    """Every end of every interval."""
    return [end for found in findings if isinstance(found, Estimated) for end in (found.low, found.high)]


def _chart(
    name: str,
    side: str,
    found: Finding,
    scale: Scale,
    truth: float | None = None,
    bound: float | None = None,
    bad_below: bool = True,
) -> Markup | None:
    if not isinstance(found, Estimated):
        return None
    known = "" if truth is None else f"; the truth is {wording.number(truth)}"
    says = f"{name}: {wording.number(found.value)}, interval {wording.between(found)}{known}"
    return charts.interval_row(
        [Mark(side, found.value, found.low, found.high, truth)], scale, says, bound=bound, bad_below=bad_below
    )
