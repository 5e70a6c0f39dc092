"""A call in a process of its own that is killed, `kill -9`, the n-th time it changes anything below a folder."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["jobs.forget.job", "jobs.features.online", "tests.jobs.aged_lake"])


def dies(below: Path, at: int, call: Callable[..., Any], *args: Any) -> bool:
    """Whether it died there: False where it ended before; a call that fails otherwise is an error."""
    child = _forks.Process(target=_armed, args=(str(below), at, call, args))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def _armed(below: str, at: int, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
    seen = 0

    def audit(event: str, told: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(told[2], int) and told[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and str(told[0]).startswith(below):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    call(*args)


def forgets(env: dict[str, str], user: str) -> None:
    """To die in: somebody is forgotten."""
    from jobs import config
    from jobs.forget.job import forget

    forget(config.load(env), user)
