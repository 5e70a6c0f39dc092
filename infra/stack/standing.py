"""A stack's services brought up one after the other, and the session through which Airflow is told what to do."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.stack import people
from infra.stack.airflow_api import Airflow
from infra.stack.chain import Chain
from infra.stack.components import (
    MIGRATE_TIMEOUT_S,
    PARSE_TIMEOUT_S,
    START_TIMEOUT_S,
    TEAM,
    Layout,
    components,
    environment,
    migration,
    pools,
    storage,
)
from infra.stack.demo import Days
from infra.stack.processes import Stack, StackError
from infra.stack.supervisor import Supervisor
from infra.stack.team import Team
from infra.stack.watching import watchers
from jobs import config


class Standing:
    """A started stack and the session through which it is told what to do."""

    def __init__(
        self, stack: Stack, layout: Layout, overrides: dict[str, str], days: Days, say: Callable[[str], None]
    ) -> None:
        self.stack = stack
        self.say = say
        self.layout = layout
        self.days = days
        self.environ = environment(layout, overrides)
        self.settings = config.load(self.environ)
        self.accounts = people.accounts(self.environ)
        self.team = Team.of(layout.folder, self.settings) if layout.on == TEAM else None

    @property
    def airflow(self) -> Airflow | None:
        """A session of whoever may start runs; None where the people are in an auth manager of the team's own."""
        return session(self.layout.airflow, self.environ)

    def start(self, watched: bool) -> None:
        """All components, ready, `watched` or not; what is not Airflow comes up while Airflow's database is made."""
        began = time.monotonic()

        def done(what: str) -> None:
            self.say(f"  {time.monotonic() - began:>3.0f} s  {what}")

        urls = self.layout.watched() if watched else self.layout.urls()
        services = components(self.layout, self.environ)
        services += watchers(self.layout.folder, urls, self.environ) if watched else []
        airflow = [c for c in services if c.name.startswith("airflow")]
        others = [c for c in services if c not in airflow]
        self.stack.facts = {"urls": urls, "on": self.layout.on}
        if self.team is not None:
            self.stack.facts["kept"] = self.team.kept
            if made := self.team.make():
                self.say(f"made the databases {', '.join(made)}")
        first = storage(self.layout, self.environ)
        self.say(f"starting {', '.join(c.name for c in (*first, *others))}, and Airflow's database")
        supervisor = Supervisor(self.layout.folder, self.stack.mark)
        watchful = supervisor.component(first or others, [*(others if first else ()), *airflow], self.environ)
        self.stack.start(watchful)
        if first:
            self.stack.wait_healthy([watchful, *first], START_TIMEOUT_S)
            done("s3 is ready")
            supervisor.begin(others)
        self.stack.run(migration(self.environ), MIGRATE_TIMEOUT_S)
        if (named := pools(self.layout, self.environ)) is not None:
            self.stack.run(named, MIGRATE_TIMEOUT_S)
        done("Airflow's database is there; starting Airflow")
        self.stack.wait_healthy([watchful], START_TIMEOUT_S)
        supervisor.begin(airflow)
        for component in others:
            self.stack.wait_healthy([component], START_TIMEOUT_S)
            done(f"{component.name} is ready")
        self.stack.wait_healthy(airflow, START_TIMEOUT_S)
        done("Airflow is ready; reading the DAGs")
        if (api := self.airflow) is not None:
            api.wait_for_dags(PARSE_TIMEOUT_S)
            done("every DAG is read")

    def answering(self) -> Airflow:
        """A session of an approver, who may start runs too; raises `StackError` where the launcher is none of them."""
        named = self.settings.release.approver_ids
        for account in self.accounts:
            if account.name in named:
                return Airflow(self.layout.airflow, account.name, account.password)
        if not named and (airflow := self.airflow) is not None:
            return airflow
        raise StackError(
            "a demo answers its own questions, so release.approvers must name a user of the simple auth "
            f"manager; found {', '.join(named) or 'nobody'}: `make up` leaves the answer to a person"
        )

    def chain(self, airflow: Airflow) -> Chain:
        """A chain through this stack's Airflow whose questions that session answers."""
        return Chain(airflow, logs(self.environ), self.say, self.stack.check)


def stands(layout: Layout, overrides: Mapping[str, str]) -> dict[str, str]:
    """The settings of what a stack stands on; raises `StackError` where PostgreSQL or Redis does not answer."""
    if layout.on != TEAM:
        return {}
    tree = config.load(config.environment({**layout.settings(), **overrides}))
    return Team.of(layout.folder, tree).settings(tree)


def session(url: str, environ: Mapping[str, str]) -> Airflow | None:
    """Of whoever may start runs; None where nobody of whom this environment knows may."""
    if people.everybody(environ):
        return Airflow(url, "", None)
    account = people.driver(people.accounts(environ))
    return Airflow(url, account.name, account.password) if account else None


def logs(environ: Mapping[str, str]) -> Path:
    """Where Airflow keeps those of its tasks."""
    return Path(environ["AIRFLOW__LOGGING__BASE_LOG_FOLDER"])
