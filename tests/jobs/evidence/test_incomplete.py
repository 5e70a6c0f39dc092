"""Requests without their first placement, pages with a gap: left out, never renumbered; too many of them, no value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import bundle
from jobs.config import Config
from jobs.evidence.replayed import unfit
from jobs.evidence.scored import Pair
from jobs.moment.decisions import FIRST_MISSING, FIRST_TWICE, first_placements
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.gate import judge
from models.evaluation.off_policy import snips
from models.settings import GateSettings
from tests.jobs.evidence.evidence_documents import of_rows, seen_by_the_gate
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import (
    CANDIDATES,
    SLATE,
    TEST_DAY,
    World,
    a_run,
    examples,
    publish_all,
    requests_table,
    settings,
)

N = 1_000
SIDES = ("champion", "challenger", "difference")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Pair]:
    config = settings(tmp_path_factory.mktemp("lake"), tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50")
    publish_all(config, World(), n=N // 2, train_days=1)
    rows = publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    champion, challenger = (bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in rows)
    return config, (champion, challenger)


def found(lake: tuple[Config, Pair], rows: pa.Table, **gate: Any) -> dict[str, Any]:
    """The document on these test rows."""
    config, pair = lake
    config = config.model_copy(update={"gate": config.gate.model_copy(update=gate)})
    return of_rows(a_run("backtest", config), rows, pair)


def without(rows: pa.Table, wanted: Callable[[np.ndarray, np.ndarray], np.ndarray], place: int = 1) -> pa.Table:
    """Without the placements at `place` where `wanted` (given the requests' numbers, and the clicks) says so."""
    clicked = rows["clicked"].to_numpy(zero_copy_only=False)
    at = np.asarray(rows["position"]) == place
    return rows.filter(pa.array(~(at & wanted(np.arange(len(rows)) // SLATE, clicked))))


def renumbered(rows: pa.Table) -> pa.Table:
    """As if the highest placement that is left had been the first."""
    request = rows["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    position = np.asarray(rows["position"])
    highest = np.full(request.max() + 1, SLATE)
    np.minimum.at(highest, request, position)
    at = rows.schema.get_field_index("position")
    return rows.set_column(at, rows.schema.field("position"), pa.array(position - highest[request] + 1, pa.int32()))


def test_placements_that_go_missing_by_chance_bias_nothing_left_out_and_much_renumbered() -> None:
    """Uniform choice on logs that lost half their first placements: how often nominal 95% intervals hold the truth."""
    hits = {"left out": 0, "renumbered": 0}
    logs, n = 60, 1_000
    for seed in range(logs):
        world, rng = World(seed), np.random.default_rng([seed, 5])
        drawn = world.requests(TEST_DAY, n)
        truth = world.p_click(drawn["user"][:, None], drawn["candidates"], np.ones((n, CANDIDATES))).mean()
        rows, requests = examples(world, TEST_DAY, "test", n), requests_table(world, TEST_DAY, n)
        lost = rng.random(n) < 0.5
        left = without(rows, lambda request, _, lost=lost: lost[request])
        for name, table in (("left out", left), ("renumbered", renumbered(left))):
            placed, _ = first_placements(table, requests)
            assert len(placed) == (n - lost.sum() if name == "left out" else n)
            estimate = snips(
                reward=placed["clicked"].cast(pa.float64()).to_numpy(),
                logged=placed["propensity"].to_numpy(),
                target=np.full(len(placed), 1 / CANDIDATES),
            )
            hits[name] += estimate.low <= truth <= estimate.high
    assert hits["left out"] >= 0.88 * logs
    assert hits["renumbered"] <= 0.6 * logs


def test_placements_that_go_missing_for_their_click_are_no_value_anywhere(lake: tuple[Config, Pair]) -> None:
    """The guard fires: clicks, further estimators, pages, conversions and the gate all say why."""
    rows = examples(World(), TEST_DAY, "test", N)
    lost = without(rows, lambda request, clicked: clicked & (request % 2 == 0))
    document = found(lake, lost, estimators=("dr", "pages"))
    missing = document["data"]["left_out"][FIRST_MISSING]
    assert missing == N - document["data"]["decisions"] > 0.05 * N
    reason = f"99% of cases, since what is missing may depend on what was clicked; found {missing} of {N} otherwise"
    for side in SIDES:
        assert document["value"][side]["refused"].endswith(reason)
        assert document["conversions"][side]["refused"].endswith(reason)
    assert document["logging"]["value"]["refused"].endswith(reason)
    assert document["replay"]["requests"]["session_replay"] == document["data"]["decisions"]
    gate = GateSettings(**document["gate"])
    rules = {rule.name: rule for rule in judge(seen_by_the_gate(document), gate).rules}
    assert rules["value"].reason.endswith(reason)
    assert {rules[name].outcome for name in ("value", "value.dr", "value.pages")} == {"refuse"}
    assert (rules["conversions"].outcome, rules["conversions"].reason.endswith(reason)) == ("unknown", True)


def test_without_the_guard_such_a_value_would_be_far_off(lake: tuple[Config, Pair]) -> None:
    """Why there is one: the interval excludes the truth, which for a uniform champion is a plain mean."""
    world, rows = World(), examples(World(), TEST_DAY, "test", N)
    drawn = world.requests(TEST_DAY, N)
    truth = world.p_click(drawn["user"][:, None], drawn["candidates"], np.ones((N, CANDIDATES))).mean()
    lost = without(rows, lambda request, clicked: clicked & (request % 2 == 0))
    naive = found(lake, lost, max_incomplete_share=None, max_mean_weight_z=100.0, balance_risk=1e-9)["value"][
        "champion"
    ]
    assert naive["high"] < truth - naive["stderr"]
    whole = found(lake, rows)["value"]["champion"]
    assert whole["low"] < truth < whole["high"]


@pytest.mark.parametrize("reason", [FIRST_MISSING, FIRST_TWICE])
def test_the_share_is_of_the_requests_that_could_be_replayed(reason: str) -> None:
    """A surface that logs no propensities must not hide what another one lost."""
    left_out = {"requests": 10_000, "no_propensity": 8_500, "no_candidates": 500, "shown_item_not_a_candidate": 9}
    left_out |= dict.fromkeys((FIRST_MISSING, FIRST_TWICE, "certain_choice", "click_unknown"), 0)
    settings = GateSettings(max_incomplete_share=0.01)
    assert unfit(left_out | {reason: 10}, settings) is None
    refusal = unfit(left_out | {reason: 11}, settings)
    assert refusal is not None
    assert (refusal.n, "found 11 of 1000 otherwise" in refusal.reason) == (1000, True)
    assert unfit(left_out | {reason: 900}, GateSettings(max_incomplete_share=None)) is None
    gone = unfit(left_out | {reason: 991}, GateSettings(max_incomplete_share=None))
    assert "found none: 10000 requests, 8500 no propensity, 500 no candidates" in str(gone)
    assert f"991 {reason.replace('_', ' ')}" in str(gone)


def test_pages_with_a_gap_are_refused_alone(lake: tuple[Config, Pair]) -> None:
    """What is missing below the first placement changes no first decision, only the pages."""
    rows = examples(World(), TEST_DAY, "test", N)
    few, many = (
        without(rows, lambda request, _, every=every: request % every == 0, place=2) for every in (N // 10, N // 11)
    )
    whole, kept, refused = found(lake, rows), found(lake, few), found(lake, many)
    assert [d["pages"]["left_out"]["position_missing"] for d in (whole, kept, refused)] == [0, 10, 12]
    assert kept["value"] == refused["value"] == whole["value"]
    assert isinstance(seen_by_the_gate(kept).estimators["pages"]["difference"], Estimate)
    [(depth, sides)] = refused["pages"]["depths"].items()
    assert depth == "1"
    for side in (*SIDES, "logging"):
        assert "pages without a gap or a place taken twice in at least 99% of cases" in sides[side]["refused"]
    refusal = {"reason": sides["difference"]["refused"], "n": N, "effective_n": 0.0}
    assert seen_by_the_gate(refused).estimators["pages"]["difference"] == Refusal(**refusal)


def test_one_place_decided_alone_is_a_first_choice_wherever_it_stands() -> None:
    """As Open Bandit logs: each row a request of its own, for the second or third place of the screen."""
    rows = examples(World(), TEST_DAY, "test", N).filter(pa.array(np.arange(N * SLATE) % SLATE == 0))
    position = pa.array(np.arange(N) % SLATE + 1, pa.int32())
    rows = rows.set_column(rows.schema.get_field_index("position"), rows.schema.field("position"), position)
    requests = requests_table(World(), TEST_DAY, N)
    single = requests.set_column(
        requests.schema.get_field_index("slate_size"),
        requests.schema.field("slate_size"),
        pa.array(np.ones(N), pa.int32()),
    )
    placed, left_out = first_placements(rows, single)
    assert (len(placed), left_out[FIRST_MISSING]) == (N, 0)
    assert left_out["requests"] - len(first_placements(rows, requests)[0]) == (N * 2) // SLATE
