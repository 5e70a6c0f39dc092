"""Fitted once a session: bundles are bytes on disk, tests copy them where they change them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.bundle import Bundle
from models.rankers import EVERY_KIND, RANKERS
from tests.infra.endpoint.rig import Awkward, Patient, write_bundle


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


@pytest.fixture
def awkward(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bundle]:
    """A real bundle whose ranker does as the test says; it answers properly while it is brought up."""
    for known in (RANKERS, EVERY_KIND):
        monkeypatch.setitem(known, "awkward", Awkward)
    for name, value in (("seconds", 0.0), ("error", None), ("asked", 0), ("free", threading.Event())):
        monkeypatch.setattr(Awkward, name, value, raising=False)
    Awkward.free.set()
    yield write_bundle(tmp_path, "awkward")
    Awkward.free.set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, awkward: Bundle) -> Iterator[Bundle]:
    """An awkward ranker with a fallback that waits when the test says so; without an index, so that it is asked."""
    for known in (RANKERS, EVERY_KIND):
        monkeypatch.setitem(known, "patient", Patient)
    for name in ("free", "begun"):
        monkeypatch.setattr(Patient, name, threading.Event(), raising=False)
    monkeypatch.setattr(Patient, "sizes", [], raising=False)
    Patient.free.set()
    yield write_bundle(tmp_path, "awkward", "awkward-patient", fallback="patient", indexed=False)
    Patient.free.set()
