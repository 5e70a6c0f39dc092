"""One Slack message when a task has finally failed (which, for which day, why, and where its log is) or raises alarms.

The webhook is the Airflow connection `slack` (conn_type slackwebhook, the URL as its password). Without it nothing is
sent; a webhook that does not answer is logged and changes nothing. Not covered yet: a worker killed for memory runs no
callback, so it shows in the UI only.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, AirflowRuntimeError

CONNECTION = "slack"
TIMEOUT_SECONDS = 10
log = logging.getLogger(__name__)


def message(context: Any) -> str:
    """DAG, task, day, the error's own sentence and the log's address."""
    ti = context["ti"]
    error = str(context.get("exception") or "no exception was recorded").strip().splitlines()[-1]
    day = getattr(ti.task, "day", "") or getattr(context["dag_run"], "partition_key", None) or "no day"
    return f":red_circle: {ti.dag_id}.{ti.task_id} failed for {day}: {error}\n<{ti.log_url}|log>"


def alarm(context: Any, alarmed: Mapping[str, Sequence[str]]) -> str:
    """DAG, task, and per day what raised an alarm, with the log's address: the task itself is green."""
    ti = context["ti"]
    days = "; ".join(f"{day}: {', '.join(what)}" for day, what in sorted(alarmed.items()) if what)
    return f":large_orange_circle: {ti.dag_id}.{ti.task_id} raises alarms: {days}\n<{ti.log_url}|log>"


def alert(context: Any) -> None:
    """Send `message` when a task has finally failed; see `send`."""
    send(message(context))


def send(text: str) -> None:
    """Send `text` through the connection `slack`, if there is one. Never raises: an alert must not fail a task."""
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook  # 0.3 s, and rarely needed

    try:
        SlackWebhookHook.get_connection(CONNECTION)
    except (AirflowNotFoundException, AirflowRuntimeError):
        log.info("no connection %r is defined: no alert is sent", CONNECTION)
        return
    try:
        hook = SlackWebhookHook(slack_webhook_conn_id=CONNECTION, timeout=TIMEOUT_SECONDS)
        hook.send(text=text)
    except (AirflowException, OSError, ValueError) as error:
        # OSError holds URLError and timeouts. The text of the error could carry the webhook's URL, a secret.
        log.warning("the Slack alert was not delivered: %s", type(error).__name__)
