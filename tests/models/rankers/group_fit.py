"""A small fit that two processes share: what the second one of `test_group` runs, given a folder, a port and a step."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import distributed

from models.rankers.group import Group
from models.rankers.learner import Learner, followed
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import TrainingData
from models.settings import MMoESettings
from tests.models.rankers.id_world import IdWorld

SETTINGS = MMoESettings(experts=2, expert_width=8, tower_width=8, embedding_dimensions=4, batch_size=512)
ROWS = 8 * SETTINGS.batch_size + 1
"""The last batch is one row: one process of two has none."""


class Store:
    """Checkpoints in a file, and how often this process wrote or read."""

    def __init__(self, path: Path) -> None:
        self.path, self.saved, self.loaded = path, 0, 0

    def load(self) -> bytes | None:
        self.loaded += 1
        return self.path.read_bytes() if self.path.is_file() else None

    def save(self, content: bytes) -> None:
        self.saved += 1
        self.path.write_bytes(content)


def data() -> TrainingData:
    return IdWorld(users=100, items=50).rows(ROWS, seed=2).data


def learned(store: Store) -> tuple[MMoERanker, list[float]]:
    """The ranker and the loss of each step."""
    losses: list[float] = []
    step = Learner.step

    def heard(learner: Learner, *of: Any) -> float:
        losses.append(step(learner, *of))
        return losses[-1]

    Learner.step = heard  # type: ignore[method-assign]
    try:
        return MMoERanker.fit(data(), SETTINGS, 7, checkpoints=store), losses
    finally:
        Learner.step = step  # type: ignore[method-assign]


def join(rank: int, port: int) -> None:
    """This process becomes one of two."""
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)


def main(folder: Path, port: int, dies_at: int) -> None:
    """As the second of two: learn with the first, and write how; or kill itself at a step from 1 on."""
    join(1, port)
    step, at, losses, arrays = Learner.step, [0], list[float](), list[tuple[int, ...]]()

    def mortal(learner: Learner, *of: Any) -> float:
        at[0] += 1
        if at[0] == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        losses.append(step(learner, *of))
        return losses[-1]

    def room(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        arrays.append(shape)
        return np.empty(shape, dtype)

    Learner.step = mortal  # type: ignore[method-assign]
    networks = followed(Group.joined(), room)
    rows = sorted({shape[0] for shape in arrays})
    (folder / "told.json").write_text(json.dumps({"losses": losses, "rows": rows, "networks": networks}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
