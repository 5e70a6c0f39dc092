"""Sums as one Arrow row and back, bit by bit the same: how a partition tells what it found, without pickles.

What travels is settled: a few hundred numbers however many clusters there were, and the largest weights.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.off_policy.columns import Fault
from jobs.off_policy.sums import Part, Sums
from models.evaluation.diagnostics import WeightStatistics
from models.evaluation.intervals import PoissonBootstrap
from models.evaluation.moments import ClusterSums, Moments
from models.evaluation.sufficient import SufficientStatistics, WeightSums

NUMBERS = pa.list_(pa.float64())
MOMENTS = pa.struct([("units", pa.int64())] + [(name, NUMBERS) for name in ("mean", "second", "third", "fourth")])
WEIGHTS = pa.struct([(name, pa.float64()) for name in ("total", "squares", "largest")])
FAULT = pa.struct([("column", pa.string()), ("needs", pa.string()), ("found", pa.string()), ("count", pa.int64())])
STATISTICS = pa.struct([("units", MOMENTS), ("weights", WEIGHTS)])
SUPPORT = pa.struct(
    [
        ("units", MOMENTS),
        ("weights", WEIGHTS),
        ("largest", NUMBERS),
        ("never", pa.int64()),
        ("certain", pa.int64()),
        ("smallest", pa.float64()),
    ]
)
BOOTSTRAP = pa.struct([("seed", pa.int64()), ("sums", NUMBERS), ("draws", NUMBERS), ("weights", WEIGHTS)])
SCHEMA = pa.schema(
    [
        ("rows", pa.int64()),
        ("unlogged", pa.int64()),
        ("faults", pa.list_(FAULT)),
        ("statistics", STATISTICS),
        ("weights", SUPPORT),
        ("bootstrap", BOOTSTRAP),
    ]
)
"""The last three are null where nothing was summed, the last where no bootstrap was asked for."""


def sent(part: Part) -> pa.RecordBatch:
    """The part, settled, as one row of `SCHEMA`."""
    row: dict[str, Any] = {
        "rows": part.rows,
        "unlogged": part.unlogged,
        "faults": [
            {"column": name, "needs": f.needs, "found": f.found, "count": f.count} for name, f in part.faults.items()
        ],
    }
    sums = part.sums
    if sums:
        row["statistics"] = {"units": _moments(sums.statistics.units), "weights": vars(sums.statistics.weights[0])}
        of = sums.weights
        row["weights"] = {
            "units": _moments(of.units),
            "weights": vars(of.weights),
            "largest": of.largest,
            "never": of.never,
            "certain": of.certain,
            "smallest": of.smallest,
        }
    if sums and sums.bootstrap:
        draws = sums.bootstrap
        row["bootstrap"] = {
            "seed": draws.seed,
            "sums": draws.sums,
            "draws": draws.draws.ravel(),
            "weights": vars(draws.weights[0]),
        }
    return pa.RecordBatch.from_pylist([row], schema=SCHEMA)


def arrived(rows: pa.Table) -> list[Part]:
    """The parts that were sent, in the order of the rows."""
    return [_part(row) for row in rows.to_pylist()]


def _part(row: dict[str, Any]) -> Part:
    faults = {f["column"]: Fault(f["needs"], f["found"], f["count"]) for f in row["faults"]}
    told, of, drawn = row["statistics"], row["weights"], row["bootstrap"]
    if told is None:
        return Part(row["rows"], row["unlogged"], faults)
    statistics = SufficientStatistics(_units(told["units"]), (WeightSums(**told["weights"]),))
    weights = WeightStatistics(
        units=_units(of["units"]),
        weights=WeightSums(**of["weights"]),
        largest=_array(of["largest"]),
        never=of["never"],
        certain=of["certain"],
        smallest=of["smallest"],
        knows_candidates=False,
        knows_support=False,
        octaves={},
    )
    bootstrap = None
    if drawn is not None:
        sums = _array(drawn["sums"])
        draws = _array(drawn["draws"]).reshape(-1, len(sums))
        bootstrap = PoissonBootstrap(drawn["seed"], sums, draws, (WeightSums(**drawn["weights"]),))
    return Part(row["rows"], row["unlogged"], faults, Sums(statistics, weights, bootstrap))


def _moments(units: Moments | ClusterSums) -> dict[str, Any]:
    found = units.moments() if isinstance(units, ClusterSums) else units
    flat = {name: getattr(found, name).ravel() for name in ("mean", "second", "third", "fourth")}
    return {"units": found.units, **flat}


def _units(row: dict[str, Any]) -> Moments:
    mean = _array(row["mean"])
    higher = [_array(row[name]).reshape((len(mean),) * n) for n, name in enumerate(("second", "third", "fourth"), 2)]
    return Moments(row["units"], mean, *higher)


def _array(numbers: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(numbers, dtype=np.float64)
