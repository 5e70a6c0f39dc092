"""A day that comes some rows at once is the day that comes whole: the same files, whatever it is cut into."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import Refused
from jobs.lake import raw, raw_writer
from jobs.lake.tables import RAW
from jobs.places import parquet

DAY = date(2026, 3, 2)
NEXT = DAY + timedelta(days=1)


def impressions(hours: list[int]) -> pa.Table:
    """A row an hour."""
    return pa.Table.from_pylist(
        [
            {
                "impression_id": f"i{n}",
                "request_id": f"r{n}",
                "event_time": datetime(DAY.year, DAY.month, DAY.day, hour, n % 60, tzinfo=UTC),
                "item_id": "i",
                "surface": "home",
                "position": 1,
                "policy": "p",
            }
            for n, hour in enumerate(hours)
        ],
        RAW["impressions"].schema,
    )


def files(folder: Path) -> dict[str, pa.Table]:
    """What lies there, by name."""
    return {str(path.relative_to(folder)): parquet(path).read() for path in sorted(folder.rglob("*.parquet"))}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hours=st.lists(st.integers(0, 23), max_size=20).map(sorted),
    cuts=st.lists(st.integers(0, 20), max_size=6),
    most=st.integers(1, 8),
)
def test_any_split_of_a_day_gives_the_same_files(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    hours: list[int],
    cuts: list[int],
    most: int,
) -> None:
    """No file has more rows than one may; together, in the order of their names, they have the day's in its order."""
    monkeypatch.setattr(raw_writer, "PART_ROWS", most)
    rows, folder = impressions(hours), tmp_path_factory.mktemp("raw")
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = [rows.slice(first, last - first) for first, last in pairwise(edges)]
    assert raw_writer.write_day(folder / "whole", DAY, {"impressions": rows})["impressions"] == len(rows)
    assert raw_writer.write_day(folder / "split", DAY, {"impressions": iter(pieces)})["impressions"] == len(rows)
    found = files(folder / "split")
    assert {name: of.to_pylist() for name, of in found.items()} == {
        name: of.to_pylist() for name, of in files(folder / "whole").items()
    }
    mine = [found[f"{path.relative_to(folder / 'split')}"] for path in raw.files(folder / "split", "impressions", DAY)]
    assert all(len(of) <= most for of in mine)
    assert pa.concat_tables(mine).to_pylist() == rows.to_pylist()


def test_a_day_of_several_files_an_hour_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one of fewer; what came late stays, and a stream that goes back in time leaves everything as it was."""
    monkeypatch.setattr(raw_writer, "PART_ROWS", 2)
    raw_writer.write_day(tmp_path, DAY, {"impressions": impressions([3, 3, 3, 3, 3])})
    raw_writer.write_late(tmp_path, DAY, NEXT, {"impressions": impressions([3])})
    names = [path.name for path in raw.files(tmp_path, "impressions", DAY)]
    assert names == [f"late-{NEXT}.parquet", "part-0.parquet", "part-1.parquet", "part-2.parquet"]
    with pytest.raises(Refused, match="in the order of their time; found 05 h before 04 h"):
        raw_writer.write_day(tmp_path, DAY, {"impressions": iter([impressions([4, 5]), impressions([4])])})
    assert [path.name for path in raw.files(tmp_path, "impressions", DAY)] == names
    raw_writer.write_day(tmp_path, DAY, {"impressions": impressions([3])})
    assert [path.name for path in raw.files(tmp_path, "impressions", DAY)] == [names[0], "part-0.parquet"]
