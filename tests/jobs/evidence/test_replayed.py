"""However many rows and candidates are looked at together: the same figures, to the last bit."""

from dataclasses import fields, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import bundle
from jobs.config import Config
from jobs.evidence import pages
from jobs.evidence.held_out import held_out
from jobs.evidence.replayed import Replayed, replayed
from jobs.evidence.scored import Pair, Scored, scored
from jobs.lake.store import Lake
from jobs.moment.columns import attribute_keys, training_data
from jobs.moment.identity import IDENTITY
from models.evaluation.choices import SIDES
from models.policies.choice import first_choice
from models.rankers import fit
from models.rankers.protocol import Ranker
from models.settings import (
    BlockSettings,
    HeuristicSettings,
    PolicySettings,
    RankerSettings,
    SurfaceSettings,
    XGBoostSettings,
)
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import (
    CANDIDATES,
    DAY,
    TEST_DAY,
    World,
    a_run,
    examples,
    publish,
    publish_all,
    publish_features,
    requests_table,
    settings,
)

EARLY = TEST_DAY - timedelta(days=1)
DAYS = {EARLY: 90, TEST_DAY: 120}
"""Test days and their requests."""


@pytest.fixture(scope="module", params=["plackett_luce", "thompson"])
def lake(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Pair]:
    """Two test days, in no order; a world whose truth is known; trees that were really learned."""
    config = settings(
        tmp_path_factory.mktemp("lake"),
        tmp_path_factory.getbasetemp(),
        source__name="simulated",
        world__first_day="2026-01-01",
        policy__kind=request.param,
    )
    world = World()
    publish_all(config, world, n=DAYS[TEST_DAY] // 2)
    publish(config, "requests", requests_table(world, EARLY, DAYS[EARLY]), day=str(EARLY))
    publish_features(config, world, EARLY - timedelta(days=1))
    rows = Lake(config.lake.root).read("examples", [DAY]).drop_columns(["day", "mode"])
    rows = pa.concat_tables([rows, sparse(examples(world, EARLY, "test", DAYS[EARLY]))])
    rows = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    publish(config, "examples", rows, day=str(DAY), mode="full")
    made = publish_candidates(config, {"popularity": popularity(), "xgboost": trees(rows)}, "xgboost")
    champion, challenger = (bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in made)
    return config, (champion, replace(challenger, light=bundle.Light(linear(0.7, age=0.01), 5)))


def sparse(rows: pa.Table) -> pa.Table:
    """With a request attribute that few requests have, and one row whose click is not known."""
    maps = [
        [*entries, ("rare", "yes")] if n % 50 < 3 else entries
        for n, entries in enumerate(rows["attributes"].to_pylist())
    ]
    clicked = [None if n == 4 else value for n, value in enumerate(rows["clicked"].to_pylist())]
    for name, values in (("attributes", maps), ("clicked", clicked)):
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))
    return rows


def trees(rows: pa.Table) -> Ranker:
    data = training_data(rows, attribute_keys(rows["attributes"]))
    return fit("xgboost", data, RankerSettings(xgboost=XGBoostSettings(rounds=5)))


def same(one: Any, other: Any) -> None:
    """Arrays, mappings of arrays and all else, bit for bit."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif hasattr(one, "__dataclass_fields__"):
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name))
    else:
        assert one == other


def test_a_light_stage_takes_part_in_the_replay_as_it_does_in_serving(lake: tuple[Config, Pair]) -> None:
    """What it cuts has no chance, what is left has the chances of a request that brought nothing else."""
    config, (champion, challenger) = lake
    run = a_run("backtest", config)
    found = replayed(run, held_out(run), (champion, challenger))
    assert found.kept["champion"].all()
    offsets, chosen, kept = found.found.offsets, found.chosen["challenger"], found.kept["challenger"]
    cut = 0
    for first, last in pairwise(offsets):
        left = np.flatnonzero(kept[first:last]) + first
        assert len(left) == 5
        alone = first_choice(found.scores["challenger"][left], np.array([0, 5]), challenger.policy)
        np.testing.assert_allclose(chosen[left], alone)
        assert chosen[first:last].sum() == pytest.approx(1)
        cut += int(found.found.taken[first:last][~kept[first:last]].sum())
    assert cut > 20, "logged items among them, whose clicks it cannot earn"


@pytest.mark.parametrize("at_once", [1, 3 * CANDIDATES + 5, 100 * CANDIDATES])
def test_how_many_candidates_are_held_together_changes_no_figure(lake: tuple[Config, Pair], at_once: int) -> None:
    config, pair = lake

    def found(at_once: int) -> Replayed:
        run = a_run("backtest", config)
        return replayed(run, held_out(run), pair, at_once)

    whole = found(10**9)
    assert len(whole) == sum(DAYS.values())
    assert whole.truth is not None
    assert whole.differing.decisions == len(whole)
    same(whole, found(at_once))


def test_a_side_is_replayed_by_each_surfaces_own_policy(lake: tuple[Config, Pair]) -> None:
    """As it serves, first places and whole pages; surfaces that nobody named, and the other side, as ever."""
    config, (champion, challenger) = lake
    policy = PolicySettings(surfaces={"search": SurfaceSettings(kind="epsilon_greedy", epsilon=0.5)})
    one, several = (replace(challenger, policy=of) for of in (PolicySettings(), policy))
    run = a_run("backtest", config)
    test = held_out(run)
    asked = pa.array(["search" if of[-1] in "13579" else "home" for of in test["request_id"].to_pylist()])
    test = test.set_column(test.schema.get_field_index("surface"), "surface", asked)
    before, found = (replayed(a_run("backtest", config), test, (champion, side), 10**9) for side in (one, several))
    same(before.chosen["champion"], found.chosen["champion"])
    seen = set()
    for n, (first, last) in enumerate(pairwise(found.found.offsets)):
        at, seen = slice(first, last), seen | {found.surfaces[n]}
        scores, kept = found.scores["challenger"][at], found.kept["challenger"][at]
        alone = first_choice(scores, np.array([0, last - first]), policy.on(found.surfaces[n]), kept)
        np.testing.assert_allclose(found.chosen["challenger"][at], alone)
        if found.surfaces[n] == "home":
            same(before.chosen["challenger"][at], found.chosen["challenger"][at])
    assert seen == {"home", "search"}
    sides = {"champion": champion, "challenger": several}
    assert pages.section(test, found, sides, config.gate).pages > 100


def test_a_side_is_replayed_by_its_own_heuristics(lake: tuple[Config, Pair]) -> None:
    """As it serves, from the words that items had then: what they block is never chosen; the other side is as ever."""
    config, (champion, challenger) = lake
    rules = HeuristicSettings.model_validate({"caps": [{"most": 1}], "boosts": [{"word": "a", "times": 3}]})
    policy = challenger.policy.model_copy(update={"heuristics": rules})
    run = a_run("backtest", config)
    test = held_out(run)
    found, before = (
        replayed(a_run("backtest", config), test, (champion, side), at_once)
        for side, at_once in ((replace(challenger, policy=policy), 7), (challenger, 10**9))
    )
    same(before.chosen["champion"], found.chosen["champion"])
    words = found.words["item_category"]
    assert len(set(words.tolist()) - {None}) > 1
    assert not before.words
    rules = rules.model_copy(update={"boosts": rules.boosts[:0], "blocks": (BlockSettings(words=(words[0],)),)})
    policy = challenger.policy.model_copy(update={"heuristics": rules})
    sides = {"champion": champion, "challenger": replace(challenger, policy=policy)}
    found = replayed(a_run("backtest", config), test, (sides["champion"], sides["challenger"]))
    assert found.chosen["challenger"][words == words[0]].max() == 0
    shown, _ = pages.shown_pages(test, found.found)
    chances = pages.placed(
        found.found, shown, sides["challenger"], found.scores["challenger"], surfaces=found.surfaces, words=found.words
    )
    of_page = [words[shown.candidate[shown.decision == n]].tolist() for n in np.unique(shown.decision)]
    named = [[word for word in of if word is not None] for of in of_page]
    possible = [len(set(of)) == len(of) and words[0] not in of for of in named]
    assert [chances[shown.decision == n].min() > 0 for n in np.unique(shown.decision)] == possible
    assert 0 < sum(possible) < len(possible)


def test_a_side_is_replayed_by_what_its_own_policy_ranks_by(lake: tuple[Config, Pair]) -> None:
    """As it serves: what its conversions are worth moves its choices, and the other side's not."""
    config, (champion, challenger) = lake
    run = a_run("backtest", config)
    policy = challenger.policy.model_copy(update={"score_weights": {"click": 1.0, "conversion": 50.0}})
    weighed = replace(challenger, policy=policy)
    before, found = (replayed(run, held_out(run), (champion, side), 10**9) for side in (challenger, weighed))
    same(before.predicted, found.predicted)
    same(before.chosen["champion"], found.chosen["champion"])
    assert not np.array_equal(before.chosen["challenger"], found.chosen["challenger"])
    expected = first_choice(found.scores["challenger"], found.found.offsets, policy, found.kept["challenger"])
    np.testing.assert_array_equal(found.chosen["challenger"], expected)
    same(before.scores["challenger"], before.predicted["challenger"])
    assert not np.array_equal(found.scores["challenger"], found.predicted["challenger"])


@pytest.mark.parametrize("at_once", [1, 17, 100])
def test_how_many_rows_are_held_together_changes_no_score(lake: tuple[Config, Pair], at_once: int) -> None:
    config, pair = lake
    test = held_out(a_run("backtest", config))
    rankers = {side: found.ranker for side, found in zip(SIDES, pair, strict=True)}

    def found(at_once: int) -> Scored:
        return scored(test, rankers, IDENTITY.empty_table(), at_once)

    whole = found(10**9)
    assert len(whole) == len(test) - 1
    assert "attributes.rare" in whole.attributes
    same(whole, found(at_once))


def test_only_the_test_rows_are_read(lake: tuple[Config, Pair]) -> None:
    """As a filter of the whole partition would leave them, in their order."""
    config, _ = lake
    rows = Lake(config.lake.root).read("examples", [DAY])
    expected = rows.filter(pa.array([split == "test" for split in rows["split"].to_pylist()]))
    assert held_out(a_run("backtest", config)).equals(expected.combine_chunks())
