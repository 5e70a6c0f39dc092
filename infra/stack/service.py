"""`python -m infra.stack.service FOLDER NAME COMMAND…`: what the supervisor starts, and what then becomes the service.

Before, everything that an earlier one of this name has left is ended: workers that hold its port, or stages whose tasks
nobody watches any more, outlive a service that was killed. It writes down who it is and which start of it this is, so
that `status` needs no supervisor to ask.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil

from infra.stack.processes import MARK, SERVICES, Record
from jobs.lake.swap import write_whole

NAME = "TIDEGATE_SERVICE"
"""Environment variable that a service shares with all it starts."""


def left(name: str, mark: str, before: Record | None) -> Iterator[psutil.Process]:
    """Processes of a service of that name and stack, or of the group of the one `before`, this one apart.

    Whatever gave itself a title, as Airflow's workers do, has written over its environment, and is known by its group.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environ = process.environ()
            marked = (environ.get(NAME), environ.get(MARK)) == (name, mark)
            group, since = (before.pid, before.started) if before else (None, 0.0)
            grouped = os.getpgid(process.pid) == group and process.create_time() >= since
            if process.pid != os.getpid() and (marked or grouped):
                yield process


def main(argv: Sequence[str]) -> None:
    """Become the service; never returns."""
    folder, name, *command = argv
    path = Path(folder) / SERVICES / f"{name}.json"
    before = Record(**json.loads(path.read_text())) if path.is_file() else None
    for process in left(name, os.environ[MARK], before):
        with suppress(psutil.Error):
            process.kill()
    starts = 1 + (before.starts if before else 0)
    me = psutil.Process()
    write_whole(path, json.dumps(asdict(Record(name, me.pid, me.create_time(), starts))))
    os.environ[NAME] = name
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
