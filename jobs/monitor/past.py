"""What the reports of the days before say of a figure: where it was, and whether an incident is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from jobs.errors import Refused
from jobs.lake.run import Run
from models.evaluation.estimate import Estimate, Finding
from models.monitoring.alarms import State, state

Row = Mapping[str, Any]
OF_A_MODEL = ("predicted_", "served_")
"""Beginnings of figures that another model moves rightly: they are held against days of the same model alone."""
OPEN = ("opened", "open")
TRENDS_DAYS = 30


@dataclass(frozen=True)
class Past:
    """Rows of `serving_reports`, with their `day`, oldest first, before one day."""

    rows: tuple[Row, ...]
    quiet_days: int

    @classmethod
    def of(cls, run: Run, day: date) -> "Past":
        """As many days as trends or settings look back, and as may be left out because something was open.

        A report of before its columns were what they are is left out: an upgrade starts a past of its own.
        """
        back = 2 * max(run.config.monitoring.baseline_days, TRENDS_DAYS)
        rows: list[Row] = []
        for one in sorted(run.published_days("serving_reports")):
            if timedelta(0) < day - one <= timedelta(back):
                try:
                    rows += run.read("serving_reports", [one]).to_pylist()
                except Refused as older:
                    run.say(f"the report of {one} does not count: {older}")
        return cls(tuple(rows), run.config.monitoring.quiet_days)

    def and_day(self, rows: Sequence[Row], day: date) -> "Past":
        """With one more day at the end, in place of what was published of it before."""
        kept = tuple(row for row in self.rows if row["day"] < str(day))
        return Past((*kept, *({**row, "day": str(day)} for row in rows)), self.quiet_days)

    def of_figure(self, metric: str, surface: str) -> list[Row]:
        """Its rows, oldest first."""
        return [row for row in self.rows if (row["metric"], row["surface"]) == (metric, surface)]

    def findings(self, metric: str, surface: str, model: str, most: int) -> Sequence[Finding]:
        """Its newest days, at most so many, without those on which its incident was open, and refused ones."""
        same = metric.startswith(OF_A_MODEL)
        rows = [
            row
            for row in self.of_figure(metric, surface)
            if row["value"] is not None and row["state"] not in OPEN and (not same or row["model"] == model)
        ]
        names = ("value", "stderr", "low", "high", "n", "effective_n")
        return [Estimate(**{name: row[name] for name in names}) for row in rows[-most:]]

    def state(self, metric: str, surface: str, alarm: bool | None) -> State:
        """What a day after these means, alarm or none; None: nobody can tell."""
        rows = self.of_figure(metric, surface)
        said = {row["day"]: None if row["value"] is None and not row["alarm"] else bool(row["alarm"]) for row in rows}
        days = sorted({row["day"] for row in self.rows})
        return state([*(said.get(day) for day in days), alarm], self.quiet_days)

    def still_open(self) -> list[tuple[str, str]]:
        """Metric and surface of every figure that was open on the last day on which it was reported."""
        last = {(row["metric"], row["surface"]): row["state"] for row in self.rows}
        return sorted(key for key, found in last.items() if found in OPEN)
