"""`python -m infra.stack.told FOLDER`: supervisord tells it of each service that dies, and it tells people, once each.

Told is how it ended: that the service runs again, or that it does not come back. Into `deaths.jsonl`, which `status`
counts, and to Slack, where Airflow has a connection for it (`jobs.orchestration.outside`); what dies again and again is
told every ten minutes at most.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

DEATHS = "deaths.jsonl"
QUIET_SECONDS = 600


@dataclass
class Deaths:
    """What is known of services that are down."""

    folder: Path
    since: dict[str, float] = field(default_factory=dict)
    """When each died that has not come up again."""
    told: dict[str, float] = field(default_factory=dict)

    def heard(self, state: str, name: str, now: float) -> str | None:
        """What to tell of a service that is in a state by now, if anything."""
        if state in ("EXITED", "BACKOFF"):
            self.since.setdefault(name, now)
            return None
        died = self.since.pop(name, None)
        if died is None:
            return None
        back = state == "RUNNING"
        with (self.folder / DEATHS).open("a") as file:
            file.write(json.dumps({"name": name, "died": died, "back": now if back else None}) + "\n")
        if back and now - self.told.get(name, -QUIET_SECONDS) < QUIET_SECONDS:
            return None
        self.told[name] = now
        of = f"{name} of stack {self.folder.name} died at {_clock(died)}"
        if back:
            return f":large_orange_circle: {of} and was started again: it runs since {_clock(now)} UTC"
        return f":red_circle: {of} UTC and does not come back; its log: {self.folder / 'logs' / f'{name}.log'}"


def send(text: str) -> None:
    """To Slack, by a process of its own: Airflow is a lot to hold for a message a month."""
    command = [sys.executable, "-m", "jobs.orchestration.outside", text]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def main(folder: Path) -> None:
    """Hear and tell until supervisord closes the line."""
    from supervisor.childutils import get_headers, listener

    deaths = Deaths(folder)
    while True:
        headers, payload = listener.wait()
        name, state = get_headers(payload)["processname"], headers["eventname"].removeprefix("PROCESS_STATE_")
        text = deaths.heard(state, name, time.time())
        if text is not None:
            print(text, file=sys.stderr, flush=True)
            send(text)
        listener.ok()


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
