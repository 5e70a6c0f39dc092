"""Stages forked from a process that has imported everything: the same code as `python -m jobs`, seconds sooner."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs import config


class Forks:
    """One process of `tests.exactly_once.warm`; the stages it forks can be killed as often as one likes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.exactly_once.warm"],
            cwd=config.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], out: Path, err: Path) -> int:
        """Run `python -m jobs` with these words; returns its exit status, negative where a signal ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"argv": list(argv), "env": dict(env), "out": str(out), "err": str(err)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        return int(answer if answer != "ready" else self._process.stdout.readline())

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate()
