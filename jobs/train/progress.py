"""What rankers say while they learn, with the rate of rows that their own messages lack: models know no clock."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

RANKERS = "models.rankers"


class _Said(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say
        self._last: tuple[float, int] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """A record with `rows`, the rows done of an epoch, is told with the rows a second since the one before."""
        rows = getattr(record, "rows", None)
        rate = ""
        if rows is not None and self._last is not None and rows > self._last[1]:
            rate = f", {(rows - self._last[1]) / max(record.created - self._last[0], 1e-6):,.0f} rows/s"
        if rows is not None:
            self._last = (record.created, rows)
        self._say(record.getMessage() + rate)


@contextmanager
def said(say: Callable[[str], None]) -> Iterator[None]:
    """While inside, `say` is told what rankers log."""
    logger, handler = logging.getLogger(RANKERS), _Said(say)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
