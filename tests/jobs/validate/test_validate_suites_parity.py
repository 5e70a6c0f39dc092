"""The real suites say of real frames what Great Expectations says: of a damaged day and of a simulated one."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.config import Config, LakeSettings, SourceSettings
from jobs.flow import STAGES
from jobs.ingest import job as ingest
from jobs.lake.run import Run
from jobs.lake.tables import RAW, TIME
from jobs.validate import facts
from jobs.validate.columns import shaped
from jobs.validate.kinds import Frame
from jobs.validate.results import document
from jobs.validate.suites import Suites, ValueScope
from models.settings import WorldSettings
from tests.jobs.validate.damaged_day import damaged
from tests.jobs.validate.great_expectations_oracle import on_pandas, pandas_frame
from tests.jobs.validate.raw_days import FIRST, tables_of, write
from tests.jobs.validate.watched_suites import entries, ours, watched

WORLD = WorldSettings(days=3, users=300, items=120, new_items_per_day=5, requests_per_day=400)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, ValueScope, Frame]]:
    """A day in which much is broken, and the simulated world's last one with its late and doubled events."""
    folder = tmp_path_factory.mktemp("lakes")
    write(folder / "damaged", FIRST, damaged(FIRST))
    lake = LakeSettings(root=folder / "lake", raw=folder / "raw")
    config = Config(lake=lake, world=WORLD, source=SourceSettings(name="simulated"))
    ingest.run(Run(STAGES["ingest"], config, WORLD.first_day + timedelta(days=2), WORLD.first_day))
    return watched(folder / "damaged", 1) + watched(folder / "raw", 3)[-2 * len(RAW) :]


def test_values_as_great_expectations_on_pandas(frames: list[tuple[str, ValueScope, Frame]]) -> None:
    """Every rule of every suite about rows and about days: verdict, counts, quoted values and positions."""
    failed = 0
    for table, scope, frame in frames:
        rules = entries(table, scope)
        for rule, found, expected in zip(
            rules, ours(table, scope, frame), on_pandas(rules, pandas_frame(frame)), strict=True
        ):
            assert found == expected, (table, rule)
            failed += not found["success"]
    assert failed >= 20


def empty_frame(rows: pa.Table) -> pd.DataFrame:
    """Columns of the same types without rows; a list `x` shows its values' type as `x.element`."""
    kinds = {field.name: field.type for field in rows.schema}
    kinds |= {f"{name}.element": kind.value_type for name, kind in kinds.items() if pa.types.is_list(kind)}
    plain = {pa.string(): pd.StringDtype("pyarrow"), TIME: pd.DatetimeTZDtype("us", "UTC")}
    plain |= {kind: np.dtype(kind.to_pandas_dtype()) for kind in (pa.int32(), pa.float64())}
    return pd.DataFrame({name: pd.Series(dtype=plain.get(kind, pd.ArrowDtype(kind))) for name, kind in kinds.items()})


@pytest.mark.parametrize("table", RAW)
def test_columns_as_great_expectations_on_pandas(table: str) -> None:
    """All there; each one missing; each one of another type; one nobody knows."""
    suites, rules, whole = Suites((table,)), entries(table, "column"), tables_of(FIRST)[table]
    cases = [whole, whole.append_column("shoe_size", pa.array(range(len(whole))))]
    for name in whole.column_names:
        cases.append(whole.drop_columns([name]))
        binary = pa.array([b"x"] * len(whole))
        cases.append(whole.set_column(whole.column_names.index(name), name, binary))
    for case in cases:
        rows = shaped(case, RAW[table]).rows
        known = facts.of_columns(rows)
        frame = empty_frame(rows)
        assert set(frame.columns) == set(known)
        results = document(table, FIRST, suites.judge_columns(table, known), "run")["results"]
        for rule, found, expected in zip(rules, results, on_pandas(rules, frame), strict=True):
            assert found["success"] == expected["success"], (rule, case.schema)
            if expected["raised"] is None:
                assert found["result"] == {k: v for k, v in expected.items() if k in ("observed_value", "details")}
            else:
                assert (found["success"], found["result"]) == (False, {})
