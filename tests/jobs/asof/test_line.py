"""Rows in order by counting digits: the order is the one that comparing finds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.asof.line import order

FIRST, LAST = -(2**63), 2**63 - 1
NUMBERS = st.integers(FIRST, LAST) | st.integers(0, 3) | st.sampled_from([FIRST, LAST, 2**16, 2**16 - 1, 2**32])


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40), st.booleans())
@settings(deadline=None, max_examples=200)
def test_the_order_is_lexsorts_whatever_the_numbers_span(rows: list[tuple[int, int]], in_order: bool) -> None:
    """Numbers of 64 bits from one end to the other, or in order already; equal ones stay as they come."""
    times, codes = (np.array([row[k] for row in (sorted(rows) if in_order else rows)], np.int64) for k in (0, 1))
    assert order(times, codes).tolist() == np.lexsort((times, codes)).tolist()
    assert order(times).tolist() == np.argsort(times, kind="stable").tolist()
