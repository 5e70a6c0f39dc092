"""An A/B test as rows of `readouts`: its arms' ratio, every metric of its goal, and what to do about it. No I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.experiment.users import Met
from jobs.lake.findings import figures, finding_note
from models.evaluation.estimate import Refusal
from models.experiments import srm
from models.experiments.causes import Units, diagnose
from models.experiments.compare import Difference, compare
from models.experiments.plan import detectable
from models.experiments.rules import DELAYED, HEAVY
from models.experiments.settings import ExperimentSettings
from models.experiments.verdict import verdict

PROXIES = {"first_value": "proxy of lifetime value: revenue of a user's first {} days, of users who had them"}
RATIO, VERDICT = "sample_ratio", "verdict"
Row = dict[str, Any]


def rows(settings: ExperimentSettings, found: Met, today: date, closes: date) -> list[Row]:
    """Each arm but control against it; `closes`: the day the labels of today's impressions close."""
    arms = list(settings.arms)
    ratio, mismatch = _ratio(settings, found.units)
    unknown = f"; {found.requests} requests of nobody are in no figure" if found.requests else ""
    told = [
        {
            **row(settings, ", ".join(arms[1:]), RATIO),
            "n": len(found.units.arm),
            "effective_n": float(found.units.analysed.sum()),
            "p_value": ratio.p_value,
            "always_p": ratio.always_p,
            "note": (mismatch or "users are divided as they were drawn") + unknown,
        }
    ]
    for number, arm in enumerate(arms[1:], 1):
        mine = (found.arm == 0) | (found.arm == number)
        differences = {metric: _difference(settings, found, metric, mine, number) for metric in settings.metrics}
        told += judged(settings, differences, arm, int(mine.sum()), mismatch, today, closes)
    return told


def row(settings: ExperimentSettings, variant: str, metric: str) -> Row:
    """The keys of a row."""
    return {"experiment": settings.name, "metric": metric, "control": settings.control, "variant": variant}


def with_candidates(told: Sequence[Row], answered: Mapping[str, str | None]) -> list[Row]:
    """Rows with the candidates whose bundles answered either arm, by arm; null where none or several did."""
    return [
        {**of, "candidate_id": answered.get(of["variant"]), "opponent_id": answered.get(of["control"])} for of in told
    ]


def answered(settings: ExperimentSettings, said: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """By arm that names a variant the candidate that answered it, of (arm, candidate) as the endpoint said them."""
    found: dict[str, set[str]] = {}
    for arm, candidate in said:
        found.setdefault(arm, set()).add(candidate)
    named = [name for name, arm in settings.arms.items() if arm.variant is not None]
    return {name: next(iter(of)) if len(of := found.get(name, set())) == 1 else None for name in named}


def _ratio(settings: ExperimentSettings, units: Units) -> tuple[srm.Ratio, str]:
    """Of the users who are analysed, at every day so far; and the likeliest cause, where it is a mismatch."""
    weights = np.array([arm.weight for arm in settings.arms.values()])
    arm, day = units.arm[units.analysed], units.day[units.analysed]
    looks = [np.bincount(arm[day <= last], minlength=len(weights)) for last in np.unique(day)]
    ratio = srm.over_looks(looks, weights)
    if not ratio.mismatch:
        return ratio, ""
    causes = diagnose(units, weights)
    return ratio, str(causes[0]) if causes else "arms were once divided otherwise than now: the cause has gone"


def judged(
    settings: ExperimentSettings,
    differences: Mapping[str, Difference | Refusal],
    arm: str,
    n: int,
    mismatch: str,
    today: date,
    closes: date,
) -> Iterator[Row]:
    """A row per metric and side, then the verdict, of an arm against control; `n` as the verdict's row says it."""
    said = verdict(differences, settings.rules, today, closes=closes, mismatch=mismatch)
    for metric, one in differences.items():
        closing = closes if metric in DELAYED else None
        yield {**row(settings, arm, metric), **_figures(settings, metric, one), "closes_on": closing and str(closing)}
        if isinstance(one, Difference):
            for side, level in (("control", one.control), ("variant", one.treated)):
                yield {**row(settings, arm, f"{metric}.{side}"), **figures(level), "note": ""}
    yield {
        **row(settings, arm, VERDICT),
        "n": n,
        "note": said.why,
        "verdict": str(said),
        "closes_on": str(closes),
    }


def _difference(
    settings: ExperimentSettings, found: Met, metric: str, mine: NDArray[np.bool_], number: int
) -> Difference | Refusal:
    numerators, denominators = found.figures[metric]
    return compare(
        numerators[mine],
        denominators[mine],
        found.arm[mine] == number,
        interesting=settings.interesting_lift,
        confidence=settings.confidence,
        before=found.before[mine] if settings.before_days else None,
        cap=settings.cap_quantile if metric in HEAVY else 1.0,
    )


def _figures(settings: ExperimentSettings, metric: str, one: Difference | Refusal) -> Row:
    if isinstance(one, Refusal):
        return {**figures(one), "note": finding_note(one, "")}
    level = abs(one.control.value)
    least = (
        detectable(one.fixed.stderr, settings.confidence, scale=settings.interesting_lift * level) if level else None
    )
    notes = [
        "" if one.sound else f"arms differed before the start, p {one.before_p:.1g}",
        PROXIES[metric].format(settings.value_days) if metric in PROXIES else "",
        f"{one.capped:.2%} of users are cut at the cap" if one.capped else "",
    ]
    return {
        **figures(one.fixed),
        "note": "; ".join(filter(None, notes)),
        "always_low": one.always[0],
        "always_high": one.always[1],
        "p_value": one.p_value,
        "always_p": one.always_p,
        "detectable": least and least / level,
        "variance_left": one.variance_left,
    }
