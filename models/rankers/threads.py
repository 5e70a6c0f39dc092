"""How many threads a ranker uses: fixed by the data, so that sums come out the same on every machine."""

THREADS = 2
FEW_ROWS = 20_000
"""Up to this many rows one thread is done sooner than two could share the work, all the more on a busy machine."""


def threads_for(rows: int) -> int:
    """One for few rows, else `THREADS`: sums depend on how rows are dealt to threads, never on the machine's cores."""
    return 1 if rows <= FEW_ROWS else THREADS
