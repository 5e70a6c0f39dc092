"""Several processes for one training: `torchrun --nproc-per-node 2 --local-ranks-filter 0 -m jobs train --day D`.

The first does what one alone would do: it reads the examples, fits, publishes. The others read nothing: of the networks
(`TOGETHER`) each is sent its part of the rows, learns with the first, and ends when there are no more.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from jobs.errors import Misconfigured
from jobs.lake.run import Run
from jobs.places import here
from jobs.train.room import Files
from models.rankers.protocol import Diverged, NoDevice
from models.settings import BY_SURFACE

if TYPE_CHECKING:
    from models.rankers.group import Group

TOGETHER = ("single_task", "mmoe")
"""Kinds that all processes learn, by surface too; a kind that is not named here the first one learns alone."""


def together(kind: str) -> bool:
    """Whether all processes learn rankers of a kind."""
    return kind.removesuffix(BY_SURFACE) in TOGETHER


@contextmanager
def joined(run: Run) -> Iterator["Group | None"]:
    """The group of the processes that torchrun started, this one among them; None for one that was started alone.

    Where one of them ends, the others' next message to it fails; one that hangs is waited for as long as a try of the
    stage may take.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # torch, which takes a second to import, asks for no more
        yield None
        return
    import torch
    from torch import distributed

    from models.rankers.group import Group

    if torch.cuda.is_available():
        torch.cuda.set_device(distributed.get_node_local_rank())
    distributed.init_process_group(timeout=timedelta(minutes=run.config.timeouts.of(run.stage.name)))
    try:
        yield (group := Group.joined())
        if not group.rank:
            group.told(None)  # there is no more to learn
    finally:
        distributed.destroy_process_group()


def followed(run: Run, group: "Group") -> int:
    """How many networks this process, not the first, has learned with the others; see `models.rankers.learner`."""
    from models.rankers.learner import followed as of_the_first

    try:
        return of_the_first(group, Files(here(run.config.bundles)))
    except (Diverged, NoDevice) as error:
        raise Misconfigured(f"the settings of a network must let it learn: {error}") from error
