"""`python -m jobs.learning_curve --day D`: what a ranker is with more days of history, and how fast it goes stale.

Reads the published full dataset of the day. The ranker is fitted on its newest 1, 2, 4, … train days, and on half of
them that ended 0, 1, 2, 4, … days before; each is judged on the same test rows, with intervals by user, and paired
differences to the fit on all days, or to the freshest. Nothing is published: the page and its figures go to
`var/learning_curve/`, and the last line on stdout is one JSON object. Exit codes are those of `jobs.errors`.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NoReturn

import pyarrow.compute as pc

from jobs import config
from jobs.config import ROOT
from jobs.errors import EXIT_OK, UsageError, run_as_command
from jobs.evidence.scored import asked_for
from jobs.lake.store import Lake, midnight
from jobs.learning_curve import core, page
from jobs.moment.columns import columns_read
from jobs.train.core import folds, inputs_of
from jobs.train.job import COLUMNS
from models.rankers import RANKERS

FOLDER = ROOT / "var" / "learning_curve"
SHOWN_BY = ("user_id", "item_id", "event_time")
"""Columns of examples that judging needs, whatever the ranker reads."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python -m jobs.learning_curve --help`")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"a day must be YYYY-MM-DD; found {text!r}") from error


def main(argv: Sequence[str]) -> int:
    """Parse, fit, write; returns the exit code."""
    parser = _Parser(prog="python -m jobs.learning_curve", description="A metric against days of history.")
    parser.add_argument("--day", type=_day, required=True, help="of a full dataset that is published")
    parser.add_argument("--ranker", default="xgboost", choices=list(RANKERS))
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the page and its figures")
    options = parser.parse_args(argv)
    settings, started = config.load(), time.monotonic()
    inputs = inputs_of([options.ranker])
    wanted = (*COLUMNS, *SHOWN_BY, *columns_read(inputs | asked_for([])))
    lake = Lake(settings.lake.root)
    examples = lake.read("examples", [options.day], {"mode": "full"}, list(dict.fromkeys(wanted)))
    cut = midnight(options.day + timedelta(days=1))
    data = folds([examples], cut, settings.attribution, settings.delays, None, inputs).train
    test = examples.filter(pc.equal(examples["split"], "test"))
    del examples

    def say(text: str) -> None:
        print(f"[learning_curve {time.monotonic() - started:6.1f}s] {text}", file=sys.stderr, flush=True)

    found = core.curves(options.ranker, data, test, settings.ranker, settings.gate, say)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.ranker}-{options.day}.html"
    figures = {
        "ranker": options.ranker,
        "day": str(options.day),
        "test_rows": len(test),
        "enough_days": found.enough_days,
        "fresh_days": found.fresh_days,
        "history": [point.as_dict() for point in found.history],
        "staleness": [point.as_dict() for point in found.staleness],
    }
    path.write_text(page.html(options.ranker, str(options.day), found))
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1))
    told = {name: figures[name] for name in ("ranker", "day", "test_rows", "enough_days", "fresh_days")}
    print(json.dumps({**told, "page": str(path), "seconds": round(time.monotonic() - started, 1)}), flush=True)
    return EXIT_OK


if __name__ == "__main__":
    run_as_command(main)
