"""What was known at the midnight a day begins with: the same as-of rule as the point-in-time join, day by day."""

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from jobs.backtest.decisions import Known
from jobs.run import Run


def known_before(run: Run, day: date, user_id: pa.ChunkedArray, with_users: bool = False) -> Known:
    """Feature rows and snapshots for the decisions of `day` about these users.

    `with_users` adds the users' snapshot, for rows that do not carry their users' attributes. Raises `NotReady` where
    no day before is published.
    """
    before = day - timedelta(days=1)
    return Known(
        _user_features(run, before, pc.drop_null(user_id.unique())),
        run.newest("item_features", day=before),
        run.newest("items", columns=["item_id", "attributes"], day=before),
        run.newest("users", columns=["user_id", "attributes"], day=before) if with_users else None,
    )


def _user_features(run: Run, day: date, wanted: pa.Array) -> pa.Table:
    """The newest row of each wanted user at or before `day`: users whose window has emptied keep their last one."""
    newest = run.newest("user_features", day=day)
    parts = [newest]
    missing = wanted.filter(pc.invert(pc.is_in(wanted, newest["user_id"].combine_chunks())))
    for older in sorted((d for d in run.published_days("user_features") if d <= day), reverse=True)[1:]:
        if not len(missing):
            break
        ids = run.read("user_features", [older], columns=["user_id"])["user_id"].combine_chunks()
        if pc.any(pc.is_in(missing, ids)).as_py():
            rows = run.read("user_features", [older])
            parts.append(rows.filter(pc.is_in(rows["user_id"], missing)))
            missing = missing.filter(pc.invert(pc.is_in(missing, ids)))
    return pa.concat_tables(parts)
