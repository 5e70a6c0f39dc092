"""Fitted once a session: bundles are bytes on disk, tests copy them where they change them."""

from pathlib import Path

import pytest

from jobs.bundle import Bundle
from tests.infra.endpoint.rig import write_bundle


@pytest.fixture(scope="session")
def popular(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles"), "popularity")


@pytest.fixture(scope="session")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles"), "xgboost")


@pytest.fixture
def own(tmp_path: Path) -> Bundle:
    """A bundle the test may change."""
    return write_bundle(tmp_path / "own", "popularity", name="own-full-2026-01-09", seed=3)
