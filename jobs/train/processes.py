"""Several processes for one training: `torchrun --nproc-per-node 2 --local-ranks-filter 0 -m jobs train --day D`.

Each reads the same examples; the first does what one alone would do, the others learn with it the rankers of `TOGETHER`
and end. On several machines lake and bundles must be folders that all of them see.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from jobs.errors import NotReady
from jobs.lake.run import Run
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
        yield Group.joined()
    finally:
        distributed.destroy_process_group()


def agree(group: "Group", kind: str, made_of: object) -> None:
    """Raises `NotReady` in every process where not all are about to learn a ranker of the same."""
    found = len(set(map(str, group.heard(str(made_of)))))
    if found > 1:
        raise NotReady(f"{group.size} processes must read the same examples to learn {kind}; found {found} different")


def shared(kinds: Sequence[str], group: "Group | None") -> list[str]:
    """Those that this process learns."""
    return [kind for kind in kinds if group is None or group.rank == 0 or together(kind)]
