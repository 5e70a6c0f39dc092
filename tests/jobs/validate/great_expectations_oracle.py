"""What Great Expectations itself says of a frame, on pandas and on Spark: the yardstick of `jobs.validate`."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.validate.kinds import Frame

FIGURES = (
    "element_count",
    "unexpected_count",
    "unexpected_percent",
    "partial_unexpected_list",
    "missing_count",
    "missing_percent",
    "unexpected_percent_total",
    "unexpected_percent_nonmissing",
    "observed_value",
    "details",
)
_names: Iterator[int] = count()


@cache
def context() -> Any:
    """One silent context per process."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations
    from great_expectations.data_context.types.base import ProgressBarsConfig

    opened = great_expectations.get_context(mode="ephemeral")
    opened.variables.progress_bars = ProgressBarsConfig(globally=False)
    return opened


def pandas_frame(frame: Frame) -> pd.DataFrame:
    """Text as Python objects with None for null, numbers as floats."""
    return pd.DataFrame({name: _objects(values) for name, values in frame.items()})


def _objects(values: Any) -> Any:
    return values if isinstance(values, np.ndarray) else pd.Series(values.to_pylist(), dtype=object)


def arrow_table(frame: Frame) -> pa.Table:
    """The frame with null for NaN and the rows' positions in `row`."""
    columns = {
        name: pa.array(values, from_pandas=True) if isinstance(values, np.ndarray) else values
        for name, values in frame.items()
    }
    n = len(next(iter(columns.values())))
    return pa.table({**columns, "row": pa.array(range(n), pa.int64())})


def on_pandas(entries: Sequence[Mapping[str, Any]], frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Great Expectations' result of each entry; failing positions under `rows`."""
    source = context().data_sources.add_pandas(f"pandas-{next(_names)}")
    return _results(source, entries, frame, {"result_format": "COMPLETE", "return_unexpected_index_query": False})


def on_spark(spark: Any, entries: Sequence[Mapping[str, Any]], table: pa.Table) -> list[dict[str, Any]]:
    """The same on Spark; `table` has a column `row`."""
    source = context().data_sources.add_spark(f"spark-{next(_names)}", persist=False)
    how = {
        "result_format": "COMPLETE",
        "return_unexpected_index_query": False,
        "unexpected_index_column_names": ["row"],
    }
    return _results(source, entries, spark.createDataFrame(table), how)


def _results(source: Any, entries: Sequence[Mapping[str, Any]], data: Any, how: Mapping[str, Any]) -> list[dict]:
    import great_expectations

    asset = source.add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": data})
    named = [{**entry, "meta": {**entry.get("meta", {}), "position": n}} for n, entry in enumerate(entries)]
    suite = great_expectations.ExpectationSuite(name="suite", expectations=named)
    outcome = batch.validate(suite, result_format=dict(how)).to_json_dict()
    context().data_sources.delete(source.name)
    found = sorted(outcome["results"], key=lambda result: result["expectation_config"]["meta"]["position"])
    return [_result(result) for result in found]


def _result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Verdict, figures, positions; what it raised, if it did."""
    found = {name: result["result"][name] for name in FIGURES if name in result["result"]}
    rows = result["result"].get("unexpected_index_list") or []
    positions = sorted(row["row"] if isinstance(row, dict) else row for row in rows)
    return {"success": result["success"], **found, "rows": positions, "raised": _raised(result["exception_info"])}


def _raised(info: Mapping[str, Any]) -> str | None:
    entries = [info] if "raised_exception" in info else list(info.values())
    return next((str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")), None)
