"""What a model learned from, in a few numbers a column: the reference that later days are held against.

Cells are fixed by the reference and never by the day that is compared: tenths of a number's values and its nulls, the
frequent words, the rare ones, words that were never seen, and nulls. (Cells laid over both samples together, or of
equal width, let one outlier of the day hide a shift of everything else.)
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.experiments.assignment import unit_hash

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["numbers", "words"]
EVERYWHERE = ""
"""The name of all surfaces together."""
TENTHS = np.arange(1, 10) / 10
GRID = np.arange(1, 100) / 100
"""Where the quantiles of a number are kept."""
HARDLY = 0.005
"""Cells that the reference has less of are one together, and count as this much: a share of 0 has no logarithm."""
MIN_USERS = 30
"""Of a day, to tell how noisy its shares are."""
FREQUENT, KNOWN = 20, 1_000
"""Words that have a cell of their own, at most; words that are remembered as seen, at most."""


@dataclass(frozen=True)
class Part:
    """A column on one surface: `shares` of its cells, of `n` rows of `users`, worth `effective_n` independent rows.

    Rows of one user resemble one another, and sampled rows weigh more: `effective_n` is n over the mean design effect
    of the shares (Rao & Scott 1981), the figure that makes their noise what it is. `usual`: the largest stability index
    that one of the reference's own days has against all of them. What is counted at a midnight is alike for a whole
    day and another on the next, and what is counted since a beginning grows: no single day is like a month of them.
    """

    n: int
    users: int
    effective_n: float
    shares: tuple[float, ...]
    usual: float = 0.0


@dataclass(frozen=True)
class Column:
    """The cells of a column, and how the reference fills them, by surface; `EVERYWHERE` is all rows.

    Numbers: `edges` ascending, a value is in the cell of as many edges as it reaches; then nulls. Words: those of
    `names`, `rare` ones, unseen ones, nulls. `quantiles` are a number's at `GRID`.
    """

    kind: Kind
    parts: Mapping[str, Part]
    edges: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many cells there are; the last is of nulls, for words the one before of unseen ones."""
        return len(self.edges) + 2 if self.kind == "numbers" else len(self.names) + 3

    def cells(self, values: NDArray[Any]) -> Ints:
        """(n,) the cell of each value. Raises ValueError for words where numbers are needed, or the other way."""
        if (np.asarray(values).dtype == object) != (self.kind == "words"):
            raise ValueError(f"the reference has {self.kind} here; found {np.asarray(values).dtype}")
        if self.kind == "numbers":
            numbers = np.asarray(values, dtype=np.float64)
            at = np.searchsorted(np.array(self.edges), numbers, side="right")
            return np.where(np.isfinite(numbers), at, self.size - 1).astype(np.int64)
        places = {name: at for at, name in enumerate(self.names)} | dict.fromkeys(self.rare, len(self.names))
        places[None] = self.size - 1  # type: ignore[index]
        words, code = _coded(values)
        return np.array([places.get(word, self.size - 2) for word in words], dtype=np.int64)[code]


@dataclass(frozen=True)
class Profile:
    """The columns of a training, by name."""

    columns: Mapping[str, Column]

    @classmethod
    def of(
        cls,
        columns: Mapping[str, NDArray[Any]],
        users: Ints,
        surface: NDArray[Any],
        weight: Floats | None = None,
        days: Ints | None = None,
    ) -> Self:
        """From columns of (n,) numbers (NaN: null) or words (None: null), the rows' users and surfaces.

        `weight` (n,) above 0: how many rows each stands for, where some were left out. `days` (n,): of which day each
        is; without them they are all of one. Raises ValueError without rows.
        """
        if not len(users):
            raise ValueError("a reference needs rows; found none")
        each = np.ones(len(users)) if weight is None else weight
        day = np.zeros(len(users), np.int64) if days is None else numbered(days)
        return cls({name: _column(np.asarray(of), users, surface, each, day) for name, of in sorted(columns.items())})

    def __or__(self, other: "Profile") -> "Profile":
        """Of both; a column of both is the other's."""
        return Profile({**self.columns, **other.columns})

    def to_json(self) -> bytes:
        """The same bytes for the same profile."""
        tree = {name: asdict(column) for name, column in self.columns.items()}
        return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """What `to_json` wrote."""
        return cls({name: _of_tree(tree) for name, tree in json.loads(content).items()})


def drawn(users: Iterable[str | None], share: float) -> NDArray[np.bool_]:
    """Which of these users are among about that share of all, by their ids alone: the same on every day.

    Salted by what it is for: whoever a release, an experiment or a simulation draws by id is in a sample by chance
    alone. (A checksum would not do: of two salts it is the same number but for some bits turned round.)
    """
    return np.array([unit_hash(f"monitoring:{user}") < share for user in users], dtype=bool)


def counts(cell: Ints, size: int, users: Ints, weight: Floats | None = None) -> csr_array:
    """(users, size) rows of each user in each cell, or their weight."""
    at = numbered(users)
    each = np.ones(len(cell)) if weight is None else weight
    return csr_array((each, (at, cell)), shape=(int(at.max(initial=-1)) + 1, size))


def numbered(users: Ints) -> Ints:
    """(n,) the users from 0 on without a gap, in their order; small numbers need no sorting."""
    if not len(users) or users.min() < 0 or users.max() > 8 * len(users):
        return np.unique(users, return_inverse=True)[1].astype(np.int64)
    there = np.bincount(users) > 0
    found: Ints = (np.cumsum(there) - 1)[users]
    return found


def covariance(of_user: csr_array, shares: Floats) -> Floats:
    """(size, size) of the shares, users independent: sums of their influences' products, by the delta method."""
    rows, users = float(of_user.sum()), of_user.shape[0]
    each = np.asarray(of_user.sum(axis=1)).reshape(-1)
    cross = np.asarray(of_user.T @ each).reshape(-1)
    square = (of_user.T @ of_user).toarray()
    centred = square - np.outer(cross, shares) - np.outer(shares, cross) + float(each @ each) * np.outer(shares, shares)
    found: Floats = centred / rows**2 * users / max(1, users - 1)
    return found


def merged(shares: Floats) -> Ints:
    """(size,) the number of each cell, those that the reference hardly has being one, the last."""
    hardly = shares < HARDLY
    number = np.cumsum(~hardly) - 1
    found: Ints = np.where(hardly, (~hardly).sum(), number)
    return found


def stability_index(p: Floats, q: Floats, n: int) -> float:
    """The population stability index of n rows' shares p against the reference's q, merged cells; as found, in nats."""
    hardly = np.where(q < HARDLY, HARDLY, 0.5 / n)
    p, q = np.maximum(p, hardly), np.maximum(q, hardly)
    return float(((p - q) * np.log(p / q)).sum())


def _column(values: NDArray[Any], users: Ints, surface: NDArray[Any], weight: Floats, day: Ints) -> Column:
    bare = _words(values, weight) if values.dtype == object else _numbers(values, weight)
    cell = bare.cells(values)
    parts = {EVERYWHERE: _part(cell, bare.size, users, weight, day)}
    for name in sorted({word for word in surface if word is not None}):
        mine = np.flatnonzero(surface == name)
        parts[str(name)] = _part(cell[mine], bare.size, users[mine], weight[mine], day[mine])
    return Column(bare.kind, parts, bare.edges, bare.quantiles, bare.names, bare.rare)


def _numbers(values: NDArray[Any], weight: Floats) -> Column:
    known = np.asarray(values, dtype=np.float64)
    there = np.isfinite(known)
    known, weight = known[there], weight[there]
    if not len(known):
        return Column("numbers", {})
    at = np.quantile(known, np.concatenate([TENTHS, GRID]), method="inverted_cdf", weights=weight)
    tenths, times = np.unique(at[: len(TENTHS)], return_counts=True)
    # What a tenth of the rows have is a cell of its own: the rest must not hide behind it.
    above = [known[known > value].min(initial=np.inf) for value in tenths[times > 1]]
    edges = np.unique(np.concatenate([tenths, above]))
    edges = edges[(edges > known.min()) & np.isfinite(edges)]  # nothing of the reference is below its least value
    return Column("numbers", {}, tuple(edges.tolist()), tuple(at[len(TENTHS) :].tolist()))


def _words(values: NDArray[Any], weight: Floats) -> Column:
    words, code = _coded(values)
    sums = np.bincount(code, weights=weight, minlength=len(words))
    known = sorted((-n, str(word)) for n, word in zip(sums, words, strict=True) if word is not None)
    names = [word for _, word in known]
    return Column("words", {}, names=tuple(names[:FREQUENT]), rare=tuple(names[FREQUENT:KNOWN]))


def _coded(values: NDArray[Any]) -> tuple[list[Any], Ints]:
    places: dict[Any, int] = {}
    code = np.fromiter((places.setdefault(word, len(places)) for word in values), np.int64, len(values))
    return list(places), code


def _part(cell: Ints, size: int, users: Ints, weight: Floats, day: Ints) -> Part:
    n, of_user = len(cell), counts(cell, size, users, weight)
    shares = np.bincount(cell, weights=weight, minlength=size) / weight.sum()
    there = shares > 0
    spread = float((np.diag(covariance(of_user, shares))[there] / shares[there]).sum())
    # Of m independent rows that sum is the number of cells less one, over m.
    worth = max(1, int(there.sum()) - 1) / spread if spread else float(weight.sum())
    # As many digits as mean something: sums in another order of the rows must not make other bytes.
    effective_n = float(f"{min(float(weight.sum()), worth):.6g}")
    usual = float(f"{_usual(cell, weight, day, shares):.6g}")
    return Part(n, of_user.shape[0], effective_n, tuple(round(float(share), 9) for share in shares), usual)


def _usual(cell: Ints, weight: Floats, day: Ints, shares: Floats) -> float:
    """Of the days with enough rows, several at least; 0 of one alone. Nulls are left out, as of a day's index."""
    there, days = 1 - float(shares[-1]), int(day.max()) + 1
    if not there or days == 1:
        return 0.0
    number = merged(shares[:-1] / there)
    q = np.bincount(number, weights=shares[:-1] / there).astype(np.float64)
    known = cell < len(shares) - 1
    at = day[known] * len(q) + number[cell[known]]
    rows = np.bincount(day[known], minlength=days)
    of_day = np.bincount(at, weights=weight[known], minlength=days * len(q)).reshape(days, len(q))
    enough = np.flatnonzero(rows >= MIN_USERS)
    return max((stability_index(of_day[n] / of_day[n].sum(), q, int(rows[n])) for n in enough), default=0.0)


def _of_tree(tree: Mapping[str, Any]) -> Column:
    parts = {name: Part(**{**part, "shares": tuple(part["shares"])}) for name, part in tree["parts"].items()}
    lists = {name: tuple(tree[name]) for name in ("edges", "quantiles", "names", "rare")}
    return Column(tree["kind"], parts, **lists)
