"""A feature is one line of `models.features` and its rule: everything else follows, and nothing is forgotten."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.config import ROOT
from jobs.featurize import audit, items, users
from jobs.lake.tables import LAKE
from models.features import FEATURES, Feature, declared, rule_of
from models.rankers.features import EVERYTHING, LISTS


def test_an_added_feature_arrives_in_training_rows_replay_and_a_served_request(tmp_path: Path) -> None:
    """One of users with its rule and its recount, one of items with its rule; nothing else is touched."""
    command = [sys.executable, "-m", "tests.jobs.features.added_feature", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["heavy"]
    assert found["trained"]["item_weekday"] == ["1", "2", "3", "4", "5", "6", "None"]
    assert found["trained"]["user_clicks_2d"] == ["0.0", "1.0", "2.0", "nan"]
    assert found["replay"] == [156, 0], "rows, and those with other features than trained on"
    assert (found["columns"], found["differ"]) == ([], []), "what was served is what monitoring computes again"
    assert found["served"] == {
        "user_clicks_2d": [str(float(found["by_hand"]))] * 3,
        "item_weekday": ["2", "None", "None"],
    }
    assert found["by_hand"] > 0
    assert min(found["learned"].values()) > 3, "words of the counts of further outcomes, and unknown"
    assert found["told"] == [[True] * 3, [True] * 3, [True, True, False], [True, True, False]], (
        "no such item: no counts"
    )


def test_every_declared_feature_has_its_rules_and_no_rule_is_of_none() -> None:
    """A rule left behind is counted for nobody; a missing one stops the day."""
    for of, rules, recounts in (("user", users.RULES, audit.OF_USERS), ("item", items.RULES, audit.OF_ITEMS)):
        features = [feature for feature in FEATURES if feature.of == of]
        assert set(rules) == {feature.name for feature in features}
        assert set(recounts) == {feature.name for feature in features if feature.recounted}
    with pytest.raises(ValueError, match=r"user feature mood is declared and needs a rule of its name in a\.b; found"):
        rule_of(users.RULES, Feature("user", "mood", "good or bad"), "a.b")


def test_what_rankers_cannot_be_shown_yet_is_said_where_it_is_declared() -> None:
    """A vector of an item would be missing from the examples, in training only."""
    with pytest.raises(ValueError, match=r"one of number, word, given so far; found text, a vector"):
        Feature("item", "text", "of its title", "vector", width=8)
    Feature("item", "text", "of its title", "vector", width=8, seen="within")
    with pytest.raises(ValueError, match="counts, and no other kind, are seen as words; found likes, a counts"):
        Feature("item", "likes", "by kind", "counts", seen="not")


def test_what_a_ranker_is_shown_is_a_column_of_the_examples() -> None:
    """Of the declared type; and no two features have one column."""
    columns = LAKE["examples"].columns
    assert set(EVERYTHING.named) <= set(columns)
    shown = [feature.column for feature in FEATURES if feature.seen == "itself"]
    assert len(set(shown)) == len(shown)
    assert [feature.name for feature in declared("user") if feature.kind == "items" and feature.seen == "itself"] == [
        *LISTS
    ]
