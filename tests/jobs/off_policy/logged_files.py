"""Random files of logged decisions and pages, and what the estimators on arrays say of them."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.off_policy.columns import identities
from jobs.off_policy.question import DECISIONS, PAGES, WITH_OPTION, Question
from models.evaluation import off_policy, slates
from models.evaluation.estimate import Estimate
from models.settings import GateSettings

ANYTHING_GOES = GateSettings(
    min_effective_n=1, max_weight_share=1, max_tail_shape=1e9, max_mean_weight_z=1e9, min_decisions_that_matter=1
)
OPTIONS = {"clipped_ips": 1.5, "switch_dr": 1.2, "dros": 3.0}
QUESTIONS = [(name, clustered) for name in (*DECISIONS, *WITH_OPTION, *PAGES) for clustered in (False, True)]
Arrays = dict[str, np.ndarray]


def question(name: str, clustered: bool, replicates: int = 0) -> Question:
    return Question(name, OPTIONS.get(name), clustered, replicates if clustered else 0)


def table(asked: Question, seed: int, text: bool = True, n: int = 0) -> pa.Table:
    """Up to 200 decisions (or pages of 1 to 4 placements, in ascending order), a third as many users."""
    rng = np.random.default_rng(seed)
    units = n or int(rng.integers(2, 200))
    size = rng.integers(1, 5, units) if asked.of_pages else np.ones(units, int)
    page = np.repeat(np.arange(units), size)
    rows = len(page)
    users = np.append([0, 1], rng.integers(0, max(2, units // 3), units - 2))[page]
    logged = rng.uniform(0.05, 1, rows)
    columns: dict[str, Any] = {
        "reward": rng.normal(1.0, 2.0, rows),
        "logged": logged,
        "target": np.minimum(1.0, logged * rng.uniform(0.1, 3, rows)),
        "predicted_logged": rng.random(rows),
        "predicted_target": rng.random(rows),
        "slate": np.char.mod("page-%05d", page) if text else page,
        "position": np.arange(rows) - np.repeat(np.cumsum(size) - size, size) + 1,
        "cluster": np.char.mod("user-%d", users) if text else users,
    }
    return pa.table({name: columns[name] for name in asked.columns})


def cut(rows: pa.Table, seed: int) -> Iterator[pa.RecordBatch]:
    """The rows in their order as batches cut anywhere, empty ones among them."""
    rng = np.random.default_rng(seed)
    places = [0, *np.sort(rng.integers(0, len(rows) + 1, int(rng.integers(0, 9)))).tolist(), len(rows)]
    for start, end in pairwise(places):
        if start == end:
            yield pa.RecordBatch.from_pylist([], schema=rows.schema)
        yield from rows.slice(start, end - start).combine_chunks().to_batches()


def arrays(rows: pa.Table) -> Arrays:
    """The columns as the functions of `models.evaluation` take them."""
    names = {"cluster": "clusters"}
    keys = {"cluster", "slate"}
    return {
        names.get(name, name): identities(rows.column(name)) if name in keys else rows.column(name).to_numpy()
        for name in rows.column_names
    }


def on_arrays(asked: Question, rows: pa.Table) -> Estimate:
    """The public function of that name, on whole arrays."""
    module = slates if asked.of_pages else off_policy
    function: Callable[..., Estimate] = getattr(module, asked.estimator)
    option = {} if asked.takes is None else {asked.takes: asked.option}
    return function(**arrays(rows), **option)


def same(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Every figure of a mapping, an estimate or diagnostics to within rounding, and all that is no figure."""
    one, other = (dict(x if isinstance(x, dict) else x.as_dict()) for x in (found, expected))
    assert one.keys() == other.keys(), (found, expected)
    for name, figure in other.items():
        if isinstance(figure, float):
            assert one[name] == pytest.approx(figure, rel=tolerance, abs=tolerance), name
        else:
            assert one[name] == figure, name
