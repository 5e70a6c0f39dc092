"""Popularity: an item's own click and conversion rates, smoothed; the ranker everything else must beat."""

import json
from collections.abc import Mapping
from typing import Self

import numpy as np

from models.rankers.encoding import codes_of, require
from models.rankers.labels import Label, click_label, counted_conversions
from models.rankers.protocol import Columns, Floats, Inputs, Predictions, TrainingData
from models.rankers.words import Words
from models.settings import PopularitySettings

FILE = "popularity.json"


class PopularityRanker:
    """P(click) of an item = (its clicks + prior x base rate) / (its impressions + prior); P(conversion | click) is the
    same of its conversions and its clicks.

    An item never seen gets the base rates. A warm start takes the given ranker's rate of an item as the base rate that
    the item's new impressions update, so old days are not counted twice and an item without new impressions keeps its
    rate; likewise with conversions, which are known of the fewest new clicks. It does not correct for position yet.
    """

    kind = "popularity"
    inputs = Inputs(ids=("item_id",))
    several_labels = True

    def __init__(self, rates: Mapping[str, tuple[float, float]], base: tuple[float, float]) -> None:
        """`rates`: item id to P(click), P(conversion | click); `base`: the same for an item never seen."""
        self._rates = dict(rates)
        self._base = base
        self._codes = {item: at for at, item in enumerate(self._rates)}
        # The last row answers for every item without a code.
        self._table = np.array([*self._rates.values(), base], dtype=np.float64)

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        settings: PopularitySettings,
        seed: int,  # noqa: ARG003 - nothing is drawn
        start_from: Self | None = None,
    ) -> Self:
        """Counts per item; see `Ranker.fit`."""
        require(data.features, cls.inputs.ids)
        click, conversion = click_label(data), counted_conversions(data)
        priors = (settings.prior_impressions, settings.prior_clicks)
        known, bought_before = (start_from._rates, start_from._base[1]) if start_from else ({}, 0.0)
        base = (_rate(click, 0.0, 0.0), _rate(conversion, priors[1] if bought_before else 0.0, bought_before))
        shown = Words.of(data.features["item_id"])
        items = sorted({shown.values[at] for at in shown.order().tolist()} | set(known))
        codes = {item: at for at, item in enumerate(items)}
        row_codes = codes_of(shown, codes, otherwise=len(items), unknown=len(items))
        before = np.array([*(known.get(item, base) for item in items), base])
        if not bought_before:  # nothing is no knowledge worth keeping
            before[:, 1] = base[1]
        columns = []
        for at, (label, prior) in enumerate(zip((click, conversion), priors, strict=True)):
            seen = np.bincount(row_codes[label.rows], weights=label.exposed, minlength=len(items) + 1)
            hits = np.bincount(row_codes[label.rows], weights=label.weight * label.value, minlength=len(items) + 1)
            # Of open rows more may have come than was to be expected by now, but no more than one each.
            columns.append(np.minimum((hits + prior * before[:, at]) / (seen + prior), 1.0))
        return cls({item: (float(columns[0][at]), float(columns[1][at])) for item, at in codes.items()}, base)

    def predict(self, features: Columns) -> Predictions:
        """Looks the item up; needs only the column `item_id`."""
        require(features, self.inputs.ids)
        last = len(self._rates)
        rows: Floats = self._table[codes_of(features["item_id"], self._codes, otherwise=last, unknown=last)]
        return Predictions(rows[:, 0].copy(), rows[:, 1].copy())

    def to_files(self) -> dict[str, bytes]:
        """One JSON file."""
        return {FILE: json.dumps({"base": self._base, "items": self._rates}, indent=0, sort_keys=True).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        tree = json.loads(files[FILE])
        return cls(
            {item: (pair[0], pair[1]) for item, pair in tree["items"].items()}, (tree["base"][0], tree["base"][1])
        )


def _rate(label: Label, prior: float, before: float) -> float:
    """The weighted share of ones with `prior` rows of the rate `before`; 0.0 where there are no rows at all."""
    rows = float(label.exposed.sum()) + prior
    return min(1.0, (float((label.weight * label.value).sum()) + prior * before) / rows) if rows else 0.0
