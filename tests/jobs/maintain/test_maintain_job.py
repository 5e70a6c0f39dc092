"""`maintain`: what a model rests on stays readable while it may serve or is judged; all else has its time."""

import json
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.config import Config, EndpointSettings, LakeSettings
from jobs.errors import Refused
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage
from jobs.lake.tables import LAKE
from jobs.maintain import core
from jobs.maintain.core import Model
from jobs.maintain.job import run
from tests.jobs import aged_lake

FIRST = date(2026, 1, 1)


def row(table: str, **given: Any) -> dict[str, Any]:
    """A row of a table, in which all that is not given is as little as may be."""
    [found] = aged_lake.rows(table, 1, FIRST).to_pylist()
    return {**found, **given}


def publish(lake: Lake, table: str, partition: dict[str, str], *rows: dict[str, Any], **inputs: int) -> None:
    data = pa.Table.from_pylist(list(rows), LAKE[table].schema)
    lake.publish(table, partition, data, Lineage("stage", "r", "c", "s", inputs))


def step(number: int, name: str, day: int, before: str | None = None) -> dict[str, Any]:
    at = datetime(2026, 2, 1, tzinfo=UTC) + timedelta(hours=number)
    of = {"candidate_id": f"m{day}", "day": f"2026-01-{day:02}", "mode": "full", "config": f"c{day}"}
    return row("deployments", number=number, step=name, at=at, before=before, **of)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Models of the days 1 to 6: 1 was replaced by 2, 2 by 3; 4 has a canary; 5 waits for a person; 6 was held."""
    lake = Lake(tmp_path / "lake")
    for day in range(1, 7):
        own = {"day": f"2026-01-{day:02}", "mode": "full"}
        publish(lake, "examples", own, labels=day, impressions=10 + day)
        publish(lake, "candidates", own, examples=20 + day)
        evidence = row("evidence", candidate_id=f"m{day}", document_sha256=f"e{day}")
        publish(lake, "evidence", own, evidence, requests=30 + day)
        verdict = "hold" if day == 6 else "promote"
        publish(lake, "promotions", own, row("promotions", candidate_id=f"m{day}", verdict=verdict))
    judged = [row("reevaluations", candidate_id=f"m{day}", evidence_sha256=f"e{day}") for day in range(1, 6)]
    publish(lake, "reevaluations", {"day": "2026-02-01"}, *judged)
    steps = [step(1, "live", 1), step(2, "live", 2, "c1"), step(3, "live", 3, "c2"), step(4, "approved", 4, "c3")]
    publish(lake, "deployments", {"endpoint": "tidegate"}, *steps, step(5, "canary", 4, "c3"))
    return lake


def models(*days: int) -> set[Model]:
    return {Model(f"2026-01-{day:02}", "full") for day in days}


def test_who_serves_may_serve_again_or_waits_is_standing(lake: Lake) -> None:
    """Not who served before that; whose evidence has labels that are open is judged again first."""
    assert core.standing(lake, "tidegate") == models(2, 3, 4, 5)
    evidence, again = lake.read("evidence").to_pylist(), lake.read("reevaluations").to_pylist()
    assert core.unsettled(evidence, again) == models(6)
    old = [{**evidence[0], "day": "2025-01-01", "document_sha256": "never judged again"}]
    assert core.unsettled(evidence + old, again) == models(6)


def test_all_that_made_a_model_is_pinned(lake: Lake) -> None:
    """The tables' versions of its dataset, its training and its evidence."""
    assert core.pinned(lake, models(3)) == {"labels": {3}, "impressions": {13}, "examples": {23}, "requests": {33}}
    assert core.pinned(lake, [Model("2026-01-09", "full")]) == {}


def test_the_stage_keeps_what_is_pinned_and_what_is_young(lake: Lake, tmp_path: Path) -> None:
    """Sixteen days of labels of which four are kept: of the older versions only those that models rest on."""
    root = tmp_path / "lake"
    for _ in aged_lake.lay(root, FIRST, 16, float(int(time.time())), n=2, tables={"labels": 3}):
        pass
    rows = {version: lake.read("labels", version=version).num_rows for version in (2, 3, 4, 5, 6, 45)}
    settings = LakeSettings(root=root, raw=tmp_path / "raw", retain_days=4)
    config = Config(lake=settings, bundles=tmp_path / "bundles", endpoint=EndpointSettings(name="tidegate"))
    first = run(Run(STAGES["maintain"], config, FIRST))
    assert first["tables"] == {}
    aged_lake.age(root, 2)  # what it wrote has settled
    done = run(Run(STAGES["maintain"], config, FIRST))
    assert done["tables"]["labels"]["entries_cut"] > 20
    assert done["part_files"] > 20
    assert done["pinned"]["labels"] == 5
    lake = Lake(root)
    assert {version: lake.read("labels", version=version).num_rows for version in rows} == rows
    with pytest.raises(Refused, match=r"`maintain` keeps lake\.retain_days of it"):
        lake.read("labels", version=9)
    assert json.loads(lake.lineages("labels", [FIRST])[FIRST]["notes"]) == {"raw_files": "3"}
    forever = config.model_copy(update={"lake": settings.model_copy(update={"retain_days": None})})
    assert run(Run(STAGES["maintain"], forever, FIRST))["tables"] == {}
