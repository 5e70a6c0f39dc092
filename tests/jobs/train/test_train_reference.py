"""The reference in a bundle: of what its ranker reads, weighed, and of scores it did not learn from."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.evidence.scored import Scored
from jobs.train import reference
from models.monitoring.profile import EVERYWHERE
from models.rankers.protocol import TrainingData

N = 400


def words(*names: str | None) -> np.ndarray:
    return np.array([*names], dtype=object)


def training() -> TrainingData:
    """Two surfaces; every fourth row's user is not known; conversions are known of the first half only."""
    features = {
        "user_id": words(*(None if n % 4 == 3 else f"u{n % 40}" for n in range(N))),
        "surface": words(*["home", "search"] * (N // 2)),
        "position": np.arange(N) % 4 + 1.0,
        "item_price": np.where(np.arange(N) % 10 == 0, np.nan, np.arange(N, dtype=float)),
        "attributes.item.tier": words(*["a", "b", None, "a"] * (N // 4)),
    }
    clicked = (np.arange(N) % 10 == 0).astype(float)
    converted = np.where(np.arange(N) < N / 2, 0.0, np.nan)
    return TrainingData(features, clicked, converted, np.where(clicked > 0, 1.0, 3.0))


def validated() -> Scored:
    nothing = np.zeros(N)
    scores = {"logistic": np.linspace(0.01, 0.2, N), "other": np.full(N, 0.9)}
    attributes = {"surface": words(*["home"] * N)}
    return Scored(nothing, np.arange(N), np.arange(N), scores, scores, scores, attributes)


COLUMNS = ("position", "item_price", "attributes.item.tier", "item_id")


def test_it_is_of_the_columns_the_ranker_reads_of_outcomes_and_of_its_scores() -> None:
    found = reference.reference(reference.learned(training(), COLUMNS), COLUMNS, validated(), "logistic")
    assert sorted(found.columns) == sorted([*COLUMNS[:3], "clicked", "converted", "p_click"])
    assert sorted(found.columns["position"].parts) == [EVERYWHERE, "home", "search"]
    assert found.columns["item_price"].parts[EVERYWHERE].shares[-1] == pytest.approx(
        np.average(np.isnan(training().features["item_price"]), weights=training().weight)
    )
    assert max(found.columns["p_click"].edges) < 0.2
    assert sorted(found.columns["p_click"].parts) == [EVERYWHERE, "home"]


def test_outcomes_are_those_that_are_known_and_a_sampled_row_counts_as_many() -> None:
    """A tenth is clicked, and every row without a click stands for three; a conversion is a word of its own."""
    found = reference.reference(reference.learned(training(), COLUMNS), COLUMNS, validated(), "logistic").columns
    assert found["clicked"].names == ("no", "yes")
    assert found["clicked"].parts[EVERYWHERE].shares[1] == pytest.approx(0.1 / (0.1 + 0.9 * 3))
    assert found["converted"].parts[EVERYWHERE].n == N / 2


def test_of_a_large_training_set_some_users_are_taken_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are those of the rows, not of how they came; whoever is not known is one user among others."""
    monkeypatch.setattr(reference, "MOST_ROWS", N // 2)
    data, order = training(), np.random.default_rng(0).permutation(N)
    mixed = TrainingData(
        {name: column[order] for name, column in data.features.items()},
        *(of[order] for of in (data.clicked, data.converted, data.weight)),
    )
    one, other = (
        reference.reference(reference.learned(of, COLUMNS), COLUMNS, validated(), "logistic") for of in (data, mixed)
    )
    assert one.to_json() == other.to_json()
    assert 0 < one.columns["position"].parts[EVERYWHERE].n < N


def test_without_validation_rows_there_are_no_scores() -> None:
    none = replace(validated(), clicked=np.zeros(0))
    assert (
        "p_click" not in reference.reference(reference.learned(training(), COLUMNS), COLUMNS, none, "logistic").columns
    )
