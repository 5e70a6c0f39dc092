"""One model for all surfaces against one for each, on the same rows; and weights of heuristics chosen from logs.

surfaces   KuaiRand's tabs (left out where ../shared/data has none) and a simulated world's surfaces: of each kind
           the bespoke rankers minus the consolidated one on every surface's test rows, intervals by user that hold
           together; both calibrated by surface as training does
cost       seconds of the processor to learn; its milliseconds to score one request of 100 candidates; MiB of files.
           Of bespoke rankers the fits of the surfaces alone: the one of all rows, which answers for the others
           (`models.rankers.by_surface`), comes to that
paradox    rankers that never met order each surface better and all together worse: a planted case, which is named
refused    a surface of queries among items: what training says
weights    how often an arm is chosen that is no better, or worse, than the present one, and how often the best of
           four; what an arm that is drawn by its chances earns in the mean; logs of pages whose every probability is
           enumerated (`tests.models.evaluation.tuning_world`)
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import binom

from jobs.errors import Refused
from jobs.train.surfaces import need_same_entities, shown
from models.evaluation.comparison import compare
from models.evaluation.estimate import Estimate, Finding
from models.evaluation.slices import Ints, reversals, slices
from models.evaluation.tuning import tuned
from models.rankers import exported, fit
from models.rankers.by_surface import BySurfaceRanker
from models.rankers.calibrated import calibrated
from models.rankers.protocol import Floats, Scorer
from models.rankers.recalibration import Outcomes, Recalibration
from models.rankers.words import unpacked
from models.settings import BY_SURFACE, GateSettings, RankerSettings
from tests.bench import quality_logs as logs
from tests.models.evaluation.tuning_world import PRESENT, TuningWorld

SETTINGS, GATE = RankerSettings(), GateSettings()
KINDS = ("logistic", "xgboost", "mmoe")
METRICS = ("auc", "log_loss")
CANDIDATES, REQUESTS = 100, 200
LOGS = {1_500: 400, 10_000: 60}
"""Pages of a log to logs drawn."""


def learned(of: logs.Logs, kind: str) -> tuple[Scorer, float]:
    """A ranker as training makes it, and seconds of the processor of its fit."""
    started = time.process_time()
    plain = fit(kind, of.learned, SETTINGS)
    seconds, rows = time.process_time() - started, of.validate
    said, surface = plain.predict(rows.data.features), unpacked(rows.data.features["surface"])
    click = Recalibration.fit(Outcomes(said.p_click, rows.data.clicked, rows.users, surface))
    made = calibrated(plain, click, Recalibration())
    return exported(made, {name: column[:500] for name, column in rows.data.features.items()}), seconds


def request_ms(ranker: Scorer, of: logs.Rows) -> float:
    """The median time of the processor for one request's candidates, all of one surface, its words said once."""
    rows = np.arange(CANDIDATES) % len(of.data.clicked)
    columns = {name: column[rows] for name, column in of.data.features.items()}
    surface = unpacked(of.data.features["surface"])
    found = []
    for number in range(REQUESTS):
        cell = surface[[number % len(surface)]]
        asked = {**columns, "surface": np.broadcast_to(cell, (CANDIDATES,))}
        started = time.process_time()
        ranker.predict(asked)
        found.append(time.process_time() - started)
    return 1000 * float(np.median(found))


def apart(of: logs.Logs, one: Floats, each: Floats) -> Iterator[dict[str, Any]]:
    """Rows of the whole and of each surface."""
    test, users = of.test.data, of.test.users

    def difference(metric: str) -> Any:
        def on(at: Ints, confidence: float) -> Finding:
            held = GATE.model_copy(update={"confidence": confidence})
            sides = (test.clicked[at], one[at], each[at], users[at], users[at])
            return compare(*sides, held, [metric])[metric]["difference"]

        return on

    found = {}
    for metric in METRICS:
        whole = difference(metric)(np.arange(len(test.clicked)), GATE.confidence)
        parts = slices({"surface": unpacked(test.features["surface"])}, difference(metric), confidence=GATE.confidence)
        found[metric] = {"all": (len(test.clicked), whole)} | {p.value: (p.n, p.difference) for p in parts}
        found[metric]["paradox"] = (0, bool(reversals(whole, parts)))  # type: ignore[assignment]
    for surface in found["auc"]:
        if surface == "paradox":
            continue
        row: dict[str, Any] = {"surface": surface, "rows": found["auc"][surface][0]}
        for metric in METRICS:
            of_it = found[metric][surface][1]
            row[metric] = told(of_it)
            row[f"{metric}_better"] = verdict(of_it, metric)
        yield row


def told(value: Finding) -> str:
    return f"{value.value:+.4f} [{value.low:+.4f}, {value.high:+.4f}]" if isinstance(value, Estimate) else value.reason


def verdict(value: Finding, metric: str) -> str:
    """Who is better for sure."""
    if not isinstance(value, Estimate) or value.low <= 0 <= value.high:
        return "neither"
    return "bespoke" if (value.value < 0) == (metric == "log_loss") else "consolidated"


def surfaces(name: str, of: logs.Logs, kinds: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Both tables of one log."""
    for kind in kinds:
        fit(kind, of.learned.where(np.arange(2_000)), SETTINGS)  # what is imported on the way costs neither
        (one, seconds), (each, with_all) = learned(of, kind), learned(of, kind + BY_SURFACE)
        said = [ranker.predict(of.test.data.features).p_click for ranker in (one, each)]
        for row in apart(of, *said):
            yield "surfaces", {"log": name, "ranker": kind, **row}
        within: Any = each
        while not isinstance(within, BySurfaceRanker):
            within = within.ranker
        size = [sum(map(len, ranker.to_files().values())) / 2**20 for ranker in (one, each)]
        ms = [request_ms(ranker, of.test) for ranker in (one, each)]
        yield "cost", {"log": name, "ranker": kind, "model": "consolidated", "rankers": 1,
                       "seconds": seconds, "request_ms": ms[0], "mib": size[0]}  # fmt: skip
        yield "cost", {"log": name, "ranker": kind, "model": "bespoke", "rankers": len(within.own),
                       "seconds": with_all - seconds, "request_ms": ms[1], "mib": size[1]}  # fmt: skip


def planted() -> Iterator[tuple[str, dict[str, Any]]]:
    """A paradox and a surface of other entities."""
    n, rng = 20_000, np.random.default_rng(1)
    surface = np.where(np.arange(n) // 4 % 2, "search", "home").astype(object)
    truth = np.where(surface == "home", 0.1, 0.5) * rng.uniform(0.5, 1.5, n)
    clicked, users = (rng.random(n) < truth).astype(float), np.arange(n) // 4
    one, each = truth * rng.uniform(0.7, 1.3, n), truth * np.where(surface == "home", 1.0, 0.2)

    def difference(at: Ints, confidence: float) -> Finding:
        held = GATE.model_copy(update={"confidence": confidence})
        return compare(clicked[at], one[at], each[at], users[at], users[at], held, ["auc"])["auc"]["difference"]

    whole = difference(np.arange(n), GATE.confidence)
    parts = slices({"surface": surface}, difference, confidence=GATE.confidence)
    named = [of.attribute for of in reversals(whole, parts)]
    yield "paradox", {"all": told(whole), **{of.value: told(of.difference) for of in parts}, "named": named}
    items, queries = [f"i{k}" for k in range(50)], [f"q{k}" for k in range(50)]
    rows = {"home": items * 4, "search": items * 4, "suggest": queries * 3 + items}
    table = pa.table(
        {"surface": [s for s, of in rows.items() for _ in of], "item_id": [i for of in rows.values() for i in of]}
    )
    try:
        need_same_entities(shown(table), pa.chunked_array([items]))
        said = ""
    except Refused as error:
        said = str(error)
    yield "refused", {"said": said}


def weights(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row a world and length of log."""
    cases = [("no arm is better", TuningWorld(seed=3, tired=1.0, alike=True)), ("two are", TuningWorld(seed=3))]
    for name, world in cases:
        now = world.values[PRESENT]
        best = max(world.values, key=world.values.__getitem__)
        for pages, draws in ({1_500: 20} if small else LOGS).items():
            found = [tuned(**world.log(pages, 10_000 + seed), settings=GATE) for seed in range(draws)]
            chosen = [of.chosen for of in found]
            value = np.array([world.values[arm] for arm in chosen])
            drawn = [sum(chance * world.values[arm] for arm, chance in of.chances.items()) for of in found]
            yield "weights", {
                "world": name, "pages": pages, "logs": draws,
                "gain_of_best": world.values[best] / now - 1,
                "another_chosen": sum(arm != PRESENT for arm in chosen),
                "worse_chosen": int((value < now - 1e-12).sum()),
                "best_chosen": sum(arm == best for arm in chosen) if world.values[best] > now + 1e-12 else 0,
                "gain": float(value.mean() / now - 1),
                "gain_of_drawn": float(np.mean(drawn) / now - 1),
            }  # fmt: skip


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) as they are found."""
    kinds = KINDS[:1] if small else KINDS
    yield from planted()
    if not logs.DATA.is_dir():
        yield "surfaces", {"left out": f"needs KuaiRand-Pure in {logs.DATA.name} of shared/data beside the repository"}
    elif not small:
        with tempfile.TemporaryDirectory() as folder:
            yield from surfaces("kuairand", logs.kuairand(Path(folder)), kinds)
    yield from weights(small)
    with tempfile.TemporaryDirectory() as folder:
        yield from surfaces("world", logs.world(Path(folder), logs.SMALL_WORLD if small else logs.WORLD)[0], kinds)


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the figures must say."""
    judged = []
    for row in (row for row in rows if row.get("world") == "no arm is better"):
        most = int(binom.ppf(0.999, row["logs"], (1 - GATE.confidence) / 2))
        judged.append({
            "goal": f"{row['pages']} pages, no arm better: another chosen in at most {(1 - GATE.confidence) / 2:.1%}",
            "found": f"{row['another_chosen']} of {row['logs']}",
            "met": row["another_chosen"] <= most,
        })  # fmt: skip
    for row in (row for row in rows if row.get("world") == "two are"):
        judged.append({
            "goal": f"{row['pages']} pages: a worse arm chosen in at most {(1 - GATE.confidence) / 2:.1%}",
            "found": f"{row['worse_chosen']} of {row['logs']}; the best in {row['best_chosen']}",
            "met": row["worse_chosen"] <= (1 - GATE.confidence) / 2 * row["logs"],
        })  # fmt: skip
    paradox, refused = next(r for r in rows if "named" in r), next(r for r in rows if "said" in r)
    judged.append({"goal": "the planted paradox is named", "found": paradox["named"], "met": bool(paradox["named"])})
    judged.append({"goal": "a surface of queries is refused with the reason", "found": refused["said"],
                   "met": "suggest has 50 of 200" in refused["said"]})  # fmt: skip
    return judged
