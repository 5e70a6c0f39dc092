"""What the requests of a day could know, read back from a lake."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.errors import NotReady
from jobs.lake.store import midnight
from jobs.lake.tables import TIME
from jobs.moment.known import feature_days, known_before, promised_before
from tests.jobs.small_lake import (
    DAY,
    World,
    a_run,
    feature_tables,
    items,
    known_from,
    publish,
    publish_features,
    settings,
    user_features,
    users,
)

ONE, TWO, THREE, FOUR = (DAY - timedelta(days=back) for back in (4, 3, 2, 1))


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Features of the first three days; of the fourth only a part, as a run that broke off leaves it."""
    made = settings(tmp_path, tmp_path_factory.getbasetemp())
    for day in (ONE, TWO, THREE):
        publish_features(made, World(), day)
    publish(made, "user_features", user_features(World(), FOUR), day=str(FOUR))
    publish(made, "items", items(World()), day=str(TWO))
    return made


def days(config: Config, day: date) -> list[date]:
    return [one.day for one in known_before(a_run("monitor", config, day), day)]


def test_a_day_sees_the_two_whole_feature_days_before_it(config: Config) -> None:
    """However far back they lie: the endpoint keeps what it has until the next publication."""
    assert feature_days(a_run("monitor", config)) == [ONE, TWO, THREE]
    assert (days(config, TWO), days(config, FOUR), days(config, DAY)) == ([ONE], [TWO, THREE], [TWO, THREE])
    with pytest.raises(NotReady, match=f"requests of {ONE} need .*item_features.* found none"):
        days(config, ONE)


def test_promised_is_what_the_calendar_says_from_the_first_feature_day_on(config: Config) -> None:
    """The fourth day never came and was promised all the same; before the first one nothing was."""

    def promised(day: date) -> list[date]:
        run = a_run("monitor", config, day)
        found = promised_before(run, day, known_before(run, day))
        assert [at for _, at in found] == [known_from(one) for one, _ in found]
        return [one for one, _ in found]

    assert (promised(TWO), promised(THREE), promised(DAY)) == ([ONE], [ONE, TWO], [THREE, FOUR])


def test_attributes_are_those_that_were_online_with_the_features(config: Config) -> None:
    """Of each feature day's own snapshot; what had no snapshot yet had no attributes."""
    publish(config, "users", users(World()), day=str(THREE))
    older, newer = known_before(a_run("monitor", config, FOUR), FOUR, with_users=True)
    assert (len(older.items), len(newer.items)) == (40, 40)
    assert older.users is not None
    assert newer.users is not None
    assert (len(older.users), len(newer.users)) == (0, 120)
    assert [one.users for one in known_before(a_run("backtest", config, FOUR), FOUR, snapshots=FOUR)] == [None, None]


def test_rows_of_another_promise_are_replayed_by_what_they_say(config: Config) -> None:
    """Evidence that is computed again must see what it saw: a setting of today changes no row of then."""
    for name, rows in feature_tables(World(), THREE).items():
        at = pa.array([midnight(FOUR)] * len(rows), TIME)
        publish(
            config, name, rows.set_column(rows.column_names.index("available_at"), "available_at", at), day=str(THREE)
        )
    older, newer = known_before(a_run("backtest", config, FOUR), FOUR, snapshots=FOUR)
    assert (older.available_at, newer.available_at) == (known_from(TWO), midnight(FOUR))
