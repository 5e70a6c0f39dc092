"""Which services of a stack live, since when, and whether they answer: what on-call asks first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table

from infra.stack.processes import LAUNCHER, Stack

ENDS = ("airflow-db", "pilot")
"""These do one thing and end; that they have ended is no fault."""


@dataclass(frozen=True)
class Service:
    """One recorded process and how it stands."""

    name: str
    pid: int
    since: datetime
    alive: bool
    answers: bool | None
    """None: it has no address of its own."""
    address: str
    log: str
    """Below the stack's folder."""

    @property
    def well(self) -> bool:
        """Whether nobody has to do anything about it."""
        return self.name in ENDS or (self.alive and self.answers is not False)

    @property
    def state(self) -> str:
        """In a word or two."""
        if not self.alive:
            return "done" if self.name in ENDS else "DEAD"
        return "alive" if self.answers is not False else "SILENT"


def services(stack: Stack, answers: Callable[[str], bool]) -> list[Service]:
    """Every service that was started, in that order; `answers` asks an address."""
    alive = {process.pid for process in stack.alive()}
    urls: Mapping[str, str] = stack.facts.get("urls", {})
    found = []
    for entry in stack.processes:
        if entry["name"] == LAUNCHER:
            continue
        lives = entry["pid"] in alive
        # Airflow's other three processes have no address: its API tells of them, but only while they live.
        url = urls.get({"airflow-api": "airflow"}.get(entry["name"], entry["name"]), "")
        since = datetime.fromtimestamp(entry["started"], UTC)
        heard = answers(url) if url and lives else None
        log = f"logs/{stack.log(entry['name']).name}"
        found.append(Service(entry["name"], entry["pid"], since, lives, heard, url, log))
    return found


def table(found: list[Service], now: datetime) -> Table:
    """As it is printed: name, state, for how long, address, and the log of what needs somebody."""
    shown = Table("service", "state", "started (UTC)", "for", "pid", "address", box=None, pad_edge=False)
    for one in found:
        age = str(now - one.since).split(".")[0] if one.alive else ""
        where = one.address if one.well else f"{one.address} see {one.log}".strip()
        shown.add_row(one.name, one.state, f"{one.since:%Y-%m-%d %H:%M:%S}", age, str(one.pid), where)
    return shown
