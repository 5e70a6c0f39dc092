"""One page of several variants' answers, for an experiment that interleaves: whose click is worth what goes with it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jobs.serving.answer import Answer, Mix
from models.experiments.assignment import unit_hash
from models.experiments.interleaving import NO_RANK, mixed
from models.experiments.settings import ExperimentSettings


def mix(experiment: ExperimentSettings, answers: Sequence[Answer]) -> Answer:
    """Of the arms' answers, control's first, that one with the items of a mixed page; the request id alone draws it.

    The first as it is where popularity made any of them: a page of it would judge nobody. An item's figures are of the
    first answer that has it; it has no propensity, for no policy drew the page.
    """
    first = answers[0]
    if experiment.interleave is None or any(answer.fallback or not answer.items for answer in answers):
        return first
    rng = np.random.default_rng(int(unit_hash(f"mix:{experiment.name}:{first.request_id}") * 2**56))
    lists = [[place.item_id for place in answer.items] for answer in answers]
    page = mixed(experiment.interleave, lists, len(first.items), rng)
    of = {place.item_id: place for answer in reversed(answers) for place in answer.items}
    items = [replace(of[name], position=at, propensity=None) for at, name in enumerate(page.items, 1)]
    found = None
    if all(answer.candidates is not None for answer in answers):
        found = list(dict.fromkeys(name for answer in answers for name in answer.candidates or ()))
    ranks = [[None if rank == NO_RANK else rank for rank in place] for place in page.ranks.tolist()]
    said = Mix(
        experiment.name,
        list(experiment.arms),
        page.worth.tolist(),
        [answer.bundle_version for answer in answers],
        ranks if page.method == "balanced" else None,
    )
    return replace(first, items=items, candidates=found if found is not None else first.candidates, mix=said)
