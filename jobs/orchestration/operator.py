"""A stage as a task: the very command one runs by hand, its exit code turned into retry or stop."""

import json
import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow.sdk import Asset, BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowTaskTimeout,
)

from jobs import config
from jobs.config import ROOT
from jobs.errors import EXIT_OK, KINDS, Misconfigured, NotReady, Refused, UsageError
from jobs.flow import STAGES
from jobs.orchestration.alert import ADDRESSES, alarm, incident, send, told, waits
from jobs.orchestration.day import resolve
from jobs.orchestration.given import given
from jobs.orchestration.process import Command, python

FINAL = {UsageError.exit_code, Refused.exit_code, Misconfigured.exit_code}
"""Exit codes after which a retry would find the same."""
TOLD = re.compile(rf"({'|'.join(kind.__name__ for kind in KINDS)}): ")
"""How `jobs.errors.told` begins its line."""
NOT_READY_DELAY = timedelta(minutes=10)
NOT_READY_TRIES = 12
"""Two hours for an input that is late, in each of the `CRASH_TRIES`: waiting costs none of them."""
TOLD_AT = 2
"""The time it is said in Slack that a stage waits: an input may be some minutes late every day."""
CRASH_DELAY = timedelta(minutes=1)
CRASH_TRIES = 3


def table(name: str) -> Asset:
    """The Airflow asset that stands for a table; its partition keys are days."""
    return Asset(name=name, uri=f"tidegate://{name}")


class PageLink(BaseOperatorLink):
    """A button of the task's page in Airflow: to the page that its stage made, where a browser finds it."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - as Airflow calls it
        """What the stage said; Airflow shows no button for an empty one."""
        return operator.page if isinstance(operator, StageOperator) else ""


class StageOperator(BaseOperator):
    """Run `python -m jobs <stage> …` in the repository root; its last line on stdout, a JSON report, is the XCom.

    Exit 0 succeeds; 64, 65 and 78 fail at once; 75 waits and asks again, as a sensor does; everything else is a crash
    and costs a try, as does a stage that takes longer than its `execution_timeout`. A run of one day marks that day on
    the stage's tables, which is what asset schedules wait for; a run of a range marks none, because nothing downstream
    should start for each day of a bootstrap. Alarms in the report, or each of its incidents, and the sentence `tell`,
    are told in Slack; so is, once, what a stage waits for that was not ready twice.
    """

    template_fields: Sequence[str] = ("day", "partition_key", "since", "mode", "step", "approval", "command")
    operator_extra_links = (PageLink(),)
    ui_color = "#dbeef4"

    def __init__(
        self,
        *,
        stage: str,
        day: str | None = "{{ params.day or '' }}",
        partition_key: str | None = "{{ dag_run.partition_key or '' }}",
        since: str | None = None,
        mode: str | None = None,
        step: str | None = None,
        approval: Mapping[str, str] | None = None,
        asked_every: timedelta | None = None,
        of: str | None = None,
        **kwargs: Any,
    ) -> None:
        """`asked_every`: of a stage with patience of its own, which is asked while it says that it is not ready.

        `of`: the stage whose `timeouts` it has, by default itself.
        """
        super().__init__(**kwargs)
        self.stage = stage
        self.day = day
        self.partition_key = partition_key
        self.since = since
        self.mode = mode
        self.step = step
        self.asked_every = asked_every
        self.of = of or stage
        self.approval = dict(approval or {})
        self.command = ""
        """Filled when templates are rendered: what the UI shows and what one would type."""
        self.page = ""
        """Address of the page that the stage made, as soon as it has said so."""
        self._running: Command | None = None
        self._told = ""

    def argv(self) -> list[str]:
        """The words after `python`, once templates are rendered; raises `AirflowFailException` without a day."""
        words = ["-m", "jobs", self.stage, "--day", resolve(self.day, self.partition_key).isoformat()]
        for flag, value in (("since", self.since), ("mode", self.mode), ("step", self.step)):
            if value:
                words += [f"--{flag}", value]
        # One word, since what a person writes may begin with a dash.
        return words + [f"--{flag}={value}" for flag, value in self.approval.items() if value]

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render, then write down the command that follows from it, so that the UI shows it before it runs."""
        super().render_template_fields(context, jinja_env)
        if self.day or self.partition_key:
            self.command = shlex.join(["python", *self.argv()])

    def execute(self, context: Any) -> dict[str, Any]:
        """The stage's report; see the class for what each exit code becomes."""
        code = self._run(self.argv())
        if code != EXIT_OK:
            waited = int(context.get("task_reschedule_count") or 0)
            failure = self._failure(code, waited)
            if isinstance(failure, AirflowRescheduleException) and self.asked_every is None and waited + 1 == TOLD_AT:
                send(lambda: waits(context, self._last(), NOT_READY_TRIES - TOLD_AT, NOT_READY_DELAY))
            raise failure
        self._mark(context)
        report = self._report()
        self.page = page if (page := str(report.get("page", ""))).startswith(ADDRESSES) else ""
        if "incidents" in report:
            for one in report["incidents"] or ():
                send(partial(incident, context, one, str(report.get("page", ""))))
        elif report.get("alarms"):
            send(lambda: alarm(context, report["alarmed"]))
        if report.get("tell"):
            send(lambda: told(context, report["tell"]))
        return report

    def _run(self, argv: Sequence[str]) -> int:
        """The exit code; raises `AirflowException`, to be retried, where the stage was ended before it ended."""
        self.log.info("%s", shlex.join(["python", *argv]))
        self._running, self._told = Command([python(), *argv], ROOT), ""
        try:
            code = self._running.run(self._hear)
        except AirflowTaskTimeout as late:
            raise AirflowException(
                f"{self.stage} must end within {self.execution_timeout} (timeouts.{self.of}_minutes) and was ended, "
                f"with all it had started; it last said: {self._last() or 'nothing'}"
            ) from late
        if self._running.killed:
            # A worker that is shut down asks for this too. One that a person stopped stays stopped.
            raise AirflowException(f"{self.stage} was stopped, and every process it had started")
        return code

    def on_kill(self) -> None:
        """End the stage's processes too: a Spark driver must not outlive its task."""
        if self._running is not None:
            self._running.kill()

    def _hear(self, line: str) -> None:
        """Into the log; the last line that tells a kind of error is the one that matters, whatever comes after it."""
        self.log.info("%s", line)
        if TOLD.match(line):
            self._told = line

    def _last(self) -> str:
        return self._told or (self._running.last["stderr"] if self._running else "")

    def _failure(self, code: int, waited: int) -> AirflowException:
        """What Airflow is told of an exit code after so many waits: fail, wait again, or a crash that it retries."""
        if code < 0:
            name = signal.strsignal(-code) or f"signal {-code}"
            memory = ", perhaps for memory" if -code == signal.SIGKILL else ""
            said = self._last() or "nothing"
            return AirflowException(f"{self.stage} was ended: {name}{memory}; it last said: {said}")
        last = self._last() or f"{self.stage} ended with exit code {code} and said nothing"
        if code in FINAL:
            return AirflowFailException(last)
        if code != NotReady.exit_code:
            return AirflowException(f"{last} (exit code {code})")
        if self.asked_every is None and waited + 1 >= NOT_READY_TRIES:
            return AirflowFailException(f"{last} (asked {waited + 1} times in {NOT_READY_DELAY * waited} h)")
        again = datetime.now(UTC) + (self.asked_every or NOT_READY_DELAY)
        self.log.warning("%s; asked again at %s", last, again.isoformat(timespec="seconds"))
        return AirflowRescheduleException(again)

    def _report(self) -> dict[str, Any]:
        last = self._running.last["stdout"] if self._running else ""
        try:
            report = json.loads(last)
        except json.JSONDecodeError as error:
            raise AirflowException(f"{self.stage} must end with a JSON report on stdout; found {last!r}") from error
        if not isinstance(report, dict):
            raise AirflowException(f"{self.stage} must report a JSON object; found {last!r}")
        return report

    def _mark(self, context: Any) -> None:
        """Tell asset schedules which day of the stage's tables is now published."""
        if self.since:
            return
        for outlet in self.outlets:
            context["outlet_events"][outlet].add_partitions(resolve(self.day, self.partition_key).isoformat())


def stage(
    name: str,
    *,
    ranged: bool = False,
    mode: str | None = None,
    step: str | None = None,
    approval: Mapping[str, str] | None = None,
    publishes: Sequence[str] = (),
    task_id: str | None = None,
) -> StageOperator:
    """A task that runs the stage `name` of `jobs.flow`; its task id is the stage's name unless it has one of its own.

    `ranged` takes the run's `since` too; `publishes` are the tables whose days other DAGs wait for.
    """
    spec = STAGES[name]
    unknown = set(publishes) - set(spec.writes)
    if unknown:
        raise ValueError(f"{name} writes {', '.join(spec.writes)}; found {', '.join(sorted(unknown))}")
    return StageOperator(
        task_id=task_id or name,
        stage=name,
        since="{{ params.since or '' }}" if ranged else None,
        mode=mode,
        step=step,
        approval=approval,
        outlets=[table(t) for t in publishes],
        doc_md=f"{spec.doc[0].upper()}{spec.doc[1:]}.\n\nReads {', '.join(spec.reads) or 'the source'}; "
        f"writes {', '.join(spec.writes) or 'elsewhere'}.",
        retries=CRASH_TRIES - 1,
        retry_delay=CRASH_DELAY,
        execution_timeout=timedelta(minutes=config.load().timeouts.of(name)),
        **given(name),
    )
