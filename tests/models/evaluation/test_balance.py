"""The balance of weights: silent on right logs, named where propensities are wrong, blind to rewards."""

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.balance import balances
from models.evaluation.choices import Labels
from tests.models.evaluation.logged_choices import World, with_logged

RISK = 0.001


def test_right_logs_are_not_refused() -> None:
    """At the default risk none of 60 small logs is, heavy weights and all; at 1 in 5, about that share is."""
    found = [balances(World(decisions=2_000).log(seed)[0], RISK) for seed in range(60)]
    assert sum(groups[0].off for groups in found) == 0
    loose = [balances(World(decisions=2_000).log(seed)[0], 0.2) for seed in range(60)]
    assert 0.0 < np.mean([groups[0].off for groups in loose]) < 0.35


@pytest.mark.parametrize("wrong", [0.75, 1.35])
def test_wrong_propensities_of_the_favourites_are_found_and_named(wrong: float) -> None:
    """The champion's favourites are likelier, or less likely, to be shown than the log says: that very group is off."""
    found = [balances(World(decisions=8_000, wrong=wrong).log(seed)[0], RISK) for seed in range(8)]
    assert all(groups[0].off for groups in found)
    first = [groups[0] for groups in found]
    assert {"the champion's favourites"} & {group.group for group in first}
    assert all((group.deviation > 0) == (wrong > 1) for group in first if "favourites" in group.group)
    assert "of its choices" in first[0].reason
    assert first[0].group in first[0].reason


def test_a_group_of_items_or_a_surface_is_found() -> None:
    """Propensities are off in one category, or on one surface: that group is the furthest of all single groups."""
    choices, _ = World(decisions=8_000).log(3)
    shown = choices.kinds["item_category"].codes[choices.shown] == 2
    home = choices.contexts["surface"].codes == 0
    for rows, group in ((shown, "item_category 2"), (home, "surface home")):
        found = balances(with_logged(choices, np.where(rows, choices.logged * 0.7, choices.logged)), RISK)
        assert group in {g.group for g in found if g.off}
        assert {g.group for g in found if g.off and g.group.split()[0] == group.split()[0]} == {group}


def test_rewards_are_not_looked_at() -> None:
    """Or the test itself could be what picks a winner."""
    choices, _ = World(decisions=500).log(1)
    assert balances(choices, RISK) == balances(replace(choices, reward=1.0 - choices.reward), RISK)


def test_groups_too_small_or_never_chosen_are_not_asked_after() -> None:
    """A label of a dozen decisions has no normal mean; a label nobody has is no group."""
    choices, _ = World(decisions=500).log(2)
    rare = np.where(np.arange(500) < 12, "rare", "other")
    found = balances(replace(choices, contexts={"surface": Labels.of(rare)}, kinds={}), RISK)
    assert {g.group for g in found if g.group.startswith("surface")} == {"surface other"}
