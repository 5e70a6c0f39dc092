"""Attribution on real logs (two marketplace days, shopping sessions) against the same rules as SQL in DuckDB.

The logs are not part of the product: without `../shared/data` these tests skip.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.attribute import core
from jobs.config import AttributionSettings
from jobs.lake.tables import LAKE, TIME
from jobs.outcomes import so_far

DATA = Path(__file__).parents[4] / "shared" / "data"
STAGES = {"impressions": "s", "clicks": "c", "purchases": "p"}
SQL = """
with clicked as (
    select c.*, s.impression_id as shown from clicks c left join impressions s on s.user_id = c.user_id
        and s.item_id = c.item_id and s.event_time <= c.event_time and c.event_time < s.event_time + interval 1 day
    qualify row_number() over (partition by c.click_id order by s.event_time desc, s.impression_id desc) = 1
), paid as (
    select p.purchase_id, p.value, p.event_time, c.shown, c.event_time as clicked_at, c.click_id
    from purchases p join clicked c
        on c.user_id = p.user_id and c.item_id = p.item_id
        and c.event_time <= p.event_time and p.event_time < c.event_time + interval 7 day
), weighed as (
    select *, {weight} as weight from paid
), shared as (
    select shown, event_time, weight / sum(weight) over (partition by purchase_id) as share from weighed
), won as (
    select shown, sum(share) as credit, min(event_time) as known_at from shared where share > 0 group by shown
), seen as (
    select shown, min(event_time) as known_at from clicked group by shown
)
select s.impression_id, seen.known_at is not null as clicked, seen.known_at as click_known_at,
    won.known_at is not null as converted, won.known_at as conversion_known_at, coalesce(won.credit, 0) as credit
from impressions s left join seen on seen.shown = s.impression_id left join won on won.shown = s.impression_id
order by s.event_time, s.impression_id
"""
OF_PURCHASE = "over (partition by purchase_id order by clicked_at desc, click_id desc)"
WEIGHTS = {
    "last_click": f"(row_number() {OF_PURCHASE} = 1)::double",
    "first_click": "(row_number() over (partition by purchase_id order by clicked_at, click_id) = 1)::double",
    "linear": "1.0",
    "time_decay": "pow(0.5, epoch_us(event_time - clicked_at) / (7 * 86400e6))",
}


def events(user: pa.Array, item: pa.Array, us: np.ndarray, what: np.ndarray) -> dict[str, pa.Table]:
    """The three event tables; `what` says which each row is. Ids are row numbers, so that equal times are ordered."""
    time = pa.array(us, pa.int64()).cast(TIME)
    number = np.char.zfill(np.arange(len(us)).astype(str), 8)
    columns = {"event_time": time, "ingested_at": time, "user_id": user.cast(pa.string()), "item_id": item}
    tables = {}
    for table, letter in STAGES.items():
        own = {LAKE[table].key[0]: pa.array(np.char.add(letter, number)), "request_id": pa.array(number)}
        own["value"] = pa.array(np.ones(len(us)))
        types = {name: LAKE[table].columns[name].type for name in core.COLUMNS[table]}
        made = {
            name: own.get(name, columns.get(name, pa.nulls(len(us), kind))).cast(kind) for name, kind in types.items()
        }
        tables[table] = pa.table(made).filter(pa.array(what == table))
    return tables


def marketplace() -> dict[str, pa.Table]:
    """Two days of views, clicks and clickouts: 870 thousand rows, users and items as skewed as they come."""
    files = [DATA / "tecd" / name for name in ("01294.pq", "01295.pq")]
    if not all(file.is_file() for file in files):
        pytest.skip("needs ../shared/data/tecd")
    rows = pa.concat_tables([pq.read_table(file) for file in files]).combine_chunks()
    names = {"view": "impressions", "click": "clicks", "clickout": "purchases"}
    what = np.array([names.get(kind, "") for kind in rows["action_type"].to_pylist()])
    us = rows["timestamp"].cast(pa.int64()).to_numpy()
    return events(rows["user_id"].chunk(0), rows["item_id"].cast(pa.string()).chunk(0), us, what)


def sessions() -> dict[str, pa.Table]:
    """Twenty shopping sessions: what was looked at, put into the cart, ordered."""
    file = DATA / "otto" / "train.jsonl"
    if not file.is_file():
        pytest.skip("needs ../shared/data/otto")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [(line["session"], event) for line in lines for event in line["events"]]
    names = {"clicks": "impressions", "carts": "clicks", "orders": "purchases"}
    return events(
        pa.array([session for session, _ in rows]),
        pa.array([str(event["aid"]) for _, event in rows]),
        np.array([event["ts"] * 1000 for _, event in rows]),
        np.array([names[event["type"]] for _, event in rows]),
    )


@pytest.mark.parametrize("model", WEIGHTS)
@pytest.mark.parametrize("log", [marketplace, sessions])
def test_real_logs_are_attributed_as_by_sql(log: Callable[[], dict[str, pa.Table]], model: Any) -> None:
    """Every impression's outcome, when it was known and its credit: row for row what joins and windows in SQL say."""
    found = log()
    labels, earned = core.attribute(**found, settings=AttributionSettings(model=model))
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        for table, rows in found.items():
            database.register(table, rows)
        wanted = database.sql(SQL.format(weight=WEIGHTS[model])).to_arrow_table()
    assert pc.sum(wanted["converted"]).as_py() > 0
    for name in wanted.column_names[:-1]:
        assert labels[name].combine_chunks().equals(wanted[name].cast(labels[name].type).combine_chunks()), name
    assert np.allclose(labels["conversion_credit"].to_numpy(), wanted["credit"].to_numpy(), rtol=0, atol=1e-12)
    bought = sum(row["attributed"] + row["unattributed"] for row in core.counted(earned).to_pylist())
    assert bought == len(found["purchases"])


@pytest.mark.parametrize("hours", [12, 30])
def test_a_real_log_read_as_of_a_time_is_what_a_run_then_said(hours: int) -> None:
    """With every seventh event up to two days late: takeovers in real traffic, all told as they were at the time."""
    found = {table: rows.combine_chunks() for table, rows in marketplace().items()}
    for table, rows in found.items():
        late = np.where(np.arange(len(rows)) % 7 == 0, np.arange(len(rows)) % 48, 0) * 3_600_000_000
        known = pa.array(rows["event_time"].cast(pa.int64()).to_numpy() + late).cast(TIME)
        found[table] = rows.set_column(rows.schema.get_field_index("ingested_at"), "ingested_at", known)
    first = min(rows["event_time"].to_numpy().min() for rows in found.values())
    cut = datetime.fromtimestamp(int(first.astype("datetime64[s]").astype(int)), UTC) + timedelta(hours=hours)
    before = {table: rows.filter(pc.less(rows["ingested_at"], pa.scalar(cut))) for table, rows in found.items()}
    told = []
    for some in (found, before):
        labels = core.attribute(**some, settings=AttributionSettings())[0]
        labels = labels.filter(pc.less(labels["known_at"], pa.scalar(cut)))
        superseded = pc.count(labels["click_superseded"]).as_py()
        outcomes = [so_far(labels, outcome, cut).combine_chunks() for outcome in ("clicked", "converted")]
        told.append([labels["impression_id"].combine_chunks(), *outcomes])
        if some is found:
            assert superseded > 0
    assert all(one.equals(other) for one, other in zip(*told, strict=True))
