"""Peak memory of one day's evidence against its rows: metrics, slices, popularity, values and whole pages.

Each part runs in a process of its own on the same arrays, as `jobs` hands them to `models.evaluation`; `arrays` is what
they and the imports take, and `evidence` is all parts, one after another. A day of n rows has n / 4 pages of 4 places,
n / 8 users, and n / 4 replayed decisions of 10 candidates each.
"""

from pathlib import Path
from typing import Any

import numpy as np

CASES = {"50k rows": 50_000, "200k rows": 200_000, "800k rows": 800_000}
SMALL = {"20k rows": 20_000}
PLACES, CANDIDATES, ITEMS = 4, 10, 20_000
SIDES = ("champion", "challenger")
MOST_BYTES_A_ROW = 600
Arrays = dict[str, Any]


def prepare(folder: Path) -> None:
    """One `.npz` a case."""
    for rows in {**CASES, **SMALL}.values():
        np.savez(folder / f"{rows}.npz", **day(rows))


def day(rows: int) -> Arrays:
    """A day's arrays: (rows,) by impression, (rows / 4,) by decision and (rows / 4 x 10,) by candidate."""
    rng = np.random.default_rng(rows)
    pages = rows // PLACES
    p = rng.beta(1, 8, rows)
    shown, wanted = rng.dirichlet(np.ones(CANDIDATES), (2, pages))
    taken = np.minimum((rng.random((pages, 1)) > shown.cumsum(axis=1)).sum(axis=1), CANDIDATES - 1)
    other = 0.5 * shown + 0.5 * rng.dirichlet(np.ones(CANDIDATES), pages)
    at = np.arange(pages)
    return {
        "clicked": (rng.random(rows) < p).astype(np.float64),
        **{side: np.clip(p * np.exp(0.3 * rng.standard_normal(rows)), 0, 1) for side in SIDES},
        "request": np.repeat(at, PLACES),
        "user": np.repeat(rng.integers(0, rows // 8, pages), PLACES),
        "position": np.tile(np.arange(1, PLACES + 1), pages),
        "device": rng.integers(0, 6, rows),
        "query": rng.integers(0, 4_000, rows),
        "age": np.where(rng.random(rows) < 0.1, np.nan, rng.integers(1, 80, rows)),
        "item": rng.zipf(1.3, pages * CANDIDATES) % ITEMS,
        "chosen_champion": (0.5 * shown + 0.5 * other).ravel(),
        "chosen_challenger": (0.7 * shown + 0.3 * wanted).ravel(),
        "logged": shown[at, taken],
        "taken_champion": (0.5 * shown + 0.5 * other)[at, taken],
        "taken_challenger": (0.7 * shown + 0.3 * wanted)[at, taken],
        "predicted": rng.beta(1, 8, pages),
        "placed": rng.uniform(0.2, 0.6, rows),
    }


def arrays(folder: Path, case: str) -> int:
    """The arrays alone."""
    return len(_read(folder, case)["clicked"])


def metrics(folder: Path, case: str) -> int:
    """Every metric of both sides with intervals, AUC-PR by resampling, and calibration."""
    return _metrics(_read(folder, case))


def sliced(folder: Path, case: str) -> int:
    """AUC in slices of four attributes, one of them a long text."""
    return _sliced(_read(folder, case))


def popularity(folder: Path, case: str) -> int:
    """Curves, gaps and the rise of concentration, resampled by user."""
    return _popularity(_read(folder, case))


def values(folder: Path, case: str) -> int:
    """Self-normalised, doubly robust and bootstrapped values of both sides and their difference."""
    return _values(_read(folder, case))


def pages(folder: Path, case: str) -> int:
    """Whole pages at every depth."""
    return _pages(_read(folder, case))


def evidence(folder: Path, case: str) -> int:
    """All of it in one process."""
    read = _read(folder, case)
    return max([part(read) for part in (_metrics, _sliced, _popularity, _values, _pages)])


def _read(folder: Path, case: str) -> Arrays:
    import models.evaluation.comparison
    import models.evaluation.page_values
    import models.evaluation.popularity
    import models.evaluation.slices  # noqa: F401 - what is imported is part of `arrays`

    with np.load(folder / f"{({**CASES, **SMALL})[case]}.npz") as found:
        read: Arrays = dict(found)
    read["query"] = np.array([f"query number {n}: {'shoes ' * 12}" for n in range(4_000)], object)[read["query"]]
    return read


def _metrics(read: Arrays) -> int:
    from models.evaluation.calibration import calibration_error
    from models.evaluation.comparison import compare
    from models.settings import GateSettings

    y, users = read["clicked"], read["user"]
    compare(y, read["champion"], read["challenger"], read["request"], users, GateSettings())
    for side in SIDES:
        calibration_error(y, read[side], settings=GateSettings(), clusters=users)
    return len(y)


def _sliced(read: Arrays) -> int:
    from models.evaluation.comparison import figure_of
    from models.evaluation.slices import slices

    def difference(rows: np.ndarray, confidence: float) -> Any:
        figure = figure_of("auc", read["clicked"][rows], read["request"][rows])
        before, after = (figure(read[side][rows]) for side in SIDES)
        return (after - before).estimate(confidence, read["user"][rows])

    slices({name: read[name] for name in ("device", "query", "age", "position")}, difference, confidence=0.95)
    return len(read["clicked"])


def _popularity(read: Arrays) -> int:
    from models.evaluation.popularity import concentration, concentration_rise, exposure_gap
    from models.settings import GateSettings

    items, users = read["item"], np.repeat(read["user"][::PLACES], CANDIDATES)
    common: Arrays = {"settings": GateSettings(), "seed": 7, "clusters": users}
    sides = [read[f"chosen_{side}"] for side in SIDES]
    for chosen in sides:
        concentration(items, chosen, ITEMS, **common)
        exposure_gap(chosen, items < 50, **common)
    concentration_rise(items, *sides, ITEMS, **common)
    return len(read["clicked"])


def _values(read: Arrays) -> int:
    from models.evaluation import weighting
    from models.evaluation.intervals import PoissonBootstrap
    from models.evaluation.off_policy import snips, snips_difference
    from models.evaluation.sufficient import SufficientStatistics
    from models.evaluation.weighting import Log
    from models.settings import GateSettings

    reward, users = read["clicked"][::PLACES], read["user"][::PLACES]
    champion, challenger = (read[f"taken_{side}"] for side in SIDES)
    common: Arrays = {"reward": reward, "logged": read["logged"], "clusters": users, "settings": GateSettings()}
    for target in (champion, challenger, read["logged"]):
        snips(**common, target=target)
    snips_difference(**common, champion=champion, challenger=challenger)
    terms = [
        weighting.dr(Log.checked(reward, read["logged"], target, read["predicted"], read["predicted"]))
        for target in (champion, challenger)
    ]
    SufficientStatistics.of(*terms, clusters=users).estimate()
    PoissonBootstrap.of(*terms, users=users, replicates=200, seed=1).estimate()
    return len(read["clicked"])


def _pages(read: Arrays) -> int:
    from models.evaluation.page_values import PageStatistics
    from models.settings import GateSettings

    placed = read["placed"]
    PageStatistics.of(
        slate=read["request"],
        position=read["position"],
        reward=read["clicked"],
        logged=placed,
        champion=placed * 0.98,
        challenger=placed * 1.02,
        clusters=read["user"],
        places=PLACES,
    ).depths(GateSettings())
    return len(read["clicked"])


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a row of the evidence adds to the peak, from the smallest day to the largest, arrays included."""
    (small, first), *_, (large, last) = CASES.items()
    peaks = {row["case"]: row["peak_mib"] for row in rows if row["peer"] == "evidence"}
    a_row = (peaks[large] - peaks[small]) * 2**20 / (last - first)
    goal = f"a row of a day adds at most {MOST_BYTES_A_ROW} bytes to the peak"
    return [{"goal": goal, "found": f"{a_row:.0f} bytes", "met": a_row <= MOST_BYTES_A_ROW}]


PEERS = {
    "arrays": arrays,
    "metrics": metrics,
    "slices": sliced,
    "popularity": popularity,
    "values": values,
    "pages": pages,
    "evidence": evidence,
}
