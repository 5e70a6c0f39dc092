"""What was known at the midnight a day begins with: the same as-of rule as the point-in-time join, day by day."""

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from jobs.backtest.decisions import Known
from jobs.run import Run


def known_before(
    run: Run, day: date, user_id: pa.ChunkedArray, item_id: pa.ChunkedArray, snapshots: date, with_users: bool = False
) -> Known:
    """The newest feature rows published before `day` of these users and items, and the catalogue as of `snapshots`.

    `with_users` adds the users' snapshot, for rows that do not carry their users' attributes. Raises `NotReady` where
    no day before is published.
    """
    before = day - timedelta(days=1)
    return Known(
        _newest_rows(run, "user_features", before, user_id),
        _newest_rows(run, "item_features", before, item_id),
        run.newest("items", columns=["item_id", "attributes"], day=snapshots),
        run.newest("users", columns=["user_id", "attributes"], day=snapshots) if with_users else None,
    )


def _newest_rows(run: Run, table: str, day: date, ids: pa.ChunkedArray) -> pa.Table:
    """The newest row of each wanted id at or before `day`: who has left the newest day keeps an older row."""
    key = table.removesuffix("_features") + "_id"
    newest = run.newest(table, day=day)
    parts, wanted = [newest], pc.drop_null(ids.unique())
    missing = wanted.filter(pc.invert(pc.is_in(wanted, newest[key].combine_chunks())))
    for older in sorted((d for d in run.published_days(table) if d <= day), reverse=True)[1:]:
        if not len(missing):
            break
        known = run.read(table, [older], columns=[key])[key].combine_chunks()
        if pc.any(pc.is_in(missing, known)).as_py():
            rows = run.read(table, [older])
            parts.append(rows.filter(pc.is_in(rows[key], missing)))
            missing = missing.filter(pc.invert(pc.is_in(missing, known)))
    return pa.concat_tables(parts)
