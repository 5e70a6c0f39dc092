"""Ids that are looked for part by part are those that one lookup finds."""

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from jobs.asof.wanted import Wanted

IDS = st.lists(st.one_of(st.none(), st.text("aé ", max_size=20)), max_size=30)


@given(wanted=IDS, ids=IDS, cut=st.integers(0, 30))
def test_any_parts_have_the_rows_of_the_whole(wanted: list[str | None], ids: list[str | None], cut: int) -> None:
    """A null is nobody, wherever it is; an empty id is one like any other."""
    rows = pa.table({"id": pa.array(ids, pa.string()), "n": range(len(ids))})
    of = Wanted.of(pa.chunked_array([pa.array(wanted, pa.string())]))
    parts = [of.among(part, "id") for part in (rows.slice(0, cut), rows.slice(cut))]
    named = pa.array([word for word in wanted if word is not None], pa.string())
    assert pa.concat_tables(parts).to_pylist() == rows.filter(pc.is_in(rows["id"], named)).to_pylist()
