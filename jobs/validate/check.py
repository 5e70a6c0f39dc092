"""`python -m jobs check`: a day of a raw lake before anything runs, one page of what is missing, odd and fine.

The same columns, suites and sentences as `validate`, on every table whatever another lacks; nothing is published and
nothing is written. The day is the newest with impressions, or the one that is asked for, and is read whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from textwrap import wrap

import pyarrow as pa

from jobs.config import Config
from jobs.errors import NotReady, Refused, one_line
from jobs.lake import raw
from jobs.lake.tables import RAW
from jobs.places import Place
from jobs.validate.batch import Before, Fitted, Rules, fit, unreported, verdict
from jobs.validate.columns import ROW_ATTRIBUTES, listed
from jobs.validate.facts import Neighbours
from jobs.validate.suites import Finding, Suites
from models.features import NUMBER

WIDTH = 110
TO_TRAIN = 4
"""Days: one each to train on, to validate on and to test on, and one for the clicks of the test day to come."""
WITHOUT = {
    "clicks": "nothing is learned: labels are clicks. A log of clicks alone writes each as an impression too",
    "purchases": "no conversions are learned, judged or guarded",
    "feedback": "no further outcomes (`outcomes`)",
    "requests": "no candidates: no new policy can be replayed, so no counterfactual value",
    "items": "no categories, prices, ages or titles; items are known by what was shown",
    "users": "no attributes of users",
}
"""What does not work without a table."""


@dataclass
class Seen:
    """What was found, in sentences."""

    stops: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    fine: list[str] = field(default_factory=list)

    def page(self, title: str) -> str:
        """All of it, what stops the day first."""
        parts = {"stops the day": self.stops, "missing": self.missing, "odd": self.odd, "fine": self.fine}
        lines = [title]
        for name, sentences in parts.items():
            lines += ["", f"{name}: {len(sentences) or 'nothing'}"]
            for sentence in sentences:
                lines += wrap(sentence, WIDTH, initial_indent="  - ", subsequent_indent="    ")
        return "\n".join(lines)


def check(config: Config, folder: Place, day: date | None, span: tuple[date, date] | None = None) -> Seen:
    """What is found of a day; raises `NotReady` where there are no impressions at all, or none of that day.

    `span`: the first and the last day of a source of which the folder holds this day alone.
    """
    days = raw.days(folder / raw.REQUIRED)
    if not days:
        raise NotReady(f"check needs {folder}/{raw.REQUIRED}/date=YYYY-MM-DD/hour=HH/*.parquet; found no such day")
    seen, at = Seen(), day or days[0]
    _of_days(seen, days, config, span)
    rules = Rules(Suites(tuple(RAW)), config.validation.max_quarantine_share, config.attribution.click_days)
    fitted = _fitted(seen, rules, folder, at)
    neighbours = Before({}, {}, {}).neighbours({table: of.rows for table, of in fitted.items()})
    for table in RAW:
        _judged(seen, rules, table, at, fitted, neighbours)
    _of_propensities(seen, fitted["impressions"].rows)
    return seen


def title(folder: Place, seen: Seen, day: date | None, what: str = "") -> str:
    """What was looked at (`what`, the folder by default), and what comes of it."""
    at = day or raw.days(folder / raw.REQUIRED)[0]
    return (
        f"{what or folder}, {at}: {'validate would refuse the day' if seen.stops else 'validate would publish the day'}"
    )


def _of_days(seen: Seen, days: list[date], config: Config, span: tuple[date, date] | None) -> None:
    first, last = span or (days[-1], days[0])
    if span:
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    gaps = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    gaps = [day for day in gaps if day not in set(days)]
    told = f"impressions of {len(days)} days, {first}..{last}"
    (seen.odd if gaps else seen.fine).append(told + (f", without {listed([str(d) for d in gaps])}" if gaps else ""))
    needed = TO_TRAIN - 1 + config.attribution.click_days
    if len(days) < needed:
        seen.missing.append(f"days: a model takes at least {needed}, and one more to know features of the first")


def _fitted(seen: Seen, rules: Rules, folder: Place, day: date) -> dict[str, Fitted]:
    """Each table in the contract's columns; without rows where it cannot be."""
    fitted = {}
    for table, spec in RAW.items():
        try:
            fitted[table] = fit(rules.suites, table, day, raw.read(folder, table, day), unreported)
        except Refused as error:
            seen.stops.append(_without_ending(error, day))
            fitted[table] = fit(rules.suites, table, day, raw.RawDay((), ""), unreported)
        else:
            if not len(fitted[table].rows) and table in WITHOUT:
                seen.missing.append(f"{table}: no rows; {WITHOUT[table]}")
        seen.fine += _columns(table, fitted[table].rows)
        if fitted[table].unknown:
            own = f"; those of your own begin with {spec.extra_prefix}" if spec.extra_prefix else ""
            seen.odd.append(f"{table}: columns left out: {listed(fitted[table].unknown)}{own}")
    return fitted


def _columns(table: str, rows: pa.Table) -> Iterator[str]:
    """How many rows, and which attributes a ranker is told as what."""
    if not len(rows):
        return
    yield f"{table}: {len(rows):,} rows"
    if ROW_ATTRIBUTES in rows.column_names:
        keys = sorted({key for pairs in rows.column(ROW_ATTRIBUTES).slice(0, 10_000).to_pylist() for key, _ in pairs})
        told = {"numbers": [k.removesuffix(NUMBER) for k in keys if k.endswith(NUMBER)]}
        told["words"] = [k for k in keys if not k.endswith(NUMBER)]
        for kind, names in told.items():
            if names:
                yield f"{table}: attributes that are {kind}: {listed(names)}"


def _judged(
    seen: Seen, rules: Rules, table: str, day: date, fitted: Mapping[str, Fitted], neighbours: Neighbours
) -> None:
    """What the suite finds of a table; what stops the day is said once."""
    reported: list[Finding] = []

    def report(_table: str, _day: date, findings: Sequence[Finding]) -> None:
        reported.extend(findings)

    try:
        found = verdict(rules, table, day, fitted[table], neighbours, report)
    except Refused as error:
        seen.stops.append(_without_ending(error, day))
    else:
        if found.judged.broken or found.judged.copies:
            aside = f"{found.judged.broken:,} rows would be set aside, and {found.judged.copies:,} copies"
            seen.odd.append(f"{table}: {aside}")
    if not len(fitted[table].rows):
        return
    for finding in (one for one in reported if not one.held):
        rule, examples = finding.expectation, finding.outcome.examples if finding.outcome else ()
        if rule.severity == "warning" or rule.scope == "row":
            rows = f" ({finding.broken_by:,} rows)" if rule.scope == "row" else ""
            such = f"; found {one_line(examples[0], 60)}" if examples else ""
            seen.odd.append(f"{table}: needs {rule.needs}{rows}{such}. {rule.notes}")
    seen.fine.append(f"{table}: {sum(one.held for one in reported)} of {len(reported)} expectations hold")


def _without_ending(error: Refused, day: date) -> str:
    return str(error).replace(f"; nothing of {day} was published", "")


def _of_propensities(seen: Seen, impressions: pa.Table) -> None:
    if len(impressions) and impressions.column("propensity").null_count == len(impressions):
        seen.missing.append(
            "impressions.propensity: nobody can tell what a model would earn. TIDEGATE__GATE__PROFILE=metrics-only "
            "judges by metrics and says so; traffic shown by chance, its probability logged, ends that"
        )
