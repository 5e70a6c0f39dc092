"""`python -m jobs forget --user ID`: a person's rows go from tables, raw days, captured answers and the online store.

    raw days         their files are written again; the lake says that its days were published from the new ones
    tables           a new version of each partition that had them; files of older versions are cleaned in place
    captured answers a line of theirs becomes blanks
    online store     their keys are deleted

What was counted stays as it was: aggregates hold no id. It can be killed and run again at any time, and run twice. It
never writes the id: the report, printed and kept beside the lake, has a digest of it. A stage that read the lake before
and publishes after may bring rows back; so may a source that gives days again: the report says so.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from jobs.config import Config
from jobs.errors import UsageError
from jobs.features import erased
from jobs.forget import beyond, raw_days, tables
from jobs.lake.run import now
from jobs.lake.store import Lake
from jobs.lake.swap import write_whole
from jobs.serving import forgotten

FOLDER = "forgotten"
"""Beside the tables: a report a person and time."""
DIGITS = 16


def forget(config: Config, user: str) -> dict[str, Any]:
    """Forget a user; returns the report, which lies beside the lake too.

    Raises `UsageError` for an id that is empty or blank, `NotReady` where a stage is at the same rows: run it again.
    """
    if not user.strip():
        raise UsageError("forget needs --user ID, as the logs have it; found none")
    lake, at = Lake(config.lake.root), now()
    published = {table: tables.Forgotten() for table in tables.HOLDERS}
    raw = {t: raw_days.forget(lake, config.lake.raw, t, user, published[t]) for t in raw_days.HOLDERS}
    for table, done in published.items():
        tables.forget(lake, table, user, done)
    report = {
        "user_sha256": hashlib.sha256(user.encode()).hexdigest()[:DIGITS],
        "at": at.isoformat(timespec="seconds"),
        "raw": {table: asdict(done) for table, done in raw.items() if done.files},
        "tables": {table: asdict(done) for table, done in published.items() if any(asdict(done).values())},
        "captured_answers": forgotten.forget(config.endpoint.state, user),
        "online_keys": erased.erase(config, user),
        "not_removed": beyond.reach(config, user),
    }
    name = f"{at:%Y%m%dT%H%M%S}-{report['user_sha256']}.json"
    path = write_whole(config.lake.root.parent / FOLDER / name, json.dumps(report, indent=1))
    return {**report, "report": str(path)}
