"""A throwaway Airflow: home, database and plugins are chosen before anything imports airflow."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.config import ROOT

HOME = Path(tempfile.mkdtemp(prefix="tidegate-airflow-"))
os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "jobs" / "orchestration" / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "0" * 64,
    }
)


@pytest.fixture(scope="session")
def dags() -> dict[str, Any]:
    """Every DAG of the repository by id, parsed as Airflow parses them; fails on the first that does not import."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    for dag in bag.dags.values():
        object.__setattr__(dag, "test", partial(_test, dag, dag.test))
    return dict(bag.dags)


def _test(dag: Any, test: Callable[..., Any], **words: Any) -> Any:
    """`DAG.test` of a DAG with a deadline: Airflow 3.3.2 takes the definition for the id of one that it has stored."""
    deadline, dag.deadline = dag.deadline, []
    try:
        return test(**words)
    finally:
        dag.deadline = deadline


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's tables in the throwaway SQLite file."""
    from airflow.utils.db import initdb

    initdb()
