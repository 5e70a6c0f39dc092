"""The only package that imports Airflow: what DAG files are made of.

`stage` turns a stage of `jobs.flow` into a task, `approval` asks a person, `rejection` notes a no, `release` takes an
approved model live, `daily`, `weekly` and `on_tables` say when, `exports` whether a database is told, `standing_orders`
is what every DAG has in common.
"""

from jobs.orchestration.operator import stage, table
from jobs.orchestration.person import APPROVAL, approval, rejection
from jobs.orchestration.release import release
from jobs.orchestration.schedule import MODE, daily, exports, on_tables, standing_orders, weekly
from jobs.orchestration.trigger import full_training, propose

__all__ = [
    "APPROVAL",
    "MODE",
    "approval",
    "daily",
    "exports",
    "full_training",
    "on_tables",
    "propose",
    "rejection",
    "release",
    "stage",
    "standing_orders",
    "table",
    "weekly",
]
