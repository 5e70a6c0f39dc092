"""When DAGs run, and what every one of them has in common."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, CronPartitionTimetable, IdentityMapper, Param, PartitionedAssetTimetable

from jobs import config
from jobs.flow import STAGES
from jobs.orchestration.alert import alert
from jobs.orchestration.day import day_params
from jobs.orchestration.stage import CRASH_DELAY, table
from jobs.orchestration.trigger import MACROS

OWNER = "recommendations"
NEVER = datetime(9000, 1, 1, tzinfo=UTC)
MODE = {
    "mode": Param("full", enum=["full", "warm"], title="Mode", description="Which challenger of the day: full or warm.")
}


def daily(hour: int) -> CronPartitionTimetable:
    """Every day at `hour` UTC, for the day that has just ended: the partition key is yesterday, YYYY-MM-DD."""
    return CronPartitionTimetable(f"0 {hour} * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d")


def weekly(hour: int) -> CronPartitionTimetable:
    """Every Monday at `hour` UTC, for the week that has just ended: the key is its ISO week, which means its Sunday."""
    return CronPartitionTimetable(f"0 {hour} * * MON", timezone="UTC", run_offset=-1, key_format="%G-W%V")


def on_tables(*names: str) -> PartitionedAssetTimetable:
    """Once all these tables have published the same day; that day is the partition key."""
    waited: Asset | Any = table(names[0])
    for name in names[1:]:
        waited = waited & table(name)
    return PartitionedAssetTimetable(assets=waited, default_partition_mapper=IdentityMapper())


def standing_orders(
    doc: str | None, stages: tuple[str, ...], tags: tuple[str, ...], since: bool = False
) -> dict[str, Any]:
    """Arguments of every DAG: runbook, form, owner, alert, and no run for a past nobody asked for.

    Logs that have ended (everything but `source.name = "parquet"`) have no yesterday: their DAGs never start by the
    calendar, only by hand, by backfill or by the tables they wait for.
    """
    live = config.load().source.name == "parquet"
    return {
        "doc_md": f"{(doc or '').strip()}\n\n{_flow_table(stages)}",
        "tags": ["tidegate", *tags],
        "params": day_params(since),
        "catchup": False,
        "start_date": None if live else NEVER,
        "user_defined_macros": dict[str, Callable[..., str]](MACROS),
        "default_args": {"owner": OWNER, "on_failure_callback": alert, "retry_delay": CRASH_DELAY},
    }


def _flow_table(stages: tuple[str, ...]) -> str:
    """What the stages read and write, from `jobs.flow`, so that a runbook cannot go stale."""
    rows = [
        f"| `{s.name}` | {s.doc} | {', '.join(s.reads) or 'the source'} | {', '.join(s.writes)} |"
        for s in (STAGES[name] for name in stages)
    ]
    return "\n".join(["| stage | | reads | writes |", "| --- | --- | --- | --- |", *rows])
