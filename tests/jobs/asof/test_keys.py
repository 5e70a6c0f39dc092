"""Keys by fingerprints: the codes are those of the keys themselves, whatever the fingerprints do."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.asof import keys

TEXTS = st.none() | st.text("ab\x00é", max_size=4) | st.sampled_from(["a" * 8, "a" * 16, "a" * 17, "b" * 64, "b" * 65])
ROWS = st.lists(st.tuples(TEXTS, st.none() | st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)])), max_size=30)


def table(rows: list[Any], cut: int) -> pa.Table:
    """(user, item) in two chunks, the second of which does not begin where its buffers do."""
    types = pa.string(), pa.int64()
    columns = []
    for of, kind in zip(zip(*rows, strict=True) if rows else ([], []), types, strict=True):
        whole = pa.array([None, *of], kind)
        columns.append(pa.chunked_array([whole[1 : 1 + cut], whole[1 + cut :]]))
    return pa.table(columns, ["user", "item"])


def wanted(left: list[Any], right: list[Any]) -> list[tuple[int, int]]:
    """Every pair of rows with the same key, no part of which is null."""
    whole = [None not in row for row in left]
    return [(n, m) for n, one in enumerate(left) for m, other in enumerate(right) if whole[n] and one == other]


def met(left: pa.Table, right: pa.Table, names: list[str]) -> list[tuple[int, int]]:
    some, others = keys.codes(left, right, names)
    return [(n, m) for n, one in enumerate(some) for m, other in enumerate(others) if one >= 0 and one == other]


@given(ROWS, ROWS, st.integers(0, 30))
@settings(deadline=None, max_examples=150)
def test_rows_meet_whose_keys_are_the_same(left: list[Any], right: list[Any], cut: int) -> None:
    """Texts that differ in a length, a last byte or a NUL, ones too long for words, integers of any size, nulls."""
    assert met(table(left, cut), table(right, cut), ["user", "item"]) == wanted(left, right)
    short = [[row for row in rows if len(row[0] or "") <= 32] for rows in (left, right)]
    assert met(*(table(rows, cut) for rows in short), ["user", "item"]) == wanted(*short)


def test_keys_of_one_fingerprint_are_still_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fingerprint only says where to look: of these all are 3, by a step that can be undone like the real one."""
    monkeypatch.setattr(keys, "_mixed", lambda before, word: before ^ word)
    rows = [(1, 2), (2, 1), (3, 0), (0, 3), (1, 2)]
    some, others = (
        pa.table([list(side) for side in zip(*of, strict=True)], ["a", "b"]) for of in (rows[:4], rows[::-1])
    )
    assert met(some, others, ["a", "b"]) == wanted(rows[:4], rows[::-1])
    assert met(some[:1], others, ["a", "b"]) == wanted(rows[:1], rows[::-1])
