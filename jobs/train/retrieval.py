"""The first stage of a training: retrievers learn the train split's clicks, the validation days say which one serves.

Each is judged by recall@k of what users took up on those days, all items ranked, from the history that serving will
know (a user's last items): the best whose gain over popularity is for sure, else popularity. It is not fitted again on
the validation days: what was judged is what serves. A warm start keeps the retriever of the newest bundle it continues,
to the byte: its few days of clicks would make a thin one, and of another judgement. Items younger than that are offered
by the endpoint, from its catalogue. Without a bundle to continue it fits its own.

What is judged is the retriever's own ranking; an index may find a little less of it, which its canary bounds.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.core import DAY_US, microseconds
from jobs.bundle import Bundle
from jobs.errors import Misconfigured
from jobs.lake.run import Run
from jobs.moment.columns import numbers
from models.evaluation.estimate import Estimate, Finding
from models.features import LAST_ITEMS
from models.retrieval import RETRIEVERS, FirstStage, Retriever
from models.retrieval.content import ContentRetriever
from models.retrieval.evaluation import Chosen, HeldOut, Quality, choose, quality
from models.retrieval.interactions import Bools, Interactions
from models.retrieval.popularity import PopularityRetriever
from models.settings import RetrievalSettings

POPULARITY = PopularityRetriever.kind
CATALOGUE = ["item_id", "category", "title", "removed", "feature_vector"]
Figures = dict[str, float | None]


IN_A_TABLE = ("recall", "new_item_recall", "coverage", "gain")


@dataclass(frozen=True)
class Trained:
    """What bundles carry, and what is to be said of it."""

    stage: FirstStage | None
    lineage: dict[str, Any]
    """As JSON: what it is, why, and the settings it was made by, or the bundle it was taken from."""
    figures: Mapping[str, Figures]
    """Of each retriever that was judged; no part of a lineage, where two bundles' would be compared one by one."""
    origin: Bundle | None = None
    """The bundle it was taken from."""

    @property
    def metrics(self) -> dict[str, float]:
        """What is known of the chosen one, without intervals: `retrieval.<figure>` is one column of a table."""
        told = self.figures.get(self.lineage["chosen"] or "", {})
        return {f"retrieval.{name}": value for name in IN_A_TABLE if (value := told.get(name)) is not None}

    @property
    def report(self) -> dict[str, Any]:
        """All of it, for the run's JSON."""
        return {**self.lineage, "figures": self.figures}


@dataclass(frozen=True)
class Judged:
    """Retrievers that could learn, and what the validation days say of them; no figures where they say nothing."""

    retrievers: Mapping[str, Retriever]
    chosen: str
    why: str
    figures: Mapping[str, Figures]


def clicks_of(examples: pa.Table) -> pa.Table:
    """split, user_id, item_id and event_time of the clicks whose user is known, of the train and validate splits."""
    wanted = pc.and_(examples["user_id"].is_valid(), pc.fill_null(examples["clicked"], False))
    rows = examples.select(["split", "user_id", "item_id", "event_time"]).filter(wanted)
    return rows.filter(pc.is_in(rows["split"], pa.array(["train", "validate"])))


def first_stage(run: Run, clicks: pa.Table, origins: Mapping[str, Bundle]) -> Trained:
    """Of `clicks_of`; `origins` are the bundles a warm start continues, none in a full training."""
    known = [origin for origin in origins.values() if origin.retrieval is not None]
    if known:
        newest = max(known, key=lambda origin: (origin.learned_until, origin.candidate_id))
        run.say(f"{newest.manifest['retriever']} retrieves, as in {newest.candidate_id}")
        origin = {"candidate_id": newest.candidate_id, "sha256": newest.sha256}
        lineage = {"chosen": newest.manifest["retriever"], "why": "continued", "taken_from": origin}
        return Trained(newest.retrieval, lineage, {}, newest)
    if not pc.sum(pc.equal(clicks["split"], "train")).as_py():
        return Trained(None, {"chosen": None, "why": "nobody who is known clicked anything"}, {})
    return fitted(run, clicks)


def fitted(run: Run, clicks: pa.Table) -> Trained:
    """Raises `Misconfigured` where the settings of the index do not fit."""
    settings, catalogue = run.config.retrieval, run.newest("items", CATALOGUE)
    ids, data, held = _interactions(clicks, catalogue)
    given = len(catalogue) - catalogue["feature_vector"].null_count
    if given:
        taken = 0 if data.vectors is None else np.count_nonzero(data.vectors.any(axis=1))
        run.say(f"{taken} of {given} items' vectors are of one length and finite; content reads those")
    gone = set(catalogue.filter(pc.fill_null(catalogue["removed"], False))["item_id"].to_pylist())
    removed = np.array([item in gone for item in ids], dtype=bool)
    judged = _judged(run, data, held, removed)
    run.say(f"{judged.chosen} retrieves: {judged.why}")
    kinds = [judged.chosen]
    if judged.chosen != POPULARITY and ContentRetriever.kind in judged.retrievers:
        kinds = list(dict.fromkeys([judged.chosen, ContentRetriever.kind]))
    histories = data.newest(LAST_ITEMS).matrix()
    try:
        stage = FirstStage.build(
            ids,
            [judged.retrievers[kind] for kind in kinds],
            histories[np.flatnonzero(np.diff(histories.indptr))],
            settings,
            removed,
        )
    except ValueError as error:
        raise Misconfigured(
            f"the settings retrieval.index.* must make an index that finds its items: {error}"
        ) from error
    canaries = {kind: {"canary_recall": recall} for kind, recall in stage.canary_recalls.items()}
    figures = {kind: {**judged.figures.get(kind, {}), **canaries.get(kind, {})} for kind in judged.retrievers}
    lineage = {"chosen": judged.chosen, "why": judged.why, "settings": settings.model_dump(mode="json")}
    return Trained(stage, lineage, figures)


def _judged(run: Run, data: Interactions, held: Interactions, removed: Bools) -> Judged:
    """Popularity first; a retriever that cannot learn from these clicks is left out, and it is said why."""
    settings, found = run.config.retrieval, dict[str, Retriever]()
    for kind in (kind for kind in RETRIEVERS if kind == POPULARITY or kind in settings.kinds):
        started = time.monotonic()
        try:
            found[kind] = RETRIEVERS[kind].fit(data, settings)
        except ValueError as error:
            run.say(f"retriever {kind} is left out: {error}")
            continue
        run.say(f"retriever {kind} fitted in {time.monotonic() - started:.1f} s")
    try:
        held_out = HeldOut.of(data, held, removed, newest=LAST_ITEMS)
    except ValueError as error:
        return Judged(found, POPULARITY, f"no validation figures ({error}): popularity stands", {})
    started = time.monotonic()
    measured = [quality(retriever, held_out, settings.k) for retriever in found.values()]
    chosen = choose(measured[0], measured[1:], settings)
    run.say(
        f"{len(measured)} retrievers judged on {held_out.taken.shape[0]} users in {time.monotonic() - started:.1f} s"
    )
    figures = {one.kind: _figures(one, chosen, settings) for one in measured}
    return Judged(found, chosen.kind, _why(chosen, figures, settings), figures)


def _figures(of: Quality, chosen: Chosen, settings: RetrievalSettings) -> Figures:
    recall = of.recall.estimate(settings.confidence, bounds=(0.0, 1.0))
    new = of.new_item_recall.estimate(settings.confidence, bounds=(0.0, 1.0))
    found = {**_ends("recall", recall), **_ends("new_item_recall", new), "coverage": of.coverage}
    return found | (_ends("gain", chosen.gains[of.kind]) if of.kind in chosen.gains else {})


def _ends(name: str, finding: Finding) -> Figures:
    known = finding if isinstance(finding, Estimate) else None
    return {
        name: known.value if known else None,
        f"{name}_low": known.low if known else None,
        f"{name}_high": known.high if known else None,
    }


def _why(chosen: Chosen, figures: Mapping[str, Figures], settings: RetrievalSettings) -> str:
    gains = [
        f"{kind} {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        if isinstance(gain, Estimate)
        else f"{kind} unknown"
        for kind, gain in chosen.gains.items()
    ]
    base = figures[POPULARITY]["recall"]
    told = f"recall@{settings.k} of {POPULARITY} {base:.4f}" if base is not None else f"no recall of {POPULARITY}"
    return f"{told}; more than that: {', '.join(gains) or 'nobody else ran'}"


def _interactions(clicks: pa.Table, items: pa.Table) -> tuple[list[str], Interactions, Interactions]:
    """Item ids by code, and the clicks of the train and of the validate split, of the same users and items.

    Items are those of the catalogue and whatever else was clicked; what is known of one are its title, its category and
    its vector. In one order however the rows lie: sums depend on it.
    """
    clicks = clicks.sort_by([(name, "ascending") for name in ("event_time", "user_id", "item_id")])
    title, category = (pc.fill_null(items[name].cast(pa.string()), "") for name in ("title", "category"))
    words = dict(
        zip(items["item_id"].to_pylist(), pc.binary_join_element_wise(title, category, " ").to_pylist(), strict=True)
    )
    ids, users = sorted({*words, *clicks["item_id"].to_pylist()}), pc.unique(clicks["user_id"]).sort()
    text = tuple(words.get(item, "") for item in ids)
    user, item = (
        _codes(clicks[name], known) for name, known in (("user_id", users), ("item_id", pa.array(ids, pa.string())))
    )
    when = microseconds(clicks["event_time"]) / DAY_US
    vectors = _vectors(items, ids)
    every = Interactions(user, item, when, np.ones(len(clicks)), len(users), len(ids), text, vectors)
    train, validate = (np.flatnonzero(pc.equal(clicks["split"], split)) for split in ("train", "validate"))
    return ids, every.at(train), every.at(validate)


def _vectors(items: pa.Table, ids: list[str]) -> NDArray[np.float32]:
    """(items, d) of those that have as many numbers as most, all finite; zeros for the others, d is 0 without any.

    Vectors of another length are another model's: nothing can be compared to them.
    """
    lengths = pc.fill_null(pc.list_value_length(items["feature_vector"]), 0).to_numpy()
    counts = np.bincount(lengths[lengths > 0])
    d = int(np.argmax(counts)) if len(counts) else 0
    found = np.zeros((len(ids), d), dtype=np.float32)
    if d:
        rows = items.filter(pa.array(lengths == d))
        vectors = numbers(pc.list_flatten(rows["feature_vector"])).reshape(-1, d).astype(np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        found[_codes(rows["item_id"], pa.array(ids, pa.string()))[finite]] = vectors[finite]
    return found


def _codes(values: pa.ChunkedArray, known: pa.Array) -> NDArray[np.int64]:
    found: NDArray[np.int64] = pc.index_in(values, known).combine_chunks().to_numpy().astype(np.int64)
    return found
