"""The workers of Celery that run a stack's tasks, and how to see that they hear."""

import sys
from collections.abc import Mapping
from functools import partial

from infra.stack.processes import Component
from jobs import config

WORKERS = 2
CONCURRENCY = 2
"""Tasks at a time of a worker."""
QUEUE = "AIRFLOW__OPERATORS__DEFAULT_QUEUE"
BROKER = "AIRFLOW__CELERY__BROKER_URL"
ANSWER_SECONDS = 2.0


def workers(environ: dict[str, str], stack: str) -> list[Component]:
    """Both take from every queue there is, so that a stage runs while one of them is down."""
    queues = sorted({environ.get(QUEUE, "default"), *config.load(environ).airflow.queues.values()})
    hear = partial(all_hear, environ, stack)
    found = []
    for number in range(1, WORKERS + 1):
        command = [
            *(sys.executable, "-m", "airflow", "celery", "worker", "--skip-serve-logs"),
            *("--celery-hostname", _name(number, stack), "--concurrency", str(CONCURRENCY)),
            # They need not know each other; asking around at each start costs a second.
            *("--queues", ",".join(queues), "--without-mingle", "--without-gossip"),
        ]
        found.append(Component(f"airflow-worker-{number}", command, environ, hear))
    return found


def all_hear(environ: Mapping[str, str], stack: str) -> bool:
    """Whether each worker answers through the broker; taken for granted where only a command tells its address."""
    from celery import Celery  # half a second, and only a team has workers
    from kombu.exceptions import OperationalError

    wanted = [_name(number, stack) for number in range(1, WORKERS + 1)]
    if BROKER not in environ:
        return True
    with Celery(broker=environ[BROKER]) as app:
        try:
            answers = app.control.ping(destination=wanted, timeout=ANSWER_SECONDS)
        except OperationalError:
            return False
    return {name for answer in answers for name in answer} >= set(wanted)


def _name(number: int, stack: str) -> str:
    return f"worker-{number}@{stack}"
