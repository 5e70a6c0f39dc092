"""A finding as the columns that every table of figures has."""

from typing import Any

from models.evaluation.estimate import Estimate, Finding


def figures(finding: Finding) -> dict[str, Any]:
    """The columns value, stderr, low, high, n, effective_n; nulls where the figure was refused."""
    if isinstance(finding, Estimate):
        return finding.as_dict()
    return {**dict.fromkeys(("value", "stderr", "low", "high")), "n": finding.n, "effective_n": finding.effective_n}


def finding_note(finding: Finding, note: str) -> str:
    """The note, or why there is no figure."""
    return note if isinstance(finding, Estimate) else f"refused: {finding.reason}"
