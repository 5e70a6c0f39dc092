"""`jobs.flow` is the architecture: it must hold together, and no stage may step outside it."""

import importlib.util
from datetime import date
from pathlib import Path

import pytest

from jobs.config import Config, LakeSettings
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.tables import LAKE


def test_every_stage_reads_only_what_an_earlier_one_writes() -> None:
    """A newcomer can redraw the pipeline from the page: left to right, nothing from nowhere."""
    written: set[str] = set()
    for stage in STAGES.values():
        own = set(stage.writes)
        ledger = {"deployments", "promotions"}  # the champion, and which looks were refused: of the days before
        assert set(stage.reads) - own <= written | ledger, stage.name
        written |= own
    assert written == set(LAKE) | {"raw"}


def test_every_stage_has_a_module() -> None:
    """Nothing on the page is a promise."""
    for stage in STAGES.values():
        assert importlib.util.find_spec(stage.module), stage.module


@pytest.mark.parametrize(
    ("stage", "table"), [("train", "labels"), ("monitor", "candidates"), ("attribute", "requests")]
)
def test_reading_what_the_page_does_not_name_is_a_bug(tmp_path: Path, stage: str, table: str) -> None:
    """The declaration is enforced, so it cannot drift from the code."""
    run = Run(STAGES[stage], Config(lake=LakeSettings(root=tmp_path)), date(2026, 1, 8))
    with pytest.raises(PermissionError, match=f"{stage} read {table}"):
        run.read(table)
    with pytest.raises(PermissionError, match=f"{stage} write {table}"):
        run.publish(table, {"day": "2026-01-08"}, LAKE[table].schema.empty_table())


def test_days_run_from_since_to_day() -> None:
    """A bootstrap covers both ends; a plain run covers its own day."""
    config = Config()
    assert Run(STAGES["validate"], config, date(2026, 3, 1)).days == [date(2026, 3, 1)]
    days = Run(STAGES["validate"], config, date(2026, 3, 1), since=date(2026, 2, 27)).days
    assert days == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]
