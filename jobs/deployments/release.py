"""What may be deployed, and under which names: pure rules over verdict, evidence, approval and ledger."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import NotReady, Refused
from jobs.lake.run import Approval
from models.settings import METRICS_ONLY

PROMOTE = "promote"
NO_VALUE = f"{METRICS_ONLY}: no counterfactual value exists"
"""In the ledger, beside why a person said yes to such an evidence."""
NOTHING = "none"
"""In place of the champion's sha256 where the evidence compares with a stand-in, because no model was live."""
SHA_DIGITS = 12
"""Of a sha256 in a name or a sentence, and the fewest that an approval may give."""
NAME_LENGTH = 63
"""SageMaker's names: letters, digits and inner hyphens, at most this long."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Release:
    """A bundle, why it may serve, and the names it has at the endpoint; the same bundle always has the same names."""

    candidate_id: str
    day: str
    mode: str
    bundle: str
    bundle_sha256: str
    evidence_sha256: str
    by: str
    why: str

    @property
    def config(self) -> str:
        """Of model and endpoint config."""
        return endpoint_name(self.candidate_id, self.bundle_sha256[:SHA_DIGITS])

    @property
    def variant(self) -> str:
        """Of the production variant."""
        return endpoint_name(self.candidate_id)

    def shared(self, step: str, number: int) -> str:
        """Of the endpoint config in which it is a shadow or a canary, by the number of its approval."""
        return endpoint_name(self.candidate_id, f"{self.bundle_sha256[:SHA_DIGITS]}-{step}-{number}")

    def step(self, step: str, before: str | None, share: float = 0.0) -> dict[str, Any]:
        """A row of the ledger, but for its number and time; `share` is of the requests it answers, in percent."""
        names = ("candidate_id", "day", "mode", "bundle", "bundle_sha256", "evidence_sha256", "config", "by", "why")
        return {**{name: getattr(self, name) for name in names}, "step": step, "share": share, "before": before}

    def is_of(self, row: Row | None) -> bool:
        """Whether a row of the ledger is about these very bytes."""
        names = ("candidate_id", "bundle_sha256")
        return row is not None and all(row[name] == getattr(self, name) for name in names)


def of_step(row: Row) -> Release:
    """The release a row of the ledger is about."""
    return _release(row, row["by"], row["why"])


def unasked(verdict: Row, by: str, why: str) -> Release:
    """What a verdict is about, for a no to it; nothing is checked, for nothing comes of it."""
    return _release(verdict, by, why)


def check_approver(approval: Approval, approvers: Collection[str]) -> None:
    """Raises `Refused` where approvers are named and whoever said yes is none of them."""
    by = approval.by.strip()
    if by and approvers and by not in approvers:
        raise Refused(f"a yes must come from one of release.approvers, {', '.join(approvers)}; found {by}")


def rejected(verdict: Row | None, said: Approval) -> Release:
    """What somebody said no to; raises `NotReady` without a verdict, `Refused` where it is no longer what was read."""
    if verdict is None:
        raise NotReady("reject needs a verdict; found none: run promote first")
    by, candidate = said.by.strip(), verdict["candidate_id"]
    if not by:
        raise Refused(f"reject of {candidate} needs who says no, --approved-by NAME; found none")
    for what in ("evidence", "bundle"):
        read = getattr(said, f"{what}_sha256").strip()
        if read:
            _bound(candidate, by, what, read, verdict[f"{what}_sha256"], "no")
    return unasked(verdict, by, said.why.strip())


def approved(row: Row | None, evidence: Iterable[Row], approval: Approval) -> Release:
    """The release that a verdict and a person allow; raises `NotReady` without a verdict.

    Raises `Refused` unless the verdict is promote, the evidence it rests on is unchanged and speaks of this very
    bundle, and somebody said yes to exactly this evidence, this bundle and this champion.
    """
    if row is None:
        raise NotReady("deploy needs a verdict; found none: run promote first")
    candidate = row["candidate_id"]
    if row["verdict"] != PROMOTE:
        raise Refused(
            f"deploy needs the verdict promote; {candidate} has {row['verdict']}: {'; '.join(row['reasons'])}"
        )
    by = said_by(approval, f"deploy of {candidate}")
    found = [e for e in evidence if e["document_sha256"] == row["evidence_sha256"] and e["candidate_id"] == candidate]
    if not found:
        raise Refused(
            f"{candidate} needs the evidence its verdict rests on ({_short(row['evidence_sha256'])}); found none: "
            "run promote again"
        )
    document = hashlib.sha256(found[0]["document"].encode()).hexdigest()
    if document != row["evidence_sha256"]:
        raise Refused(f"evidence of {candidate} must be as it was judged; its document now has sha256 {document[:12]}…")
    if found[0]["bundle_sha256"] != row["bundle_sha256"]:
        raise Refused(
            f"{candidate} must be the bundle that was judged ({_short(found[0]['bundle_sha256'])}); "
            f"the verdict is on {_short(row['bundle_sha256'])}"
        )
    judged = {
        "evidence": (approval.evidence_sha256, row["evidence_sha256"]),
        "bundle": (approval.bundle_sha256, row["bundle_sha256"]),
        "champion": (approval.champion_sha256, opponent_sha256(json.loads(found[0]["document"]))),
    }
    for what, (said, sha256) in judged.items():
        _bound(candidate, by, what, said.strip(), sha256)
    gate = json.loads(found[0]["document"]).get("gate", {})
    without = NO_VALUE if gate.get("profile") == METRICS_ONLY else ""
    return _release(row, by, "; ".join(filter(None, [approval.why.strip(), without])))


def said_by(approval: Approval, what: str) -> str:
    """Whose yes it is; raises `Refused` where nobody's."""
    by = approval.by.strip()
    if not by:
        raise Refused(f"{what} needs a person's yes, --approved-by NAME; found none")
    return by


def opponent_sha256(document: Mapping[str, Any]) -> str:
    """The live model that evidence compares with, by its bundle; `NOTHING` where there was none."""
    champion = document["champion"]
    return str(champion["bundle_sha256"]) if champion["deployed"] else NOTHING


def check_opponent(document: Mapping[str, Any], champion: Row | None, remedy: str) -> None:
    """Raises `Refused` where evidence compares with another model than the one that serves, and says the remedy."""
    judged = opponent_sha256(document)
    if judged == (NOTHING if champion is None else champion["bundle_sha256"]):
        return
    against = "a stand-in, since no model was live" if judged == NOTHING else _named(document["champion"])
    serves = "no model" if champion is None else _named(champion)
    challenger = document["challenger"]["candidate_id"]
    raise Refused(f"{challenger} was judged against {against}; {serves} serves now: {remedy}")


def endpoint_name(candidate_id: str, suffix: str = "") -> str:
    """A name SageMaker accepts; `suffix` survives the cut to its length."""
    tail = f"-{suffix}" if suffix else ""
    words = re.sub(r"[^a-zA-Z0-9]+", "-", candidate_id).strip("-")[: NAME_LENGTH - len(tail)].rstrip("-")
    return (words or "candidate") + tail


def _release(row: Row, by: str, why: str) -> Release:
    names = ("candidate_id", "day", "mode", "bundle", "bundle_sha256", "evidence_sha256")
    return Release(**{name: row[name] for name in names}, by=by, why=why)


def _bound(candidate: str, by: str, what: str, said: str, sha256: str, word: str = "yes") -> None:
    """Raises `Refused` unless what somebody said yes (or no) to is what there is now."""
    if not said:
        raise Refused(
            f"{by}'s yes to {candidate} must say which {what} it is for, --{what}-sha as promote reports it; found none"
        )
    if said != sha256 and not (len(said) >= SHA_DIGITS and sha256.startswith(said)):
        raise Refused(
            f"{by} said {word} to {candidate} with {what} {_short(said)}; it has {_short(sha256)} now: "
            f"read the newest evidence and {'approve' if word == 'yes' else 'answer'} that"
        )


def _named(row: Row) -> str:
    return f"{row['candidate_id']} ({_short(row['bundle_sha256'])})"


def _short(sha256: str) -> str:
    return sha256 if len(sha256) <= SHA_DIGITS else f"{sha256[:SHA_DIGITS]}…"
