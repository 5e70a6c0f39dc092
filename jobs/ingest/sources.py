"""The days a source has, for whoever must choose one (the demo's launcher, a backfill)."""

from datetime import date

from jobs.config import Config
from jobs.ingest.source import open_source


def span(config: Config) -> tuple[date, date]:
    """First and last day of the configured source; raises as the source does when it cannot be read."""
    return open_source(config).span()
