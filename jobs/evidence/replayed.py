"""The decisions of the test days as both sides would have made them: a part at a time, keeping a few numbers of each.

What a ranker sees of a candidate is a hundred times what it says of it, so columns live as long as their part does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.core import DAY_US, microseconds
from jobs.asof.wanted import Wanted
from jobs.evidence.scored import AT_ONCE, Pair, asked_for, item_age, user_known
from jobs.lake.run import Run
from jobs.moment.columns import Columns, numbers, strings
from jobs.moment.decisions import (
    FIRST_MISSING,
    FIRST_TWICE,
    Decisions,
    Disagreement,
    Ints,
    Strings,
    candidate_columns,
    decisions,
    disagreement,
    first_placements,
)
from jobs.moment.known import known_before
from jobs.sources.world.truth import true_probabilities
from models.evaluation.choices import SIDES, Choices, Labels, Side
from models.evaluation.estimate import Refusal
from models.policies.choice import Bools, Surfaces, first_choice
from models.policies.score import score
from models.rankers.features import IDS
from models.rankers.protocol import Floats, Inputs
from models.settings import GateSettings

ASKED = ["request_id", "candidates", "slate_size"]
"""What is read of `requests`."""


@dataclass(frozen=True)
class Replayed:
    """m decisions (none where none can be replayed), and what is to be said of their n candidates."""

    found: Decisions
    left_out: Mapping[str, int]
    """How many requests are not replayed, by reason; all of them under `requests`."""
    refusal: Refusal | None
    """Why no value can be told from these decisions, see `unfit`."""
    predicted: Mapping[Side, Floats]
    """Side to p_click (n,), asked at that moment."""
    scores: Mapping[Side, Floats]
    """Side to what its policy ranks by (n,)."""
    kept: Mapping[Side, Bools]
    """Side to the candidates (n,) that its light stage, where it has one, would have left for its ranker."""
    chosen: Mapping[Side, Floats]
    """Side to the probability (n,) that its policy would have placed the candidate first; 0 where it was not kept."""
    surfaces: Surfaces
    """(m,) each decision's."""
    words: Mapping[str, Strings]
    """(n,) of the candidates, what heuristics of either side's policy look at."""
    days: Ints
    """(m,) each decision's, counted from 1970."""
    open_days: Floats
    """(m,) since the decision at its dataset's cut; infinite where its conversion is closed."""
    converted_so_far: Floats
    """(m,) 1.0 where its conversion is closed and came, or is open and has been heard of by the cut."""
    contexts: Mapping[str, Labels]
    """Of the m decisions."""
    kinds: Mapping[str, Labels]
    """Of the n candidates."""
    past_clicks: Floats
    """(n,) of the candidate, as known then; NaN where it was unknown."""
    differing: Disagreement
    catalogue: int
    """Items that existed."""
    truth: Floats | None
    """(n,) true click probability in the simulated world; only for the eyes, the gate never sees it."""

    def __len__(self) -> int:
        return len(self.found)

    def choices(self, reward: Floats, predicted: bool = True) -> Choices:
        """The decisions whose reward (m,) is known; without `predicted` no ranker says anything of it."""
        found = self.found
        every = Choices(
            offsets=found.offsets,
            taken=found.taken,
            reward=reward,
            logged=found.propensity,
            chosen=self.chosen,
            predicted=self.predicted if predicted else {},
            users=found.cluster,
            items=found.item,
            days=self.days,
            contexts=self.contexts,
            kinds=self.kinds,
        )
        return every.where(~np.isnan(reward)) if np.isnan(reward).any() else every


def replayed(run: Run, test: pa.Table, pair: Pair, at_once: int = AT_ONCE) -> Replayed:
    """The decisions of the test days, features as known before each; `test` has `converted` of closed labels only, and
    in `day` whose dataset a row is of (`jobs.evidence.held_out`): all rows of an event day are of one.

    Both sides choose from what was logged, as they do where a request brings its candidates: a bundle's light stage
    cuts these, its retriever has no part. What a ranker says of a candidate that was cut still foretells its reward.

    Columns of `at_once` candidates are held together, of a decision with more than that all of its own.
    """
    days = sorted(pc.unique(pc.cast(test["event_time"], pa.date32())).to_pylist())
    published = set(run.published_days("requests"))
    placed, left_out = first_placements(test, _asked(run, [day for day in days if day in published], test))
    placed = placed.take(pc.sort_indices(pc.cast(placed["event_time"], pa.date32())))
    found = decisions(placed)
    kept = _Kept(len(found.item), pair)
    for part in _parts(run, placed, found, at_once):
        kept.add(part)
    surfaces = strings(placed["surface"])
    return Replayed(
        found=found,
        left_out=left_out,
        refusal=unfit(left_out, run.config.gate),
        predicted=kept.predicted,
        scores=kept.scores,
        kept=kept.left,
        chosen={
            side: first_choice(kept.scores[side], found.offsets, of.policy, kept.left[side], surfaces, kept.words)
            for side, of in kept.sides.items()
        },
        surfaces=surfaces,
        words=kept.words,
        days=pc.cast(placed["event_time"], pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64),
        open_days=_open_days(placed),
        converted_so_far=_so_far(placed),
        contexts={name: _labels(parts) for name, parts in kept.contexts.items()},
        kinds={name: _labels(parts) for name, parts in kept.kinds.items()},
        past_clicks=kept.past_clicks,
        differing=kept.differing,
        catalogue=kept.catalogue,
        truth=kept.truth,
    )


@dataclass(frozen=True)
class _Part:
    """Some decisions of one day with everything a ranker sees of their candidates."""

    placed: pa.Table
    candidates: slice
    """Where they stand among all."""
    offsets: Ints
    """Of its m decisions, (m + 1,) from 0."""
    columns: Columns
    shown: Ints
    """Which of these candidates were placed first."""
    catalogue: int
    truth: Floats | None


class _Kept:
    """What is kept of n candidates and their decisions, part by part; fields as in `Replayed`."""

    def __init__(self, n: int, pair: Pair) -> None:
        self.sides = dict(zip(SIDES, pair, strict=True))
        self._inputs = asked_for(ranker for bundle in pair for ranker in bundle.rankers) | Inputs(ids=IDS)
        self.predicted: dict[Side, Floats] = {side: np.empty(n) for side in SIDES}
        self.scores: dict[Side, Floats] = {side: np.empty(n) for side in SIDES}
        self.left: dict[Side, Bools] = {side: np.ones(n, dtype=bool) for side in SIDES}
        self.past_clicks, self.differing, self.catalogue = np.empty(n), Disagreement(), 0
        self.contexts: dict[str, list[pa.DictionaryArray]] = {"surface": [], "user_known": []}
        self.kinds: dict[str, list[pa.DictionaryArray]] = {"item_category": [], "item_age": []}
        self.words = {name: np.full(n, None, dtype=object) for side in pair for name in side.policy.columns}
        self._truths: list[Floats | None] = []

    def add(self, part: _Part) -> None:
        """Ask both sides about the candidates of a part."""
        for name in self.words:
            self.words[name][part.candidates] = part.columns.get(name)
        for side, bundle in self.sides.items():
            said = bundle.ranker.predict(part.columns)
            self.predicted[side][part.candidates] = said.p_click
            self.scores[side][part.candidates] = score(said, bundle.policy)
            left = bundle.kept(part.columns, part.offsets)
            if left is not None:
                self.left[side][part.candidates] = left
        self.past_clicks[part.candidates] = part.columns["item_impressions"] * part.columns["item_click_rate"]
        self.differing += disagreement(part.placed, part.columns, part.shown, self._inputs)
        self.contexts["surface"].append(_coded(strings(part.placed["surface"])))
        self.contexts["user_known"].append(_coded(user_known(part.columns)[part.shown]))
        self.kinds["item_category"].append(_coded(part.columns["item_category"]))
        self.kinds["item_age"].append(_coded(item_age(part.columns)))
        self.catalogue = part.catalogue
        self._truths.append(part.truth)

    @property
    def truth(self) -> Floats | None:
        """None where the simulated world does not know every part's."""
        told = [truth for truth in self._truths if truth is not None]
        return np.concatenate(told) if told and len(told) == len(self._truths) else None


def _asked(run: Run, days: list[date], test: pa.Table) -> pa.Table:
    """The requests of the test rows, of days that may have many more."""
    wanted = Wanted.of(pc.unique(test["request_id"].combine_chunks()))
    return wanted.read(run, "requests", days, ASKED, "request_id")


def _open_days(placed: pa.Table) -> Floats:
    """The dataset of a day is cut at the end of it."""
    cut = strings(placed["day"]).astype("datetime64[D]") + 1
    waited = cut.astype("datetime64[us]").astype(np.int64) - microseconds(placed["event_time"])
    return np.where(placed["converted"].is_valid().to_numpy(), np.inf, np.maximum(waited / DAY_US, 0.0))


def _so_far(placed: pa.Table) -> Floats:
    heard = placed["conversion_heard_at"].is_valid()
    return numbers(pc.coalesce(placed["converted"], heard))


def _coded(values: NDArray[Any]) -> pa.DictionaryArray:
    """Texts, null for None: a text is held once however many rows have it."""
    return pa.array(values, pa.string(), from_pandas=True).dictionary_encode()


def _labels(parts: Sequence[pa.DictionaryArray]) -> Labels:
    """Those of all parts; null is `unknown`."""
    whole = pa.chunked_array(parts, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries().combine_chunks()
    names = whole.dictionary.to_pylist() if isinstance(whole, pa.DictionaryArray) else []
    codes = [] if not names else pc.fill_null(whole.indices, len(names)).to_numpy()
    return Labels(np.asarray(codes, dtype=np.int64), (*names, "unknown"))


def _parts(run: Run, placed: pa.Table, found: Decisions, at_once: int) -> Iterator[_Part]:
    """All decisions in order; `placed` is sorted by day."""
    day_of = pc.cast(placed["event_time"], pa.date32()).to_numpy()
    row, shown = found.row, found.shown
    for day in np.unique(day_of).tolist():
        first, last = (int(np.searchsorted(day_of, np.datetime64(day), side=side)) for side in ("left", "right"))
        # Attributes of a dataset are those of its day, not of each example's: jobs.assemble takes them so.
        known = known_before(run, day, snapshots=date.fromisoformat(placed["day"][first].as_py()))
        for start, end in found.parts(first, last, at_once):
            mine, here = placed.slice(start, end - start), slice(found.offsets[start], found.offsets[end])
            of, items = row[here] - start, found.item_ids[found.item[here]]
            users, surfaces = (strings(mine[name])[of] for name in ("user_id", "surface"))
            truth = true_probabilities(run.config, day, users, items, surfaces)
            yield _Part(
                placed=mine,
                candidates=here,
                offsets=found.offsets[start : end + 1] - found.offsets[start],
                columns=candidate_columns(mine, of, items, known),
                shown=shown[start:end] - found.offsets[start],
                catalogue=len(known[-1].items),
                truth=None if truth is None else truth.click,
            )


def unfit(left_out: Mapping[str, int], settings: GateSettings) -> Refusal | None:
    """Why no value can be told from a replay: it has no request, or too many had to be left out as incomplete.

    `left_out` as `jobs.moment.decisions.first_placements` counts. Where the item or the click had a part in what is
    missing, the requests that are left are not a sample of those that were answered, and no weight makes them one.
    """
    reasons = {reason: n for reason, n in left_out.items() if reason != "requests"}
    if left_out["requests"] == sum(reasons.values()):
        counted = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in left_out.items() if n)
        return Refusal(
            f"a replay needs requests with candidates and a propensity; found none: {counted or 'no requests'}"
        )
    asked = left_out["requests"] - reasons["no_propensity"] - reasons["no_candidates"]
    lacking = reasons[FIRST_MISSING] + reasons[FIRST_TWICE]
    return incomplete(lacking, asked, "requests with one first placement", settings)


def incomplete(lacking: int, asked: int, what: str, settings: GateSettings) -> Refusal | None:
    """The refusal where more than `settings.max_incomplete_share` of those asked for are incomplete."""
    limit = settings.max_incomplete_share
    if limit is None or lacking <= limit * asked:
        return None
    return Refusal(
        f"a replay needs {what} in at least {100 * (1 - limit):.4g}% of cases, since what is missing may depend on what"
        f" was clicked; found {lacking} of {asked} otherwise",
        asked,
    )
