"""Which process writes a run of MLflow, and whether it is known to have ended."""

import os
import socket
from pathlib import Path

import psutil

OWNER = "owner"
"""Tag of a run: the process that writes it."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Another machine may have the same name (SageMaker calls every one `algo-1`), but not the same boot; Linux only."""
SLACK_SECONDS = 2.0
"""Start times of one process differ by rounding; those of two that had the same id, by far more."""


def me() -> str:
    """This process: its machine, its id and when it began."""
    return f"{_machine()} {os.getpid()} {psutil.Process().create_time():.0f}"


def ended(owner: str | None) -> bool | None:
    """Whether a process that `me` named has ended; None where this machine cannot know."""
    if owner is None or not owner.startswith(f"{_machine()} "):
        return None
    pid, began = map(int, owner.split()[-2:])
    try:
        found = psutil.Process(pid)
        return bool(found.status() == psutil.STATUS_ZOMBIE or abs(found.create_time() - began) > SLACK_SECONDS)
    except psutil.NoSuchProcess:
        return True


def _machine() -> str:
    return f"{socket.gethostname()}/{BOOT.read_text().strip() if BOOT.exists() else ''}"
