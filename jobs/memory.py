"""How much memory this process may still take: of the machine, or of the container it runs in."""

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Where a container finds its own limits (cgroup v2)."""


def at_hand(cgroup: Path = CGROUP) -> int:
    """Bytes that are free, or held by file pages that the system would take back."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        counted = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except OSError:  # no container, or one of an older kind: the machine's own is what there is
        return free
    if limit == "max":
        return free
    return max(0, min(free, int(limit) - int(used) + int(counted.get("inactive_file", 0))))
