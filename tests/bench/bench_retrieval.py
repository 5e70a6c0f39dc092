"""What each retriever would have offered a day's users, all items ranked, against popularity; and the indexes by kind.

    world      clicks of the simulated world: learned from all days but the last, held to the last
    kuairand   clicks of KuaiRand-Pure, 25-29 April, held to 30 April; left out where ../shared/data has none
    chosen     what `choose` makes of each log
    served     a bundle's first stage on the world's clicks, a tenth of the items removed since it was built: the share
               of the judged candidates it finds, milliseconds a search
    index      vectors in clusters: recall of the exact answers, build seconds, milliseconds a query, MiB

Clicks fall on what was shown, and the world's logging policy hardly knows tastes: recall@k of its log favours what it
likes. `true click rate` is what no log tells: the mean P(click at the top) of the k offered items on the held-out day.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.evaluation.estimate import Estimate, Finding
from models.retrieval import RETRIEVERS, FirstStage
from models.retrieval.evaluation import HeldOut, Quality, choose, quality
from models.retrieval.interactions import Interactions
from models.retrieval.protocol import candidates
from models.retrieval.vector_index import VectorIndex
from models.settings import IndexSettings, RetrievalSettings, WorldSettings
from models.world import DAY, World, draw_day

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "kuairand"
SETTINGS = RetrievalSettings()
WORLD = WorldSettings(days=28, requests_per_day=30_000, users=10_000)
SMALL_WORLD = WorldSettings(days=8, requests_per_day=3_000, users=500, items=150, new_items_per_day=5)
HELD_OUT_FROM = 19_111 + 16 / 24
"""Midnight of 30 April 2022 in China, in days since 1970: the log's column of dates is not in order of its times."""
VECTORS, SMALL_VECTORS, DIMENSIONS = 50_000, 2_000, 32


def clicks_of(world: World) -> Interactions:
    """Every click of the world's days; an item's text is its category, tier and price."""
    found = []
    for index in range(world.settings.days):
        day = draw_day(world, index)
        row, place = np.nonzero(day.outcomes.click_time >= 0)
        found.append((day.requests.user[row], day.shown.item[row, place], day.outcomes.click_time[row, place] / DAY))
    user, item, when = (np.concatenate(columns) for columns in zip(*found, strict=True))
    kinds = zip(world.items.category, world.items.tier, world.items.price.round(-1), strict=True)
    text = tuple(f"category{category} tier{tier} price{price:.0f}" for category, tier, price in kinds)
    return Interactions(user, item, when, np.ones(len(user)), len(world.users.activity), len(world.items), text)


def kuairand() -> tuple[Interactions, Interactions]:
    """Clicks before and on the last day; an item's text is its tags, author and types."""
    log = pd.read_parquet(DATA / "val.parquet", columns=["user_id", "video_id", "time_ms", "is_click"])
    videos = pd.read_csv(DATA / "video_features_basic_pure.csv").drop_duplicates("video_id").set_index("video_id")
    log = log[log["is_click"] == 1].reset_index(drop=True)
    users, user = np.unique(log["user_id"].to_numpy(), return_inverse=True)
    items = np.union1d(videos.index.to_numpy(), log["video_id"].to_numpy())
    facts = videos.reindex(items)
    tags = ["tag" + " tag".join(str(tag).split(",")) for tag in facts["tag"]]
    columns = zip(tags, facts["author_id"], facts["video_type"], facts["upload_type"], strict=True)
    text = tuple(f"{tag} author{author} {kind} {upload}" for tag, author, kind, upload in columns)
    item = np.searchsorted(items, log["video_id"].to_numpy())
    when = log["time_ms"].to_numpy() / 86_400_000
    data = Interactions(user, item, when, np.ones(len(log)), len(users), len(items), text)
    last = when >= HELD_OUT_FROM
    return data.at(~last), data.at(last)


def figures(finding: Finding) -> str:
    """value [low, high], or why there is none."""
    if isinstance(finding, Estimate):
        return f"{finding.value:.4f} [{finding.low:.4f}, {finding.high:.4f}]"
    return finding.reason


def compared(before: Interactions, after: Interactions, settings: RetrievalSettings) -> tuple[list[Any], HeldOut]:
    """(quality, seconds to learn, seconds to rank) of each retriever that can learn, and what they were held to."""
    held_out = HeldOut.of(before, after)
    found = []
    for kind in RETRIEVERS.values():
        started = time.perf_counter()
        try:
            retriever = kind.fit(before, settings)
        except ValueError as refused:
            print(f"{kind.kind} is left out: {refused}", flush=True)
            continue
        fitted = time.perf_counter()
        found.append((quality(retriever, held_out, settings.k), fitted - started, time.perf_counter() - fitted))
    return found, held_out


def rows_of(found: list[Any], held_out: HeldOut, settings: RetrievalSettings) -> Iterator[dict[str, Any]]:
    """A row per retriever."""
    base: Quality = found[0][0]
    for at, (of_one, fitted, ranked) in enumerate(found):
        row = {
            "retriever": of_one.kind,
            "users": held_out.taken.shape[0],
            "k": settings.k,
            "recall": figures(of_one.recall.estimate(settings.confidence, bounds=(0.0, 1.0))),
            "coverage": of_one.coverage,
            "new": figures(of_one.new_item_recall.estimate(settings.confidence, bounds=(0.0, 1.0))),
            "learned_s": round(fitted, 2),
            "ranked_s": round(ranked, 2),
        }
        if at:
            row["gain"] = figures((of_one.recall - base.recall).estimate(settings.confidence))
        yield row


def true_click_rates(world: World, users: np.ndarray, qualities: list[Quality]) -> dict[str, float]:
    """The mean P(click at the top) on the last day of what each retriever offers, of chance, and of the best there is.

    `users` are those of the rows of the qualities.
    """
    day, k = world.settings.days - 1, qualities[0].offered.shape[1]
    home = np.zeros(len(users), dtype=np.int64)
    everything = np.tile(np.arange(len(world.items)), (len(users), 1))
    chances = world.click_probability(day, users, everything, home)
    rows = np.arange(len(users))[:, None]
    rates = {of_one.kind: float(chances[rows, of_one.offered].mean()) for of_one in qualities}
    best = -np.partition(-chances, k - 1, axis=1)[:, :k]
    return rates | {"any item": float(chances.mean()), "the best there is": float(best.mean())}


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables of the docstring."""
    settings = SETTINGS.model_copy(update={"k": 10}) if small else SETTINGS
    world = World(SMALL_WORLD if small else WORLD)
    data, cut = clicks_of(world), world.settings.days - 1
    before, after = data.at(data.time < cut), data.at(data.time >= cut)
    found, held_out = compared(before, after, settings)
    qualities = [of_one for of_one, _, _ in found]
    yield "world", {"clicks": len(before.user), "held out": len(after.user), "items": data.items}
    for row in rows_of(found, held_out, settings):
        yield "world", row
    taken = (after.matrix() > 0).astype(np.float64)
    users = np.flatnonzero(np.diff((taken - taken.multiply(before.matrix() > 0)).tocsr().indptr))
    yield "true click rate", true_click_rates(world, users[:1_000], [_first(q, 1_000) for q in qualities])
    yield "chosen", _chosen("world", qualities, settings)
    yield from (("served", row) for row in served(before, settings))
    if DATA.is_dir() and not small:
        before, after = kuairand()
        found, held_out = compared(before, after, settings)
        yield "kuairand", {"clicks": len(before.user), "held out": len(after.user), "items": before.items}
        for row in rows_of(found, held_out, settings):
            yield "kuairand", row
        yield "chosen", _chosen("kuairand", [of_one for of_one, _, _ in found], settings)
    elif not small:
        yield "kuairand", {"skipped": "needs ../shared/data/kuairand"}
    yield from (("index", row) for row in indexes(SMALL_VECTORS if small else VECTORS, settings))


def served(data: Interactions, settings: RetrievalSettings) -> Iterator[dict[str, Any]]:
    """A row per chosen retriever: by its scores alone, and through an index."""
    ids = [f"i{item:06d}" for item in range(data.items)]
    rows = data.newest(10).matrix()[: data.users // 2]
    histories = rows[np.flatnonzero(np.diff(rows.indptr))[:200]]
    gone = np.random.default_rng(7).random(data.items) < 0.1
    for kind in ("item_cf", "ease", "ials"):
        chosen, content = (RETRIEVERS[of].fit(data, settings) for of in (kind, "content"))
        stage = FirstStage.build(ids, [chosen, content], histories, settings, np.zeros(data.items, dtype=bool))
        barred = stage.barred([ids[item] for item in np.flatnonzero(gone)])
        asked = [[ids[item] for item in histories[[row]].indices] for row in range(histories.shape[0])]
        started = time.perf_counter()
        found = [set(stage.search(recent, barred).items) for recent in asked]
        took = time.perf_counter() - started
        judged = candidates(chosen, histories, settings.k, gone)
        same = [np.mean([ids[item] in one for item in row]) for one, row in zip(found, judged, strict=True)]
        row = {"kind": kind, "items": data.items, "k": settings.k, "found": float(np.mean(same))}
        yield {**row, "removed_found": sum(ids[i] in one for one in found for i in np.flatnonzero(gone)),
               "search_ms": round(took / len(asked) * 1000, 3)}  # fmt: skip


def _first(of_one: Quality, rows: int) -> Quality:
    return Quality(of_one.kind, of_one.recall, of_one.new_item_recall, of_one.coverage, of_one.offered[:rows])


def _chosen(log: str, qualities: list[Quality], settings: RetrievalSettings) -> dict[str, Any]:
    chosen = choose(qualities[0], qualities[1:], settings)
    return {"log": log, "chosen": chosen.kind} | {kind: figures(gain) for kind, gain in chosen.gains.items()}


def indexes(n: int, settings: RetrievalSettings) -> Iterator[dict[str, Any]]:
    """A row per kind of index, of n vectors in n / 100 clusters, queries from the same."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((n // 100, DIMENSIONS))
    vectors, queries = (
        centres[rng.integers(0, len(centres), size)] + 0.5 * rng.standard_normal((size, DIMENSIONS))
        for size in (n, 200)
    )
    for kind in ("exact", "ivf", "pq", "hnsw"):
        wanted = settings.model_copy(
            update={"index": IndexSettings(kind=kind, canary_queries=200, canary_min_recall=0.01)}
        )
        started = time.perf_counter()
        index = VectorIndex.build(vectors, queries, wanted)
        built = time.perf_counter()
        for query in queries:
            index.search(query[None], settings.k)
        yield {
            "kind": kind,
            "vectors": n,
            "k": settings.k,
            "recall": index.canary_recall,
            "build_s": round(built - started, 2),
            "query_ms": round((time.perf_counter() - built) / len(queries) * 1000, 3),
            "mib": round(sum(map(len, index.to_files().values())) / 2**20, 2),
        }
