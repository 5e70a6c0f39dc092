"""One JSON object a line on stderr, for whoever collects logs; no line tells of a user or of a request's context."""

import logging
from datetime import UTC, datetime

import orjson


class OneLine(logging.Formatter):
    """A record as one line, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """The JSON."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"at": at, "level": record.levelname, "logger": record.name, "process": record.process}
        said["message"] = record.getMessage()
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(said, default=str).decode()


def say_in_lines(level: int = logging.WARNING) -> None:
    """From now on, for the whole process."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler])
