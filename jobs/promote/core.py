"""The ledger's next page: a new verdict beside what was already approved and deployed. No I/O."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jobs.evidence import wording
from jobs.evidence.document import Document, Estimated, Finding, Judgement
from jobs.evidence.scored import SIDES
from models.evaluation.gate import VALUE

HISTORY = ("approved_by", "approved_at", "endpoint", "deployed_at")
"""What a person and the deployment wrote; a verdict never touches it."""
SHOWN = ("auc", "log_loss", "ndcg_at_10")
"""Metrics of the short table; the page has all."""


def page(existing: Iterable[Mapping[str, Any]], verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a day and mode after `verdict`, sorted by candidate.

    The same bundle judged again keeps its approval and deployment, and where nothing changed its time of decision too.
    Candidates that were deployed stay, others make room. A bundle that differs from the approved one starts afresh.
    """
    rows = [dict(row) for row in existing]
    before = next((row for row in rows if row["candidate_id"] == verdict["candidate_id"]), None)
    judged: dict[str, Any] = {**dict.fromkeys(HISTORY), **verdict}
    kept = [row for row in rows if row["candidate_id"] != verdict["candidate_id"] and row["deployed_at"] is not None]
    if before is not None and before["bundle_sha256"] == verdict["bundle_sha256"]:
        judged.update({name: before[name] for name in HISTORY})
        same = all(before[name] == verdict[name] for name in ("verdict", "evidence_sha256", "champion_id"))
        if same and all(row["decided_at"] <= before["decided_at"] for row in kept):
            judged["decided_at"] = before["decided_at"]
    return sorted([*kept, judged], key=lambda row: str(row["candidate_id"]))


def summary(found: Document, verdict: Judgement, page: str | Path) -> str:
    """What the person who approves reads first, as Markdown: the verdict, five figures, the reasons, the page.

    `page` is a URL, or the path where there is none.
    """
    challenger, champion = found.challenger.candidate_id, found.champion.candidate_id
    against = [rule for rule in verdict.rules if rule.outcome == verdict.verdict] or [
        rule for rule in verdict.rules if rule.name in (VALUE, *found.comparison)
    ]
    reasons = [f"- {wording.rule_name(rule.name)}: {' '.join(rule.reason.split())}" for rule in against]
    where = f"[The whole evidence]({page})" if str(page).startswith("http") else f"The whole evidence: `{page}`"
    lines = [
        f"**{wording.VERDICTS[verdict.verdict]}**: {' '.join(wording.headline(found, verdict).split())}",
        f"`{challenger}` against `{champion}`",
        _table(found),
        "\n".join(reasons),
        where,
    ]
    return "\n\n".join(lines) + "\n"


def _table(found: Document) -> str:
    """Champion, challenger and their difference in five figures."""
    sides = {"Clicks per request": found.value}
    sides |= {wording.metric(name): found.comparison[name] for name in SHOWN if name in found.comparison}
    rows = [
        f"| {name} | {wording.of_side(of.champion)} | {wording.of_side(of.challenger)} | {_difference(of.difference)} |"
        for name, of in sides.items()
    ]
    errors = [found.calibration[side].error for side in SIDES]
    rows.append(f"| Calibration error | {' | '.join(wording.of_side(error) for error in errors)} | |")
    return "\n".join(["|  | champion | challenger | difference |", "| --- | ---: | ---: | ---: |", *rows])


def _difference(found: Finding) -> str:
    interval = f" [{wording.between(found, sign=True)}]" if isinstance(found, Estimated) else ""
    return wording.of_side(found, sign=True) + interval
