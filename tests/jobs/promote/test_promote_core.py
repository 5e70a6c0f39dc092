"""The ledger's page: a verdict replaces a verdict, never what a person or a deployment wrote."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.deployments import ledger
from jobs.evidence.document import Document, Judgement
from jobs.promote import core
from tests.jobs.evidence.evidence_documents import judged as judged_by_the_gate
from tests.jobs.evidence.evidence_documents import troubled, written

NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)


def judged(candidate: str = "a", sha: str = "s", evidence: str = "e", at: int = 0, **more: Any) -> dict[str, Any]:
    return {
        **{"candidate_id": candidate, "bundle_sha256": sha, "evidence_sha256": evidence, "champion_id": "c"},
        **{"bundle": "b", "verdict": "promote", "reasons": [], "decided_at": NOON + timedelta(hours=at)},
        **more,
    }


def stood(**more: Any) -> dict[str, Any]:
    return judged(**{"approved_by": None, "approved_at": None, "endpoint": None, "deployed_at": None, **more})


DEPLOYED = {"approved_by": "alice", "approved_at": NOON, "endpoint": "tidegate", "deployed_at": NOON}


def test_judging_the_same_bundle_again_keeps_its_approval_and_deployment() -> None:
    """A cleared task once took the champion out of the ledger while it was serving."""
    [row] = core.page([stood(**DEPLOYED)], judged(evidence="new", verdict="hold", at=5))
    assert {name: row[name] for name in DEPLOYED} == DEPLOYED
    assert (row["verdict"], row["decided_at"]) == ("hold", NOON + timedelta(hours=5))


def test_the_same_judgement_twice_is_the_same_page() -> None:
    first = core.page([], judged())
    assert core.page(first, judged(at=9)) == first


def test_another_bundle_starts_afresh() -> None:
    """Alice approved other bytes."""
    [row] = core.page([stood(**{**DEPLOYED, "deployed_at": None})], judged(sha="other"))
    assert row["approved_by"] is None


def test_a_deployed_candidate_stays_when_another_is_judged_and_an_undeployed_one_goes() -> None:
    page = core.page([stood(candidate="z", **DEPLOYED), stood(candidate="m")], judged("a", at=1))
    assert [row["candidate_id"] for row in page] == ["a", "z"]


def test_the_last_verdict_stands_even_if_it_is_an_old_one_repeated() -> None:
    """a was judged, then z judged and deployed; a judged again must be what `decision` finds."""
    page = core.page([stood(candidate="a"), stood(candidate="z", at=3, **DEPLOYED)], judged("a", at=7))
    assert max(page, key=lambda row: row["decided_at"])["candidate_id"] == "a"


class Ledger:
    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows

    def read(self, table: str) -> Any:
        import pyarrow as pa

        from jobs.lake.tables import LAKE

        keys = [pa.field(name, pa.string()) for name in ("day", "mode")]
        return pa.Table.from_pylist(list(self.rows), pa.schema([*LAKE["promotions"].schema, *keys]))


def row(candidate: str, day: str, mode: str = "full", deployed_hour: int | None = 0) -> dict[str, Any]:
    at = None if deployed_hour is None else NOON + timedelta(hours=deployed_hour)
    return stood(candidate=candidate, day=day, mode=mode, deployed_at=at)


def test_the_champion_is_the_newest_deployed_not_the_newest_judged() -> None:
    from datetime import date

    source = Ledger(
        row("deployed-late-for-an-old-day", "2026-01-02", deployed_hour=50),
        row("second", "2026-01-05", "warm", deployed_hour=2),
        row("first", "2026-01-05", "full", deployed_hour=1),
        row("held", "2026-01-06", deployed_hour=None),
        row("future", "2026-01-09"),
    )
    found = ledger.champion(source, date(2026, 1, 8))
    assert found is not None
    assert found["candidate_id"] == "second"
    before = ledger.champion(source, date(2026, 1, 5), before={"day": "2026-01-05", "mode": "warm"})
    assert before is not None
    assert before["candidate_id"] == "first"
    assert ledger.champion(source, date(2026, 1, 1)) is None
    assert ledger.champion(Ledger(), date(2026, 1, 8)) is None


def test_the_decision_is_the_one_made_last() -> None:
    source = Ledger(
        {**row("a", "2026-01-08"), "decided_at": NOON}, {**row("b", "2026-01-08"), "decided_at": NOON + timedelta(1)}
    )
    found = ledger.decision(source, {"day": "2026-01-08", "mode": "full"})
    assert found is not None
    assert found["candidate_id"] == "b"
    assert ledger.decision(source, {"day": "2026-01-08", "mode": "warm"}) is None


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return written(tmp_path_factory.mktemp("evidence"), tmp_path_factory.getbasetemp())


def summary(document: dict[str, Any], judgement: dict[str, Any], page: str) -> str:
    return core.summary(Document.model_validate(document), Judgement.model_validate(judgement), page)


def test_the_approver_reads_the_verdict_five_rows_the_reasons_and_the_way_to_the_page(document: dict[str, Any]) -> None:
    """In Airflow's approval, as Markdown: the verdict on the first line, the link on the last."""
    text = summary(document, judged_by_the_gate(document), "http://mlflow:5000/#/page")
    lines = text.strip().splitlines()
    assert lines[0].startswith("**Promote**: All 13 rules are cleared.")
    assert lines[-1] == "[The whole evidence](http://mlflow:5000/#/page)"
    rows = [line for line in lines if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        "Clicks per request",
        "AUC",
        "Log-loss",
        "NDCG@10",
        "Calibration error",
    ]
    assert {row.count("|") for row in rows} == {5}
    difference = document["comparison"]["auc"]["difference"]
    assert f"| +{difference['value']:.4f} [+{difference['low']:.4f} to +{difference['high']:.4f}] |" in rows[3]


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
