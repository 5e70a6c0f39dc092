"""Whatever comes is given on in its order, each list as short as it may be."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.gathered import gathered

SIZES = st.lists(st.integers(0, 9), max_size=30)


@given(SIZES, st.integers(1, 20))
def test_lists_are_in_order_and_end_where_they_are_large_enough(sizes: list[int], size: int) -> None:
    found = list(gathered(sizes, size, lambda item: item))
    assert [item for items in found for item in items] == sizes
    assert all(items and sum(items[:-1]) < size for items in found)
    assert all(sum(items) >= size for items in found[:-1])


def test_an_items_own_length_is_its_size_and_none_is_held_longer_than_needed() -> None:
    coming = iter(["ab", "c", "defg"])
    assert next(gathered(coming, 3)) == ["ab", "c"]
    assert list(coming) == ["defg"]
