"""One Slack message when a task has finally failed (which, for which day, why, and where its log is), raises alarms, or
when a run is not done by its deadline: a worker that is killed with its task tells nothing itself. Of incidents that a
stage tells of, one each: opened, still open, closed.

One, too, when a stage has asked twice for an input that is not ready: waiting is not silence.

And one per step of a release: that somebody must approve, and what a stage tells (shadow, canary, live, rejected). What
a watch rolled back is the failure of that watch; what a person did is told from outside Airflow
(`jobs.orchestration.outside`).

The webhook is the Airflow connection `slack` (conn_type slackwebhook, the URL as its password). Without it nothing is
sent; a webhook that does not answer is logged and changes nothing.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import accumulate
from typing import Any
from urllib.parse import quote

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, AirflowRuntimeError

from jobs.errors import one_line

CONNECTION = "slack"
TIMEOUT_SECONDS = 10
MOST = 2_500
"""Characters of an error or of a list of alarms; the whole of it is in the log. Slack takes 3,000 in one block."""
ADDRESSES = ("http://", "https://")
SIGNS = {"opened": ":red_circle:", "open": ":large_orange_circle:", "closed": ":large_green_circle:"}
"""Of an incident, by its state."""
ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""The characters with which Slack's markup makes links and mentions: `<!channel>` in a column's name calls nobody."""
REMINDED = "; a question may wait for an answer, or a release for its next step"
log = logging.getLogger(__name__)


def message(context: Any) -> str:
    """DAG, task, day, the error's own sentence and the log's address."""
    ti = context["ti"]
    what = _plain(f"{ti.dag_id}.{ti.task_id} failed for {_day(context)}: {_error(context)}")
    return f":red_circle: {what}\n{_log(ti)}"


def alarm(context: Any, alarmed: Mapping[str, Sequence[str]]) -> str:
    """DAG, task, and per day what raised an alarm, with the log's address: the task itself is green."""
    ti = context["ti"]
    days = "; ".join(f"{day}: {', '.join(what)}" for day, what in sorted(alarmed.items()) if what)
    return f":large_orange_circle: {_plain(f'{ti.dag_id}.{ti.task_id} raises alarms: {days}')}\n{_log(ti)}"


def incident(context: Any, one: Mapping[str, str], page: str) -> str:
    """What a stage tells of an incident (`state`, `text`), with the addresses of the day's page and of the log.

    A page that no browser finds is named by its path.
    """
    ti, is_link = context["ti"], page.startswith(ADDRESSES)
    said, where = one["text"], f" Page: {page}" if page and not is_link else ""
    links = f"<{_address(page)}|report> {_log(ti)}" if is_link else _log(ti)
    return f"{SIGNS[one['state']]} {_plain(f'{ti.dag_id}.{ti.task_id}: {said}{where}')}\n{links}"


def told(context: Any, what: str) -> str:
    """What a stage has to tell of a step that was taken, or of a no, with the log's address."""
    ti = context["ti"]
    sign = ":no_entry:" if ti.task_id == "reject" else ":large_green_circle:"
    return f"{sign} {_plain(f'{ti.dag_id}.{ti.task_id}: {what}')}\n{_log(ti)}"


def taken_back(what: str, run: str) -> str:
    """What a person took back by hand, with the way to the promotion that had brought it, where Airflow has an address.

    A promotion that was started from the form has another name than `run`: the way is to the list of those so called.
    """
    said = f":leftwards_arrow_with_hook: {_plain(f'rollback: {what}')}"
    at = conf.get("api", "base_url", fallback="").rstrip("/")
    way = f"{at}/dags/promotion/runs?run_id_pattern={quote(run, safe='')}"
    return f"{said}\n<{_address(way)}|promotion>" if at else said


def waits(context: Any, what: str, times: int, every: timedelta) -> str:
    """DAG, task, day and what it waits for, how often it asks again, and the log's address."""
    ti = context["ti"]
    again = f"asked again every {every.total_seconds() / 60:g} minutes, {times} times"
    return f":hourglass: {_plain(f'{ti.dag_id}.{ti.task_id} waits for {_day(context)}: {what} ({again})')}\n{_log(ti)}"


def wanted(context: Any, subject: str, why: Sequence[str], address: str) -> str:
    """What a person is asked, the verdict and its figures (`why`), and where to answer."""
    asked = f":raised_hand: {_plain(f'{subject} ({_day(context)})')}"
    return "\n".join([asked, *(f"• {_plain(line)}" for line in why), f"<{_address(address)}|answer>"])


def alert(context: Any) -> None:
    """Send `message` when a task has finally failed; see `send`."""
    send(lambda: message(context))


def overdue(context: Any, hours: float, asks: bool) -> str:
    """DAG, run and how it stands, of a run that is not done `hours` after it was queued; `context` is a deadline's.

    Of one that `asks` a person: that somebody may be waited for, and where to answer.
    """
    run = context["dag_run"]
    what = (run.get("conf") or {}).get("day") or run.get("partition_key") or run.get("dag_run_id") or "a run"
    stands = f"{hours:g} h after it was queued: it is {run.get('state')}"
    told = _plain(f"{run['dag_id']} is not done for {what}, {stands}{REMINDED if asks else ''}")
    at = f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{run['dag_id']}/runs/{run.get('dag_run_id')}"
    link = f"<{_address(at)}/required_actions|answer>" if asks else f"<{_address(at)}|run>"
    return f":hourglass: {told}\n{link}"


async def late(context: Any, hours: float, asks: bool) -> None:
    """Send `overdue`; Airflow's triggerer awaits this when a run misses its deadline."""
    await asyncio.to_thread(send, lambda: overdue(context, hours, asks))


def send(text: Callable[[], str]) -> str:
    """Send what `text` says through the connection `slack`, if there is one; why it was not, empty where it was.

    Never raises: an alert must neither fail a task that has done its work nor hide the error of one that has not,
    whatever a proxy, a secrets backend, Slack or an unexpected report does to it.
    """
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook  # 0.3 s, and rarely needed

    try:
        SlackWebhookHook.get_connection(CONNECTION)
    except (AirflowNotFoundException, AirflowRuntimeError):
        missed = f"no connection {CONNECTION!r} is defined"
        log.info("%s: no alert is sent", missed)
        return missed
    except Exception as error:  # noqa: BLE001 - see above
        missed = f"the connection {CONNECTION!r} cannot be read: {type(error).__name__}"
        log.warning("no alert is sent, %s", missed)
        return missed
    try:
        hook = SlackWebhookHook(slack_webhook_conn_id=CONNECTION, timeout=TIMEOUT_SECONDS)
        hook.send(text=text())
    except Exception as error:  # noqa: BLE001 - see above
        # The text of the error could carry the webhook's URL, a secret.
        missed = f"it was not delivered: {type(error).__name__}"
        log.warning("the Slack alert fails, %s", missed)
        return missed
    return ""


def _error(context: Any) -> str:
    """What went wrong: a stage's own last line, of anything else its type and the beginning of what it says."""
    error = context.get("exception")
    if error is None:
        return "no exception was recorded"
    said = one_line(error)
    if isinstance(error, str | AirflowException) and said:
        return said
    return f"{type(error).__name__}: {said}".removesuffix(": ")


def _day(context: Any) -> str:
    """The task's day; the run's where the task was not rendered, as when the scheduler tells of its end."""
    day = str(getattr(context["ti"].task, "day", None) or "")
    if not day or "{{" in day:
        day = (context.get("params") or {}).get("day") or getattr(context["dag_run"], "partition_key", None) or "no day"
    return str(day)


def _plain(text: str) -> str:
    """A text as Slack shows it letter by letter: one line, its markup escaped, at most `MOST` characters."""
    letters = [ESCAPED.get(letter, letter) for letter in one_line(text)]
    lengths = list(accumulate(map(len, letters)))
    if not lengths or lengths[-1] <= MOST:
        return "".join(letters)
    return "".join(letters[: bisect_right(lengths, MOST - 1)]) + "…"


def _log(ti: Any) -> str:
    return f"<{_address(ti.log_url)}|log>"


def _address(url: object) -> str:
    return str(url).replace("|", "%7C").replace(">", "%3E").replace("&", "&amp;")
