"""What may be deployed, and under which names."""

import hashlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.deployments.release import NAME_LENGTH, approved, changed, endpoint_name
from jobs.errors import NotReady, Refused

DOCUMENT = '{"auc": 0.7}'
SHA = hashlib.sha256(DOCUMENT.encode()).hexdigest()
ROW: dict[str, Any] = {
    "candidate_id": "xgboost-full-2026-01-08",
    "bundle": "/bundles/xgboost-full-2026-01-08",
    "bundle_sha256": "a" * 64,
    "evidence_sha256": SHA,
    "verdict": "promote",
    "reasons": ["lift 0.01 [0.004, 0.02]"],
}
EVIDENCE: dict[str, Any] = {
    "candidate_id": "xgboost-full-2026-01-08",
    "bundle_sha256": "a" * 64,
    "document": DOCUMENT,
    "document_sha256": SHA,
}


def test_an_approved_promotion_becomes_a_release() -> None:
    """The names say which candidate and which bytes."""
    release = approved(ROW, [EVIDENCE], " alice ")
    assert release.name == "xgboost-full-2026-01-08-aaaaaaaaaaaa"
    assert release.variant == "xgboost-full-2026-01-08"
    assert release.approved_by == "alice"


@pytest.mark.parametrize(
    ("row", "evidence", "name", "sentence"),
    [
        ({"verdict": "hold", "reasons": ["low", "few"]}, {}, "alice", "has hold: low; few"),
        ({"verdict": "refuse"}, {}, "alice", "has refuse"),
        ({}, {}, None, "a person's yes, --approved-by NAME"),
        ({}, {}, "  ", "a person's yes"),
        ({}, {"document": '{"auc": 0.9}'}, "alice", "must be as it was judged"),
        ({"evidence_sha256": "b" * 64}, {}, "alice", "needs the evidence its verdict rests on"),
        ({}, {"candidate_id": "logistic-full-2026-01-08"}, "alice", "needs the evidence its verdict rests on"),
        ({}, {"bundle_sha256": "c" * 64}, "alice", "must be the bundle that was judged"),
    ],
)
def test_anything_less_is_refused(row: dict[str, Any], evidence: dict[str, Any], name: str, sentence: str) -> None:
    """Verdict, person, evidence and bundle: each of them is needed, and the sentence says which is missing."""
    with pytest.raises(Refused, match=re.escape(sentence)):
        approved({**ROW, **row}, [{**EVIDENCE, **evidence}], name)


def test_no_verdict_yet_is_not_ready() -> None:
    """Promote has not run: a retry may find it."""
    with pytest.raises(NotReady, match="run promote first"):
        approved(None, [], "alice")


@given(st.text(max_size=200), st.sampled_from(["", "0123456789ab"]))
def test_every_name_is_one_sagemaker_takes(candidate: str, suffix: str) -> None:
    """Letters, digits, inner hyphens, at most 63; the sha is never cut off."""
    name = endpoint_name(candidate, suffix)
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert len(name) <= NAME_LENGTH
    assert name.endswith(suffix)


def test_only_the_candidates_row_changes() -> None:
    """Other rows of the page are history."""
    rows = [{"candidate_id": "a", "endpoint": None}, {"candidate_id": "b", "endpoint": None}]
    assert changed(rows, "b", {"endpoint": "e"}) == [rows[0], {"candidate_id": "b", "endpoint": "e"}]
