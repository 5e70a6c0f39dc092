"""What may be deployed, and under which names."""

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.deployments.release import NAME_LENGTH, approved, check_opponent, endpoint_name, of_step
from jobs.errors import NotReady, Refused
from jobs.lake.run import Approval

STAND_IN = {"candidate_id": "popularity-full-2026-01-08", "bundle_sha256": "d" * 64, "deployed": False}
SERVES = {"candidate_id": "xgboost-full-2026-01-01", "bundle_sha256": "c" * 64, "deployed": True}


def document(champion: dict[str, Any] = SERVES) -> dict[str, Any]:
    return {"champion": champion, "challenger": {"candidate_id": "xgboost-full-2026-01-08"}}


DOCUMENT = json.dumps(document())
SHA = hashlib.sha256(DOCUMENT.encode()).hexdigest()
ROW: dict[str, Any] = {
    "candidate_id": "xgboost-full-2026-01-08",
    "day": "2026-01-08",
    "mode": "full",
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
YES = Approval(" alice ", " it is better ", SHA, "a" * 64, "c" * 64)


def test_an_approved_promotion_becomes_a_release() -> None:
    """The names say which candidate and which bytes."""
    release = approved(ROW, [EVIDENCE], YES)
    assert release.config == "xgboost-full-2026-01-08-aaaaaaaaaaaa"
    assert release.variant == "xgboost-full-2026-01-08"
    assert (release.by, release.why) == ("alice", "it is better")
    assert of_step(release.step("live", None)) == release
    short = Approval("alice", "", SHA[:12], "a" * 12, "c" * 12)
    assert approved(ROW, [EVIDENCE], short).config == release.config, "the first digits are enough to name it"


@pytest.mark.parametrize(
    ("row", "evidence", "approval", "sentence"),
    [
        ({"verdict": "hold", "reasons": ["low", "few"]}, {}, {}, "has hold: low; few"),
        ({"verdict": "refuse"}, {}, {}, "has refuse"),
        ({}, {}, {"by": ""}, "a person's yes, --approved-by NAME"),
        ({}, {}, {"by": "  "}, "a person's yes"),
        ({}, {"document": '{"auc": 0.9}'}, {}, "must be as it was judged"),
        ({"evidence_sha256": "b" * 64}, {}, {}, "needs the evidence its verdict rests on"),
        ({}, {"candidate_id": "logistic-full-2026-01-08"}, {}, "needs the evidence its verdict rests on"),
        ({}, {"bundle_sha256": "c" * 64}, {}, "must be the bundle that was judged"),
        ({}, {}, {"evidence_sha256": ""}, "must say which evidence it is for, --evidence-sha"),
        ({}, {}, {"bundle_sha256": " "}, "must say which bundle it is for, --bundle-sha"),
        ({}, {}, {"champion_sha256": ""}, "must say which champion it is for, --champion-sha"),
        ({}, {}, {"evidence_sha256": "e" * 64}, f"with evidence eeeeeeeeeeee…; it has {SHA[:12]}… now"),
        ({}, {}, {"bundle_sha256": "e" * 64}, "with bundle eeeeeeeeeeee…; it has aaaaaaaaaaaa… now"),
        ({}, {}, {"champion_sha256": "none"}, "with champion none; it has cccccccccccc… now"),
        ({}, {}, {"champion_sha256": "c" * 11}, "with champion ccccccccccc; it has cccccccccccc… now"),
    ],
)
def test_anything_less_is_refused(
    row: dict[str, Any], evidence: dict[str, Any], approval: dict[str, str], sentence: str
) -> None:
    """Verdict, person, evidence, bundle and champion: each of them is needed, and the sentence says which is not."""
    with pytest.raises(Refused, match=re.escape(sentence)):
        approved({**ROW, **row}, [{**EVIDENCE, **evidence}], replace(YES, **approval))


def test_evidence_counts_only_against_what_serves() -> None:
    """By the bundle's bytes: of the same name there may have been another."""
    serves = {"candidate_id": "xgboost-full-2026-01-01", "bundle_sha256": "c" * 64}
    check_opponent(document(), serves, "x")
    check_opponent(document(STAND_IN), None, "x")
    for judged, now, sentence in (
        (SERVES, None, "against xgboost-full-2026-01-01 (cccccccccccc…); no model serves now: run it again"),
        (STAND_IN, serves, "since no model was live; xgboost-full-2026-01-01 (cccccccccccc…) serves now: run it again"),
        (
            SERVES,
            {**serves, "bundle_sha256": "b" * 64},
            "(cccccccccccc…); xgboost-full-2026-01-01 (bbbbbbbbbbbb…) serves",
        ),
        (STAND_IN, {**STAND_IN}, "popularity-full-2026-01-08 (dddddddddddd…) serves now"),
    ):
        with pytest.raises(Refused, match=re.escape(sentence)):
            check_opponent(document(judged), now, "run it again")


def test_no_verdict_yet_is_not_ready() -> None:
    """Promote has not run: a retry may find it."""
    with pytest.raises(NotReady, match="run promote first"):
        approved(None, [], YES)


@given(st.text(max_size=200), st.sampled_from(["", "0123456789ab"]))
def test_every_name_is_one_sagemaker_takes(candidate: str, suffix: str) -> None:
    """Letters, digits, inner hyphens, at most 63; the sha is never cut off."""
    name = endpoint_name(candidate, suffix)
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert len(name) <= NAME_LENGTH
    assert name.endswith(suffix)
