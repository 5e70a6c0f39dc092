"""How well each request's list was ordered: NDCG, MRR, MAP, recall, precision and hit rate at K.

All are means over the lists whose order can change the figure. A list of one item has an NDCG of 1 whatever ranks it, a
list without a click has 0, a list with every item clicked is in perfect order, and a page of three always has its click
among the first three: such lists say nothing about a ranker. Including them would pull every figure towards the same
value and shrink every difference by their share: if nine lists in ten have one item, a margin of 0.005 would allow a
loss of 0.05. Which lists are left out depends on what was shown and clicked, never on a score, so both sides of a
comparison lose the same ones. They are counted, and if all are left out the metric is refused: "equally perfect" passes
no rule. Most figures are therefore lower than those of tools that average every list with a click.

Tied scores get the exact mean over their orders (McSherry & Najork 2008), so the order of the rows does not matter and
a constant score gets no credit for the logging policy's work.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from models.evaluation.estimate import Finding
from models.evaluation.linear import Linear
from models.evaluation.ranking import checked
from models.settings import GateSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Metric = Literal["ndcg", "mrr", "map", "recall", "precision", "hit_rate"]


def list_metric(
    metric: Metric,
    labels: Floats,
    scores: Floats,
    groups: Ints,
    k: int = 10,
    *,
    settings: GateSettings,
    clusters: Ints | None = None,
) -> Finding:
    """The mean of a list metric at `k` over the lists whose order can change it, in [0, 1], with its interval.

    `labels`: (n,) 0.0 or 1.0. `scores`: (n,), any scale. `groups`: (n,) integers, the request of each row; its rows
    must share one cluster. `clusters`: (n,) whose requests count as one, usually users; by default every
    request is its own. `n` of the result counts the lists used.

    Refused when no list's order can change the figure or a score is not finite; raises ValueError for k < 1, labels
    other than 0 and 1, or a metric that does not exist.
    """
    labels, scores, refusal = checked(labels, scores)
    if refusal:
        return refusal
    if clusters is not None and len(clusters) != len(labels):
        raise ValueError(f"clusters need one entry per row; found {len(clusters)} for {len(labels)} rows")
    return of_requests(metric, labels, scores, groups, k).mean().estimate(settings.confidence, clusters, (0.0, 1.0))


@dataclass(frozen=True)
class Figures:
    """A list metric of every list whose order can change it, by ascending request; both arrays are (lists,).

    `rows`: the number of one row of each list; `values`: its figure, in [0, 1]; `needs`: the metric in words;
    `left_out`: how many lists are left out, by reason.
    """

    rows: Ints
    values: Floats
    needs: str
    left_out: Mapping[str, int]

    def mean(self) -> Linear:
        """Their mean, or the reason why there is none."""
        return Linear.mean(self.values, self.rows, self.lacking)

    @property
    def lacking(self) -> str:
        """The reason if no list is left."""
        counts = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items() if n)
        return f"{self.needs} needs lists whose order can change it; found none" + (f": {counts}" if counts else "")


def of_requests(metric: Metric, labels: Floats, scores: Floats, groups: Ints, k: int) -> Figures:
    """The figure at `k` of each list that is not left out; arguments and raises as `list_metric`."""
    if metric not in FIGURES:
        raise ValueError(f"a list metric needs to be one of {', '.join(get_args(Metric))}; found {metric!r}")
    if k < 1:
        raise ValueError(f"a list metric needs k >= 1; found {k}")
    labels, scores, groups = np.asarray(labels, float), np.asarray(scores, float), np.asarray(groups)
    if not len(labels) == len(scores) == len(groups):
        found = f"{len(labels)}, {len(scores)} and {len(groups)}"
        raise ValueError(f"a list metric needs labels, scores and groups of one length; found {found}")
    names, at = np.unique(groups, return_inverse=True)
    sizes = np.bincount(at, minlength=len(names))
    clicks = np.bincount(at, weights=labels, minlength=len(names)).astype(np.float64, copy=False)
    matters = _order_matters(metric, sizes, clicks, k)
    ranked = _Ranked.of(labels, scores, at, np.flatnonzero(matters[at]), k)
    values = np.clip(FIGURES[metric](ranked), 0.0, 1.0) if len(ranked.order) else np.zeros(0)
    one, unclicked = sizes == 1, (sizes > 1) & (clicks == 0)
    left_out = {
        "of one item": int(one.sum()),
        "without a click": int(unclicked.sum()),
        "the same in every order": int((~matters & ~one & ~unclicked).sum()),
    }
    return Figures(ranked.order[ranked.starts], values, f"{metric}_at_{k}", left_out)


def _order_matters(metric: Metric, sizes: Ints, clicks: Floats, k: int) -> NDArray[np.bool_]:
    """Whether two orders of a list differ in the metric: between the most and the fewest clicks among its first `k`."""
    some_of_it = (clicks > 0) & (clicks < sizes)
    if metric in ("recall", "precision"):
        return some_of_it & (sizes > k)
    if metric == "hit_rate":
        return some_of_it & (sizes - clicks >= k)
    return some_of_it


@dataclass(frozen=True)
class _Ranked:
    """Some requests' rows, best score first within each; runs are rows of one request with tied scores.

    One entry per row: `gain` its label, `place` within the request and `at` within its run (both from 0), `tied` the
    rows and `won` the clicks of its run, `before` the clicks above the run. `clicks` has one entry per request.
    """

    k: int
    order: Ints
    starts: Ints
    gain: Floats
    place: Ints
    at: Ints
    tied: Ints
    won: Floats
    before: Floats
    clicks: Floats

    @classmethod
    def of(cls, labels: Floats, scores: Floats, groups: Ints, rows: Ints, k: int) -> "_Ranked":
        order = rows[np.lexsort((-scores[rows], groups[rows]))]
        group, score, gain = groups[order], scores[order], labels[order]
        another = group[1:] != group[:-1]
        starts, sizes = _runs(another, len(order))
        runs, tied = _runs(another | (score[1:] != score[:-1]), len(order))
        above = np.cumsum(gain) - gain
        return cls(
            k=k,
            order=order,
            starts=starts,
            gain=gain,
            place=np.arange(len(order)) - np.repeat(starts, sizes),
            at=np.arange(len(order)) - np.repeat(runs, tied),
            tied=np.repeat(tied, tied),
            won=np.repeat(_sums(gain, runs), tied),
            before=np.repeat(above[runs], tied) - np.repeat(above[starts], sizes),
            clicks=_sums(gain, starts),
        )

    @property
    def inside(self) -> Floats:
        """1.0 for the places that count."""
        return (self.place < self.k).astype(np.float64)

    def total(self, rows: Floats) -> Floats:
        """The sum over each request's rows."""
        return _sums(rows, self.starts)


def _ndcg(r: _Ranked) -> Floats:
    """Gain 1 per click, discount 1 / log2(place + 1), over the best order's (Järvelin & Kekäläinen 2002)."""
    clicks = np.minimum(r.clicks, r.k).astype(np.int64)
    reached = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(clicks.max()) + 2.0))])
    best: Floats = reached[clicks]
    return r.total(r.won / r.tied * r.inside / np.log2(r.place + 2.0)) / best


def _mrr(r: _Ranked) -> Floats:
    """One over the place of the first click, 0 beyond `k`."""
    return r.total(_first_click_here(r) * r.inside / (r.place + 1.0))


def _map(r: _Ranked) -> Floats:
    """Average precision: the mean, over min(clicks, k), of the precision at each click's place among the first k.

    In a run, a place holds a click with probability won / tied, and then each other place of the run above it holds one
    with probability (won - 1) / (tied - 1).
    """
    others = np.divide(r.won - 1, r.tied - 1, out=np.zeros(len(r.at)), where=r.tied > 1)
    precision = (r.before + 1 + r.at * others) / (r.place + 1.0)
    return r.total(r.won / r.tied * precision * r.inside) / np.minimum(r.clicks, r.k)


def _recall(r: _Ranked) -> Floats:
    """The share of the request's clicks among the first `k`."""
    return r.total(r.won / r.tied * r.inside) / r.clicks


def _precision(r: _Ranked) -> Floats:
    """The share of the first `k` places that hold a click; places a short list does not have count as missed."""
    return r.total(r.won / r.tied * r.inside) / r.k


def _hit_rate(r: _Ranked) -> Floats:
    """Whether any of the first `k` places holds a click."""
    return r.total(_first_click_here(r) * r.inside)


FIGURES: dict[str, Callable[[_Ranked], Floats]] = {
    "ndcg": _ndcg,
    "mrr": _mrr,
    "map": _map,
    "recall": _recall,
    "precision": _precision,
    "hit_rate": _hit_rate,
}


def _first_click_here(r: _Ranked) -> Floats:
    """The probability, over the orders of ties, that the request's first click is at this very place.

    Only in the first run with a click; there C(tied - 1 - at, won - 1) / C(tied, won): the other clicks lie behind it.
    """
    here = (r.before == 0) & (r.won > 0) & (r.at <= r.tied - r.won)
    behind, won, tied = (r.tied - 1 - r.at)[here], r.won[here], r.tied[here]
    chance = np.zeros(len(r.at))
    chance[here] = np.exp(_log_choose(behind, won - 1) - _log_choose(tied, won))
    return chance


def _log_choose(n: Ints, k: Floats) -> Floats:
    found: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return found


def _runs(changes: NDArray[np.bool_], n: int) -> tuple[Ints, Ints]:
    """Where runs begin and how long they are, given whether each element but the first differs from the one before."""
    starts = np.flatnonzero(np.concatenate([[n > 0], changes]))
    return starts, np.diff(np.append(starts, n))


def _sums(values: Floats, starts: Ints) -> Floats:
    return np.add.reduceat(values, starts) if len(starts) else np.zeros(0)
