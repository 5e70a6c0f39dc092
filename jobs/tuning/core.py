"""The logged pages of a dataset's test days, weighed by each arm of heuristics over one bundle's ranker."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jobs.bundle import Bundle
from jobs.errors import Refused
from jobs.evidence.held_out import held_out
from jobs.evidence.pages import MOST_PLACES, placed, shown_pages
from jobs.evidence.replayed import replayed
from jobs.lake.run import Run
from models.evaluation.tuning import Tuned, tuned
from models.settings import GateSettings, HeuristicSettings, PolicySettings

PRESENT = "present"
"""The arm that the bundle's policy is."""


@dataclass(frozen=True)
class Found:
    """What the pages say, and how many there were."""

    tuned: Tuned
    pages: int
    places: int


def arm(policy: PolicySettings, heuristics: HeuristicSettings, surface: str | None) -> PolicySettings:
    """The policy with these heuristics in place of its own, on one surface or (None) wherever it has none apart."""
    if surface is None:
        return policy.model_copy(update={"heuristics": heuristics})
    on_it = PolicySettings.model_validate({"surfaces": {surface: {"heuristics": heuristics}}}).surfaces[surface]
    own = policy.surfaces.get(surface, on_it)
    return policy.model_copy(
        update={"surfaces": {**policy.surfaces, surface: own.model_copy(update={"heuristics": heuristics})}}
    )


def heuristics_tuned(
    run: Run, bundle: Bundle, arms: Mapping[str, HeuristicSettings], surface: str | None, settings: GateSettings
) -> Found:
    """Which arm to offer on a surface (None: on all) in place of the bundle's policy, by clicks a page.

    Raises `Refused` where no whole page can be weighed, or a page's words are not known.
    """
    if not arms or PRESENT in arms:
        raise Refused(f"tuning needs arms by names other than {PRESENT}; found {', '.join(arms) or 'none'}")
    policies = {PRESENT: bundle.policy} | {name: arm(bundle.policy, of, surface) for name, of in arms.items()}
    every = HeuristicSettings(
        boosts=tuple(rule for of in arms.values() for rule in of.boosts),
        blocks=tuple(rule for of in arms.values() for rule in of.blocks),
        caps=tuple(rule for of in arms.values() for rule in of.caps),
        repeats=tuple(rule for of in arms.values() for rule in of.repeats),
    )
    # Of this one nothing but the columns that it looks at is asked.
    looks = replace(bundle, policy=arm(bundle.policy, every, surface))
    test = held_out(run)
    replay = replayed(run, test, (bundle, looks))
    if replay.refusal is not None:
        raise Refused(f"tuning needs decisions that can be replayed: {replay.refusal.reason}")
    pages, left_out = shown_pages(test, replay.found)
    kept = pages.place <= MOST_PLACES
    if surface is not None:
        kept &= replay.surfaces[pages.decision] == surface
    if len(np.unique(pages.decision[kept])) < 2:
        where = "" if surface is None else f" on {surface}"
        raise Refused(f"tuning needs whole pages{where}; found none that can be weighed: {left_out}")
    scores, cut = replay.scores["champion"], replay.kept["champion"]
    chances = {
        name: placed(
            replay.found, pages, replace(bundle, policy=policy), scores, cut, replay.surfaces, replay.words
        )[kept]
        for name, policy in policies.items()
    }  # fmt: skip
    places = int(pages.place[kept].max())
    found = tuned(
        slate=pages.decision[kept],
        position=pages.place[kept],
        reward=pages.clicked[kept],
        logged=pages.propensity[kept],
        arms=chances,
        present=PRESENT,
        clusters=replay.found.cluster[pages.decision[kept]],
        places=places,
        settings=settings,
    )
    return Found(found, int((pages.place[kept] == 1).sum()), places)
