"""The row a verdict becomes, and what a person reads before saying yes. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any

from jobs.deployments.release import SHA_DIGITS
from jobs.errors import Refused
from jobs.evidence import pack, wording
from jobs.evidence.document import Document
from jobs.evidence.figures import Estimated, Finding
from jobs.evidence.gain import Gain, gains
from jobs.evidence.judgement import Judgement
from jobs.evidence.unknowns import power
from jobs.places import Place
from models.evaluation.choices import SIDES
from models.evaluation.gate import VALUE
from models.settings import METRICS_ONLY

REFUSE = "refuse"
SHOWN = ("auc", "log_loss", "ndcg_at_10")
"""Metrics of the short table; the page has all."""


def standing(existing: Iterable[Mapping[str, Any]], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a day and mode: `verdict`; what was decided before in the same way keeps the time of its decision."""
    names = ("candidate_id", "bundle_sha256", "evidence_sha256", "champion_id", "verdict")
    same = (row["decided_at"] for row in existing if all(row[name] == verdict[name] for name in names))
    return {**verdict, "decided_at": next(same, verdict["decided_at"])}


def check_risk(existing: Iterable[Mapping[str, Any]], verdict: Mapping[str, Any]) -> None:
    """Raises `Refused` where the look has no risk left for the verdict: it was spent on another evidence, or this one
    was refused and gave it back.
    """
    sha256, look = verdict["evidence_sha256"], verdict["look"]
    for row in (row for row in existing if row["look"] == look):
        if row["evidence_sha256"] != sha256:
            other = row["evidence_sha256"][:SHA_DIGITS]
            raise Refused(f"look {look} must judge one evidence; it has judged {other}: run backtest again")
        if row["verdict"] == REFUSE != verdict["verdict"]:
            raise Refused(
                f"evidence {sha256[:SHA_DIGITS]} was refused, so look {look} spends no risk; other settings or code now"
                f" give {verdict['verdict']}: run backtest again"
            )


def summary(found: Document, verdict: Judgement, page: str | Place) -> str:
    """What the person who approves reads first, as Markdown: the verdict, seven figures, the reasons, the page.

    It ends with what a yes is bound to. `page` is a URL, or the path where there is none.
    """
    challenger, champion = found.challenger.candidate_id, found.champion.candidate_id
    against = [rule for rule in verdict.rules if rule.outcome == verdict.verdict] or [
        rule for rule in verdict.rules if rule.name in (VALUE, *found.comparison) or rule.outcome == "unknown"
    ]
    reasons = [f"- {wording.rule_name(rule.name)}: {' '.join(rule.reason.split())}" for rule in against]
    where = f"[The whole evidence]({page})" if str(page).startswith("http") else f"The whole evidence: `{page}`"
    lines = [
        f"**{wording.VERDICTS[verdict.verdict]}**: {' '.join(wording.headline(found, verdict).split())}",
        f"**No counterfactual value exists.** {wording.NO_VALUE}" if found.gate.profile == METRICS_ONLY else "",
        f"`{challenger}` against `{champion}`",
        wording.judged_on(found),
        _table(found),
        _a_day(found),
        "\n".join(reasons),
        f"A yes is for evidence `{pack.sha256(found)[:SHA_DIGITS]}` on bundle "
        f"`{found.challenger.bundle_sha256[:SHA_DIGITS]}`, as long as {_opponent(found)} serves.",
        where,
    ]
    return "\n\n".join(filter(None, lines)) + "\n"


def told(found: Document, verdict: Judgement) -> list[str]:
    """The same for a message that knows no tables, a line each: the verdict, then at most five figures."""
    headline = f"{wording.VERDICTS[verdict.verdict]}: {' '.join(wording.headline(found, verdict).split())}"
    figures = [
        f"{name}: {before} → {challenger} ({difference})" for name, before, challenger, difference in _figures(found)
    ]
    return [headline, *figures]


def _opponent(found: Document) -> str:
    champion = found.champion
    return f"`{champion.candidate_id}` (`{champion.bundle_sha256[:SHA_DIGITS]}`)" if champion.deployed else "no model"


def _figures(found: Document) -> list[tuple[str, str, str, str]]:
    """Name, what the challenger takes the place of, challenger and their difference; gains in percent."""
    rows = [
        (
            f"Clicks per request, against {of.against}",
            *(wording.of_side(of.other), wording.of_side(found.value.challenger), _gain(of)),
        )
        for of in gains(found)
    ]
    sides = {wording.metric(name): found.comparison[name] for name in SHOWN if name in found.comparison}
    rows += [
        (name, wording.of_side(of.champion), wording.of_side(of.challenger), _difference(of.difference))
        for name, of in sides.items()
    ]
    return rows


def _table(found: Document) -> str:
    """The figures, and how well both are calibrated."""
    rows = [f"| {' | '.join(row)} |" for row in _figures(found)]
    calibrated = [found.calibration[side] for side in SIDES]
    rows.append(f"| Calibration | {' | '.join(wording.level(of.ratio) for of in calibrated)} | |")
    rows.append(f"| Calibration error | {' | '.join(wording.of_side(of.error) for of in calibrated)} | |")
    return "\n".join(["|  | before | challenger | difference |", "| --- | ---: | ---: | ---: |", *rows])


def _gain(of: Gain) -> str:
    if of.relative is None:
        return _difference(of.difference)
    value, low, high = (wording.percent(figure, signed=True) for figure in of.relative)
    return f"{value} [{low} to {high}]"


def _a_day(found: Document) -> str:
    """Clicks a day, the chance that they are fewer, and how small a lift such logs show."""
    told = [
        f"{wording.rounded(of.clicks_a_day[0], signed=True)} clicks a day against {of.against} (chance of being worse"
        f" {wording.chance(of.chance_of_worse)})"
        for of in gains(found)
        if of.clicks_a_day is not None
    ]
    lines = [f"{', '.join(told)}."] if told else []
    return " ".join([*lines, *([] if found.power is None else [power(found.power)])])


def _difference(found: Finding) -> str:
    interval = f" [{wording.between(found, sign=True)}]" if isinstance(found, Estimated) else ""
    return wording.of_side(found, sign=True) + interval
