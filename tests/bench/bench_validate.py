"""60 expectations on 1M rows x 20 columns: Tidegate in one process and on Spark against Great Expectations on Spark.

Tidegate does its whole day: it reads the raw files, computes the facts, judges, sets rows aside, profiles, and on
Spark writes part files. Great Expectations is handed the finished facts as one Parquet file and only judges. Every
peer must find the same: the same expectations held, and as many rows broke each. `rows` is their sum.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CASES = {"1M x 20, 60 rules": 1_000_000}
DAY = date(2026, 1, 5)
SLATE, CANDIDATES, ITEMS, USERS = 4, 8, 2_000, 50_000
TEXTS = ["impression_id", "request_id", "user_id", "item_id", "surface", "policy", "device", "region", "query"]
NUMBERS = ["event_time", "ingested_at", "position", "propensity", "used_before", "ingest_delay_seconds"]
COLUMNS = [*TEXTS, "source_item_id", *NUMBERS, "day", "event_day", "others_at_position", "among_candidates"]
SUITES = "suites"


def prepare(folder: Path) -> None:
    """A raw day per case (a thousandth of the rows broken), its facts as one file, and a suite of 60."""
    from jobs.lake.tables import RAW
    from jobs.validate.columns import filled, shaped
    from jobs.validate.facts import Neighbours, of_rows
    from jobs.validate.suites import FOLDER

    (folder / SUITES).mkdir()
    for table in RAW:
        suite = json.loads((FOLDER / f"{table}.json").read_text())
        suite["expectations"] = _rules() if table == "impressions" else []
        (folder / SUITES / f"{table}.json").write_text(json.dumps(suite))
    for case, n in CASES.items():
        tables = _day(n)
        for table, rows in tables.items():
            for hour in range(4 if table == "impressions" else 1):
                path = folder / case / table / f"date={DAY}" / f"hour={hour:02d}" / "part-0.parquet"
                path.parent.mkdir(parents=True)
                part = len(rows) // 4 + 1 if table == "impressions" else len(rows)
                pq.write_table(rows.slice(hour * part, part), path)
        rows = {table: filled(shaped(rows, RAW[table]).rows) for table, rows in tables.items()}
        no_shown = tables["impressions"].select(["impression_id", "event_time"]).slice(0, 0)
        known = of_rows("impressions", rows["impressions"], DAY, Neighbours(rows, no_shown))
        frame = {
            name: pa.array(known[name], from_pandas=True) if isinstance(known[name], np.ndarray) else known[name]
            for name in COLUMNS
        }
        pq.write_table(pa.table(frame), folder / f"{case}.parquet")


def _rules() -> list[dict[str, Any]]:
    """60 rules over all 20 columns, of every type the real suite has."""
    rules: list[tuple[str, dict[str, Any]]] = []
    for name in TEXTS:
        rules += [
            ("column_values_to_not_be_null", {"column": name}),
            ("column_values_to_not_be_in_set", {"column": name, "value_set": ["", "nan", "None", "null"]}),
            ("column_value_lengths_to_be_between", {"column": name, "max_value": 256}),
            ("column_values_to_match_regex", {"column": name, "regex": "^[a-z0-9_-]+$"}),
        ]
    for name in NUMBERS:
        rules += [
            ("column_values_to_not_be_null", {"column": name}),
            ("column_values_to_be_between", {"column": name, "min_value": 0, "strict_min": name == "propensity"}),
            ("column_values_to_be_between", {"column": name, "max_value": 1e18}),
        ]
    either = {"ignore_row_if": "either_value_is_missing"}
    rules += [
        ("compound_columns_to_be_unique", {"column_list": ["day", "impression_id"]}),
        ("column_pair_values_to_be_equal", {"column_A": "event_day", "column_B": "day", **either}),
        ("column_pair_values_a_to_be_greater_than_b", {"column_A": "ingested_at", "column_B": "event_time", **either}),
        ("column_values_to_be_between", {"column": "others_at_position", "max_value": 0}),
        ("column_values_to_be_in_set", {"column": "among_candidates", "value_set": [1]}),
        ("column_values_to_be_null", {"column": "source_item_id"}),
    ]
    return [
        {
            "type": f"expect_{type_}",
            "kwargs": kwargs,
            "severity": "critical" if type_.endswith("unique") else "warning",
            "notes": "Nothing: this is a benchmark.",
            "meta": {"name": f"rule_{n}", "scope": "row", "needs": "to hold", "keeps_one": type_.endswith("unique")},
        }
        for n, (type_, kwargs) in enumerate(rules)
    ]


def _day(n: int) -> dict[str, pa.Table]:
    """n impressions in slates of four, the requests they answer, and the catalogue; a few rows of each kind are bad."""
    from jobs.lake.tables import RAW

    rng = np.random.default_rng(7)
    requests = n // SLATE
    request, place = np.arange(n) // SLATE, np.arange(n) % SLATE
    first = rng.integers(0, ITEMS, requests)
    at = int(datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC).timestamp() * 1e6) + rng.integers(0, 86_400_000_000, n)
    ids = np.arange(n)
    ids[rng.integers(0, n, n // 1000)] = 0  # one id for many events
    position = place + 1
    position[rng.integers(0, n, n // 1000)] = 1  # two at one place
    impressions = {
        "impression_id": _named("i", ids),
        "request_id": _named("r", request),
        "event_time": pa.array(at, pa.timestamp("us", "UTC")),
        "ingested_at": pa.array(at + rng.integers(-10, 60_000_000, n), pa.timestamp("us", "UTC")),
        "user_id": _named("u", rng.integers(0, USERS, n), missing=rng.random(n) < 0.001),
        "item_id": _named("c", (first[request] + place) % ITEMS),
        "surface": pa.array(np.array(["home", "search", "Bad Surface"])[rng.choice(3, n, p=[0.7, 0.299, 0.001])]),
        "position": pa.array(position, pa.int32()),
        "propensity": pa.array(rng.uniform(-0.0005, 1, n)),
        "policy": pa.array(["logging"] * n),
        "device": pa.array(np.array(["mobile", "desktop", "null"])[rng.choice(3, n, p=[0.6, 0.399, 0.001])]),
        "region": _named("region_", rng.integers(0, 20, n)),
        "query": _named("q", rng.integers(0, 100_000, n), missing=rng.random(n) < 0.5),
        "source_item_id": _named("c", rng.integers(0, ITEMS, n), missing=rng.random(n) < 0.999),
    }
    listed = (first[:, None] + np.arange(CANDIDATES)) % ITEMS
    offsets = np.arange(requests + 1, dtype=np.int32) * CANDIDATES
    asked = {
        "request_id": _named("r", np.arange(requests)),
        "event_time": pa.array(at[::SLATE][:requests], pa.timestamp("us", "UTC")),
        "surface": pa.array(["home"] * requests),
        "policy": pa.array(["logging"] * requests),
        "candidates": pa.ListArray.from_arrays(offsets, _named("c", listed.ravel())),
        "slate_size": pa.array(np.full(requests, SLATE), pa.int32()),
    }
    return {
        "impressions": pa.table(impressions),
        "clicks": RAW["clicks"].schema.empty_table(),
        "purchases": RAW["purchases"].schema.empty_table(),
        "requests": pa.table(asked),
        "items": pa.table({"item_id": _named("c", np.arange(ITEMS))}),
        "users": pa.table({"user_id": _named("u", np.arange(USERS))}),
    }


def _named(prefix: str, numbers: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    return pa.array(np.char.add(prefix, numbers.astype(str)), pa.string(), mask=missing)


def tidegate(folder: Path, case: str) -> int:
    """The stage's day in one process."""
    from jobs.lake import raw
    from jobs.lake.tables import RAW
    from jobs.validate.batch import NOTHING, Rules, verdicts
    from jobs.validate.suites import Suites

    rules = Rules(Suites(tuple(RAW), folder / SUITES), 1.0, 1)
    ((_, found),) = verdicts(rules, [DAY], lambda table, day: raw.read(folder / case, table, day), NOTHING)
    return _agreed(folder, case, [(f.held, f.outcome.unexpected) for f in found["impressions"].findings if f.outcome])


def tidegate_spark(folder: Path, case: str) -> int:
    """The stage's day on Spark, session included."""
    from jobs.config import SparkSettings
    from jobs.lake import raw
    from jobs.lake.tables import RAW
    from jobs.spark import session
    from jobs.validate.batch import Before, Rules, unreported
    from jobs.validate.spark import Large, judge_days
    from jobs.validate.suites import Suites

    rules, settings = Rules(Suites(tuple(RAW), folder / SUITES), 1.0, 1), SparkSettings()
    files = {table: raw.files(folder / case, table, DAY) for table in RAW}
    parts = {table: folder / "parts" / table for table in (*RAW, "quarantine")}
    large = Large({DAY: files}, {DAY: dict.fromkeys(RAW, "")}, parts)
    before = Before({}, {}, {})
    with session(settings, "bench-validate") as spark:
        ((_, found),) = judge_days(spark, rules, large, lambda _: before, unreported, settings.partitions)
    return _agreed(folder, case, [(f.held, f.outcome.unexpected) for f in found["impressions"].findings if f.outcome])


def great_expectations_spark(folder: Path, case: str) -> int:
    """Great Expectations on the finished facts, on the same Spark, session included."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from jobs.config import SparkSettings
    from jobs.spark import session

    suite = json.loads((folder / SUITES / "impressions.json").read_text())
    with session(SparkSettings(), "bench-validate") as spark:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_spark("bench", persist=False).add_dataframe_asset("facts")
        frame = spark.read.parquet(str(folder / f"{case}.parquet"))
        batch = asset.add_batch_definition_whole_dataframe("day").get_batch({"dataframe": frame})
        outcome = batch.validate(gx.ExpectationSuite(**suite), result_format="BASIC")
    by_name = {result.expectation_config.meta["name"]: result for result in outcome.results}
    results = [by_name[rule["meta"]["name"]] for rule in suite["expectations"]]
    return _agreed(folder, case, [(r.success, r.result["unexpected_count"]) for r in results])


def _agreed(folder: Path, case: str, found: Sequence[tuple[bool, int]]) -> int:
    """The rows that broke something; raises `SystemExit` where an earlier peer found otherwise."""
    path, answers = folder / f"{case}.json", [[bool(held), int(unexpected)] for held, unexpected in found]
    if not path.exists():
        path.write_text(json.dumps(answers))
    if json.loads(path.read_text()) != answers:
        raise SystemExit(f"{case}: peers must agree on every rule; found {answers}, before {path.read_text()}")
    return sum(unexpected for _, unexpected in answers)


PEERS = {"tidegate": tidegate, "tidegate-spark": tidegate_spark, "gx-spark": great_expectations_spark}
TIMES = {"tidegate-spark": 1}
GOALS = {"tidegate": 10, "tidegate-spark": 5}
"""So many times faster than Great Expectations on Spark."""


def goals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Faster than Great Expectations on Spark by a factor; that verdicts agree is checked by every peer."""
    seconds = {row["peer"]: row["seconds"] for row in rows}
    return [
        {
            "goal": f"{peer} at least {times}x faster than Great Expectations on Spark, same verdicts",
            "found": f"{seconds['gx-spark'] / seconds[peer]:.1f}x",
            "met": seconds["gx-spark"] >= times * seconds[peer],
        }
        for peer, times in GOALS.items()
    ]
