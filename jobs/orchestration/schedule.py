"""When DAGs run, and what every one of them has in common."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, CronPartitionTimetable, IdentityMapper, Param, PartitionedAssetTimetable
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from jobs import config
from jobs.flow import STAGES
from jobs.orchestration.alert import alert, late
from jobs.orchestration.day import day_params
from jobs.orchestration.operator import CRASH_DELAY, table
from jobs.orchestration.person import answered
from jobs.orchestration.trigger import MACROS

OWNER = "recommendations"
DUE_HOURS = 24.0
PRIORITY = 10
"""Of a task by default; where slots are short, a higher one goes first, whatever else waits for longer."""
LIVE = ("parquet", "kafka")
"""Sources to which a team's loggers keep adding, unless `source.live` says otherwise; all others have ended."""
MODE = {
    "mode": Param("full", enum=["full", "warm"], title="Mode", description="Which challenger of the day: full or warm.")
}


def daily(hour: int) -> Any:
    """Every day at `hour` UTC, for the day that has just ended: the partition key is yesterday, YYYY-MM-DD."""
    return _for_key(f"0 {hour} * * *", "%Y-%m-%d")


def weekly(hour: int) -> Any:
    """Every Monday at `hour` UTC, for the week that has just ended: the key is its ISO week, which means its Sunday."""
    return _for_key(f"0 {hour} * * MON", "%G-W%V")


def _for_key(cron: str, key_format: str) -> Any:
    """One run a tick, for the tick before; by hand and by backfill only where the logs have ended."""
    timetable: Any = CronPartitionTimetable
    source = config.load().source
    if not (source.name in LIVE if source.live is None else source.live):
        from jobs.orchestration.by_hand import ByHand  # Airflow's core, which live DAGs need not load

        timetable = ByHand
    return timetable(cron, timezone="UTC", run_offset=-1, key_format=key_format)


def exports() -> bool:
    """Whether a team's own database is told what was found."""
    return config.load().export.url is not None


def on_tables(*names: str) -> PartitionedAssetTimetable:
    """Once all these tables have published the same day; that day is the partition key."""
    waited: Asset | Any = table(names[0])
    for name in names[1:]:
        waited = waited & table(name)
    return PartitionedAssetTimetable(assets=waited, default_partition_mapper=IdentityMapper())


def standing_orders(
    doc: str | None,
    stages: tuple[str, ...],
    tags: tuple[str, ...],
    since: bool = False,
    due_hours: float = DUE_HOURS,
    asks: bool = False,
    priority: int = PRIORITY,
) -> dict[str, Any]:
    """Arguments of every DAG: runbook, form, owner, alerts, priority, and no run for a past nobody asked for.

    A run that has not succeeded `due_hours` after it was queued is told in Slack, whatever holds it; where it `asks` a
    person that is a reminder, and it comes when half the time for an answer is over.
    """
    if asks and (answer_hours := config.load().release.answer_hours):
        due_hours = min(due_hours, answer_hours / 2)
    return {
        "description": _first_sentence(doc or ""),
        "doc_md": f"{(doc or '').strip()}\n\n{_flow_table(stages)}",
        "tags": ["tidegate", *tags],
        "params": day_params(since),
        "catchup": False,
        "deadline": DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(hours=due_hours),
            callback=AsyncCallback(late, kwargs={"hours": due_hours, "asks": asks}),
            name=f"done within {due_hours:g} h",
        ),
        "user_defined_macros": dict[str, Callable[..., str]](MACROS | {"answered": answered}),
        "default_args": {
            **{"owner": OWNER, "on_failure_callback": alert, "retry_delay": CRASH_DELAY},
            # As it is said: by default Airflow adds up all that follows, so that whatever comes first goes first.
            **{"priority_weight": priority, "weight_rule": "absolute"},
        },
    }


def _first_sentence(doc: str) -> str:
    """Of the runbook, below its heading: what the list of DAGs says of one."""
    text = " ".join(doc.strip().split("\n\n")[1].split())
    return text.split(". ")[0].rstrip(".") + "."


def _flow_table(stages: tuple[str, ...]) -> str:
    """What the stages read and write, from `jobs.flow`, so that a runbook cannot go stale."""
    rows = [
        f"| `{s.name}` | {s.doc} | {', '.join(s.reads) or 'the source'} | {', '.join(s.writes)} |"
        for s in (STAGES[name] for name in stages)
    ]
    return "\n".join(["| stage | | reads | writes |", "| --- | --- | --- | --- |", *rows])
