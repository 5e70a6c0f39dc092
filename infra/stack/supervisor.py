"""Services that are started again when they die: by supervisord, which a laptop can have without being root.

supervisord (https://supervisord.org) is pure Python and one process. It watches, waits longer after each start that
fails, gives up in the end, and turns logs over; `infra.stack.service` is what it starts, `infra.stack.told` hears of
each death. `stack.json` records it as one process of the stack.
"""

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from configparser import RawConfigParser
from pathlib import Path
from shutil import rmtree

from infra.stack.processes import SERVICES, SUPERVISOR, Component
from jobs.config import ROOT

SETTLED_SECONDS = 30
"""A service that lives so long has come up: one that cannot ends when its imports are done."""
TRIES = 5
"""Starts in a row that fail, the n-th after n seconds; then somebody must look."""
STOP_SECONDS = 6
"""Between a polite SIGTERM and SIGKILL."""
LOG = "20MB"
"""Of a service; what is older than twice that is dropped."""


class Supervisor:
    """supervisord of the stack in `folder`; `mark` tells its socket from others'."""

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder = folder
        # Not in the folder: a socket's path may have a hundred characters.
        self._socket = Path(tempfile.gettempdir()) / f"tidegate-{mark}.sock"

    def component(
        self,
        now: Sequence[Component],
        later: Sequence[Component],
        environ: Mapping[str, str],
        settled_s: int = SETTLED_SECONDS,
    ) -> Component:
        """supervisord itself, which starts `now` at once and `later` when `begin` says so."""
        rmtree(self._folder / SERVICES, ignore_errors=True)
        settings = self._folder / "supervisord.conf"
        with settings.open("w") as file:
            self._settings(now, later, settled_s).write(file)
        command = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", f"--configuration={settings}"]
        return Component(SUPERVISOR, command, environ, self._socket.exists)

    def begin(self, components: Sequence[Component]) -> None:
        """Start some of `later`; whether they come up is theirs to say."""
        from supervisor.childutils import getRPCInterface

        asked = getRPCInterface({"SUPERVISOR_SERVER_URL": f"unix://{self._socket}"})
        for component in components:
            asked.supervisor.startProcess(component.name, False)

    def _settings(self, now: Sequence[Component], later: Sequence[Component], settled_s: int) -> RawConfigParser:
        found = RawConfigParser()
        found["unix_http_server"] = {"file": str(self._socket), "chmod": "0700"}
        found["supervisord"] = {
            # Its own words go to the log of every other component of the stack.
            **{"logfile": "/dev/null", "logfile_maxbytes": "0", "pidfile": _plain(self._folder / "supervisord.pid")},
            "directory": _plain(ROOT),
        }
        made = "supervisor.rpcinterface:make_main_rpcinterface"
        found["rpcinterface:supervisor"] = {"supervisor.rpcinterface_factory": made}
        for component in (*now, *later):
            become = [sys.executable, "-m", "infra.stack.service", str(self._folder), component.name, *component.argv]
            found[f"program:{component.name}"] = {
                **{"command": _plain(shlex.join(become)), "autostart": str(component in now).lower()},
                **{"autorestart": "true", "startsecs": str(settled_s), "startretries": str(TRIES)},
                **{"stopasgroup": "true", "killasgroup": "true", "stopwaitsecs": str(STOP_SECONDS)},
                **{"redirect_stderr": "true", "stdout_logfile_maxbytes": LOG, "stdout_logfile_backups": "1"},
                "stdout_logfile": _plain(self._folder / "logs" / f"{component.name}.log"),
            }
        found["eventlistener:told"] = {
            "command": _plain(shlex.join([sys.executable, "-m", "infra.stack.told", str(self._folder)])),
            "events": "PROCESS_STATE_EXITED,PROCESS_STATE_BACKOFF,PROCESS_STATE_RUNNING,PROCESS_STATE_FATAL",
            **{"stopwaitsecs": "1", "stderr_logfile": _plain(self._folder / "logs" / "told.log")},
        }
        return found


def _plain(text: object) -> str:
    """supervisord reads `%(here)s` and the like."""
    return str(text).replace("%", "%%")
