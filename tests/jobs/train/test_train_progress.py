"""What is said while a ranker learns."""

import logging

from jobs.train.progress import said


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
