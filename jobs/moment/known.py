"""What was known at the midnight a day begins with: the same as-of rule as the point-in-time join, day by day."""

from datetime import date, timedelta

from jobs.lake.run import Run
from jobs.moment.decisions import Known


def known_before(run: Run, day: date, snapshots: date, with_users: bool = False) -> Known:
    """The newest feature day published before `day`, and the catalogue as of `snapshots`; who is not in it is unknown.

    `with_users` adds the users' snapshot, for rows that do not carry their users' attributes. Raises `NotReady` where
    no day before is published.
    """
    before = day - timedelta(days=1)
    return Known(
        run.newest("user_features", day=before),
        run.newest("item_features", day=before),
        run.newest("encodings", day=before),
        run.newest("items", columns=["item_id", "attributes"], day=snapshots),
        run.newest("users", columns=["user_id", "attributes"], day=snapshots) if with_users else None,
        run.config.tasks,
    )
