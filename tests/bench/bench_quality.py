"""How well every ranker tells real clicks, and how far each comes from what a world shows to the best it could show.

    kuairand   real short-video impressions, 25-28 April learned from, 29 April stopped and calibrated by, 30 April
               told: clicks and long views; left out where ../shared/data has none. Beside a plain LightGBM on the
               same columns (in `var/lightgbm-env`, made on the first run) and a plain xgboost
    world      a simulated day's requests, each ranker's first choice of its candidates: the true clicks it earns, as a
               share of the way from the logging policy to the best choice; beside them how far any could come from
               such clicks (`tests.bench.world_law`)
    ranker     seconds to learn; one that orders lists is told requests, of KuaiRand, which has no pages, users' days

Intervals are by user. GAUC is the mean of users' AUC by their positives, NDCG@5 of a user's day as one list; both of
users with some of either. Every figure is of probabilities as they would serve, `ece_plain` of those as fitted.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jobs import config
from models.evaluation.calibration import ece
from models.evaluation.comparison import compare
from models.evaluation.estimate import Estimate, Finding
from models.rankers import RANKERS, fit
from models.rankers.calibrated import calibrated
from models.rankers.encoding import Encoding
from models.rankers.protocol import Floats, Predictions, Scorer
from models.rankers.recalibration import Outcomes, Recalibration
from models.rankers.words import unpacked
from models.rankers.xgboost import table_of
from models.settings import GateSettings, MMoESettings, RankerSettings
from models.world import World
from tests.bench import quality_logs as logs
from tests.bench import world_law

ROOT = Path(__file__).resolve().parents[2]
SIDE = ROOT / "var" / "lightgbm-env"
PACKAGES = ("lightgbm==4.7.0", "numpy==2.4.6", "scipy==1.17.1", "narwhals==2.29.0")
SETTINGS, GATE = RankerSettings(), GateSettings()
TARGETS = ("click", "long_view")
PEERS = ("lightgbm, plain", "xgboost, plain")
MMOE_OVER_XGBOOST = 1.2
CAREFUL = MMoESettings(epochs=3, embedding_caution=1.0)


def learned(of: logs.Logs, kind: str, settings: RankerSettings = SETTINGS) -> tuple[Scorer, Scorer, float]:
    """A ranker as `jobs.train` makes it: fitted, calibrated on the validation rows; before and after, and seconds."""
    started = time.perf_counter()
    plain, rows = fit(kind, of.learned, settings), of.validate
    said, surface = plain.predict(rows.data.features), unpacked(rows.data.features["surface"])
    click = Recalibration.fit(Outcomes(said.p_click, rows.data.clicked, rows.users, surface))
    at = np.flatnonzero((rows.data.clicked == 1.0) & np.isfinite(rows.data.converted))
    given = Outcomes(said.p_conversion_given_click[at], rows.data.converted[at], rows.users[at], surface[at])
    made = plain if kind == "popularity" else calibrated(plain, click, Recalibration.fit(given))
    return plain, made, time.perf_counter() - started


def told(value: Finding) -> str:
    """value [low, high], or why there is none."""
    return f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]" if isinstance(value, Estimate) else value.reason


def gauc(labels: Floats, scores: Floats, users: Any) -> Estimate:
    """Users' AUC, weighted by their positives; of users with both outcomes. Users are the sample."""
    order = np.lexsort((scores, users))
    y, s, u = labels[order], scores[order], users[order]
    first = np.flatnonzero(np.append(True, u[1:] != u[:-1]))
    user = np.cumsum(np.append(True, u[1:] != u[:-1])) - 1
    tied = np.cumsum(np.append(True, (u[1:] != u[:-1]) | (s[1:] != s[:-1]))) - 1
    place = np.arange(len(y)) - first[user]
    rank = (np.bincount(tied, place) / np.bincount(tied))[tied]  # ties share
    positive, n = np.bincount(user, y), np.bincount(user)
    both = (positive > 0) & (positive < n)
    above = np.bincount(user, rank * y)[both] - positive[both] * (positive[both] - 1) / 2
    area, weight = above / (positive * (n - positive))[both], positive[both]
    value = float(np.average(area, weights=weight))
    error = float(np.sqrt(((weight * (area - value)) ** 2).sum()) / weight.sum())
    return Estimate(value, error, value - 1.96 * error, value + 1.96 * error, len(area), float(len(area)))


def figures(labels: Floats, scores: Floats, users: Any) -> dict[str, str]:
    """Of one ranker's probabilities."""
    scores = np.clip(scores, 0.0, 1.0)
    found = compare(labels, scores, scores, users, users, GATE, ["auc", "log_loss", "ndcg_at_5"])
    return {
        **{name: told(sides["challenger"]) for name, sides in found.items()},
        "gauc": told(gauc(labels, scores, users)),
        "ece": told(ece(labels, scores, settings=GATE, clusters=users)),
    }


def peers(of: logs.Logs, folder: Path) -> Iterator[tuple[str, dict[str, Floats] | str]]:
    """What each makes of the columns that trees see, or why there is nothing."""
    train, test = of.train.data, of.test.data
    encoding = Encoding.fit(train.features, np.arange(len(train.clicked)), SETTINGS.xgboost.max_categories)
    tables = {"train": table_of(encoding, train.features), "test": table_of(encoding, test.features)}
    numbers, categories = len(encoding.numeric), len(encoding.vocabularies)
    labels = dict(zip(TARGETS, (train.clicked, train.converted), strict=True))
    rows, out = folder / "rows.npz", folder / "scores.npz"
    np.savez(rows, categorical=np.arange(numbers, numbers + categories), **tables, **labels)
    try:
        if not (SIDE / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", str(SIDE)], check=True)
            subprocess.run([str(SIDE / "bin" / "pip"), "install", "-q", *PACKAGES], check=True)
            (SIDE / "ready").touch()
        script = Path(__file__).with_name("lightgbm_peer.py")
        subprocess.run([SIDE / "bin" / "python", script, rows, out], check=True)
        yield PEERS[0], dict(np.load(out))
    except (subprocess.CalledProcessError, OSError) as error:
        yield PEERS[0], f"left out: {error}"
    yield PEERS[1], {name: _plain_xgboost(tables, label, numbers, categories) for name, label in labels.items()}


def _plain_xgboost(tables: Mapping[str, Any], label: Floats, numbers: int, categories: int) -> Floats:
    """A hundred trees by its own defaults."""
    import xgboost as xgb

    types = ["float"] * numbers + ["c"] * categories
    data = xgb.DMatrix(tables["train"], label, feature_types=types, enable_categorical=True)
    booster = xgb.train({"objective": "binary:logistic", "nthread": 1, "seed": 0}, data, num_boost_round=100)
    return np.asarray(booster.inplace_predict(tables["test"]), dtype=np.float64)


def kuairand(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row a ranker and label, the peers first, each of ours with its difference to the first peer there is."""
    if not logs.DATA.is_dir():
        yield "kuairand", {"left out": f"needs KuaiRand-Pure in {logs.DATA.name} of shared/data beside the repository"}
        return
    with tempfile.TemporaryDirectory() as folder:
        of = logs.kuairand(Path(folder))
        found = list(peers(of, Path(folder)))
    test, users = of.test.data, of.test.users
    labels = dict(zip(TARGETS, (test.clicked, test.converted), strict=True))
    theirs = next(scores for _, scores in found if not isinstance(scores, str))
    for name, scores in found:
        if isinstance(scores, str):
            yield "kuairand", {"ranker": name, "left out": scores}
            continue
        for target, label in labels.items():
            yield "kuairand", {"target": target, "ranker": name, **figures(label, scores[target], users)}
    for kind in list(RANKERS)[:2] if small else RANKERS:
        plain, made, seconds = learned(of, kind)
        before, after = (both(ranker.predict(test.features)) for ranker in (plain, made))
        for target, label in labels.items():
            gain = compare(label, theirs[target], after[target], users, users, GATE, ["auc", "log_loss"])
            yield (
                "kuairand",
                {
                    "target": target,
                    "ranker": kind,
                    **figures(label, after[target], users),
                    "ece_plain": told(ece(label, before[target], settings=GATE, clusters=users)),
                    **{f"{name}_over_peer": told(sides["difference"]) for name, sides in gain.items()},
                    "seconds": round(seconds, 1),
                },
            )


def both(said: Predictions) -> dict[str, Floats]:
    """By target; a long view comes of a click, as the product has it."""
    return dict(zip(TARGETS, (said.p_click, said.p_conversion), strict=True))


def world(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row a ranker: its true clicks a request, and how much of the way from logged to best choices it has come."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = logs.SMALL_WORLD if small else logs.WORLD
        of, asked = logs.world(Path(folder), sizes)
    logging, best = asked.truth[asked.shown], asked.value(asked.truth)
    way = float((best - logging).mean())
    for name, value in (("logging policy", logging), ("best choice", best)):
        yield "world", {"ranker": name, "clicks_a_request": float(value.mean())}
    for name, share in world_law.shares(World(config.load(logs.environment(sizes)).world)).items():
        yield "world", {"ranker": name, "share": share}
    test = of.test
    fits = [(kind, kind, SETTINGS) for kind in (list(RANKERS)[:2] if small else RANKERS)]
    if not small:
        fits.append(("mmoe, three passes", "mmoe", RankerSettings(mmoe=CAREFUL)))
    for name, kind, settings in fits:
        _, made, seconds = learned(of, kind, settings)
        value = asked.value(made.predict(asked.columns).p_click)
        apart = value - logging - (value - logging).mean() / way * (best - logging)
        error = float(apart.std() / way / np.sqrt(len(apart)))
        share = float((value - logging).mean() / way)
        said = made.predict(test.data.features).p_click
        yield (
            "world",
            {
                "ranker": name,
                "clicks_a_request": float(value.mean()),
                "share": share,
                "share_low": share - 1.96 * error,
                "share_high": share + 1.96 * error,
                **figures(test.data.clicked, said, test.users),
                "seconds": round(seconds, 1),
            },
        )


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) as they are found."""
    yield from kuairand(small)
    yield from world(small)


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best of ours beats a plain peer on the same columns; the network comes further than the trees."""
    judged = []
    for target in TARGETS:
        at = {row["ranker"]: row for row in rows if row.get("target") == target}
        for metric, sign in (("auc", 1), ("log_loss", -1)):
            values = {name: sign * float(row[metric].split()[0]) for name, row in at.items()}
            ours = {name: value for name, value in values.items() if name in RANKERS}
            theirs = {name: value for name, value in values.items() if name in PEERS}
            if ours and theirs:
                mine, peer = max(ours, key=ours.__getitem__), max(theirs, key=theirs.__getitem__)
                judged.append(
                    {
                        "goal": f"KuaiRand, {target}: the best of ours has a better {metric} than the best plain peer",
                        "found": f"{mine} {abs(ours[mine]):.4f}, {peer} {abs(theirs[peer]):.4f}",
                        "met": ours[mine] > theirs[peer],
                    }
                )
    share = {row["ranker"]: row["share"] for row in rows if "share" in row}
    judged.append(
        {
            "goal": f"world: MMoE closes {MMOE_OVER_XGBOOST} x of what XGBoost closes",
            "found": ", ".join(f"{kind} {of:.3f}" for kind, of in share.items()),
            "met": share["mmoe"] >= MMOE_OVER_XGBOOST * share["xgboost"],
        }
    )
    return judged
