"""What every test process needs, and which files run where and when."""

import sys
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# The same examples in every run, so that a change that is tested fails for its own reasons; others are looked for by
# `pytest --hypothesis-profile=explore`.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
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
    "tests/models/rankers/",
    "tests/exactly_once/",
    "tests/jobs/test_reads.py",
    "tests/jobs/train/",
    "tests/dags/",
    "tests/infra/",
    "tests/jobs/validate/",
)
"""These first, in this order: whoever is done early takes the short ones."""
TOGETHER = ("tests/dags/", "tests/jobs/deploy/")
"""Their sessions are dear to make (an Airflow database, two judged days): one worker runs them, and makes one."""


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
