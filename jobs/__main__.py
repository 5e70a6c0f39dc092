"""`python -m jobs`: list the stages; `python -m jobs <stage> --day D`: run one. The very command Airflow runs.

`python -m jobs check --raw FOLDER` checks a raw lake before anything runs: what is missing, unusual or fine. Without
`--raw` it checks the raw lake of the settings, or what `source.mapping` makes of a team's own tables.
`python -m jobs collect` writes events from Kafka to the raw lake until it is stopped; with `--once`, those there now.
`python -m jobs config` prints the settings; `python -m jobs vacuum` deletes what dead runs left behind.
`python -m jobs champion` prints what serves according to the ledger, or what served (`--as-of TIME`).
`python -m jobs rollback` takes the newest release back, or with `--day D` that of a day.
`python -m jobs reject --day D` records a person's no.
`python -m jobs replay --day D` recomputes a day's captured answers.
`python -m jobs forget --user ID` deletes a user from everything that is kept, and lists what it cannot reach.
`python -m jobs maintain` is a stage that needs no day: old versions are dropped, small files are merged.
`python -m jobs lose` lists the days whose events will never come, and declares one with `--day D --why ...`.
The last line on stdout is one JSON object: stage, day, mode, rows, seconds, run_id and the stage's own counts.
Exit codes are those of `jobs.errors`; a failure ends stderr with one line.
"""

import argparse
import importlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NoReturn

from jobs import config
from jobs.errors import EXIT_OK, Refused, UsageError, run_as_command
from jobs.flow import STAGES
from jobs.places import Place

BESIDES = {
    **{name: ("deploy", f"jobs.deploy.{name}") for name in ("rollback", "reject", "watch")},
    "replay": ("monitor", "jobs.monitor.replay"),
}
"""No stages of the flow: what else is done of a release, by which stage's right to the lake and where."""
TELL_SECONDS = 60
"""For Slack to be told: on a busy machine most of it is Airflow's imports."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python -m jobs --help`")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"a day must be YYYY-MM-DD; found {text!r}") from error


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"a time must be YYYY-MM-DDTHH:MM, in UTC unless it says otherwise; found {text!r}") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m jobs", description="Run one stage of the flow by hand.")
    parser.add_argument(
        "stage",
        nargs="?",
        help=f"{', '.join((*OTHERS, *BESIDES))}, or one of: {', '.join(STAGES)}",
    )
    parser.add_argument("--day", type=_day, help="the UTC day to process, YYYY-MM-DD")
    parser.add_argument("--since", type=_day, help="also process every day from here to --day")
    parser.add_argument(
        "--mode", choices=["full", "warm"], default="full", help="weekly full training or daily warm start"
    )
    parser.add_argument("--approved-by", default="", metavar="NAME", help="deploy, rollback, reject: who decided")
    parser.add_argument(
        "--why",
        default="",
        help="deploy, rollback, reject: a note for the record; lose: why the events never come; collect: why it may go "
        "on without records that the brokers have deleted",
    )
    parser.add_argument("--once", action="store_true", help="collect: collect what is there now, then end")
    parser.add_argument("--raw", type=Path, metavar="FOLDER", help="check: a raw lake (default: that of the settings)")
    parser.add_argument("--user", default="", metavar="ID", help="forget: the user to delete")
    parser.add_argument("--by", help="lose: who decided (default: the login name)")
    for name in ("evidence", "bundle", "champion"):
        parser.add_argument(
            f"--{name}-sha", default="", metavar="SHA", help="deploy: hash of what was approved; promote prints it"
        )
    parser.add_argument(
        "--step",
        help="deploy: the last step to take, shadow, canary-PERCENT or live (default); watch: the step to watch",
    )
    parser.add_argument("--as-of", type=_time, metavar="TIME", help="champion: what served then (default: now)")
    return parser


def _listing() -> str:
    lines = ["stage       reads -> writes"]
    for stage in STAGES.values():
        ends = (", ".join(stage.reads) or "the source", ", ".join(stage.writes) or "a database")
        ends = ends if stage.name != "maintain" else ("every table's files and log", "fewer of them")
        lines.append(f"{stage.name:<11} {' -> '.join(ends)}")
        lines.append(f"{'':<11} {stage.doc}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Parse, run, report; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.stage is None:
        print(_listing())
        return EXIT_OK
    settings = config.load()
    if options.stage in OTHERS:
        return OTHERS[options.stage](settings, options)
    if options.stage not in (*STAGES, *BESIDES):
        raise UsageError(f"a stage must be one of {', '.join(STAGES)}; found {options.stage!r}")
    if options.stage == "rollback" and options.day is None and not _newest_named(settings, options):
        return EXIT_OK
    if options.stage == "maintain" and options.day is None:
        options.day = datetime.now(UTC).date()  # it does the same on any day
    if options.day is None:
        raise UsageError(f"{options.stage} needs --day YYYY-MM-DD; found none")
    if options.since is not None and options.since > options.day:
        raise UsageError(f"--since must not be after --day; found {options.since} and {options.day}")
    name, module = BESIDES.get(options.stage, (options.stage, ""))
    stage = STAGES[name]
    if stage.per == "mode" and options.since is not None:
        raise UsageError(f"--since is for stages that publish days; {stage.name} publishes one model's day")

    from jobs import runs
    from jobs.lake import ranges
    from jobs.lake.run import Approval, Run  # pyarrow and deltalake only once the arguments are known to be good

    read = (options.evidence_sha, options.bundle_sha, options.champion_sha)
    approval = Approval(options.approved_by, options.why, *read)
    mode = options.mode if stage.per == "mode" else None
    started = time.monotonic()
    with runs.recorded(settings.lake.runs, options.stage, mode or "", options.day) as ran:
        run = Run(stage, settings, options.day, options.since, options.mode, approval, options.step)
        do = importlib.import_module(module or stage.module).run
        counts, failed = (do(run), ranges.NONE) if options.since is None else ranges.published(run, do)
        ran.rows = run.rows
        report = {
            "stage": options.stage,
            "day": options.day.isoformat(),
            "since": run.days[0].isoformat(),
            "mode": mode,
            "rows": run.rows,
            "seconds": round(time.monotonic() - started, 1),
            "run_id": run.run_id,
            **counts,
            **({"by_day": ranges.summary(run, failed)} if failed else {}),
        }
        print(json.dumps(report, default=str), flush=True)
        if failed:
            raise ranges.worst(run, failed)
    if options.stage == "rollback" and "tell" in counts:
        _tell(str(counts["tell"]), f"{options.mode}-{options.day}")
    return EXIT_OK


def _newest_named(settings: config.Config, options: argparse.Namespace) -> bool:
    """Day and mode of the newest release are as if they had been typed; False, and said, with nothing to take back."""
    from jobs.deploy import rollback
    from jobs.lake.store import Lake

    newest = rollback.newest(Lake(settings.lake.root), settings.endpoint.name)
    if isinstance(newest, str):
        print(json.dumps({"stage": "rollback", "nothing": newest}))
        return False
    options.day, options.mode = date.fromisoformat(newest["day"]), newest["mode"]
    return True


def _tell(text: str, of: str) -> None:
    """Slack hears of a way back as of any step, where the environment says anything of Airflow; nothing else changes.

    By a process of its own: only `jobs.orchestration` sees Airflow, which takes seconds to import.
    """
    if not any(name.startswith("AIRFLOW_") for name in os.environ):
        return
    command = [sys.executable, "-m", "jobs.orchestration.outside", text, of]
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=TELL_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"Slack was not told within {TELL_SECONDS} s", file=sys.stderr, flush=True)


def _check(settings: config.Config, options: argparse.Namespace) -> int:
    """One page on a day of a raw lake; 65 where `validate` would refuse the day."""
    from jobs.validate import check

    with _looked_at(settings, options) as (folder, span):
        seen = check.check(settings, folder, options.day, span)
        title = check.title(folder, seen, options.day, "source.mapping" if span else "")
        print(seen.page(title), flush=True)
    return Refused.exit_code if seen.stops else EXIT_OK


@contextmanager
def _looked_at(
    settings: config.Config, options: argparse.Namespace
) -> Iterator[tuple[Place, tuple[date, date] | None]]:
    """The raw lake that is asked for, that of the settings, or a mapped source's day, laid out for this look alone.

    Beside that day the first and the last of the source.
    """
    if options.raw is not None or settings.source.name != "mapped":
        yield options.raw or settings.lake.raw, None
        return
    from jobs.lake import raw_writer
    from jobs.sources import open_source

    source = open_source(settings)
    day = options.day or source.span()[1]
    with tempfile.TemporaryDirectory(prefix="tidegate-check-") as folder:
        raw_writer.write_day(Path(folder), day, source.day(day) or {})
        yield Path(folder), source.span()


def _lose(settings: config.Config, options: argparse.Namespace) -> int:
    """List the lost days; with `--day` and `--why`, declare one and run the stages that the days after it wait for."""
    from jobs.lake import lost
    from jobs.lake.run import Run
    from jobs.lake.store import Lake

    if options.day is None and not options.why:
        lake = Lake(settings.lake.root)
        found = lost.among(lake.lineages("impressions", lake.days("impressions")))
        print(json.dumps({"lost": [{"day": day.isoformat(), **told} for day, told in found.items()]}))
        return EXIT_OK
    if options.day is None or not options.why.strip():
        raise UsageError("lose needs --day YYYY-MM-DD and --why, for whoever finds the day empty; or neither, to list")
    told = lost.declare(Run(STAGES["validate"], settings, options.day), options.why.strip(), options.by)
    for name in lost.FOLLOWING:
        importlib.import_module(STAGES[name].module).run(Run(STAGES[name], settings, options.day))
    print(json.dumps({"stage": "lose", **told, "ran": list(lost.FOLLOWING)}), flush=True)
    return EXIT_OK


def _config(settings: config.Config, _: argparse.Namespace) -> int:
    """The resolved tree, as JSON."""
    print(settings.model_dump_json(indent=2))
    return EXIT_OK


def _vacuum(settings: config.Config, _: argparse.Namespace) -> int:
    """What was deleted, by kind."""
    from jobs.lake.vacuum import vacuum

    print(json.dumps(vacuum(settings)))
    return EXIT_OK


def _champion(settings: config.Config, options: argparse.Namespace) -> int:
    """What serves or served, by the ledger."""
    from jobs.deployments import ledger
    from jobs.lake.store import Lake

    champion = ledger.champion(Lake(settings.lake.root), settings.endpoint.name, options.as_of)
    print(json.dumps(champion, default=str))
    return EXIT_OK


def _forget(settings: config.Config, options: argparse.Namespace) -> int:
    """What was removed, and what cannot be."""
    from jobs.forget import job

    print(json.dumps(job.forget(settings, options.user)), flush=True)
    return EXIT_OK


def _collect(settings: config.Config, options: argparse.Namespace) -> int:
    """Until it is told to stop; counts by table."""
    from jobs.collect import job

    print(json.dumps({"stage": "collect", **job.run(settings, options.once, options.why.strip())}), flush=True)
    return EXIT_OK


OTHERS = {
    "config": _config,
    "check": _check,
    "collect": _collect,
    "forget": _forget,
    "vacuum": _vacuum,
    "lose": _lose,
    "champion": _champion,
}
"""What is of no stage and no day's run."""


def entry() -> NoReturn:
    """The command: warnings of libraries on stderr, and the ending of every command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    run_as_command(main)


if __name__ == "__main__":
    entry()
