"""A small lake with something of everything that is watched: days, a release, a verdict that waits, alarms, runs."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.metrics.lake import DAILY
from jobs import config, runs
from jobs.errors import NotReady, Refused
from jobs.lake.store import Lake, Lineage
from jobs.lake.tables import LAKE
from tests.jobs import small_lake

DAY = date(2026, 1, 8)
LIVE_AT = datetime(2026, 1, 7, 12, tzinfo=UTC)
DECIDED_AT = datetime(2026, 1, 9, 12, tzinfo=UTC)
CHAMPION, CHALLENGER = "popularity-full-2026-01-09", "xgboost-full-2026-01-08"
FIGURES = {
    "served_impressions": (300.0, False),
    "fallback_share": (0.25, True),
    "click_rate": (0.1, False),
    "auc": (0.62, False),
    "skew_max": (1e-5, False),
    "auc_delta": (None, False),
    "value": (0.3, False),
}
"""Of the newest serving report: value and alarm."""


def environ(root: Path, **more: str) -> dict[str, str]:
    """Settings of a stack whose folders lie below `root`, as variables."""
    return {
        "TIDEGATE_ENV": "test",
        "TIDEGATE__LAKE__ROOT": str(root / "lake"),
        "TIDEGATE__ENDPOINT__STATE": str(root / "state"),
        "TIDEGATE__LAKE__STALE_HOURS": "36",
        **more,
    }


def publish(settings: config.Config, table: str, rows: list[dict[str, Any]], stage: str, /, **partition: str) -> None:
    """Replace a partition, as `stage` would."""
    data = pa.Table.from_pylist(rows, LAKE[table].schema)
    Lake(settings.lake.root).publish(table, partition, data, Lineage(stage, "run0", "code", "settings"))


def decided(candidate: str, at: datetime, verdict: str = "promote", evidence: str = "e") -> dict[str, Any]:
    """A row of `promotions`."""
    names = dict.fromkeys(("candidate_id", "champion_id", "bundle", "bundle_sha256", "evidence_sha256"), candidate)
    return {**names, "evidence_sha256": evidence, "look": 1, "verdict": verdict, "reasons": [], "decided_at": at}


def step(number: int, candidate: str, step: str, at: datetime, evidence: str = "e") -> dict[str, Any]:
    """A row of `deployments`."""
    texts = dict.fromkeys(("mode", "bundle", "config", "by", "why"), "x")
    shas = {"bundle_sha256": candidate, "evidence_sha256": evidence}
    return {
        **{"number": number, "step": step, "share": 100.0, "at": at, "candidate_id": candidate, "day": str(DAY)},
        **{**texts, **shas, "before": None},
    }


def report(figures: Mapping[str, tuple[float | None, bool]]) -> list[dict[str, Any]]:
    """Rows of `serving_reports`; what alarms is open."""
    texts = dict.fromkeys(("surface", "reference", "suspect", "model", "note"), "")
    return [
        {
            **{**texts, "metric": name, "value": value, "stderr": 0.01, "n": 300, "effective_n": 300.0},
            **{"low": value and value - 0.02, "high": value and value + 0.02, "bound_low": None, "bound_high": 0.2},
            **{"alarm": alarm, "state": "open" if alarm else ""},
        }
        for name, (value, alarm) in figures.items()
    ]


def fill(root: Path) -> config.Config:
    """The lake and the runs; returns the settings that find them."""
    settings = config.load(environ(root))
    world = small_lake.World()
    for table in set(DAILY) - {"items", "serving_reports", "readouts"}:
        parts = {"table": "clicks"} if "table" in LAKE[table].partition else {}
        publish(settings, table, [], "validate", day=str(DAY), **parts)
    small_lake.publish(settings, "items", small_lake.items(world), day=str(DAY))
    for back in (1, 0):
        day = DAY - timedelta(days=back)
        publish(settings, "serving_reports", report(FIGURES if not back else {}), "monitor", day=str(day))
    publish(settings, "promotions", [decided(CHALLENGER, DECIDED_AT)], "promote", day=str(DAY), mode="full")
    publish(settings, "deployments", [step(1, CHAMPION, "live", LIVE_AT)], "deploy", endpoint=settings.endpoint.name)
    for stage, mode, error in (
        ("attribute", "", None),
        ("train", "full", None),
        ("validate", "", Refused("the data")),
        ("monitor", "", NotReady("not yet")),
    ):
        ended(settings, stage, mode, error)
    return settings


def ended(settings: config.Config, stage: str, mode: str, error: Exception | None) -> None:
    """A run that ended, well or with an error."""
    if error is None:
        with runs.recorded(settings.lake.runs, stage, mode, DAY) as ran:
            ran.rows = 42
        return
    with pytest.raises(type(error)), runs.recorded(settings.lake.runs, stage, mode, DAY):
        raise error
