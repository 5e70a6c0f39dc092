"""From a world to a chosen retriever and its index: a small version of `tests/bench/bench_retrieval.py`."""

from collections import defaultdict
from typing import Any

import pytest

from models.retrieval import RETRIEVERS
from tests.bench.bench_retrieval import prove


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for table, row in prove(small=True):
        found[table].append(row)
    return found


def test_every_retriever_is_measured(tables: dict[str, list[dict[str, Any]]]) -> None:
    """One that drops out silently would never be chosen."""
    assert [row["retriever"] for row in tables["world"][1:]] == list(RETRIEVERS)


def test_the_chosen_one_offers_what_is_clicked_more_in_truth(tables: dict[str, list[dict[str, Any]]]) -> None:
    """The log only tells of what was shown; the world tells of everything offered."""
    (chosen,), (rates,) = tables["chosen"], tables["true click rate"]
    assert chosen["chosen"] != "popularity"
    assert rates["any item"] < rates["popularity"] < rates[chosen["chosen"]] < rates["the best there is"]


def test_only_words_find_new_items(tables: dict[str, list[dict[str, Any]]]) -> None:
    """New-item recall is 0 for whoever knows items by their history alone."""
    new = {row["retriever"]: float(row["new"].split()[0]) for row in tables["world"][1:]}
    assert new["content"] > 0.1
    assert new["item_cf"] == new["ease"] == new["ials"] == new["popularity"] == 0


def test_what_is_served_is_nearly_what_was_judged(tables: dict[str, list[dict[str, Any]]]) -> None:
    """By scores to the item; through an index of half precision all but ties; and nothing that was removed since."""
    for row in tables["served"]:
        assert row["found"] > (0.97 if row["kind"] == "ials" else 0.999)
        assert row["removed_found"] == 0


def test_every_index_finds_nearly_all(tables: dict[str, list[dict[str, Any]]]) -> None:
    """On two thousand vectors in clusters."""
    assert {row["kind"] for row in tables["index"]} == {"exact", "ivf", "pq", "hnsw"}
    assert all(row["recall"] > 0.98 for row in tables["index"])
