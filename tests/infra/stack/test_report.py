"""The closing tables: numbers with intervals, refusals with reasons, and no promise where nothing serves."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infra.stack import report
from infra.stack.chain import Finished
from infra.stack.report import _estimated, show
from jobs import config
from jobs.lake.run import now
from tests.jobs.small_candidates import live, publish_ledger, publish_verdicts
from tests.jobs.small_lake import settings


def figure(value: float) -> dict[str, float]:
    return {"value": value, "stderr": 0.01, "low": value - 0.02, "high": value + 0.02, "n": 9, "effective_n": 9.0}


def summary(**changes: Any) -> dict[str, Any]:
    sides = {"champion": figure(0.6), "challenger": figure(0.7), "difference": figure(0.1)}
    estimates = {
        "day": "2026-01-11",
        "champion": {"candidate_id": "popularity-full-2026-01-11"},
        "challenger": {"candidate_id": "xgboost-full-2026-01-11"},
        "comparison": {"auc": sides, "log_loss": sides, "ndcg_at_10": sides},
        "value": sides,
        "truth": {
            **{"champion": 0.11, "challenger": 0.12, "difference": 0.01, "logging": 0.1},
            **{"p_click": 0.0801, "p_conversion": 0.00803},
        },
        "predicted": {
            "champion": {"p_click": 0.0822, "p_conversion": 0.00824},
            "challenger": {"p_click": 0.0805, "p_conversion": 0.00806},
        },
    }
    verdict = {
        "candidate_id": "xgboost-full-2026-01-11",
        "verdict": "promote",
        "reasons": ["value: higher"],
        "approved_by": "demo",
        "deployed_at": "2026-01-12T00:00:00+00:00",
    }
    serves = {"variant": "v", "candidate_id": "xgboost-full-2026-01-11", "bundle": "b", "bundle_sha256": "ab" * 32}
    return {
        "estimates": {"full": estimates},
        "verdict": {"full": verdict},
        "endpoint": {"name": "tidegate", "status": "InService", "variants": [serves]},
        "urls": {"airflow": "http://127.0.0.1:1"},
        "paths": {"lake": "/lake"},
        "peak_memory_mib": 1234.5,
        "seconds": 300.2,
        **changes,
    }


def text(found: dict[str, Any]) -> str:
    out = StringIO()
    show(found, Console(file=out, width=160, highlight=False))
    return out.getvalue()


def test_estimates_have_intervals_and_stand_beside_the_truth() -> None:
    """A number without its uncertainty is not evidence."""
    shown = text(summary())
    for part in (
        "0.7000 [0.6800, 0.7200]",
        "+0.1000 [+0.0800, +0.1200]",
        "+0.0100",
        "promote (approved by demo, deployed)",
        "value: higher",
        "InService: xgboost-full-2026-01-11, bundle sha256 abababab",
        "1,234 MiB",
        "300 s",
    ):
        assert part in shown, part


def test_mean_probabilities_stand_beside_the_truth() -> None:
    """Promised conversions were once four times those that came, and no table showed it."""
    lines = [line.split("│")[1:] for line in text(summary()).splitlines() if "p(c" in line]
    assert [[cell.strip() for cell in line[:4]] for line in lines] == [
        ["p(click), mean", "0.08220", "0.08050", "-0.00170"],
        ["p(click), mean, true", "0.08010", "0.08010", ""],
        ["p(conversion), mean", "0.00824", "0.00806", "-0.00018"],
        ["p(conversion), mean, true", "0.00803", "0.00803", ""],
    ]


def test_a_world_that_is_not_the_one_of_the_settings_has_no_truth() -> None:
    """Settings were changed after the logs were made: the table says so, and nothing fails."""
    found = summary()
    found["estimates"]["full"]["truth"] = {"refused": "the logs are of another world"}
    shown = text(found)
    assert "unknown: the logs are of another world" in shown
    assert "p(click)" not in shown


@pytest.mark.parametrize(("source", "said"), [("simulated", True), ("open-bandit", False)])
def test_only_a_simulated_world_owes_a_truth(source: str, said: bool) -> None:
    """Of real logs nobody expects one."""
    settings = config.load({"TIDEGATE__SOURCE__NAME": source})
    side = {"predicted": 0.1, "predicted_conversion": 0.01}
    found = _estimated(
        settings, {"day": "2026-01-11", "calibration": {"champion": side, "challenger": {"predicted": 0.2}}}
    )
    assert (found["truth"] is not None and "settings describe" in found["truth"]["refused"]) == said
    assert found["predicted"]["champion"] == {"p_click": 0.1, "p_conversion": 0.01}
    assert found["predicted"]["challenger"] == {"p_click": 0.2, "p_conversion": None}


def test_a_refusal_is_said_with_its_reason() -> None:
    """KuaiRand has no propensities: no value, and the table says why."""
    found = summary()
    refused = {"refused": "no propensities were logged", "n": 0, "effective_n": 0.0}
    found["estimates"]["full"]["value"] = dict.fromkeys(("champion", "challenger", "difference"), refused)
    found["estimates"]["full"]["truth"] = None
    assert "refused: no propensities were logged" in text(found)
    assert "true" not in text(found)


def test_a_held_challenger_leaves_the_endpoint_as_it_is() -> None:
    """Hold and refuse are verdicts, not failures."""
    row = {"candidate_id": "c", "verdict": "hold", "reasons": ["auc: lower"], "approved_by": None, "deployed_at": None}
    shown = text(summary(verdict={"full": row}, endpoint={"name": "tidegate", "status": "none", "variants": []}))
    assert "hold (nothing deployed)" in shown
    assert "serves no model" in shown


def test_a_verdict_says_who_had_it_deployed_by_the_ledger(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Approved and rolled back is not deployed; and who is champion is in the summary."""
    monkeypatch.setattr(report, "endpoint", lambda _: {})  # none runs here
    config = settings(tmp_path, tmp_path_factory.getbasetemp())
    row = {
        "candidate_id": "c",
        "champion_id": "p",
        "bundle": "b",
        "bundle_sha256": "s",
        "evidence_sha256": "e",
        "look": 1,
    }
    publish_verdicts(config, {**row, "verdict": "promote", "reasons": [], "decided_at": now()})
    publish_ledger(config, live(row, step="approved"), live(row, step="rolled back"))
    found = report.summary(config, [], {})
    assert (found["verdict"]["full"]["deployed_at"], found["champion"]) == (None, None)
    publish_ledger(config, live(row, step="approved"), live(row, by="alice"))
    found = report.summary(config, [], {})
    assert (found["verdict"]["full"]["approved_by"], found["champion"]["candidate_id"]) == ("alice", "c")
    json.dumps(found)


def test_a_finished_stage_is_one_line() -> None:
    """Stage, day or span, mode, rows, seconds."""
    counts = {"stage": "ingest", "rows": 12345, "seconds": 3.0, "late_rows": 7}
    done = Finished("daily_data", "ingest", "success", "2026-01-11", "2026-01-01", None, 12345, 3.2, counts)
    assert done.line().split() == ["ingest", "2026-01-01..2026-01-11", "12,345", "rows", "3.2", "s"]
    assert done.as_dict()["counts"] == {"late_rows": 7}
    assert "report" not in done.as_dict()
