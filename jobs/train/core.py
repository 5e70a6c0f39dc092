"""Which rankers a mode fits, what they learn from, and which of them becomes the challenger. No I/O.

Not yet: hyperparameter search, calibration on the validation day.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from jobs.errors import Refused
from jobs.moment.columns import attribute_keys, numbers, ranker_columns, strings, training_data
from models.evaluation import ranking
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.rankers import BASELINE, RANKERS
from models.rankers.protocol import Columns, Floats, Ranker, TrainingData
from models.retrieval import ItemIndex
from models.settings import GateSettings

FIRST_WARM = "xgboost"
"""What a warm start fits where there is no learned champion to continue."""
INDEX_DIMENSIONS = 16
INDEX_MIN_CLICKS = 200
"""Fewer clicks place items by chance; then there is no index, and requests bring their own candidates."""


@dataclass(frozen=True)
class Folds:
    """What is learned from, what the choice is made on, and the clicks an item index is built from."""

    train: TrainingData
    validate: Columns
    validate_clicked: Floats
    clicks: tuple[np.ndarray[Any, np.dtype[np.object_]], np.ndarray[Any, np.dtype[np.object_]]]
    """(user ids, item ids) of the train fold's clicks whose user is known."""


def folds(examples: pa.Table) -> Folds:
    """The train and validate splits as arrays, with the attributes that occur in either.

    Raises `Refused` when there is nothing to learn from.
    """
    keys = attribute_keys(examples["attributes"])
    split = strings(examples["split"])
    train, validate = (examples.filter(pa.array(split == name)) for name in ("train", "validate"))
    data = training_data(train, keys)
    known = data.clicked[np.isfinite(data.clicked) & (data.weight > 0)]
    if len(np.unique(known)) < 2:
        raise Refused(
            "training needs impressions with and without a click in the train split; "
            f"found {len(train)} rows, {len(known)} with a known label, {int(known.sum())} clicked"
        )
    users, items = strings(train["user_id"]), data.features["item_id"]
    paired = (data.clicked == 1.0) & train["user_id"].is_valid().to_numpy()
    return Folds(data, ranker_columns(validate, keys), numbers(validate["clicked"]), (users[paired], items[paired]))


def kinds(mode: Literal["full", "warm"], champion: str | None) -> list[str]:
    """The rankers a run fits: all of them, or in a warm start the champion's kind beside the baseline."""
    wanted = set(RANKERS) if mode == "full" else {BASELINE, champion or BASELINE}
    return [kind for kind in RANKERS if kind in (wanted if wanted != {BASELINE} else {BASELINE, FIRST_WARM})]


def on_validation(ranker: Ranker, folds: Folds, settings: GateSettings) -> dict[str, Finding]:
    """Log-loss and AUC where the click is known, at the positions that were shown; refused without both classes."""
    known = np.isfinite(folds.validate_clicked)
    labels = folds.validate_clicked[known]
    if len(np.unique(labels)) < 2:
        refusal = Refusal(
            f"{int(labels.sum())} of {len(labels)} validation rows with a known label clicked", len(labels)
        )
        return {"log_loss": refusal, "auc": refusal}
    scores = ranker.predict({name: column[known] for name, column in folds.validate.items()}).p_click
    return {
        "log_loss": ranking.log_loss(labels, scores, settings=settings),
        "auc": ranking.auc(labels, scores, settings=settings),
    }


def choose(losses: Mapping[str, Finding]) -> tuple[str, str]:
    """The ranker with the smallest validation log-loss and why; equal losses go to the first name.

    A refused loss (NaN scores, a fold without clicks) never wins; where every loss is refused the baseline is chosen:
    a challenger nobody has measured is no challenger.
    """
    known = {kind: loss.value for kind, loss in losses.items() if isinstance(loss, Estimate)}
    if not known:
        reasons = sorted({loss.reason for loss in losses.values() if isinstance(loss, Refusal)})
        return BASELINE, f"no validation log-loss ({'; '.join(reasons)}): the baseline stands"
    best = min(known, key=lambda kind: (known[kind], kind))
    return best, f"smallest validation log-loss {known[best]:.6f} of {len(losses)} rankers"


def item_index(pairs: tuple[Any, Any], seed: int) -> ItemIndex | None:
    """The index of the clicked items, None where the clicks are too few to place them."""
    users, items = pairs
    return ItemIndex.fit(users, items, INDEX_DIMENSIONS, seed) if len(users) >= INDEX_MIN_CLICKS else None


def fingerprint(data: TrainingData) -> str:
    """A sha256 of everything a ranker learns from: the same rows in the same order give the same digest."""
    digest = hashlib.sha256()
    labels = {"clicked": data.clicked, "converted": data.converted, "weight": data.weight}
    for name, column in (*sorted(data.features.items()), *labels.items()):
        digest.update(name.encode())
        if column.dtype == object:
            coded = pa.array(column, pa.string()).dictionary_encode()
            digest.update("\0".join(coded.dictionary.to_pylist()).encode())
            column = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        # -0.0 and the many NaNs must not tell equal rows apart.
        digest.update(np.where(np.isnan(column), np.nan, column + 0.0).tobytes())
    return digest.hexdigest()
