"""`python -m jobs`: list the stages; `python -m jobs <stage> --day D`: run one. The very command Airflow runs.

`python -m jobs config` prints the settings, `python -m jobs vacuum` deletes what dead runs left behind, `python -m jobs
lose` lists the days whose events will never come, and declares one with `--day D --why ...`.
The last line on stdout is one JSON object: stage, day, mode, rows, seconds, run_id and the stage's own counts.
Exit codes are those of `jobs.errors`; a failure ends stderr with one line.
"""

import argparse
import importlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import NoReturn

from jobs import config
from jobs.errors import EXIT_OK, UsageError, run_as_command
from jobs.flow import STAGES


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python -m jobs --help`")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"a day must be YYYY-MM-DD; found {text!r}") from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m jobs", description="Run one stage of the flow by hand.")
    parser.add_argument("stage", nargs="?", help=f"config, vacuum, lose, or one of: {', '.join(STAGES)}")
    parser.add_argument("--day", type=_day, help="the UTC day to process, YYYY-MM-DD")
    parser.add_argument("--since", type=_day, help="also process every day from here to --day")
    parser.add_argument("--mode", choices=["full", "warm"], default="full", help="weekly full or daily warm start")
    parser.add_argument("--approved-by", help="deploy: who said yes")
    parser.add_argument("--why", help="lose: why the events of --day will never come")
    parser.add_argument("--by", help="lose: who says so; the login name by default")
    return parser


def _listing() -> str:
    lines = ["stage       reads -> writes"]
    for stage in STAGES.values():
        lines.append(f"{stage.name:<11} {', '.join(stage.reads) or 'the source'} -> {', '.join(stage.writes)}")
        lines.append(f"{'':<11} {stage.doc}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Parse, run, report; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.stage is None:
        print(_listing())
        return EXIT_OK
    settings = config.load()
    if options.stage == "config":
        print(settings.model_dump_json(indent=2))
        return EXIT_OK
    if options.stage == "vacuum":
        from jobs.lake.vacuum import vacuum

        print(json.dumps(vacuum(settings)))
        return EXIT_OK
    if options.stage == "lose":
        return _lose(settings, options)
    if options.stage not in STAGES:
        raise UsageError(f"a stage must be one of {', '.join(STAGES)}; found {options.stage!r}")
    if options.day is None:
        raise UsageError(f"{options.stage} needs --day YYYY-MM-DD; found none")
    if options.since is not None and options.since > options.day:
        raise UsageError(f"--since must not be after --day; found {options.since} and {options.day}")
    stage = STAGES[options.stage]
    if stage.per == "mode" and options.since is not None:
        raise UsageError(f"--since is for stages that publish days; {stage.name} publishes one model's day")

    from jobs.lake.run import Run  # pyarrow and deltalake only once the arguments are known to be good

    run = Run(stage, settings, options.day, options.since, options.mode, options.approved_by)
    started = time.monotonic()
    counts = importlib.import_module(stage.module).run(run)
    report = {
        "stage": stage.name,
        "day": options.day.isoformat(),
        "since": run.days[0].isoformat(),
        "mode": options.mode if stage.per == "mode" else None,
        "rows": run.rows,
        "seconds": round(time.monotonic() - started, 1),
        "run_id": run.run_id,
        **counts,
    }
    print(json.dumps(report, default=str), flush=True)
    return EXIT_OK


def _lose(settings: config.Config, options: argparse.Namespace) -> int:
    """List the lost days; with `--day` and `--why`, declare one and run the stages that the days after it wait for."""
    from jobs.lake import lost
    from jobs.lake.run import Run
    from jobs.lake.store import Lake

    if options.day is None and options.why is None:
        lake = Lake(settings.lake.root)
        found = lost.among(lake.lineages("impressions", lake.days("impressions")))
        print(json.dumps({"lost": [{"day": day.isoformat(), **told} for day, told in found.items()]}))
        return EXIT_OK
    if options.day is None or not (options.why or "").strip():
        raise UsageError("lose needs --day YYYY-MM-DD and --why, for whoever finds the day empty; or neither, to list")
    told = lost.declare(Run(STAGES["validate"], settings, options.day), options.why.strip(), options.by)
    for name in lost.FOLLOWING:
        importlib.import_module(STAGES[name].module).run(Run(STAGES[name], settings, options.day))
    print(json.dumps({"stage": "lose", **told, "ran": list(lost.FOLLOWING)}), flush=True)
    return EXIT_OK


def entry(run: Callable[[Sequence[str]], int] = main) -> NoReturn:
    """The command: warnings of libraries on stderr, and the ending of every command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    run_as_command(run)


if __name__ == "__main__":
    entry()
