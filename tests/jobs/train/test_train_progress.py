"""What is said while a ranker learns."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from jobs.train.progress import Step, said


def test_the_rate_is_that_between_two_messages() -> None:
    """The first of an epoch has none to count from; nothing is said of a fit that nobody listens to any more."""
    heard: list[str] = []
    logger = logging.getLogger("models.rankers.learner")
    with said(heard.append):
        for rows, at in ((100, 10.0), (300, 12.0), (100, 13.0), (None, 14.0)):
            about = {"msg": f"rows {rows}", "created": at, "levelno": logging.INFO} | ({"rows": rows} if rows else {})
            logger.handle(logging.makeLogRecord(about))
    logger.info("after")
    assert heard == ["rows 100", "rows 300, 100 rows/s", "rows 100", "rows None"]


def test_two_that_learn_at_once_are_told_apart() -> None:
    """Each thread hears its own ranker, and its curve has no point of the other's."""
    logger = logging.getLogger("models.rankers.learner")
    both_listen = threading.Barrier(2)

    def learns(name: str) -> tuple[list[str], list[Step]]:
        heard: list[str] = []
        with said(heard.append) as steps:
            both_listen.wait()
            for rows in (10, 20):
                logger.info(name, extra={"rows": rows, "loss": 1.0})
            both_listen.wait()
        return heard, steps

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(learns, ("a", "b")))
    for (heard, steps), name in zip(found, ("a", "b"), strict=True):
        assert [text[0] for text in heard] == [name, name]
        assert [step.rows for step in steps] == [10, 20]
    assert logging.getLogger("models.rankers").level == logging.NOTSET


def test_a_curve_goes_on_over_passes() -> None:
    logger = logging.getLogger("models.rankers.learner")
    with said(lambda text: None) as steps:
        for rows, loss in ((50, 0.5), (100, 0.4), (50, 0.3), (100, 0.2)):
            logger.info("", extra={"rows": rows, "loss": loss, "validation_log_loss": loss + 1})
    assert [(step.rows, step.loss) for step in steps] == [(50, 0.5), (100, 0.4), (150, 0.3), (200, 0.2)]
    assert steps[-1].validation_log_loss == 1.2
    assert [step.rows_per_second is None for step in steps] == [True, False, True, False]
