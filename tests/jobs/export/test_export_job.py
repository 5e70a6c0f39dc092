"""What a team's own database is told: every partition of the lake once, as it is, whatever was killed or skipped."""

import contextlib
import importlib
import itertools
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import adbc_driver_manager.dbapi as dbapi
import pyarrow as pa
import pytest
from pydantic import SecretStr

from jobs import warehouse
from jobs.config import Config, ExportSettings, LakeSettings
from jobs.errors import Misconfigured, NotReady
from jobs.export import job
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage
from jobs.lake.tables import LAKE
from tests.jobs.databases import KINDS, address

FIRST, SECOND = date(2026, 1, 8), date(2026, 1, 9)
NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)


def put(config: Config, table: str, rows: pa.Table, **partition: str) -> None:
    """Published by a run of its own, as every run of a stage is."""
    lineage = Lineage("test", uuid.uuid4().hex[:12], "code", "settings")
    Lake(config.lake.root).publish(table, partition, rows, lineage)


def labels(*ids: str) -> pa.Table:
    """Labels of some impressions: no outcome yet, one value of which is nested."""
    row = {
        **{name: "x" for name, column in LAKE["labels"].columns.items() if pa.types.is_string(column.type)},
        **{name: NOON for name, column in LAKE["labels"].columns.items() if pa.types.is_timestamp(column.type)},
        **{"clicked": True, "converted": False, "conversion_credit": 0.0, "conversion_value": 0.0},
        "click_superseded": [{"known_at": NOON, "until": NOON}],
    }
    return pa.Table.from_pylist([{**row, "impression_id": name} for name in ids], LAKE["labels"].schema)


def promotions(verdict: str) -> pa.Table:
    row = {name: "x" for name, column in LAKE["promotions"].columns.items() if pa.types.is_string(column.type)}
    row |= {"look": 1, "verdict": verdict, "reasons": ["a", "b"], "decided_at": NOON}
    return pa.Table.from_pylist([row], LAKE["promotions"].schema)


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Config]:
    """A lake with two days of labels and a verdict, and a database to tell."""
    url = SecretStr(address(request.param, tmp_path))
    export = ExportSettings(url=url, prefix=f"tidegate_{os.getpid()}_")
    config = Config(lake=LakeSettings(root=tmp_path / "lake"), export=export)
    put(config, "labels", labels("a", "b"), day="2026-01-08")
    put(config, "labels", labels("c"), day="2026-01-09")
    put(config, "promotions", promotions("promote"), day="2026-01-08", mode="full")
    yield config
    with warehouse.connected(url, read_only=False) as database:
        for name in ("labels", "promotions", job.DONE):
            database.do(f"drop table if exists {database.table(export.prefix + name)}")


def exported(config: Config, day: date = SECOND) -> dict[str, Any]:
    found: dict[str, Any] = job.run(Run(STAGES["export"], config, day))["exported"]
    return {table: n for table, n in found.items() if n}


def told(config: Config, query: str) -> list[dict[str, Any]]:
    """What the database answers; `{t:labels}` is the table of labels."""
    assert config.export.url is not None
    with warehouse.connected(config.export.url) as database:
        found = database.read(re.sub(r"{t:(\w+)}", lambda of: database.table(config.export.prefix + of[1]), query))
    return found.rename_columns([name.lower() for name in found.column_names]).to_pylist()


def ids(config: Config) -> list[tuple[str, str]]:
    found = told(config, "select day, impression_id from {t:labels} order by 1, 2")
    return [(row["day"].isoformat(), row["impression_id"]) for row in found]


def test_every_partition_comes_once_and_again_only_when_it_changed(config: Config) -> None:
    """A run again tells nothing; a day whose labels changed is replaced; a day after the run's waits for its own."""
    assert exported(config, FIRST) == {"labels": 1, "promotions": 1}
    assert ids(config) == [("2026-01-08", "a"), ("2026-01-08", "b")]
    assert exported(config) == {"labels": 1}
    assert exported(config) == {}
    put(config, "labels", labels("b", "late"), day="2026-01-08")
    assert exported(config) == {"labels": 1}
    assert ids(config) == [("2026-01-08", "b"), ("2026-01-08", "late"), ("2026-01-09", "c")]
    (row,) = told(config, "select * from {t:labels} where impression_id = 'c'")
    assert (row["event_time"].astimezone(UTC), row["clicked"]) == (NOON, True)
    assert json.loads(row["click_superseded"])[0]["until"].startswith("2026-01-08 12:00")
    (verdict,) = told(config, "select day, mode, verdict, reasons from {t:promotions}")
    assert verdict == {"day": FIRST, "mode": "full", "verdict": "promote", "reasons": '["a", "b"]'}


def test_what_is_killed_between_two_steps_is_whole_and_goes_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ends, the database has whole partitions and knows which; the next run completes them."""
    assert exported(config) == {"labels": 2, "promotions": 1}
    only = ExportSettings(url=config.export.url, prefix=config.export.prefix, tables=("labels",))
    for n in itertools.count(1):
        put(config, "labels", labels("a", f"b{n}"), day="2026-01-08")
        put(config, "labels", labels(*map(str, range(n))), day="2026-01-09")
        left = iter([*[False] * (n - 1), True])
        with monkeypatch.context() as patched:
            for owner, name in steps(config):
                patched.setattr(owner, name, dying(getattr(owner, name), left))
            with contextlib.suppress(KeyboardInterrupt):
                exported(config.model_copy(update={"export": only}))
        lines = told(config, "select * from {t:partitions} where table_name = 'labels'")
        assert {row["partition"]: row["row_count"] for row in lines} == Counter(f"day={day}" for day, _ in ids(config))
        if next(left, False):  # it was not killed
            break
    assert n > 8, "two days have four steps each at least"
    assert ids(config)[:2] == [("2026-01-08", "a"), ("2026-01-08", f"b{n}")]
    assert len(ids(config)) == 2 + n


def steps(config: Config) -> list[tuple[Any, str]]:
    """What a database's client is asked to do, one thing after another."""
    assert config.export.url is not None
    if config.export.url.get_secret_value().startswith("bigquery"):
        client = importlib.import_module("google.cloud.bigquery").Client
        return [(client, "query"), (client, "load_table_from_file"), (client, "delete_table")]
    return [(dbapi.Cursor, "execute"), (dbapi.Cursor, "adbc_ingest"), (dbapi.Connection, "commit")]


def dying(step: Any, left: Iterator[bool]) -> Any:
    """A step before which the run is ended, where it is the one."""

    def taken(*words: Any, **named: Any) -> Any:
        if next(left, False):
            raise KeyboardInterrupt
        return step(*words, **named)

    return taken


def test_without_an_address_it_says_what_it_needs(tmp_path: Path) -> None:
    """And one that does not answer is asked again."""
    with pytest.raises(Misconfigured, match=r"export needs export.url"):
        exported(Config(lake=LakeSettings(root=tmp_path)))
    closed = ExportSettings(url=SecretStr("postgresql://me:secret@127.0.0.1:9/x"))
    with pytest.raises(NotReady, match="postgresql needs to answer"):
        exported(Config(lake=LakeSettings(root=tmp_path), export=closed))
