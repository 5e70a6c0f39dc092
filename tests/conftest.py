"""What every test process needs, and which files run where and when."""

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Workers are the parallelism: threads below one fight for the cores, and wait for each other. Heard until numpy loads.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.exactly_once.forks import Forks
from tests.slack_receiver import Receiver

# The same examples in every run, so that a change that is tested fails for its own reasons; others are looked for by
# `pytest --hypothesis-profile=explore`.
# Without deadlines: on a busy machine an example takes as long as it takes.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, print_blob=True)
settings.load_profile("repeatable")

# A pytest-xdist worker is a `python -c`: importing pyspark's connect client there (Great Expectations does) takes it
# for a doctest run and ends the process.
_main = sys.modules["__main__"]
if not hasattr(_main, "__file__"):
    _main.__file__ = __file__

LONGEST = (
    "tests/exactly_once/test_kills.py",
    "tests/jobs/deploy/",
    "tests/e2e/",
    "tests/infra/stack/test_team.py",
    "tests/exactly_once/",
    "tests/dags/",
    "tests/infra/endpoint/",
    "tests/models/rankers/",
    "tests/jobs/train/",
    "tests/jobs/test_reads.py",
    "tests/infra/",
    "tests/jobs/validate/",
    "tests/jobs/attribute/",
    "tests/jobs/assemble/",
    "tests/jobs/backtest/",
)
"""These first, in this order: whoever is done early takes the short ones."""
TOGETHER = ("tests/dags/", "tests/jobs/deploy/")
"""Their sessions are dear to make (an Airflow database, two judged days): one worker runs them, and makes one."""


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Stages as processes that need not import anything: one process to fork from, for all that a worker runs."""
    found = Forks()
    yield found
    found.close()


class Scheduling(LoadFileScheduling):
    """A worker gets whole files, and those whole folders."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Of `--dist loadfile`; any other is xdist's own."""
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    items.sort(key=lambda item: next((n for n, of in enumerate(LONGEST) if item.nodeid.startswith(of)), len(LONGEST)))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A Slack that listens while the test runs."""
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
