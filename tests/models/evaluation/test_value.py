"""The value of two policies: the textbook's where nothing is special, refused where it rests on too little."""

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.choices import SIDES, Choices, Labels
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.off_policy import dr, sndr, snips, snips_difference
from models.evaluation.reward_models import expected_rewards
from models.evaluation.value import value_of, value_slices
from models.settings import GateSettings
from tests.models.evaluation.logged_choices import World

GATE = GateSettings(min_effective_n=50)


def sound(found: Finding) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


def reason(found: Finding) -> str:
    assert isinstance(found, Refusal), found
    return found.reason


def test_both_estimators_are_the_textbooks() -> None:
    """Value and error of each side as `off_policy` has them; differences are the sides', what was shown its mean."""
    choices, _ = World().log(1)
    found, expected = value_of(choices, GATE), expected_rewards(choices)
    assert expected is not None
    for side in SIDES:
        log = {"reward": choices.reward, "logged": choices.logged, "target": choices.target(side)}
        model = {
            "predicted_logged": expected[choices.shown],
            "predicted_target": choices.of_all(choices.chosen[side] * expected),
        }
        for name, theirs in (
            ("snips", snips(**log, clusters=choices.users)),
            ("dr", dr(**log, **model, clusters=choices.users)),
            ("sndr", sndr(**log, **model, clusters=choices.users)),
        ):
            ours = sound(found.estimates[name][side])
            assert ours.value == pytest.approx(theirs.value, rel=1e-12)
            assert ours.stderr == pytest.approx(theirs.stderr, rel=1e-9)
    for figures in found.estimates.values():
        champion, challenger, difference, against = (
            sound(figures[name]).value for name in ("champion", "challenger", "difference", "against_logging")
        )
        assert difference == pytest.approx(challenger - champion, abs=1e-12)
        assert against == pytest.approx(challenger - choices.reward.mean(), abs=1e-12)
    paired = snips_difference(
        reward=choices.reward, logged=choices.logged, clusters=choices.users, settings=GATE,
        champion=choices.target("champion"), challenger=choices.target("challenger"),
    )  # fmt: skip
    assert sound(found.estimates["snips"]["difference"]).value == pytest.approx(sound(paired).value, abs=1e-12)


def test_the_order_of_decisions_and_candidates_means_nothing() -> None:
    """A log is a set."""
    choices, _ = World(decisions=600).log(2)
    backwards = choices.where(np.arange(len(choices))[::-1])
    one, other = value_of(choices, GATE), value_of(backwards, GATE)
    for name, figures in one.estimates.items():
        for what, figure in figures.items():
            assert sound(other.estimates[name][what]).value == pytest.approx(sound(figure).value, rel=1e-9)


def test_intervals_hold_the_truth_and_the_narrower_estimator_is_believed() -> None:
    """60 logs: 95 % intervals of the difference hold it in nearly all; its error is the smaller of the two."""
    held, narrower = [], []
    for seed in range(60):
        choices, truth = World(decisions=2_000).log(seed)
        found = value_of(choices, GATE)
        difference = sound(found.of("difference"))
        held.append(difference.low <= truth["challenger"] - truth["champion"] <= difference.high)
        errors = {name: sound(figures["difference"]).stderr for name, figures in found.estimates.items()}
        narrower.append(errors[found.primary] <= errors["snips"])
    assert np.mean(held) >= 0.9
    assert all(narrower)


def test_shocks_of_an_item_on_a_day_widen_the_interval() -> None:
    """All clicks of an item move together on the log's day: intervals by user alone are too narrow, these are not."""
    held, by_user = [], []
    for seed in range(80):
        choices, truth = World(decisions=4_000, shock=0.8).log(seed)
        true = truth["challenger"] - truth["champion"]
        alone = value_of(replace(choices, items=np.arange(len(choices.items))), GATE)
        for found, into in ((value_of(choices, GATE), held), (alone, by_user)):
            difference = sound(found.of("difference"))
            into.append(difference.low <= true <= difference.high)
    assert np.mean(held) >= 0.9
    assert np.mean(held) >= np.mean(by_user)


# -- the difference's own guards -----------------------------------------------------------------------------------
def rarely(seed: int, clicks: int, decisions: int = 40_000) -> Choices:
    """Sides that differ in 1 % of decisions, where the champion shows a first candidate that is rarely logged."""
    rng = np.random.default_rng(seed)
    apart = rng.random(decisions) < 0.01
    logging = np.where(apart[:, None], [[0.04, 0.48, 0.48]], [[0.4, 0.3, 0.3]])
    champion = np.where(apart[:, None], [[0.9, 0.05, 0.05]], logging)
    challenger = np.where(apart[:, None], [[0.02, 0.49, 0.49]], logging)
    shown = (np.cumsum(logging, axis=1) < rng.random((decisions, 1))).sum(axis=1)
    reward = (rng.random(decisions) < 0.2).astype(float)
    first = np.flatnonzero(apart & (shown == 0))
    reward[first] = 0.0
    reward[first[:clicks]] = 1.0
    at = (np.arange(decisions), shown)
    return Choices(
        offsets=3 * np.arange(decisions + 1),
        taken=np.eye(3, dtype=bool)[shown].ravel(),
        reward=reward,
        logged=logging[at],
        chosen={"champion": champion.ravel(), "challenger": challenger.ravel()},
        predicted={"champion": np.full(3 * decisions, 0.2), "challenger": np.full(3 * decisions, 0.2)},
        users=np.arange(decisions),
        items=np.tile(np.arange(3), decisions),
        days=np.zeros(decisions, dtype=np.int64),
    )


def test_a_difference_that_rests_on_hardly_a_click_is_refused() -> None:
    """Each side's value is as sure as can be; what differs are a few decisions, and nobody happened to click there."""
    for clicks in (0, 2):
        found = value_of(rarely(1, clicks), GATE)
        assert all(isinstance(found.of(side), Estimate) for side in SIDES)
        said = reason(found.of("difference"))
        assert said.startswith("the difference needs at least 5 clicks on what the champion is likelier to show; found")
        assert "of 40000 decisions, where the sides differ" in said
    assert found.carried is not None
    assert 0.005 < found.carried.differing < 0.015
    unguarded = GATE.model_copy(update={"min_clicks_each_side": 0.0, "min_decisions_that_matter": 1.0})
    assert isinstance(value_of(rarely(1, 2), unguarded).of("difference"), Estimate)


def test_policies_that_choose_alike_have_no_difference_to_tell() -> None:
    """Up to rounding: a gain of 1e-17 is none."""
    choices, _ = World(decisions=1_000).log(4)
    alike = {"champion": choices.chosen["champion"], "challenger": choices.chosen["champion"] * (1 + 1e-15)}
    for chosen in (alike, dict.fromkeys(SIDES, choices.chosen["champion"])):
        found = value_of(replace(choices, chosen=chosen), GATE)
        assert reason(found.of("difference")).startswith("champion and challenger choose alike in all 1000 decisions")
        assert isinstance(found.of("challenger"), Estimate)


def test_one_decision_may_not_be_the_whole_difference() -> None:
    """The sides differ in many decisions by next to nothing, and in one by everything."""
    choices, _ = World(decisions=1_000).log(5)
    chosen = {side: choices.chosen["champion"].copy() for side in SIDES}
    chosen["challenger"] *= np.where(choices.row % 2 == 0, 1.00001, 0.99999)
    one = choices.offsets[10] + np.arange(8)
    chosen["challenger"][one] = np.where(choices.taken[one], 0.999, 0.001 / 7)
    found = value_of(replace(choices, chosen=chosen), GATE.model_copy(update={"min_clicks_each_side": 0}))
    assert "of the weights' difference" in reason(found.of("difference"))


@pytest.mark.parametrize("estimator", ["snips", "dr", "sndr"])
def test_every_estimator_is_guarded(estimator: str) -> None:
    """Effective n of two: whatever stands beside the weights, no estimator gets past them."""
    choices, _ = World(decisions=1_000).log(6)
    spiky = choices.chosen["challenger"] * np.where(np.isin(choices.row, (3, 5)), 1.0, 1e-6)
    found = value_of(replace(choices, chosen={**choices.chosen, "challenger": spiky}), GATE)
    for what in ("challenger", "difference", "against_logging"):
        assert "effective n of at least 50" in reason(found.estimates[estimator][what])
    assert isinstance(found.estimates[estimator]["champion"], Estimate)


def test_without_propensities_there_is_no_value() -> None:
    """Nor a guess."""
    choices, _ = World(decisions=100).log(7)
    found = value_of(replace(choices, logged=np.where(np.arange(100) == 3, np.nan, choices.logged)), GATE)
    assert {reason(figure) for figure in found.estimates["snips"].values()} == {"1 of 100 decisions have no propensity"}
    assert isinstance(found.logging, Estimate)


# -- guards of the settings, each in a world where it is what fires -------------------------------------------------
def epsilon_greedy(seed: int, decisions: int = 6_000) -> Choices:
    """Logs of an epsilon-greedy policy over 3 to 60 candidates: weights are heavy, many-valued and bounded."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(3 + 6 * rng.pareto(1.0, size=decisions), 60).astype(int)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    row = np.repeat(np.arange(decisions), sizes)
    p = np.clip(rng.beta(2, 8, size=len(row)), 0.01, 0.9)

    def greedy(noise: float) -> np.ndarray:
        score = p + noise * rng.normal(size=len(row))
        best = score == np.maximum.reduceat(score, offsets[:-1])[row]
        return 0.6 / sizes[row] + 0.4 * best

    logging, champion, challenger = greedy(0.1), greedy(0.1), greedy(0.1)
    start = np.cumsum(logging) - logging
    within = start - start[offsets[:-1]][row]
    u = rng.random(decisions)[row]
    taken = (within <= u) & (u < within + logging)
    taken[offsets[1:][np.bincount(row, weights=taken) == 0] - 1] = True
    shown = np.flatnonzero(taken)
    return Choices(
        offsets, taken, (rng.random(decisions) < p[shown]).astype(float), logging[shown],
        {"champion": champion, "challenger": challenger}, {"champion": p, "challenger": p},
        np.arange(decisions), rng.integers(300, size=len(row)), np.zeros(decisions, dtype=np.int64),
    )  # fmt: skip


def test_a_known_bound_on_the_weights_stands_for_their_tail() -> None:
    """The tail's shape refuses weights that are heavy but cannot be heavier; a log that breaks the bound is refused."""
    strict = GATE.model_copy(update={"max_tail_shape": 0.1})
    known = strict.model_copy(update={"min_propensity": 0.6 / 60})
    choices = epsilon_greedy(1)
    assert "Pareto shape" in reason(value_of(choices, strict).of("challenger"))
    assert isinstance(value_of(choices, known).of("difference"), Estimate)
    wrong = known.model_copy(update={"min_propensity": 0.1})
    assert "gate.min_propensity, 0.1; found 0.01" in reason(value_of(choices, wrong).of("challenger"))


def test_choices_that_could_not_be_logged_are_refused() -> None:
    """The logging policy never shows every third candidate of a list: weights cannot make up for it."""
    choices, _ = World(decisions=6_000, never=True).log(8)
    assert "of its choices without support" in reason(value_of(choices, GATE).of("challenger"))
    only = GATE.model_copy(update={"max_unsupported_mass": 1.0, "max_mean_weight_z": 1e6})
    assert "all candidates" in reason(value_of(choices, only).of("challenger")), "and where that is not asked, balance"


def test_days_of_another_logging_policy_are_refused() -> None:
    """One of three days was logged nearly uniformly: its propensities are another distribution."""
    choices, _ = World(decisions=6_000, days=3).log(9)
    logged = np.where(choices.days == 1, np.minimum(1.0, choices.logged * 4), choices.logged)
    assert "of one logging policy, with a stability index" in reason(
        value_of(
            replace(choices, logged=logged),
            GATE.model_copy(update={"max_mean_weight_z": 1e6, "max_unsupported_mass": 1.0}),
        ).of("challenger")
    )


def test_propensities_too_small_for_their_candidates_are_refused() -> None:
    """Of candidates neither side would take: only 1 / (propensity x candidates) can know."""
    choices, _ = World(decisions=6_000).log(10)
    unwanted = np.tile(np.arange(8) >= 6, len(choices))
    chosen = {}
    for side in SIDES:
        kept = np.where(unwanted, 0.0, choices.chosen[side])
        chosen[side] = kept / choices.of_all(kept)[choices.row]
    shown = choices.of_taken(unwanted.astype(float)) > 0
    wrong = replace(choices, chosen=chosen, logged=np.where(shown, choices.logged / 3, choices.logged))
    assert isinstance(value_of(replace(choices, chosen=chosen), GATE).of("challenger"), Estimate)
    assert "1 / (propensity x candidates) can be at most 1" in reason(value_of(wrong, GATE).of("challenger"))


# -- slices ---------------------------------------------------------------------------------------------------------
def test_slices_of_the_value_hold_together_and_add_up() -> None:
    """Kinds share the whole between them; a context's decisions are its own; too few have no slice."""
    choices, _ = World(decisions=8_000).log(11)
    found = {(s.attribute, s.value): s for s in value_slices(choices, GATE)}
    assert set(found) == {("surface", "home"), ("surface", "search"), *(("item_category", str(k)) for k in range(5))}
    whole = sound(value_of(choices, GATE).estimates["snips"]["difference"])
    kinds = [sound(s.difference).value for (name, _), s in found.items() if name == "item_category"]
    assert sum(kinds) == pytest.approx(whole.value, abs=1e-9)
    home = choices.where(choices.contexts["surface"].codes == 0)
    alone = sound(value_of(home, GATE).estimates["snips"]["difference"])
    part = sound(found["surface", "home"].difference)
    assert part.value == pytest.approx(alone.value, abs=1e-12)
    assert part.high - part.low > alone.high - alone.low, "wide enough to hold with the others"
    tiny = replace(choices, contexts={"surface": Labels.of(np.where(np.arange(8_000) < 400, "rare", "home"))}, kinds={})
    assert [s.value for s in value_slices(tiny, GATE)] == ["home"]
