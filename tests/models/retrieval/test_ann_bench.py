"""A small version of `tests/bench/bench_ann.py`, and of its drawing."""

import numpy as np
import pytest

from tests.bench.ann_peer import measured
from tests.bench.bench_ann import KINDS, SMALL_KS, drawn, nearest, prove


def test_every_index_is_measured_at_points_that_find_ever_more() -> None:
    """A point whose setting does not reach the index would be the same figure again, and the curve a lie."""
    rows = [row for _, row in prove(small=True)]
    found = {(kind, k): [row["recall"] for row in rows if (row["index"], row["k"]) == (kind, k)]
             for kind in KINDS for k in SMALL_KS}  # fmt: skip
    assert all(found[kind, k][-1] > 0.97 for kind in KINDS for k in SMALL_KS if kind != "hnsw")
    for kind, effort in (("ivf", 0.1), ("pq", 0.05)):
        recalls = found[kind, SMALL_KS[0]]
        assert recalls == sorted(recalls)
        assert recalls[-1] - recalls[0] > effort
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows)
    told = drawn(rows).decode()
    assert all(f">{kind}<" in told for kind in KINDS)
    assert all(f"the {k} nearest" in told for k in SMALL_KS)


def test_recall_is_of_the_exact_answers() -> None:
    """By hand: of the k nearest by inner product, however the rest of an answer looks."""
    items = np.array([[3.0], [1.0], [2.0], [-4.0]], dtype=np.float32)
    users = np.array([[1.0], [-1.0]], dtype=np.float32)
    truth = nearest(items, users, 2)
    assert truth.tolist() == [[0, 2], [3, 1]]
    answers = {"all": [0, 2, 1, 3], "none": [1, 3, 2, 0]}
    points = {name: lambda _, k, of=of: np.array(of[:k]) for name, of in answers.items()}
    rows = list(measured(points, users[:1], truth[:1], (2, 1)))
    assert [row["recall"] for row in rows] == pytest.approx([1.0, 1.0, 0.0, 0.0])
