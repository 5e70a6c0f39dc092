"""What a day's slates add up to: against the plain Python of it, and against policies whose propensities are right."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.validate import slates
from models.policies.choice import slate
from models.settings import PolicySettings

IMPRESSION = pa.schema(
    [
        ("impression_id", pa.string()),
        ("request_id", pa.string()),
        ("item_id", pa.string()),
        ("position", pa.int32()),
        ("propensity", pa.float64()),
    ]
)
REQUEST = pa.schema([("request_id", pa.string()), ("candidates", pa.list_(pa.string()))])


def few(*values: Any) -> st.SearchStrategy[Any]:
    """One of few values, so that they meet often; or null."""
    return st.sampled_from([*values, None])


IMPRESSIONS = st.lists(
    st.fixed_dictionaries(
        {
            "impression_id": few("a", "b", "c", "d"),
            "request_id": few("r", "s", "t"),
            "item_id": few("i", "j", "k"),
            "position": few(-(2**31), -1, 0, 1, 2, 3, 2**31 - 1),
            "propensity": few(0.5, 1.0, 0.0, -1.0, 2.0, float("inf")),
        }
    ),
    max_size=9,
)
REQUESTS = st.lists(
    st.fixed_dictionaries(
        {"request_id": few("r", "s"), "candidates": st.none() | st.lists(few("i", "j", "x"), max_size=4)}
    ),
    max_size=4,
)


def tables(impressions: list[dict[str, Any]], requests: list[dict[str, Any]]) -> tuple[pa.Table, pa.Table]:
    """As Arrow, the requests as a slice of more: offsets that do not begin at zero."""
    padded = pa.Table.from_pylist([{"request_id": "z", "candidates": ["i", "z"]}, *requests], REQUEST)
    return pa.Table.from_pylist(impressions, IMPRESSION), padded.slice(1)


def figure(values: Any) -> list[float | None]:
    """NaN as None, for comparing."""
    return [None if value != value else value for value in np.asarray(values).tolist()]


@settings(deadline=None)
@given(IMPRESSIONS, REQUESTS)
def test_each_row_is_told_what_its_slate_says_of_it(rows: list[dict[str, Any]], asked: list[dict[str, Any]]) -> None:
    """Against nested loops, over every kind of hole: null ids, unknown requests, copies, lists that are null."""
    impressions, requests = tables(rows, asked)
    found = slates.slates(impressions, requests)
    first: dict[str, int] = {}
    for n, row in enumerate(rows):
        first.setdefault(row["impression_id"], n)
    original = [row["impression_id"] is None or first[row["impression_id"]] == n for n, row in enumerate(rows)]
    by_id: dict[str, dict[str, Any]] = {}
    for request in asked:
        by_id.setdefault(request["request_id"], request)

    def others(row: dict[str, Any], column: str) -> float | None:
        if row["request_id"] is None or row[column] is None:
            return None
        same = [o for o, one in zip(rows, original, strict=True) if one and _same(o, row, "request_id", column)]
        return float(len(same) - 1)

    def among(row: dict[str, Any]) -> float | None:
        request = by_id.get(row["request_id"]) if row["request_id"] is not None else None
        if request is None or request["candidates"] is None or row["item_id"] is None:
            return None
        return float(row["item_id"] in request["candidates"])

    assert found.original.tolist() == original
    assert figure(found.among_candidates) == [among(row) for row in rows]
    for column, values in (("position", found.others_at_position), ("item_id", found.others_of_item)):
        # A copy that names another request than its original is alone there, and no original: -1.
        assert figure(values) == [others(row, column) for row in rows]
    shown = Counter(
        row["request_id"] for row, one in zip(rows, original, strict=True) if one and row["request_id"] in by_id
    )
    firsts = [by_id.get(request["request_id"]) is request for request in asked]
    assert slates.places_shown(found, len(asked)).tolist() == [
        shown[request["request_id"]] if one and request["request_id"] is not None else 0
        for request, one in zip(asked, firsts, strict=True)
    ]


@settings(deadline=None)
@given(REQUESTS)
def test_repeated_candidates_are_counted(asked: list[dict[str, Any]]) -> None:
    """Nulls are another rule's matter."""
    _, requests = tables([], asked)
    lists = [[c for c in request["candidates"] or [] if c is not None] for request in asked]
    assert slates.repeated(requests["candidates"]).tolist() == [len(some) - len(set(some)) for some in lists]


def _same(one: dict[str, Any], other: dict[str, Any], *columns: str) -> bool:
    return all(one[column] == other[column] for column in columns)


def logged(policy: PolicySettings, requests: int = 400, candidates: int = 12, places: int = 12) -> pa.Table:
    """The impressions of a policy that logs its own propensities, over scores that favour a few."""
    rng = np.random.default_rng(3)
    rows = []
    for n in range(requests):
        chosen, propensity = slate(rng.beta(1, 4, candidates), places, policy, rng)
        rows += [
            {"impression_id": f"{n}-{k}", "request_id": str(n), "item_id": str(i), "position": k + 1, "propensity": p}
            for k, (i, p) in enumerate(zip(chosen, propensity, strict=True))
        ]
    return pa.Table.from_pylist(rows, IMPRESSION)


def judged(impressions: pa.Table, requests: int = 400, candidates: int = 12) -> dict[str, float]:
    """The figures of the day."""
    items = [str(i) for i in range(candidates)]
    asked = pa.table({"request_id": [str(n) for n in range(requests)], "candidates": [items] * requests})
    return slates.figures(slates.slates(impressions, asked), impressions["position"], requests)


POLICIES = [
    PolicySettings(kind="plackett_luce", temperature=1.0),
    PolicySettings(kind="epsilon_greedy", epsilon=0.2),
    PolicySettings(kind="epsilon_greedy", epsilon=1.0),
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_true_propensities_pass_and_the_usual_mistakes_do_not(policy: PolicySettings) -> None:
    """The law is the policy's, not ours: whatever it prefers, its weights of a uniform choice average one."""
    true = logged(policy)
    figures = judged(true)
    assert figures["uniform_weight"] == pytest.approx(1, abs=0.1)
    assert figures["last_certain_share"] == 1
    assert (figures["whole_propensity_share"], figures["from_top_share"], figures["shown_candidate_share"]) == (1, 1, 1)

    propensity = true["propensity"].to_numpy()
    slates_of = propensity.reshape(400, 12)
    joint = np.repeat(slates_of.prod(axis=1), 12)  # one probability for the whole page
    not_given_above = np.minimum(1, slates_of * np.linspace(1, 0.1, 12)).ravel()  # chances among all, not what is left
    for wrong in (joint, not_given_above):
        found = judged(true.set_column(4, "propensity", pa.array(wrong)))
        assert found["last_certain_share"] < 0.01
    assert judged(true.set_column(4, "propensity", pa.array(joint)))["uniform_weight"] > 2


def test_a_policy_that_never_explores_has_no_support() -> None:
    """Every propensity is 1: the log says nothing of any other policy."""
    figures = judged(logged(PolicySettings(kind="greedy"), places=4))
    assert figures["uniform_weight"] < 0.5


def test_chance_is_given_the_benefit_of_the_doubt() -> None:
    """A mean of few heavy weights is uncertain, and an alarm every other day is no alarm."""
    assert slates.near_one(np.array([0.1, 9.0])) == 1
    assert slates.near_one(np.array([4.0] * 10)) == 4
    assert np.isnan(slates.near_one(np.array([4.0])))
