"""The story a demo tells: a bootstrap, a full model, one more day with live traffic, a warm start, monitoring."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from infra.stack.chain import Chain
from infra.stack.processes import StackError
from jobs import config
from jobs.config import Config

MINIMUM_DAYS = 6
"""One day each to train on, to validate on, to test on, to embargo and to add; and one for features to come from."""


@dataclass(frozen=True)
class Days:
    """What a source offers: everything up to `eve` is history, `last` is the new day."""

    first: date
    last: date

    @property
    def eve(self) -> date:
        """The last day of the history."""
        return self.last - timedelta(days=1)

    @property
    def count(self) -> int:
        """How many days there are."""
        return (self.last - self.first).days + 1


def overrides(source: str, data: Path | None, placed: Mapping[str, str]) -> tuple[dict[str, str], Days]:
    """The settings a source needs beside where things lie, and its days; a short log gets a short train window."""
    from jobs.sources import open_source, places

    chosen = {"source.name": source, **({"source.data": str(data.resolve())} if data else {})}
    chosen |= places(config.load(config.environment({**placed, **chosen})))
    settings = config.load(config.environment({**placed, **chosen}))
    days = Days(*open_source(settings).span())
    if days.count < MINIMUM_DAYS:
        raise StackError(f"the demo needs {MINIMUM_DAYS} days of logs; {source} has {days.first}..{days.last}")
    if days.last < datetime.now(UTC).date() - timedelta(days=1):
        # A scheduled run would wait two hours for a yesterday that never comes, in the place of the history's.
        chosen["source.live"] = "false"
    longest = _room_to_train(settings, days)
    for name in ("train_days", "warm_train_days"):
        if getattr(settings.dataset, name) > longest:
            chosen[f"dataset.{name}"] = str(longest)
    return chosen, days


def _room_to_train(settings: Config, days: Days) -> int:
    """Train days the history holds beside its test, validation, embargo and first day, which has no features yet."""
    held_out = settings.dataset.validate_days + settings.dataset.test_days
    return max(1, days.count - 1 - settings.attribution.click_days - held_out - 1)


def history(chain: Chain, days: Days) -> None:
    """Every day but the last in one go, and a model from scratch up to its promotion."""
    eve = days.eve.isoformat()
    chain.trigger("daily_data", {"day": eve, "since": days.first.isoformat()})
    chain.trigger("weekly_training", {"day": eve})
    chain.proposed("full", eve)


def new_day(chain: Chain, days: Days) -> None:
    """The last day by its partition key, the warm start Airflow starts by itself, its promotion, and monitoring."""
    day = days.last.isoformat()
    chain.trigger("daily_data", {}, partition_key=day)
    chain.triggered_by_tables("daily_warm_start", day)
    chain.proposed("warm", day)
    chain.trigger("daily_monitoring", {}, partition_key=day)
