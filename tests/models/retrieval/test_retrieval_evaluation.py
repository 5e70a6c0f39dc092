"""Recall by full ranking against sets, its intervals against worlds whose truth is known, and who is chosen."""

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.linear import Linear
from models.retrieval import RETRIEVERS
from models.retrieval.ease import Ease
from models.retrieval.evaluation import HeldOut, Quality, choose, quality
from models.retrieval.interactions import Bools, Interactions
from models.retrieval.item_cf import ItemCF
from models.retrieval.popularity import PopularityRetriever
from models.settings import RetrievalSettings
from tests.models.retrieval.worlds import grouped

SETTINGS = RetrievalSettings(ease={"l2": 5}, item_cf={"shrinkage": 1})


def split(data: Interactions, cut: float = 8.0) -> tuple[Interactions, Interactions]:
    return data.at(data.time < cut), data.at(data.time >= cut)


def removed_of(data: Interactions) -> Bools:
    return np.arange(data.items) % 11 == 3


@pytest.mark.parametrize("kind", ["popularity", "item_cf"])
def test_recall_and_coverage_are_those_of_sets(kind: str) -> None:
    """User by user in plain Python; new items are ones the training half never saw."""
    data = grouped(users=120)
    before, after = split(data)
    before = before.at(before.item < 40)
    removed = removed_of(data)
    retriever = RETRIEVERS[kind].fit(before, SETTINGS)
    held_out = HeldOut.of(before, after, removed)
    found = quality(retriever, held_out, 10)
    recalls, new_recalls, offered = [], [], set()
    old_items = set(before.item.tolist())
    for user in range(data.users):
        history = set(before.item[before.user == user].tolist())
        taken = set(after.item[after.user == user].tolist()) - history - set(np.flatnonzero(removed))
        if not taken:
            continue
        row = Interactions(
            np.zeros(len(history), dtype=np.int64), np.array(sorted(history), dtype=np.int64), np.zeros(len(history)),
            np.ones(len(history)), 1, data.items,
        )  # fmt: skip
        scores = retriever.scores(row.matrix())[0]
        allowed = [i for i in range(data.items) if i not in history and not removed[i]]
        best = sorted(allowed, key=lambda i: (-scores[i], -retriever.popular[i], i))[:10]
        offered |= set(best)
        recalls.append(len(taken & set(best)) / len(taken))
        if new := taken - old_items:
            new_recalls.append(len(new & set(best)) / len(new))
    assert found.recall.value == pytest.approx(np.mean(recalls))
    assert len(found.recall.rows) == len(recalls)
    assert found.new_item_recall.value == pytest.approx(np.mean(new_recalls))
    assert len(found.new_item_recall.rows) == len(new_recalls) > 0
    assert found.coverage == len(offered) / (~removed).sum()
    assert set(np.unique(found.offered).tolist()) == offered


def test_a_leak_in_time_is_refused() -> None:
    """Held-out interactions among those learned from would crown whoever remembers best."""
    data = grouped()
    before, after = split(data)
    with pytest.raises(ValueError, match="later than all that was learned from"):
        HeldOut.of(data, after)
    with pytest.raises(ValueError, match="took up something new; found none in 0"):
        HeldOut.of(before, after.at(np.zeros(0, dtype=np.int64)))


def test_without_new_items_their_recall_is_refused_not_zero() -> None:
    """A day without new items says nothing about how well they are found."""
    before, after = split(grouped())
    found = quality(PopularityRetriever.fit(before, SETTINGS), HeldOut.of(before, after), 5).new_item_recall
    assert isinstance(found.estimate(0.95), Refusal)


def test_who_knows_groups_beats_popularity_for_sure() -> None:
    """The choice ends at the retriever that is better, with an interval above 0; it need not stand first."""
    before, after = split(grouped(users=400))
    held_out = HeldOut.of(before, after)
    base, *others = (quality(k.fit(before, SETTINGS), held_out, 8) for k in (PopularityRetriever, ItemCF, Ease))
    chosen = choose(base, others, SETTINGS)
    assert chosen.kind in ("item_cf", "ease")
    gain = chosen.gains[chosen.kind]
    assert isinstance(gain, Estimate)
    assert gain.low > 0.1
    assert chosen == choose(base, others[::-1], SETTINGS)


USERS, POPULATION = 400, 40_000


def recalls(seed: int, gain: float, lying: bool) -> np.ndarray:
    """(population, 5): recalls of a baseline and four challengers: shares of 1 to 6 items, mostly none found.

    `lying`: users differ much, and challengers find what the baseline finds, which makes differences few and large.
    """
    rng = np.random.default_rng(seed)
    taken = rng.geometric(0.5, POPULATION).clip(1, 6)
    ease = rng.beta(0.3, 1.5, POPULATION) if lying else np.full(POPULATION, 0.15)
    base = rng.binomial(taken, ease) / taken
    columns = [base]
    for at in range(4):
        other = rng.binomial(taken, np.clip(ease + (gain if at == 2 else 0.0), 0, 1)) / taken
        columns.append(np.where(rng.random(POPULATION) < 0.85, base, other) if lying else other)
    return np.array(columns).T


def as_quality(kind: str, values: np.ndarray) -> Quality:
    return Quality(kind, Linear.mean(values), Linear.mean(values), 0.0, np.zeros((0, 0), dtype=np.int64))


@pytest.mark.parametrize("lying", [False, True])
def test_intervals_hold_the_truth_and_chance_is_hardly_ever_chosen(lying: bool) -> None:
    """600 logs of 400 users: each gain's interval, and four challengers of which none gains anything."""
    population = recalls(1, 0.0, lying)
    population[:, 1:] += population[:, 0].mean() - population[:, 1:].mean(axis=0)  # exactly no gain
    rng = np.random.default_rng(2)
    held, chosen, logs = 0, 0, 600
    single = replace_confidence(1 - 4 * 0.05)
    for _ in range(logs):
        log = population[rng.choice(POPULATION, USERS, replace=False)]
        base, *others = (as_quality(f"r{at}", log[:, at]) for at in range(5))
        chosen += choose(base, others, SETTINGS).kind != "r0"
        gain = choose(base, others, single).gains["r3"]
        held += isinstance(gain, Estimate) and gain.low <= 0 <= gain.high
    assert 0.925 <= held / logs <= 0.985
    assert chosen / logs <= 0.025 + 0.016  # 1 - confidence on the upper side, and 2.5 standard errors of 600 logs


def replace_confidence(confidence: float) -> RetrievalSettings:
    """Settings whose share for one of four challengers is 0.95."""
    return SETTINGS.model_copy(update={"confidence": confidence})


def test_a_gain_is_found_by_who_makes_it() -> None:
    """The third of four challengers finds twice as much: it is chosen nearly always, and never another."""
    population = recalls(3, 0.15, lying=False)
    rng = np.random.default_rng(4)
    kinds = []
    for _ in range(100):
        log = population[rng.choice(POPULATION, USERS, replace=False)]
        base, *others = (as_quality(f"r{at}", log[:, at]) for at in range(5))
        kinds.append(choose(base, others, SETTINGS).kind)
    assert kinds.count("r3") >= 99
    assert set(kinds) <= {"r0", "r3"}


def test_ties_and_refusals_keep_the_simpler() -> None:
    """Of two that are alike the first is chosen; one user, or nobody better for sure, leaves the baseline."""
    rng = np.random.default_rng(5)
    base = as_quality("popularity", rng.binomial(1, 0.1, 300).astype(float))
    better = as_quality("item_cf", rng.binomial(1, 0.5, 300).astype(float))
    assert choose(base, [better, replace(better, kind="ease")], SETTINGS).kind == "item_cf"
    assert choose(better, [replace(base, kind="ease")], SETTINGS).kind == "item_cf"
    assert choose(base, [], SETTINGS).kind == "popularity"
    alone = choose(as_quality("popularity", np.zeros(1)), [as_quality("ease", np.ones(1))], SETTINGS)
    assert alone.kind == "popularity"
    assert isinstance(alone.gains["ease"], Refusal)
