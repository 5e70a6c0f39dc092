"""What was scored a moment ago, for whoever asks the same again: a page that is loaded anew, or turned.

What a ranker says of a request depends on the publication, the user, the words and the candidates, and on nothing else:
what is held is what would be computed again, until another publication is offered.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from infra.endpoint.lane import Steps
from infra.endpoint.variant import Offer

T = TypeVar("T")


class Held(Generic[T]):
    """The last `size` outcomes by key, each for one offer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._by_key: OrderedDict[Hashable, tuple[weakref.ref[Offer], T]] = OrderedDict()

    def of(self, key: Hashable, offer: Offer, compute: Callable[[], Steps[T]]) -> Steps[T]:
        """What was computed for the key and this very offer, else what `compute` comes to; not what it raises."""
        with self._lock:
            there = self._by_key.get(key)
            if there is not None and there[0]() is offer:
                self._by_key.move_to_end(key)
                return there[1]
        found = yield from compute()
        with self._lock:
            self._by_key[key] = (weakref.ref(offer), found)
            self._by_key.move_to_end(key)
            while len(self._by_key) > self._size:
                self._by_key.popitem(last=False)
        return found
