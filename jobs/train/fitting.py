"""The rankers of a training: fitted side by side, or taken from a try of the same training that was ended."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain as chain_of
from typing import TYPE_CHECKING, Any

from jobs import memory
from jobs.errors import Misconfigured
from jobs.lake.run import Run, now
from jobs.train import chain, core, processes
from jobs.train.finished import Finished
from jobs.train.origins import Origin
from jobs.train.progress import Fitted, said
from jobs.train.sample import BYTES_A_ROW
from models.rankers import EVERY_KIND, fit
from models.rankers.protocol import Diverged, NoDevice, TrainingData
from models.rankers.xgboost import Elsewhere
from models.settings import BY_SURFACE

if TYPE_CHECKING:
    from models.rankers.group import Group

APART = ("popularity", "xgboost", "lambdamart")
"""Kinds that learn without torch, whose number of threads is one for a whole process: beside those that learn with it.
A kind that is not named here waits for its turn."""
DISTRIBUTED = "xgboost"
"""What Spark learns where rows are too many for one process, see `spark.from_rows`."""


@dataclass(frozen=True)
class Digests:
    """Of each column and label of the rows learned from, and one of the rows held out: hashed once for all rankers."""

    train: Mapping[str, str]
    held_out: str

    @classmethod
    def of(cls, data: TrainingData) -> "Digests":
        """The rows held out are given to every ranker whole."""
        later = data.held_out
        held_out = "" if later is None else core.fingerprint(core.fingerprints(later), sorted(later.features))
        return cls(core.fingerprints(data), held_out)


def all_fitted(
    run: Run,
    kinds: Sequence[str],
    data: TrainingData,
    digests: Digests,
    origins: Mapping[str, Origin],
    group: "Group | None" = None,
) -> dict[str, Fitted]:
    """By kind, in the order given; see `fitted`. By the first process of a group, which tells the others of networks.

    Two at a time, a thread each (`models.rankers.threads`): of the demo's month the network takes 22 s of a core and
    the regression 8, trees 20 beside them; two threads would make the network's 29. What one of them finds does not
    depend on the other. Threads that wait sleep, or they would spin in the way of the others.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    def lane(mine: Sequence[str]) -> dict[str, Fitted]:
        found = {}
        for kind in mine:
            origin = origins.get(kind)
            together = group if processes.together(kind) else None
            found[kind] = fitted(run, kind, data, made_of(run, kind, data, digests, origin, together), origin)
        return found

    lanes = [[kind for kind in kinds if (kind.removesuffix(BY_SURFACE) in APART) is apart] for apart in (True, False)]
    with ThreadPoolExecutor(len(lanes)) as pool:
        found = dict(chain_of(*(part.items() for part in pool.map(lane, lanes))))
    return {kind: found[kind] for kind in kinds}


def fitted(
    run: Run,
    kind: str,
    data: TrainingData,
    made_of: Mapping[str, Any],
    origin: Origin | None,
) -> Fitted:
    """The ranker of a kind: a fit from scratch, or what `origin` becomes by rows some of which are new to its chain.

    Without new rows the parent's very ranker. `made_of` tells apart all that the bytes depend on. Raises
    `Misconfigured` where the settings make learning diverge, or name a device that is not there.
    """
    finished, began = store(run), now()
    rows = data
    if origin is not None:
        learned = chain.to_learn(data, kind, origin.taught_until)
        if learned is None:
            run.say(f"{kind} stays {origin.parent.candidate_id}: no rows that it has not learned")
            return Fitted(origin.ranker, [], None)
        rows = learned
    kept = finished.get(kind, made_of)
    if kept is not None:
        run.say(f"{kind} was finished by a try that was ended: taken as it is")
        return kept
    try:
        with said(run.say) as steps:
            start_from = None if origin is None else origin.ranker
            elsewhere = on_spark(run) if made_of["on_spark"] else None
            ranker = fit(kind, rows, run.config.ranker, start_from, finished.partial(kind, made_of), elsewhere)
    except (Diverged, NoDevice) as error:
        raise Misconfigured(
            f"the settings ranker.{kind.removesuffix(BY_SURFACE)}.* must let it learn: {error}"
        ) from error
    took = began, now()
    finished.put(kind, made_of, ranker, steps, took)
    continued = "" if origin is None else f", continues {origin.parent.candidate_id} with {len(rows.clicked)} rows"
    run.say(f"{kind} fitted in {(took[1] - began).total_seconds():.1f} s{continued}")
    return Fitted(ranker, steps, took)


def on_spark(run: Run) -> Elsewhere:
    """Grows trees by Spark (`jobs.train.spark`)."""
    from jobs.train.spark import grown

    return partial(grown, run)


def store(run: Run) -> Finished:
    """Where rankers wait that this training has finished."""
    return Finished(run.config.bundles, f"{run.mode}-{run.day}")


def made_of(
    run: Run, kind: str, data: TrainingData, digests: Digests, origin: Origin | None, group: "Group | None" = None
) -> dict[str, Any]:
    """All that the bytes of a ranker depend on, but for the code."""
    columns = core.learned_from(data, EVERY_KIND[kind].inputs)
    return {
        "data": core.fingerprint(digests.train, columns),
        "held_out": digests.held_out,
        "outcomes": {name: of.declared.model_dump(mode="json") for name, of in data.outcomes.items()},
        "settings": run.config.ranker.of(kind),
        "on_spark": kind == DISTRIBUTED
        and run.config.spark.distributes(len(data.clicked), BYTES_A_ROW, memory.at_hand()),
        "processes": 1 if group is None else group.size,
        "continues": None if origin is None else [origin.parent.sha256, str(origin.taught_until)],
    }
