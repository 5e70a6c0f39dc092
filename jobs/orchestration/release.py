"""An approved model's way to people as tasks: a step, a watch, the next step, as far as the settings plan it."""

from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise

from jobs import config
from jobs.orchestration.given import given
from jobs.orchestration.operator import CRASH_DELAY, CRASH_TRIES, StageOperator, stage

LIVE = "live"


def release(mode: str, approval: Mapping[str, str]) -> list[StageOperator]:
    """`deploy`, and where steps are planned a watch and a step in turn, `live` at the end; to be run in this order.

    Each task goes as far as the ledger says it must and no further, so each may be killed and cleared anywhere. A watch
    takes a worker for one look, every `release.poll_seconds`, and none in between.
    """
    planned = config.load().release.steps
    tasks = [stage("deploy", mode=mode, approval=approval, step=planned[0] if planned else None)]
    for name, following in pairwise((*planned, LIVE)):
        tasks.append(_watch(name, mode))
        tasks.append(stage("deploy", task_id=_task_id(following), mode=mode, approval=approval, step=following))
    return tasks


def _watch(name: str, mode: str) -> StageOperator:
    settings = config.load()
    return StageOperator(
        task_id=f"watch_{_task_id(name)}",
        stage="watch",
        of="deploy",
        mode=mode,
        step=name,
        asked_every=timedelta(seconds=settings.release.poll_seconds),
        doc_md=f"Looks at every answer since the step `{name}` until it passes; an alarm, or "
        f"{settings.release.patience_seconds} s without a verdict, brings the champion back.",
        retries=CRASH_TRIES - 1,
        retry_delay=CRASH_DELAY,
        execution_timeout=timedelta(minutes=settings.timeouts.deploy_minutes),
        **given("deploy"),
    )


def _task_id(name: str) -> str:
    return name.replace("-", "_")
