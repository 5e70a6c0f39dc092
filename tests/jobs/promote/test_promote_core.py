"""A verdict's row, and what the approver reads."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.evidence.document import Document
from jobs.evidence.judgement import Judgement
from jobs.promote import core
from tests.jobs.evidence.evidence_documents import judged as judged_by_the_gate
from tests.jobs.evidence.evidence_documents import troubled, without_replay, written_once

NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)


def judged(**more: Any) -> dict[str, Any]:
    return {
        **{"candidate_id": "a", "bundle_sha256": "s", "evidence_sha256": "e", "champion_id": "c", "bundle": "b"},
        **{"verdict": "promote", "reasons": ["latency_ms: 3 ms"], "decided_at": NOON, **more},
    }


def test_the_same_judgement_twice_was_decided_once() -> None:
    """A cleared task; the latency in the reasons is measured anew each time."""
    again = core.standing([judged()], judged(decided_at=NOON + timedelta(hours=9), reasons=["latency_ms: 4 ms"]))
    assert (again["decided_at"], again["reasons"]) == (NOON, ["latency_ms: 4 ms"])


@pytest.mark.parametrize("name", ["candidate_id", "bundle_sha256", "evidence_sha256", "champion_id", "verdict"])
def test_anything_else_is_decided_now(name: str) -> None:
    assert (
        core.standing([judged()], judged(decided_at=NOON + timedelta(hours=9), **{name: "other"}))["decided_at"] > NOON
    )


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return written_once(tmp_path_factory.getbasetemp())


def summary(document: dict[str, Any], judgement: dict[str, Any], page: str) -> str:
    return core.summary(Document.model_validate(document), Judgement.model_validate(judgement), page)


def test_the_approver_reads_the_verdict_its_rows_the_reasons_and_the_way_to_the_page(document: dict[str, Any]) -> None:
    """In Airflow's approval, as Markdown: the verdict on the first line, the link on the last."""
    text = summary(document, judged_by_the_gate(document), "http://mlflow:5000/#/page")
    lines = text.strip().splitlines()
    assert lines[0].startswith("**Promote**: All 17 rules that can be asked are cleared; not known: “Conversions do")
    assert f"- Conversions do not fall for sure: {document['conversions']['difference']['refused']}" in lines
    assert lines[-1] == "[The whole evidence](http://mlflow:5000/#/page)"
    rows = [line for line in lines if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "Clicks per request, against what is shown now",
        "Clicks per request, against the champion",
        "AUC",
        "Log-loss",
        "NDCG@10",
        "Calibration",
        "Calibration error",
    ]
    assert {row.count("|") for row in rows} == {5}
    challenger = document["challenger"]["bundle_sha256"][:12]
    assert f"on bundle `{challenger}`, as long as no model serves." in text
    served = {**document, "champion": {**document["champion"], "deployed": True}}
    serves = (
        f"as long as `{document['champion']['candidate_id']}` (`{document['champion']['bundle_sha256'][:12]}`) serves."
    )
    assert serves in summary(served, judged_by_the_gate(served), "page")
    difference = document["comparison"]["auc"]["difference"]
    assert f"| +{difference['value']:.4f} [+{difference['low']:.4f} to +{difference['high']:.4f}] |" in rows[4]


def test_the_approver_reads_both_gains_in_percent_and_what_such_logs_can_show(document: dict[str, Any]) -> None:
    """Against what users see now too: a champion may be worse than that, and a challenger only better than it."""
    changed = {**document, "power": {"detectable_lift": 0.024, "days": 1, "days_for_one_percent": 5.8}}
    text = summary(changed, judged_by_the_gate(changed), "page")
    for row, (other, difference) in zip(
        [line for line in text.splitlines() if line.startswith("| Clicks")],
        [
            (document["logging"]["value"], document["logging"]["difference"]),
            (document["value"]["champion"], document["value"]["difference"]),
        ],
        strict=True,
    ):
        gain, low, high = (100 * difference[end] / other["value"] for end in ("value", "low", "high"))
        assert f"| {other['value']:.4f} | {document['value']['challenger']['value']:.4f} |" in row
        assert [float(figure) for figure in re.findall(r"\+(\d+\.?\d*)%", row)] == [
            pytest.approx(figure, abs=0.51) for figure in (gain, low, high)
        ]
    a_day = 400 * document["logging"]["difference"]["value"]
    assert f"+{a_day:.0f} clicks a day against what is shown now (chance of being worse < 1 in 1,000)" in text
    assert "show a lift of 2.4% over the champion in 4 of 5 cases; a lift of 1% needs about 5.8 such days." in text
    bare = without_replay(document, "no propensity")
    text = summary(bare, judged_by_the_gate(bare), "page")
    assert "| Clicks per request, against the champion | refused | refused | refused |" in text
    assert "a day" not in text
    assert "\n\n\n" not in text


def test_a_refusal_lists_every_reason_and_breaks_no_table(document: dict[str, Any]) -> None:
    """A name from a log with a line break in it stays one line; without a server the page is a path."""
    bad = troubled(document)
    judgement = judged_by_the_gate(bad)
    against = [rule for rule in judgement["rules"] if rule["outcome"] == judgement["verdict"]]
    against[0]["reason"] += "\n\n# a heading"
    text = summary(bad, judgement, "/bundles/x.evidence/evidence.html")
    assert text.startswith("**Refuse**")
    assert text.rstrip().endswith("The whole evidence: `/bundles/x.evidence/evidence.html`")
    assert len([line for line in text.splitlines() if line.startswith("- ")]) == len(against)
    assert not any(line.startswith("#") for line in text.splitlines())
