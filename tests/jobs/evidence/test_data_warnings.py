"""Whoever approves a model sees what was wrong with the days it learned from."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.backtest import job
from jobs.config import Config, LakeSettings
from jobs.evidence import data_warnings
from jobs.evidence.document import Warned
from jobs.flow import STAGES, VALIDATED
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.lake.tables import RAW
from jobs.validate import job as validate
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import DAY, TEST_DAY, World, a_run, publish_all, settings
from tests.jobs.validate.raw_days import put, tables_of, write

TRAIN_DAY = TEST_DAY - timedelta(days=3)


def validated(config: Config, day: date, *, shifted: int = 0, misspelt: bool = False) -> None:
    """A day through the stage: so many impressions at a position that is taken, and an unknown column."""
    tables = tables_of(day)
    for row in range(shifted):
        tables["impressions"] = put(tables["impressions"], "position", 1, 2 * row + 1)
    if misspelt:
        tables["users"] = tables["users"].append_column("aeg", tables["users"].column("user_id"))
    write(config.lake.raw, day, tables)
    validate.run(Run(STAGES["validate"], config, day))


def seen(config: Config, days: list[date]) -> list[dict[str, Any]]:
    """The warnings of these days, as the backtest reads them."""
    run = Run(STAGES["backtest"], config, max(days))
    found = data_warnings.by_rule({table: run.lineages(table, days) for table in VALIDATED})
    return [rule.model_dump() for rule in found]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(lake=LakeSettings(root=tmp_path / "lake", raw=tmp_path / "raw"))


def test_each_rule_is_told_once_with_its_days_worst_first(config: Config) -> None:
    """From the commits that published the days; days nobody asked for stay out, as do days never published."""
    days = [TRAIN_DAY + timedelta(days=n) for n in range(4)]
    for day, shifted in zip(days[:3], (1, 0, 2), strict=True):
        validated(config, day, shifted=shifted, misspelt=day != days[1])
    found = seen(config, [days[0], days[1], days[3]])
    assert [(rule["table"], rule["expectation"]) for rule in found] == [
        ("impressions", "position_taken_once"),
        ("users", "columns_known"),
    ]
    # Two of them at one position: both are named.
    assert found[0]["days"] == [{"day": str(days[0]), "rows": 2, "found": None}]
    both = seen(config, days)
    assert [entry["rows"] for entry in both[0]["days"]] == [2, 4]
    assert both[1]["days"] == [{"day": str(day), "rows": None, "found": None} for day in (days[0], days[2])]
    assert both[0]["notes"].startswith("Two items at one place")


def test_a_repaired_day_is_warned_of_no_more(config: Config) -> None:
    """The newest commit of a day counts."""
    validated(config, TRAIN_DAY, shifted=1)
    assert seen(config, [TRAIN_DAY])
    validated(config, TRAIN_DAY)
    assert seen(config, [TRAIN_DAY]) == []


def test_lineages_are_those_of_the_version_the_run_saw(config: Config) -> None:
    """And each equals what a look-up of the one partition says."""
    days = [TRAIN_DAY, TRAIN_DAY + timedelta(days=1)]
    for day in days:
        validated(config, day)
    lake = Lake(config.lake.root)
    first = lake.version("clicks")
    expected = {day: lake.lineage("clicks", {"day": str(day)}) for day in days}
    validated(config, days[0])
    assert lake.lineages("clicks", days, first) == expected
    assert lake.lineages("clicks", days)[days[0]] != expected[days[0]]
    assert lake.lineages("clicks", []) == {}


def test_the_evidence_of_a_model_quotes_the_warnings_of_its_days(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the document the gate's record hangs on, and on the page a person reads."""
    config = settings(tmp_path, tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50")
    publish_all(config, World(), n=60)
    for day in (TRAIN_DAY, TEST_DAY - timedelta(days=30)):  # the second is long before its examples
        validated(config, day, shifted=1)
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    job.run(a_run("backtest", config))
    row = Lake(config.lake.root).read("evidence", [DAY]).to_pylist()[0]
    (rule,) = json.loads(row["document"])["warnings"]
    assert rule["days"] == [{"day": str(TRAIN_DAY), "rows": 2, "found": None}]
    page = (config.bundles / "logistic-full-2026-01-08.evidence" / "evidence.html").read_text()
    assert f"<b>impressions.position_taken_once</b> on 1 day, last {TRAIN_DAY} (2 rows)" in page
    lineage = Lake(config.lake.root).lineage("evidence", {"day": str(DAY), "mode": "full"})
    assert lineage is not None
    assert set(RAW) <= set(json.loads(lineage["inputs"]))


def test_the_page_has_room_for_the_worst_and_counts_the_rest() -> None:
    """A figure is quoted as it was found; text of a rule is text, not markup."""
    day = {"day": "2026-01-02", "rows": None, "found": 0.123456}
    rule = {"table": "clicks", "needs": "a < b", "notes": "Breaks.", "days": [day]}
    rules = [rule | {"expectation": f"rule_{n}"} for n in range(data_warnings.SHOWN + 2)]
    page = data_warnings.html([Warned.model_validate(rule) for rule in rules])
    assert page.count("<li>") == data_warnings.SHOWN
    assert "2 more in evidence.json" in page
    assert "(found 0.1235): needs a &lt; b. Breaks." in page
    assert "None on any day" in data_warnings.html([])
