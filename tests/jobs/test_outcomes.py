"""What a label says as of a time: true, false or unknown, and true only while it was thought so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.lake.tables import LAKE
from jobs.outcomes import as_known, so_far

CUT = datetime(2026, 1, 31, tzinfo=UTC)
HOURS = st.one_of(st.none(), st.integers(-50, 50))
SPANS = st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 50)), max_size=3)


def label(happened: bool | None, known: int | None, matures: int | None, spans: Any = None) -> dict[str, Any]:
    """A label's columns about conversion, in hours from the cut."""

    def time(hours: int | None) -> datetime | None:
        return None if hours is None else CUT + timedelta(hours=hours)

    over = None if spans is None else [{"known_at": time(begin), "until": time(begin + n)} for begin, n in spans]
    return {
        "converted": happened,
        "conversion_known_at": time(known),
        "conversion_superseded": over,
        "matures_at": time(matures),
    }


def known(*rows: dict[str, Any]) -> list[bool | None]:
    fields = [LAKE["labels"].schema.field(name) for name in rows[0]]
    found: list[bool | None] = as_known(
        pa.Table.from_pylist(list(rows), pa.schema(fields)), "converted", CUT
    ).to_pylist()
    return found


@given(st.sampled_from([True, False, None]), HOURS, HOURS, st.one_of(st.none(), SPANS))
@settings(deadline=None)
def test_a_label_is_true_false_or_unknown(
    happened: bool | None, known_at: int | None, matures: int | None, spans: list[tuple[int, int]] | None
) -> None:
    """True needs an outcome known before the cut (and not yet taken back), False a mature label; else it is unknown."""
    for_good = bool(happened) and known_at is not None and known_at < 0
    if for_good or any(begin < 0 <= begin + n for begin, n in spans or []):
        wanted: bool | None = True
    else:
        wanted = False if matures is not None and matures <= 0 else None
    row = label(happened, known_at, matures, spans)
    assert known(row) == [wanted]
    # Beside other rows too: lists are read from where they lie.
    assert known(label(False, None, 0, [(-3, 9)]), row, label(False, None, 0)) == [True, wanted, False]


def test_a_late_conversion_is_unknown_never_zero() -> None:
    """The trap this exists for: bought, but not yet known, and the window still open."""
    assert known(label(True, 5, 100)) == [None]
    assert known(label(False, None, 100)) == [None]
    assert known(label(False, None, 0)) == [False]
    assert known(label(True, 0, 100)) == [None]  # known exactly at the cut is not known before it


def test_a_slice_of_labels_is_read_as_its_own_rows() -> None:
    """A slice keeps the lists of the whole in memory; they are not its own."""
    rows = [label(False, None, 0, [(-3, 9)]), label(False, None, 0), label(False, None, 0, [(-3, 9)])]
    fields = [LAKE["labels"].schema.field(name) for name in rows[0]]
    labels = pa.Table.from_pylist(rows, pa.schema(fields))
    assert so_far(labels.slice(1), "converted", CUT).to_pylist() == [False, True]
