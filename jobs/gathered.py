"""What comes one by one, some of it at once: as much is held as is wanted together, and given on."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def gathered(items: Iterable[T], size: int, size_of: Callable[[T], int] | None = None) -> Iterator[list[T]]:
    """Lists of items in their order, none of them empty; each ends with the item that brings it to `size`.

    The last may be smaller. An item's size is its length, or what `size_of` says.
    """
    of: Callable[[Any], int] = size_of or len
    held: list[T] = []
    reached = 0
    for item in items:
        held.append(item)
        reached += of(item)
        if reached >= size:
            yield held
            held, reached = [], 0
    if held:
        yield held
