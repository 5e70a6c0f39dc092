"""First on a stage's path: counts the moments at which it changes the disk or talks to the endpoint, and may kill it.

`KILL_AT=half:2` kills the whole process group at the second moment of kind `half`; `HOLD_AT=commit:1` waits there until
the file `HOLD_UNTIL` exists, saying so by a file of that name and `.reached`; `MOMENTS=<file>` lists them all.
Kinds: `write`, `half` (a Parquet file written, cut to half for a kill), `commit`, `committed` (a Delta log entry),
`sql`, `saved` (a database commit), `send` (a request to the endpoint), and Python's own `rename`, `mkdir`, `remove`,
`rmtree`, `open` (for writing). Of these only what lies below `KILL_BELOW` counts. On S3 `put` and `there` (an object),
`claim` and `claimed` (one that is put only over the one that was read, which makes a raw day or a commit visible),
`delete` and `deleted`.
"""

import functools
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

AUDITED = {
    "os.rename": "rename",
    "os.mkdir": "mkdir",
    "os.remove": "remove",
    "shutil.rmtree": "rmtree",
    "http.client.send": "send",
}
seen: Counter[str] = Counter()


def moment(kind: str, what: object = "", first: Callable[[], None] | None = None) -> None:
    """Count one; where it is the one to die at, do `first` and die with all children."""
    seen[kind] += 1
    name = f"{kind}:{seen[kind]}"
    if log := os.environ.get("MOMENTS"):
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{name} {what}\n".encode())
        os.close(fd)
    if name == os.environ.get("HOLD_AT"):
        until = os.environ["HOLD_UNTIL"]
        os.close(os.open(f"{until}.reached", os.O_WRONLY | os.O_CREAT, 0o600))
        while not os.path.exists(until):
            time.sleep(0.02)
    if name == os.environ.get("KILL_AT"):
        if first is not None:
            first()
        os.killpg(0, signal.SIGKILL)


def audit(event: str, args: tuple[Any, ...]) -> None:
    """Python's own account of what it does."""
    if event in AUDITED:
        if event == "http.client.send" or _below(args[0]):
            moment(AUDITED[event], "" if event == "http.client.send" else args[0])
    elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR) and _below(args[0]):
        moment("open", args[0])


def _below(path: object) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(os.environ["KILL_BELOW"])


def around(
    function: Callable[..., Any], before: str, after: str, half: bool = False, named: bool = False
) -> Callable[..., Any]:
    """The function between two moments, which its first argument names where it is `named`."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        moment(before, args[0] if named else "")
        found = function(*args, **kwargs)
        path = args[1] if half else None
        moment(after, path or "", None if path is None else lambda: os.truncate(path, os.path.getsize(path) // 2))
        return found

    return wrapped


class Connection(sqlite3.Connection):
    """SQLite with moments around its commits."""

    def commit(self) -> None:
        moment("sql")
        super().commit()
        moment("saved")

    def __exit__(self, *raised: Any) -> Any:
        moment("sql")
        found = super().__exit__(*raised)
        moment("saved")
        return found


def arm() -> None:
    """From now on moments count."""
    import deltalake
    import deltalake.transaction
    import pyarrow.parquet

    import jobs.places

    pyarrow.parquet.write_table = around(pyarrow.parquet.write_table, "write", "half", half=True)
    table, transaction = deltalake.DeltaTable, deltalake.transaction
    table.create_write_transaction = around(table.create_write_transaction, "commit", "committed")
    transaction.create_table_with_add_actions = around(transaction.create_table_with_add_actions, "commit", "committed")
    s3 = jobs.places.S3Path
    s3.write_bytes = around(s3.write_bytes, "put", "there", named=True)
    s3.write_over = around(s3.write_over, "claim", "claimed", named=True)
    s3.unlink = around(s3.unlink, "delete", "deleted", named=True)
    sqlite3.connect = sqlite3.dbapi2.connect = functools.partial(sqlite3.connect, factory=Connection)
    sys.addaudithook(audit)


if "jobs" in sys.orig_argv and "KILL_BELOW" in os.environ:
    arm()
