"""What may be deployed, and under which names: pure rules over the ledger's row and the evidence."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import NotReady, Refused

PROMOTE = "promote"
SHA_DIGITS = 12
NAME_LENGTH = 63
"""SageMaker's names: letters, digits and inner hyphens, at most this long."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Release:
    """An approved bundle and the names it has at the endpoint; the same bundle always has the same names."""

    candidate_id: str
    bundle: str
    bundle_sha256: str
    approved_by: str
    name: str
    variant: str


def approved(row: Row | None, evidence: Iterable[Row], approved_by: str | None) -> Release:
    """The release a ledger row allows; raises `NotReady` without a row.

    Raises `Refused` unless the verdict is promote, somebody approved, and the evidence the verdict rests on is
    unchanged and speaks of this very bundle.
    """
    if row is None:
        raise NotReady("deploy needs a verdict in the ledger; found none: run promote first")
    candidate = row["candidate_id"]
    if row["verdict"] != PROMOTE:
        raise Refused(
            f"deploy needs the verdict promote; {candidate} has {row['verdict']}: {'; '.join(row['reasons'])}"
        )
    if not (approved_by or "").strip():
        raise Refused(f"deploy needs a person's yes, --approved-by NAME; found none for {candidate}")
    found = [e for e in evidence if e["document_sha256"] == row["evidence_sha256"] and e["candidate_id"] == candidate]
    if not found:
        raise Refused(
            f"{candidate} needs the evidence its verdict rests on ({row['evidence_sha256'][:12]}…); found none"
        )
    document = hashlib.sha256(found[0]["document"].encode()).hexdigest()
    if document != row["evidence_sha256"]:
        raise Refused(f"evidence of {candidate} must be as it was judged; its document now has sha256 {document[:12]}…")
    if found[0]["bundle_sha256"] != row["bundle_sha256"]:
        raise Refused(
            f"{candidate} must be the bundle that was judged ({found[0]['bundle_sha256'][:12]}…); "
            f"the ledger says {row['bundle_sha256'][:12]}…"
        )
    variant = endpoint_name(candidate)
    name = endpoint_name(candidate, row["bundle_sha256"][:SHA_DIGITS])
    return Release(candidate, row["bundle"], row["bundle_sha256"], str(approved_by).strip(), name, variant)


def endpoint_name(candidate_id: str, suffix: str = "") -> str:
    """A name SageMaker accepts; `suffix` survives the cut to its length."""
    tail = f"-{suffix}" if suffix else ""
    words = re.sub(r"[^a-zA-Z0-9]+", "-", candidate_id).strip("-")[: NAME_LENGTH - len(tail)].rstrip("-")
    return (words or "candidate") + tail


def changed(rows: Iterable[Row], candidate_id: str, changes: Row) -> list[dict[str, Any]]:
    """The rows in the order they came, the candidate's with `changes`."""
    return [{**row, **(changes if row["candidate_id"] == candidate_id else {})} for row in rows]
