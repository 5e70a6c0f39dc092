"""The ledger's next page: a new verdict beside what was already approved and deployed. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any

HISTORY = ("approved_by", "approved_at", "endpoint", "deployed_at")
"""What a person and the deployment wrote; a verdict never touches it."""


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


def summary(verdict: str, reasons: Iterable[str], table: str, candidate_id: str, champion_id: str) -> str:
    """What the person who approves reads first, as Markdown."""
    lines = "\n".join(f"- {reason}" for reason in reasons)
    return f"**{verdict}**: `{candidate_id}` against `{champion_id}`\n\n{table}\n\n{lines}\n"
