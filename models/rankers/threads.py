"""How many threads a ranker uses: fixed by the data, so that sums come out the same on every machine."""

THREADS = 2
FEW_ROWS = 20_000
"""Up to this many rows one thread is done sooner than two could share the work, all the more on a busy machine."""
MANY_ROWS = 1_000_000
"""Up to this many rows a fit takes one thread: two fits go on side by side, and a minibatch is too small to share."""


def threads_for(rows: int) -> int:
    """One for few rows, else `THREADS`: sums depend on how rows are dealt to threads, never on the machine's cores."""
    return 1 if rows <= FEW_ROWS else THREADS


def threads_to_learn(rows: int) -> int:
    """Of a fit from so many rows: one up to `MANY_ROWS`, else `THREADS`."""
    return 1 if rows <= MANY_ROWS else THREADS
