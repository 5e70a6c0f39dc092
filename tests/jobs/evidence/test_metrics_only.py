"""A log without propensities under the profile `metrics-only`: it says on every paper that no value exists, and to
promote asks metrics on what was shown for a gain at the look's own risk.
"""

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from jobs.deployments.release import NO_VALUE, approved
from jobs.evidence import wording
from jobs.evidence.document import Document
from jobs.evidence.judgement import Judgement
from jobs.lake.run import Approval
from jobs.promote import core
from models.evaluation.comparison import compare
from models.evaluation.estimate import Estimate
from models.evaluation.gate import Evidence, judge
from models.settings import GateSettings
from tests.jobs.evidence.evidence_documents import Tree, judged, shown, without_replay, written_once

REASON = "the estimate needs the propensity of every decision; found none of 600"
ASKS_NOTHING_OF_REPLAYS = {"replayed_share", "logging", "conversions", "conversions_so_far", "popularity_bias", "skew"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """As of a log without propensities, judged by what must rise."""
    found = without_replay(written_once(tmp_path_factory.getbasetemp()), REASON)
    found["gate"] |= {"profile": "metrics-only", "must_rise": ["auc", "ndcg_at_10"]}
    return found


def test_it_is_refused_by_the_usual_profile_and_promoted_by_metrics(document: Tree) -> None:
    """The same figures; nothing that rests on a replay is asked, and that there is no value is a rule of its own."""
    usual = document | {"gate": document["gate"] | {"profile": "counterfactual"}}
    assert judged(usual)["verdict"] == "refuse"
    found = judged(document)
    assert found["verdict"] == "promote", found["reasons"]
    rules = {rule["name"]: rule for rule in found["rules"]}
    assert not ASKS_NOTHING_OF_REPLAYS & set(rules)
    assert rules["value"]["outcome"] == "unknown"
    assert {"auc.rises", "ndcg_at_10.rises"} <= set(rules)


def test_every_paper_says_that_there_is_no_value(document: Tree) -> None:
    """The page on top and where it says what was not asked; the approval; the ledgers of verdicts and of releases."""
    judgement = judged(document)
    page = " ".join(shown(document, judgement).split())
    assert f"<b>No counterfactual value exists.</b> {wording.NO_VALUE}" in page
    assert "not known: “Earns more clicks”. No counterfactual value exists. On what was shown, challenger minus" in page
    assert "gate.profile is metrics-only" in page
    text = core.summary(Document.model_validate(document), Judgement.model_validate(judgement), "page")
    assert "**No counterfactual value exists.**" in text.splitlines()[2]
    [said] = [reason for reason in judgement["reasons"] if reason.startswith("value: ")]
    assert said.startswith("value: no counterfactual value exists (gate.profile is metrics-only)")
    assert approved(*released(document)).why == f"it is better; {NO_VALUE}"
    usual = document | {"gate": document["gate"] | {"profile": "counterfactual"}}
    assert approved(*released(usual)).why == "it is better"
    assert "No counterfactual value exists" not in shown(usual, judged(usual))


def released(document: Tree) -> tuple[dict[str, Any], list[dict[str, Any]], Approval]:
    """Verdict, evidence and a yes to them."""
    text = json.dumps(document)
    sha, bundle = hashlib.sha256(text.encode()).hexdigest(), document["challenger"]["bundle_sha256"]
    names = {"candidate_id": document["challenger"]["candidate_id"], "bundle_sha256": bundle}
    row = {**names, "verdict": "promote", "reasons": [], "evidence_sha256": sha, "day": "2026-01-08", "mode": "full"}
    evidence = {**names, "document": text, "document_sha256": sha}
    return {**row, "bundle": "b"}, [evidence], Approval("alice", "it is better", sha, bundle, "none")


def test_a_gain_must_be_shown_by_something() -> None:
    """A profile without a value and without a metric would promote whatever is not worse."""
    with pytest.raises(ValueError, match=r"metrics-only needs gate\.must_rise.*found none"):
        GateSettings(profile="metrics-only")


def test_a_loss_that_logs_do_show_still_holds(document: Tree) -> None:
    """Where some requests were logged with propensities, a loss for sure is not looked away from."""
    found = Document.model_validate(document)
    seen = Evidence(
        comparison={name: sides.measured() for name, sides in found.comparison.items()},
        value={"difference": Estimate(-0.02, 0.005, -0.03, -0.01, 500, 300.0)},
        test_rows=found.test_rows,
    )
    [rule] = [rule for rule in judge(seen, found.gate).rules if rule.name == "value"]
    assert rule.outcome == "hold"


def test_no_better_ranker_rises_at_the_looks_risk() -> None:
    """Two models that differ by noise alone, 300 logs: the lower end is above 0 in about risk / 2 of them."""
    gate = GateSettings(profile="metrics-only", must_rise=("ndcg_at_10",)).at(0.04)
    assert gate.metrics_confidence == pytest.approx(0.96)
    assert GateSettings().at(0.04).metrics_confidence == 0.95
    rng, risen = np.random.default_rng(5), 0
    requests = np.repeat(np.arange(200), 5)
    for _ in range(300):
        truth = rng.uniform(0.05, 0.35, len(requests))
        clicked = (rng.random(len(requests)) < truth).astype(float)
        noisy = [np.clip(truth + rng.normal(0, 0.1, len(requests)), 0.001, 0.999) for _ in range(2)]
        found = compare(clicked, *noisy, requests, requests, gate, metrics=["ndcg_at_10"])["ndcg_at_10"]["difference"]
        risen += isinstance(found, Estimate) and found.low > 0
    assert risen <= 14  # of 300 at 2 %: more in 1 of 1,000 such tests
