"""A small lake with a model that serves, for each test its own copy."""

from pathlib import Path

import pytest

from jobs.config import Config
from tests.jobs.kept_lake import Kept
from tests.jobs.monitor.test_monitor_job import deployed


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home, session = tmp_path_factory.mktemp("deployed"), tmp_path_factory.getbasetemp()
    return Kept.of(home, session, deployed, gate__bootstrap_replicates="50", gate__max_latency_ms="10000")


@pytest.fixture
def config(kept: Kept, tmp_path: Path) -> Config:
    return kept.again(tmp_path)
