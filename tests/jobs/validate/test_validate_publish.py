"""The order of a day's commits: wherever the stage dies, no reader takes half a day for a whole one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from jobs.config import Config
from jobs.errors import NotReady
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.lake.tables import RAW
from jobs.validate.profile import merged, profile
from tests.jobs.validate.raw_days import FIRST, N, put, tables_of, write

Validate = Callable[..., dict[str, Any]]
COMMITS = 2 * len(RAW) + 1
"""A profile and the rows of each table, and one table's quarantine."""
DAY = {"day": FIRST.isoformat()}


class Killed(BaseException):
    """Nothing may catch it."""


@pytest.fixture
def dies_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many commits through, then die."""

    def arm(commits: int) -> None:
        done = 0
        publish = Lake.publish

        def counted(*arguments: Any, **named: Any) -> int:
            nonlocal done
            if done == commits:
                raise Killed
            done += 1
            return publish(*arguments, **named)

        monkeypatch.setattr(Lake, "publish", counted)

    return arm


@pytest.mark.parametrize("commits", range(COMMITS))
def test_a_first_publication_that_died_is_no_day(
    config: Config, validate: Validate, dies_after: Callable[[int], None], commits: int
) -> None:
    """Whichever commit is missing, impressions are: attribute and featurize wait for the next run."""
    tables = tables_of(FIRST)
    write(config.lake.raw, FIRST, {**tables, "clicks": put(tables["clicks"], "item_id", None)})
    dies_after(commits)
    with pytest.raises(Killed):
        validate()
    lake = Lake(config.lake.root)
    assert FIRST not in lake.days("impressions")
    with pytest.raises(NotReady):
        Run(STAGES["attribute"], config, FIRST).read("impressions", [FIRST], columns=["impression_id"])
    for table in RAW:
        if FIRST in lake.days(table):
            assert (
                lake.read("profiles", where={**DAY, "table": table}).num_rows == len(lake.read(table).column_names) - 1
            )
    if FIRST in lake.days("clicks"):
        assert len(lake.read("quarantine", where={**DAY, "table": "clicks"})) == 1


def test_a_replacement_that_died_is_taken_again(
    config: Config, validate: Validate, monkeypatch: pytest.MonkeyPatch, dies_after: Callable[[int], None]
) -> None:
    """The day after, what was replaced and what was not are told apart by the raw files their commits name."""
    write(config.lake.raw, FIRST, tables_of(FIRST))
    validate()
    late = {name: put(rows, rows.column_names[0], "late", 0).slice(0, 1) for name, rows in tables_of(FIRST).items()}
    write(config.lake.raw, FIRST, {name: late[name] for name in ("clicks", "impressions")}, file="late.parquet")
    dies_after(5)
    with pytest.raises(Killed):
        validate()
    monkeypatch.undo()
    second = FIRST + timedelta(days=1)
    write(config.lake.raw, second, tables_of(second))
    assert validate(second)["revisited"] == [FIRST.isoformat()]
    lake = Lake(config.lake.root)
    assert (len(lake.read("clicks", [FIRST])), len(lake.read("impressions", [FIRST]))) == (N + 1, N + 1)


def test_the_profiles_of_two_days_are_the_profile_of_both(config: Config, validate: Validate) -> None:
    """What monitoring merges from the lake is what it would have found in the rows."""
    for n in range(2):
        write(config.lake.raw, FIRST + timedelta(days=n), tables_of(FIRST + timedelta(days=n)))
    validate(FIRST + timedelta(days=1), since=FIRST)
    lake = Lake(config.lake.root)
    of_days = [
        lake.read("profiles", [FIRST + timedelta(days=n)], {"table": "impressions"}).drop_columns(["day", "table"])
        for n in range(2)
    ]
    of_rows = profile(lake.read("impressions").drop_columns(["day"]))
    exact = ["column", "kind", "rows", "nulls", "minimum", "maximum", "quantile_values", "quantile_weights"]
    assert merged(of_days).select(exact).equals(of_rows.select(exact))


def test_running_again_leaves_the_same_profiles(config: Config, validate: Validate) -> None:
    """Sketches included, also when the loggers' files hold the rows in another order."""
    write(config.lake.raw, FIRST, tables_of(FIRST))
    validate()
    before = Lake(config.lake.root).read("profiles")
    write(config.lake.raw, FIRST, {name: rows.take(list(range(N))[::-1]) for name, rows in tables_of(FIRST).items()})
    validate()
    assert Lake(config.lake.root).read("profiles").equals(before)
