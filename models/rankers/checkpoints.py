"""How far a fit has come, as bytes: what learning moved, where it is, and the state of its random numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.rankers.protocol import Checkpoints
from models.rankers.tensors import about_of, from_bytes, to_bytes

Moved = Mapping[str, NDArray[Any]]
"""All that learning moves, by name."""
BEFORE = "before."
"""What begins the names of what had been learned before this pass."""


@dataclass
class Progress:
    """Passes done, steps of the next one, the lowest held-out log-loss, and what had been learned before this pass.

    `drawn_from` is the state of the random numbers that the pass began with.
    """

    epoch: int = 0
    step: int = 0
    best: float = float("inf")
    before: Moved | None = None
    drawn_from: Any = None


@dataclass(frozen=True)
class Kept:
    """A fit's place in a store; `identity` names all that decides what the fit comes to."""

    store: Checkpoints
    identity: str

    def keep(self, moved: Moved, at: Progress, rng: np.random.Generator) -> None:
        """Save how far the fit has come."""
        text = [at.epoch, at.step, at.best, at.drawn_from, rng.bit_generator.state]
        former = {f"{BEFORE}{name}": array for name, array in (at.before or {}).items()}
        self.store.save(to_bytes({**moved, **former}, {"identity": self.identity, "progress": json.dumps(text)}))

    def found(self, rng: np.random.Generator) -> tuple[Moved, Progress]:
        """What was saved of this very fit, `rng` set to go on from there; nothing and the beginning where none was."""
        content = self.store.load()
        about = {} if content is None else about_of(content)
        if content is None or about.get("identity") != self.identity:
            return {}, Progress()
        found = from_bytes(content)
        former = {name.removeprefix(BEFORE): array for name, array in found.items() if name.startswith(BEFORE)}
        epoch, step, best, drawn_from, rng.bit_generator.state = json.loads(about["progress"])
        return found, Progress(epoch, step, best, former or None, drawn_from)
