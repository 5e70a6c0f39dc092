"""Which services of a stack live, since when, and whether they answer: what on-call asks first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.table import Table

from infra.stack.processes import LAUNCHER, Record, Stack, records

ENDS = ("airflow-db", "airflow-pools", "pilot")
"""These do one thing and end; that they have ended is no fault."""


@dataclass(frozen=True)
class Service:
    """One process of a stack and how it stands."""

    name: str
    pid: int
    since: datetime
    alive: bool
    answers: bool | None
    """None: it has no address of its own."""
    address: str
    log: str
    """Below the stack's folder."""
    deaths: int = 0
    """How often it was started again."""

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
    """What was started, in that order, then what is supervised, by name; `answers` asks an address."""
    started = [Record(entry["name"], entry["pid"], entry["started"], 1) for entry in stack.processes]
    urls: Mapping[str, str] = stack.facts.get("urls", {})
    found = []
    for record in (*started, *records(stack.folder)):
        if record.name == LAUNCHER:
            continue
        # Airflow's other three processes have no address: its API tells of them, but only while they live.
        url = urls.get({"airflow-api": "airflow"}.get(record.name, record.name), "")
        since = datetime.fromtimestamp(record.started, UTC)
        heard = answers(url) if url and record.alive else None
        log = f"logs/{stack.log(record.name).name}"
        found.append(Service(record.name, record.pid, since, record.alive, heard, url, log, record.starts - 1))
    return found


def table(found: list[Service], now: datetime) -> Table:
    """As it is printed: name, state, for how long, how often it was started again, address, and the log of what needs
    somebody.
    """
    columns = ("service", "state", "started (UTC)", "for", "again", "pid", "address")
    shown = Table(*columns, box=None, pad_edge=False)
    for one in found:
        age = str(now - one.since).split(".")[0] if one.alive else ""
        where = one.address if one.well else f"{one.address} see {one.log}".strip()
        again = str(one.deaths) if one.deaths else ""
        shown.add_row(one.name, one.state, f"{one.since:%Y-%m-%d %H:%M:%S}", age, again, str(one.pid), where)
    return shown
