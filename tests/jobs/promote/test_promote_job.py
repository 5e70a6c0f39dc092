"""`promote` on a small lake: the verdict is data, the ledger forgets no deployment, a swapped bundle is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import tracking
from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.promote import job
from tests.jobs.kept_lake import Kept
from tests.jobs.small_candidates import linear, live, popularity, publish_candidates, publish_ledger
from tests.jobs.small_lake import DAY, World, a_run, publish, publish_all


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home, session = tmp_path_factory.mktemp("published"), tmp_path_factory.getbasetemp()
    gate = {"gate__bootstrap_replicates": "50", "gate__max_latency_ms": "10000"}  # a busy machine is no reason to hold
    return Kept.of(home, session, lambda made: publish_all(made, World(), n=150), **gate)


@pytest.fixture
def config(kept: Kept, tmp_path: Path) -> Config:
    return kept.again(tmp_path)


def judged(config: Config, interest: float) -> dict[str, Any]:
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(interest)}, "logistic")
    backtest.run(a_run("backtest", config))
    return job.run(a_run("promote", config))


def ledger_rows(config: Config) -> list[dict[str, Any]]:
    return Lake(config.lake.root).read("promotions", [DAY]).to_pylist()


def test_a_better_challenger_is_promoted_and_the_alias_waits_for_a_person(config: Config) -> None:
    report = judged(config, 1.0)
    assert report["verdict"] == "promote"
    [row] = ledger_rows(config)
    assert row["verdict"] == "promote"
    bound = {name: report[f"{name}_sha256"] for name in ("evidence", "bundle", "champion")}
    assert bound == {"evidence": row["evidence_sha256"], "bundle": row["bundle_sha256"], "champion": "none"}
    folder = config.bundles / f"{row['candidate_id']}.evidence"
    assert "| Clicks per request, against the champion |" in report["summary"]
    assert str(folder / "evidence.html") in report["summary"]
    assert len(report["told"]) == 6, "a message has the verdict and five figures"
    assert report["told"][0].startswith("Promote: ")
    assert "AUC: " in report["told"][3]
    assert "All 17 rules that can be asked are cleared" in (folder / "evidence.html").read_text()
    assert json.loads((folder / "verdict.json").read_text())["reasons"] == report["reasons"]
    packs = list(config.tracking.artifacts.rglob("evidence/evidence.html"))
    assert [path.read_text() for path in packs] == [(folder / "evidence.html").read_text()]
    assert tracking.champion(config) is None
    tracking.move_champion(config, row["candidate_id"], row["bundle_sha256"])


def test_a_worse_challenger_is_held_and_that_is_no_error(config: Config) -> None:
    report = judged(config, -1.0)
    assert report["verdict"] == "hold"
    assert any(reason.startswith("value:") for reason in report["reasons"])
    assert ledger_rows(config)[0]["reasons"] == report["reasons"]
    page = (config.bundles / "logistic-full-2026-01-08.evidence" / "evidence.html").read_text()
    assert '<section class="verdict hold"' in page
    assert "**Hold**" in report["summary"]


def test_judging_again_what_serves_gives_the_same_row(config: Config) -> None:
    """Clearing is safe: a deployed challenger was judged against what it replaced, and still is."""
    judged(config, 1.0)
    before = ledger_rows(config)
    publish_ledger(config, live(before[0]))
    job.run(a_run("promote", config))
    assert ledger_rows(config) == before
    backtest.run(a_run("backtest", config))
    job.run(a_run("promote", config))
    assert ledger_rows(config) == before


def test_evidence_against_what_no_longer_serves_is_refused(config: Config) -> None:
    """Judged when nothing was live, or against another model: nobody may be asked about that."""
    older = publish_candidates(
        config, {"popularity": popularity(), "logistic": linear(0.4)}, "logistic", day="2026-01-05"
    )[1]
    newer = publish_candidates(
        config, {"popularity": popularity(), "logistic": linear(0.6)}, "logistic", day="2026-01-10"
    )[1]
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    backtest.run(a_run("backtest", config))
    publish_ledger(config, live(newer, day="2026-01-10"))
    with pytest.raises(
        Refused, match=r"a stand-in, since no model was live; logistic-full-2026-01-10 .* serves now: run"
    ):
        job.run(a_run("promote", config))
    backtest.run(a_run("backtest", config))
    assert job.run(a_run("promote", config))["champion_sha256"] == newer["bundle_sha256"]
    publish_ledger(config, live(newer, day="2026-01-10"), live(older, day="2026-01-05", before=newer["candidate_id"]))
    with pytest.raises(Refused, match=r"against logistic-full-2026-01-10 .*; logistic-full-2026-01-05 .* serves now"):
        job.run(a_run("promote", config))
    assert ledger_rows(config)[0]["champion_id"] == newer["candidate_id"], "what was refused changed nothing"


def test_a_bundle_changed_since_the_backtest_is_refused(config: Config) -> None:
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    backtest.run(a_run("backtest", config))
    file = config.bundles / "logistic-full-2026-01-08" / "ranker" / "logistic.json"
    file.write_text(file.read_text().replace("1.0", "2.0"))
    with pytest.raises(Refused, match="unchanged"):
        job.run(a_run("promote", config))
    assert Lake(config.lake.root).version("promotions") is None


def test_evidence_of_another_schema_is_refused_in_one_sentence(config: Config) -> None:
    """A lake from before an upgrade: what its documents lack must not be read as nothing found."""
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    backtest.run(a_run("backtest", config))
    lake = Lake(config.lake.root)
    rows = lake.read("evidence", [DAY]).to_pylist()
    document = json.loads(rows[0]["document"]) | {"schema_version": 1}
    publish(
        config,
        "evidence",
        pa.Table.from_pylist([rows[0] | {"document": json.dumps(document)}]).select(list(LAKE["evidence"].columns)),
        day=str(DAY),
        mode="full",
    )
    with pytest.raises(Refused, match="needs evidence of schema_version 7; found 1: run backtest again"):
        job.run(a_run("promote", config))


def test_evidence_on_an_earlier_training_is_not_ready(config: Config) -> None:
    """Trained again after the backtest: the evidence speaks of bytes that are gone."""
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    backtest.run(a_run("backtest", config))
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(0.9)}, "logistic")
    with pytest.raises(NotReady, match="run backtest again"):
        job.run(a_run("promote", config))


def test_popularity_against_itself_is_held(config: Config) -> None:
    """Nothing beat the baseline: champion and challenger are one, and nobody is asked to approve that."""
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "popularity")
    backtest.run(a_run("backtest", config))
    report = job.run(a_run("promote", config))
    assert report["verdict"] == "hold"
    assert report["candidate_id"] == report["champion_id"] == "popularity-full-2026-01-08"
