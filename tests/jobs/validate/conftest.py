"""The stage on a throwaway lake, and the suites opened once."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config, LakeSettings
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.tables import RAW
from jobs.validate import job
from jobs.validate.suites import Suites
from tests.jobs.validate.raw_days import FIRST


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Defaults, with the lake and the raw lake in a throwaway folder."""
    return Config(lake=LakeSettings(root=tmp_path / "lake", raw=tmp_path / "raw"))


@pytest.fixture
def validate(config: Config) -> Callable[..., dict[str, Any]]:
    """Run the stage for a day (and `since`); returns its counts."""

    def go(day: date = FIRST, since: date | None = None) -> dict[str, Any]:
        return job.run(Run(STAGES["validate"], config, day, since))

    return go


@pytest.fixture(scope="session")
def suites() -> Suites:
    """The repository's suites, opened once."""
    return Suites(tuple(RAW))
