"""Which pages are weighed as a whole, and what each side would have placed on them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import bundle
from jobs.evidence import core, pages
from jobs.evidence.figures import Pages, stated
from jobs.moment.decisions import Decisions, decisions, first_placements
from models.evaluation.estimate import Estimate, Refusal
from models.settings import PolicySettings
from tests.jobs.evidence.evidence_documents import of_rows, seen_by_the_gate
from tests.jobs.moment.test_decisions import N, placed
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import (
    CANDIDATES,
    DAY,
    SLATE,
    TEST_DAY,
    World,
    a_run,
    examples,
    publish_all,
    requests_table,
    settings,
)


def replayed(**changes: Any) -> tuple[pa.Table, Decisions]:
    rows, requests = placed(**changes)
    table, _ = first_placements(rows, requests)
    return rows, decisions(table)


def second_of_every_fourth(value: Any) -> Any:
    """Change the second placement of every fourth request."""
    return lambda values: [value if n % 12 == 1 else v for n, v in enumerate(values)]


def test_every_placement_is_found_whatever_the_order_of_rows() -> None:
    rows, found = replayed()
    for table in (rows, rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))):
        shown, left_out = pages.shown_pages(table, found)
        assert (shown.pages, shown.places) == (N, SLATE)
        assert sum(left_out.values()) == left_out["decisions"] == N
        assert shown.place.tolist() == [1, 2, 3] * N
        assert found.row[shown.candidate].tolist() == shown.decision.tolist() == np.repeat(np.arange(N), SLATE).tolist()
        assert found.item_ids[found.item[shown.candidate]].tolist() == rows["item_id"].to_pylist()
        assert shown.propensity.tolist() == rows["propensity"].to_pylist()
        assert shown.clicked.tolist() == rows["clicked"].cast(pa.float64()).to_pylist()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("propensity", None, "no_propensity"),
        ("clicked", None, "click_unknown"),
        ("position", 4, "position_missing"),
        ("position", 3, "position_missing"),
        ("item_id", "i999999", "shown_item_not_a_candidate"),
    ],
)
def test_a_page_with_something_missing_is_left_out_as_a_whole(column: str, value: Any, reason: str) -> None:
    """Not cut above what is missing: depths must be of the same pages, or their figures could not be compared."""
    rows, found = replayed(**{column: second_of_every_fourth(value)})
    assert len(found) == N
    shown, left_out = pages.shown_pages(rows, found)
    assert (left_out[reason], shown.pages, len(shown.place)) == (10, N - 10, SLATE * (N - 10))


def test_pages_of_several_days_keep_their_own_candidates() -> None:
    """A page must not find the next day's candidates."""
    days = [TEST_DAY, TEST_DAY + timedelta(days=1)]
    rows = pa.concat_tables([examples(World(), day, "test", N) for day in days])
    table, _ = first_placements(rows, pa.concat_tables([requests_table(World(), day, N) for day in days]))
    found = decisions(table)
    shown, left_out = pages.shown_pages(rows, found)
    assert (shown.pages, sum(left_out.values())) == (2 * N, 2 * N)
    placements = zip(
        found.request_id.take(pa.array(shown.decision)).to_pylist(),
        shown.place,
        found.item_ids[found.item[shown.candidate]],
        strict=True,
    )
    assert sorted(placements) == sorted(
        zip(*(rows[name].to_pylist() for name in ("request_id", "position", "item_id")), strict=True)
    )


def test_an_item_twice_leaves_the_page_out() -> None:
    """On the page, or among the candidates: which of them was placed cannot be told."""
    rows, found = replayed(item_id=lambda v: [v[n - 1] if n % 12 == 1 else item for n, item in enumerate(v)])
    assert pages.shown_pages(rows, found)[1]["item_twice"] == 10
    rows, found = replayed()
    found.item[7 * CANDIDATES] = found.item[7 * CANDIDATES + 1]
    shown, left_out = pages.shown_pages(rows, found)
    assert left_out["item_twice"] + left_out["shown_item_not_a_candidate"] == 1
    assert 7 not in shown.decision


def test_a_short_page_is_whole() -> None:
    rows, found = replayed()
    shown, _ = pages.shown_pages(rows.filter(pa.array(np.arange(len(rows)) != 2)), found)
    assert (shown.pages, len(shown.place)) == (N, SLATE * N - 1)


def test_each_placement_has_the_sides_own_probability(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By hand: Plackett-Luce at the policy's temperature among what the page above left over."""
    config = settings(tmp_path, tmp_path_factory.getbasetemp())
    [row] = publish_candidates(config, {"popularity": popularity()}, "popularity")
    side = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
    rows, found = replayed()
    shown, _ = pages.shown_pages(rows, found)
    p_click = np.random.default_rng(0).uniform(0.01, 0.5, len(found.item))
    chance = pages.placed(found, shown, side, p_click)
    for page in range(N):
        left = dict(enumerate(p_click[found.offsets[page] : found.offsets[page + 1]] ** (1 / side.policy.temperature)))
        for at in np.flatnonzero(shown.decision == page):
            mine = int(shown.candidate[at] - found.offsets[page])
            assert chance[at] == pytest.approx(left[mine] / sum(left.values()))
            del left[mine]


def test_the_estimate_covers_the_truth_and_starts_at_the_value(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The stage's own document: depth 1 is the value, and each depth is near what the world would have paid."""
    config = settings(tmp_path, tmp_path_factory.getbasetemp(), gate__min_effective_n="60")
    world = World()
    publish_all(config, world, n=1_000, train_days=1)
    rows = publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    pair = tuple(bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in rows)
    found = of_rows(a_run("backtest", config), examples(world, TEST_DAY, "test", 2_000), pair)
    section = Pages.model_validate(found["pages"])
    assert (section.pages, section.places, len(section.depths)) == (2_000, SLATE, SLATE)
    for side in ("champion", "challenger", "difference"):
        depth, value = found["pages"]["depths"]["1"][side]["value"], found["estimators"]["snips"][side]["value"]
        assert depth == pytest.approx(value)
    drawn = world.requests(TEST_DAY, 2_000)
    exact = true_clicks(world, drawn, config.policy)
    for places, depth in found["pages"]["depths"].items():
        for side, truth in exact.items():
            assert abs(depth[side]["value"] - truth[int(places) - 1]) < 4 * depth[side]["stderr"], (side, places)
    assert seen_by_the_gate(found).estimators["pages"] == section.depths[str(SLATE)].measured()
    assert DAY.isoformat() == found["day"]


def true_clicks(world: World, drawn: dict[str, np.ndarray], policy: PolicySettings) -> dict[str, np.ndarray]:
    """Expected clicks per page on its first 1, 2, 3 places, each side's pages drawn 200 times a request."""
    user, candidates = drawn["user"], drawn["candidates"]
    interest = np.where(world.taste[user][:, None] == world.category[candidates], 3.0, 1.0)
    scores = {"challenger": 1 / (1 + np.exp(3.2 - interest)), "champion": np.full(candidates.shape, 0.2)}
    rng, found = np.random.default_rng(1), {}
    for side, score in scores.items():
        earned = np.zeros(SLATE)
        for _ in range(200):
            noisy = np.log(score) / policy.temperature + rng.gumbel(size=score.shape)
            items = np.take_along_axis(candidates, np.argsort(-noisy, axis=1)[:, :SLATE], 1)
            earned += world.p_click(user[:, None], items, np.arange(1, SLATE + 1)).mean(axis=0)
        found[side] = np.cumsum(earned / 200)
    return found


def test_the_gate_sees_as_many_places_as_are_known_and_says_why_there_are_none() -> None:
    refused = core.refused(Refusal("too few"))
    depths = {str(n): refused for n in range(1, 11)}
    for n in range(1, 10):
        found = stated(Estimate(1.0, 0.1, 0.8, 1.2, n, n))
        depths[str(n)] = refused.model_copy(update={"difference": found})
    assert core.whole_pages(depths)["difference"].n == 9
    assert core.whole_pages({"1": refused}) == refused.measured()
    assert "found none" in str(core.whole_pages({}))
