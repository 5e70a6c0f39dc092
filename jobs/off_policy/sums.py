"""From record batches to an answer, holding one batch, sums, and a few numbers per cluster: never the rows.

Batches may be cut anywhere and clusters may come back in any of them. Pages may be cut too, but come in ascending order
of `slate`: what is left of the last page waits for the next batch, and an order that is broken is a fault, since a page
that came back would count twice. A file or partition that was read is a `Part`, and parts add up; a page is in one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.off_policy import columns
from jobs.off_policy.columns import Bools, Broken, Faults, Floats, Ints
from jobs.off_policy.question import DOWN_THE_PAGE, Question
from models.evaluation.diagnostics import Diagnostics, WeightStatistics, guarded
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.intervals import PoissonBootstrap
from models.evaluation.moments import ClusterSums
from models.evaluation.slates import Pages
from models.evaluation.sufficient import SufficientStatistics
from models.evaluation.weighting import Log
from models.settings import GateSettings


@dataclass(frozen=True)
class Sums:
    """Everything an answer is a function of."""

    statistics: SufficientStatistics
    weights: WeightStatistics
    bootstrap: PoissonBootstrap | None

    def __add__(self, other: Self) -> Self:
        """Of both sets of rows."""
        bootstrap = self.bootstrap + other.bootstrap if self.bootstrap and other.bootstrap else None
        return type(self)(self.statistics + other.statistics, self.weights + other.weights, bootstrap)

    def settled(self) -> Self:
        """A few hundred numbers whatever the clusters, none of which may come back."""
        return type(self)(self.statistics.settled(), _settled(self.weights), self.bootstrap)

    @property
    def size(self) -> int:
        """The clusters held."""
        units = self.statistics.units
        return len(units.keys) if isinstance(units, ClusterSums) else 1


@dataclass(frozen=True)
class Part:
    """What was found in some rows: how many there are, those without propensity, what cannot be, and sums of the rest.

    `sums` is None where no batch could be summed.
    """

    rows: int = 0
    unlogged: int = 0
    faults: Faults = field(default_factory=dict)
    sums: Sums | None = None

    def __add__(self, other: Self) -> Self:
        """Of the rows of both, these first."""
        sums = self.sums + other.sums if self.sums and other.sums else self.sums or other.sums
        faults = columns.added(self.faults, other.faults)
        return type(self)(self.rows + other.rows, self.unlogged + other.unlogged, faults, sums)

    def settled(self) -> Self:
        """The same with its clusters closed."""
        return replace(self, sums=self.sums.settled()) if self.sums else self

    @property
    def size(self) -> int:
        """How many clusters are held; at least 1."""
        return max(1, self.sums.size) if self.sums else 1


@dataclass(frozen=True)
class Answer:
    """What the target policy would have earned, by the guard's leave, and how far the weights can be trusted."""

    question: Question
    rows: int
    finding: Finding
    bootstrap: Finding | None
    diagnostics: Diagnostics | None

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {
            **asdict(self.question),
            "rows": self.rows,
            "finding": self.finding.as_dict(),
            "bootstrap": self.bootstrap and self.bootstrap.as_dict(),
            "diagnostics": self.diagnostics and self.diagnostics.as_dict(),
        }


def read(batches: Iterable[pa.RecordBatch], question: Question, where: str) -> Part:
    """The sums of a file's or a partition's batches; `where` is what it is called in a fault."""
    return added_up(_parts(batches, question, where))


def added_up(parts: Iterable[Part]) -> Part:
    """The sum of parts, likes with likes: never more than two times the clusters of all are held beside the next part.

    Added one by one, all users seen so far would be sorted again for every batch.
    """
    held: list[Part] = []
    for part in parts:
        while held and held[-1].size <= 2 * part.size:
            part = held.pop() + part
        held.append(part)
    total = Part()
    while held:
        total = held.pop() + total
    return total


def answered(part: Part, question: Question, settings: GateSettings) -> Answer:
    """The answer, refused where the guard's `settings` say so. Raises `Refused` where a value cannot be.

    The guard looks at the weights whatever the estimator: where they carry nothing, nothing checks a model either.
    """
    columns.refuse(part.faults)
    if part.unlogged:
        reason = Refusal(f"{part.unlogged} of {part.rows} rows have no propensity", part.rows)
        return Answer(question, part.rows, reason, None, None)
    if part.sums is None:
        return Answer(question, part.rows, Refusal("the estimate needs logged decisions; found none"), None, None)
    found = part.sums.weights.diagnostics()
    finding = guarded(part.sums.statistics, found, settings)
    bootstrap: Finding | None = None
    if part.sums.bootstrap and isinstance(finding, Estimate):
        try:
            bootstrap = part.sums.bootstrap.estimate(settings.confidence)
        except ValueError as unable:
            bootstrap = Refusal(str(unable), finding.n, finding.effective_n)
    return Answer(question, part.rows, finding, bootstrap, found)


def _parts(batches: Iterable[pa.RecordBatch], question: Question, where: str) -> Iterator[Part]:
    tables = (pa.Table.from_batches([batch]) for batch in batches)
    row, before = 0, None
    wrong = False
    for rows in _whole_pages(tables) if question.of_pages else tables:
        part = _part(rows, question, row, where, before, sum_up=not wrong)
        row, before = row + len(rows), rows.slice(len(rows) - 1) if len(rows) else before
        wrong = wrong or bool(part.faults) or bool(part.unlogged)
        yield part


def _whole_pages(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, cut where a page ends."""
    rest: pa.Table | None = None
    for table in tables:
        rows = table if rest is None else pa.concat_tables([rest, table])
        pages = columns.identities(rows.column("slate"))
        starts = np.flatnonzero(pages[1:] != pages[:-1]) + 1
        cut = int(starts[-1]) if len(starts) else 0
        if cut:
            yield rows.slice(0, cut)
        rest = rows.slice(cut)
    if rest is not None:
        yield rest


def _part(
    rows: pa.Table, question: Question, first_row: int, where: str, before: pa.Table | None, sum_up: bool
) -> Part:
    """One batch, `before` the row before it; summed unless something is wrong with it or, as `sum_up` says, before."""
    keys = {name: columns.identities(rows.column(name)) for name in columns.KEYS if name in question.columns}
    arrays = {name: columns.numbers(rows, name) for name in question.columns if name not in keys}
    unlogged = int(np.isnan(arrays["logged"]).sum())
    broken: Broken = {**columns.impossible(arrays), **columns.nameless(rows, keys)}
    if question.of_pages and not any(bad.any() for _, bad in broken.values()):
        broken = _broken_pages(rows, keys, arrays["position"], before)
    faults = columns.faults(rows, broken, first_row, where)
    good = sum_up and len(rows) > 0 and not faults and not unlogged
    return Part(len(rows), unlogged, faults, _sums(question, arrays, keys) if good else None)


def _broken_pages(rows: pa.Table, keys: Mapping[str, Ints], position: Floats, before: pa.Table | None) -> Broken:
    """Which rows break pages whose values are all possible: their order, their places, whose they are."""
    page, n = keys["slate"], len(rows)
    seen = rows if before is None else pa.concat_tables([before, rows])
    slates = seen.column("slate")
    if pa.types.is_dictionary(slates.type):
        slates = slates.cast(slates.type.value_type)
    back, twice, torn = (np.zeros(n, dtype=bool) for _ in range(3))
    if len(seen) > 1:
        back[n + 1 - len(seen) :] = pc.less(slates.slice(1), slates.slice(0, len(seen) - 1)).to_numpy()
    order = np.lexsort((position, page))
    same = page[order][1:] == page[order][:-1]
    twice[order[1:]] = same & (position[order][1:] == position[order][:-1])
    broken: dict[str, tuple[str, Bools]] = {
        "slate": ("pages in ascending order, as sorted by slate (on Spark any order will do)", back),
        "position": ("each position once on a page", twice),
    }
    if "cluster" in keys:
        torn[order[1:]] = same & (keys["cluster"][order][1:] != keys["cluster"][order][:-1])
        broken["cluster"] = "the same in all rows of a page", torn
    return broken


def _sums(question: Question, arrays: Mapping[str, Floats], keys: Mapping[str, Ints]) -> Sums:
    """The sums of rows that are all possible."""
    log = [arrays[name] for name in ("reward", "logged", "target")]
    model = [arrays.get(name) for name in ("predicted_logged", "predicted_target")]
    clusters = keys.get("cluster")
    if question.of_pages:
        pages = Pages.checked(keys["slate"], arrays["position"].astype(np.int64), *log, *model)
        terms = question.terms(pages)
        weights = _weights_of_pages(question, pages, keys["slate"], clusters)
        clusters = pages.of_page(clusters)
    else:
        decisions = Log.checked(*log, *model)
        terms = question.terms(decisions)
        weights = WeightStatistics.of_log(decisions, clusters)
    bootstrap = None
    if question.replicates and clusters is not None:
        bootstrap = PoissonBootstrap.of(terms, users=clusters, replicates=question.replicates, seed=question.seed)
    return Sums(SufficientStatistics.of(terms, clusters=clusters), weights, bootstrap)


def _weights_of_pages(question: Question, pages: Pages, slate: Ints, clusters: Ints | None) -> WeightStatistics:
    """A page's weight, of its whole way down; or its placements', which depend on one another, each by itself."""
    log = pages.log
    if question.estimator in DOWN_THE_PAGE:
        return WeightStatistics.of_log(pages.whole(), pages.of_page(clusters))
    if clusters is not None:
        return WeightStatistics.of_log(log, clusters[pages.order])
    return _settled(WeightStatistics.of_log(log, slate[pages.order]))


def _settled(weights: WeightStatistics) -> WeightStatistics:
    """The same with every cluster closed."""
    return replace(weights, units=weights.units.moments() if isinstance(weights.units, ClusterSums) else weights.units)
