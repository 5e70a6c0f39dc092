"""`python -m jobs.tuning --day D --arms arms.json`: which weights of heuristics the logs speak for.

Arms are a JSON object of names to `policy.heuristics`. Each is laid over the ranker that the day's training chose and
held against the policy of its bundle, on the logged pages of its own test days, which it has not seen: none needs to
have been shown (`models.evaluation.tuning`). Nothing is published: what is chosen is offered by setting it in `policy`,
travels in the next bundle, and the gate judges that. The same lake gives the same answer. The last line on stdout is
one JSON object. Exit codes are those of `jobs.errors`.

Two answers: `chosen`, an arm that is better for sure, else the present one; and `drawn`, an arm by how likely each is
the best, with its `propensity`, for who would rather try one than wait (`models.evaluation.thompson`).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from jobs import bundle, config
from jobs.errors import EXIT_OK, NotReady, UsageError, run_as_command
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.places import place
from jobs.tuning.core import heuristics_tuned
from models.evaluation import thompson
from models.evaluation.estimate import Estimate
from models.evaluation.page_values import Depth
from models.settings import HeuristicSettings

ARMS: TypeAdapter[dict[str, HeuristicSettings]] = TypeAdapter(dict[str, HeuristicSettings])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python -m jobs.tuning --help`")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"a day must be YYYY-MM-DD; found {text!r}") from error


def _arms(path: Path) -> dict[str, HeuristicSettings]:
    try:
        return ARMS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(f"--arms needs a JSON object of names to heuristics; found in {path}: {error}") from error


def main(argv: Sequence[str]) -> int:
    """Parse, weigh, tell; returns the exit code."""
    parser = _Parser(prog="python -m jobs.tuning", description="Weights of heuristics, chosen from logged pages.")
    parser.add_argument("--day", type=_day, required=True, help="of a training that is published")
    parser.add_argument("--mode", choices=["full", "warm"], default="full")
    parser.add_argument("--arms", type=Path, required=True, help="JSON: name to heuristics")
    parser.add_argument("--surface", help="they are meant for; all, without it")
    options = parser.parse_args(argv)
    arms, settings = _arms(options.arms), config.load()
    run = Run(STAGES["backtest"], settings, options.day, mode=options.mode)
    rows = run.read("candidates", [options.day], where={"mode": options.mode}).to_pylist()
    chosen = next((row for row in rows if row["chosen"]), None)
    if chosen is None:
        raise NotReady(f"tuning needs a training of {options.day}, {options.mode}, that chose a ranker; found none")
    side = bundle.load(place(chosen["bundle"]), chosen["bundle_sha256"])
    found = heuristics_tuned(run, side, arms, options.surface, settings.gate)
    print(f"[tuning] {found.tuned.why}", file=sys.stderr, flush=True)
    chances = found.tuned.chances
    drawn = thompson.drawn(chances, f"{side.candidate_id}:{side.sha256}:{options.surface or ''}")
    told = {
        "candidate": side.candidate_id,
        "surface": options.surface,
        "pages": found.pages,
        "chosen": found.tuned.chosen,
        "why": found.tuned.why,
        "drawn": drawn,
        "propensity": chances[drawn],
        "chances": chances,
        "arms": {name: _told(of) for name, of in found.tuned.arms.items()},
    }
    print(json.dumps(told), flush=True)
    return EXIT_OK


def _told(of: Depth) -> dict[str, Any]:
    gain, now = of.difference, of.champion
    if not isinstance(gain, Estimate) or not isinstance(now, Estimate):
        return {"places": of.places, "refused": getattr(gain, "reason", "")}
    return {"places": of.places, "present": now.value, "gain": gain.value, "low": gain.low, "high": gain.high}


if __name__ == "__main__":
    run_as_command(main)
