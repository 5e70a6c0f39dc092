"""Judged once a session; every test works on copies."""

from pathlib import Path

import pytest

from jobs.config import Config
from tests.exactly_once.forks import Forks
from tests.jobs.deploy.deploy_world import Forked, copied, judged_in_turn, judged_twice


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days judged while nothing serves: two questions that wait for an answer."""
    folder = tmp_path_factory.mktemp("judged")
    return judged_twice(folder / "twice", tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def succession(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first day's model deployed, the second's judged against it."""
    return judged_in_turn(judged, tmp_path_factory.mktemp("succession") / "in turn")


@pytest.fixture
def waiting(judged: Path, tmp_path: Path) -> Config:
    """Nothing serves yet, and two models are approved."""
    return copied(judged, tmp_path)


@pytest.fixture
def world(succession: Path, tmp_path: Path) -> Config:
    """The first model is champion by the ledger, the second is approved; the endpoint is to be started."""
    return copied(succession, tmp_path)


@pytest.fixture(scope="session")
def forked(forks: Forks) -> Forked:
    return Forked(forks)
