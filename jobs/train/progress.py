"""What rankers say while they learn, with the rate of rows that their own messages lack: models know no clock."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from models.rankers.protocol import Scorer

RANKERS = "models.rankers"
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Step:
    """A point of a ranker's curve: rows learned from so far (each pass counts), and what was measured there."""

    rows: int
    loss: float | None
    """What it minimises, in nats a row."""
    validation_log_loss: float | None
    rows_per_second: float | None
    """Since the point before it; None at the first of a pass."""


@dataclass(frozen=True)
class Fitted:
    """A ranker, the points of its curve where it learns by steps, and when it was fitted."""

    ranker: Scorer
    steps: list[Step]
    took: tuple[datetime, datetime] | None
    """None: this training taught it nothing."""

    @property
    def learned(self) -> bool:
        """Whether this training taught it anything."""
        return self.took is not None


class _Said(logging.Handler):
    """Hears its own thread only: another ranker may learn in another."""

    level_before = logging.NOTSET

    def __init__(self, say: Callable[[str], None], steps: list[Step]) -> None:
        super().__init__(logging.INFO)
        thread = threading.get_ident()
        self.addFilter(lambda record: record.thread == thread)
        self._say, self._steps = say, steps
        self._last: tuple[float, int] | None = None
        self._before = 0
        """Rows of the passes that are done."""

    def emit(self, record: logging.LogRecord) -> None:
        """A record with `rows`, the rows done of a pass, is told with the rows a second since the one before."""
        rows, rate = getattr(record, "rows", None), None
        if rows is not None:
            if self._last is not None and rows > self._last[1]:
                rate = (rows - self._last[1]) / max(record.created - self._last[0], 1e-6)
            elif self._last is not None:
                self._before += self._last[1]
            self._last = (record.created, rows)
            loss, held_out = getattr(record, "loss", None), getattr(record, "validation_log_loss", None)
            if loss is not None or held_out is not None:
                self._steps.append(Step(self._before + rows, loss, held_out, rate))
        self._say(record.getMessage() + ("" if rate is None else f", {rate:,.0f} rows/s"))


@contextmanager
def said(say: Callable[[str], None]) -> Iterator[list[Step]]:
    """While inside, `say` is told what rankers log in this thread; the list it gives gathers a curve's points."""
    steps: list[Step] = []
    logger, handler = logging.getLogger(RANKERS), _Said(say, steps)
    with _LOCK:
        if not _listeners(logger):
            _Said.level_before = logger.level
            logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield steps
    finally:
        with _LOCK:
            logger.removeHandler(handler)
            if not _listeners(logger):
                logger.setLevel(_Said.level_before)


def _listeners(logger: logging.Logger) -> list[logging.Handler]:
    return [handler for handler in logger.handlers if isinstance(handler, _Said)]
