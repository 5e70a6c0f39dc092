"""Which days a demo uses, and how a short log shortens its windows."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.stack import demo
from infra.stack.processes import StackError


@pytest.mark.parametrize(
    ("days", "train", "warm"),
    [(36, None, None), (7, "2", "2"), (6, "1", "1")],
)
def test_a_short_log_gets_a_short_train_window(
    days: int, train: str | None, warm: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven days hold one new day, an embargo, a test and a validation day, and one day features come from."""
    monkeypatch.delenv("TIDEGATE_ENV", raising=False)
    monkeypatch.setenv("TIDEGATE__WORLD__DAYS", str(days))
    chosen, found = demo.overrides("simulated", None, {})
    assert found.count == days
    assert chosen.get("dataset.train_days") == train
    assert chosen.get("dataset.warm_train_days") == warm


def test_too_few_days_are_refused_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could be tested on, let alone judged."""
    monkeypatch.setenv("TIDEGATE__WORLD__DAYS", "4")
    with pytest.raises(StackError, match=r"needs 6 days of logs; simulated has 2026-01-01\.\.2026-01-04"):
        demo.overrides("simulated", None, {})


def test_the_story_in_order() -> None:
    """History first, then the new day by its key, so that the warm start is Airflow's own doing."""

    class Told:
        def __init__(self) -> None:
            self.calls: list[tuple[Any, ...]] = []

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: self.calls.append((name, *args, *kwargs.values()))

    told: Any = Told()
    days = demo.Days(date(2026, 1, 1), date(2026, 1, 12))
    demo.history(told, days)
    demo.new_day(told, days)
    assert told.calls == [
        ("trigger", "daily_data", {"day": "2026-01-11", "since": "2026-01-01"}),
        ("trigger", "weekly_training", {"day": "2026-01-11"}),
        ("proposed", "full", "2026-01-11"),
        ("trigger", "daily_data", {}, "2026-01-12"),
        ("triggered_by_tables", "daily_warm_start", "2026-01-12"),
        ("proposed", "warm", "2026-01-12"),
        ("trigger", "daily_monitoring", {}, "2026-01-12"),
    ]


def test_a_teams_own_raw_lake_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make up SOURCE=parquet DATA=...`: validate reads that very folder, and its days are the demo's."""
    monkeypatch.delenv("TIDEGATE_ENV", raising=False)
    for day in range(1, 8):
        (tmp_path / "logs" / "impressions" / f"date=2026-03-0{day}").mkdir(parents=True)
    chosen, days = demo.overrides("parquet", tmp_path / "logs", {"lake.raw": str(tmp_path / "var" / "raw")})
    assert chosen["lake.raw"] == str(tmp_path / "logs")
    assert (days.first, days.last) == (date(2026, 3, 1), date(2026, 3, 7))
    assert chosen["source.live"] == "false", "no schedule waits for a yesterday that never comes"
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    (tmp_path / "logs" / "impressions" / f"date={yesterday}").mkdir()
    assert "source.live" not in demo.overrides("parquet", tmp_path / "logs", {})[0]


def test_data_stays_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages run in the repository root, whoever called the launcher from wherever."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    chosen, _ = demo.overrides("simulated", Path("logs"), {})
    assert chosen["source.data"] == str(tmp_path / "logs")
