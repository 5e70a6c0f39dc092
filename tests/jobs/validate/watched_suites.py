"""The real suites, and every frame the stage shows them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobs.lake import raw
from jobs.lake.tables import RAW
from jobs.validate.batch import NOTHING, Rules, verdicts
from jobs.validate.evaluate import Outcome, held, of_outcome
from jobs.validate.kinds import Frame
from jobs.validate.suites import FOLDER, Suites, ValueScope
from tests.jobs.validate.raw_days import FIRST


class Watched(Suites):
    """The suites, and every frame of values they were shown."""

    def __init__(self) -> None:
        super().__init__(tuple(RAW))
        self.frames: list[tuple[str, ValueScope, Frame]] = []

    def outcomes(self, table: str, scope: ValueScope, frame: Frame) -> list[Outcome]:
        """As the suites have it."""
        self.frames.append((table, scope, frame))
        return super().outcomes(table, scope, frame)


def entries(table: str, scope: str) -> list[dict[str, Any]]:
    """The rules of a scope as the file has them."""
    rules = json.loads((FOLDER / f"{table}.json").read_text())["expectations"]
    return [rule for rule in rules if rule["meta"]["scope"] == scope]


def watched(lake: Path, days: int) -> list[tuple[str, ValueScope, Frame]]:
    """Every frame that the stage judges on some days of a raw lake."""
    suites = Watched()
    dates = [FIRST + timedelta(days=n) for n in range(days)]
    for _ in verdicts(Rules(suites, 1.0, 1), dates, lambda table, day: raw.read(lake, table, day), NOTHING):
        pass
    return suites.frames


def ours(table: str, scope: ValueScope, frame: Frame) -> list[dict[str, Any]]:
    """What Tidegate says, in the oracle's words."""
    suites = Suites((table,))
    return [
        {
            "success": held(rule.kwargs, outcome),
            **of_outcome(rule.type, outcome),
            "rows": outcome.rows.tolist(),
            "raised": None,
        }
        for rule, outcome in zip(suites.expectations(table, scope), suites.outcomes(table, scope, frame), strict=True)
    ]
