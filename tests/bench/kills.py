"""`python -m tests.bench.kills [--kills 20] [--seed 1] [stage …]`: kill -9 every stage at moments drawn at random.

Half of the kills hit a moment the shim counts (a file half written, before and after a commit, a rename, a request),
half the clock: any time of an undisturbed run, a process of its own each. After each kill readers must see old or new;
after the last one a rerun must give the undisturbed rows. `--spark` sends the distributed stages through Spark, whose
JVM dies with the process group. The table: stage, kills, units found old and new, mixtures, reruns that differ.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from jobs.config import ROOT
from tests.exactly_once import readers
from tests.exactly_once.forks import Forks
from tests.exactly_once.killed import DISTURBED, Killed, disturbed
from tests.exactly_once.small_world import DAY, kill

STAGES = (*DISTURBED, "deploy")
DISTRIBUTED = ("attribute", "featurize", "assemble")
SPARK_SECONDS = 20.0
"""About what a distributed stage of this size takes, session included."""


def moments(world: Killed, stage: str) -> list[str]:
    """Every moment of a run, from the undisturbed one; deploy's are guessed, for it has no undisturbed run here."""
    log = world.moments / stage
    if log.exists():
        return [line.split()[0] for line in log.read_text().splitlines()]
    counts = {"committed": 2, "send": 12, "saved": 6}
    return [f"{kind}:{n}" for kind, count in counts.items() for n in range(1, count + 1)]


def killed(world: Killed, stage: str, kills: int, draw: random.Random, spark: bool) -> dict[str, object]:
    """Kill one stage many times, run it again; one row of the table."""
    judged = world.judged()
    seconds = SPARK_SECONDS if spark else world.seconds.get(stage, 5.0) + 2.0  # a process of its own imports first
    wrong, found, dead = 0, Counter[str](), 0
    known = moments(world, stage)
    for number in range(kills):
        if number % 2 and not spark:
            child = world.world.start(stage, DAY, KILL_AT=draw.choice(known), KILL_BELOW=str(world.world.home))
            child.communicate()
        else:
            child = world.world.start(stage, DAY)
            time.sleep(draw.uniform(0.1, seconds))
            kill(child)
        dead += child.returncode < 0
        mixed = world.look(stage, judged)
        wrong += len(mixed)
        if mixed:
            print(f"{stage}: neither old nor new: {mixed}", file=sys.stderr)
        for unit, digest in readers.units(world.world).items():
            if unit in world.written_by(stage) and world.old.get(unit) != world.new[unit]:
                found["new" if digest == world.new[unit] else "old"] += 1
    differing = world.run_again(stage)
    if differing:
        print(f"{stage}: a rerun differs: {differing}", file=sys.stderr)
    figures = {"kills": dead, "old": found["old"], "new": found["new"], "mixtures": wrong, "differing": len(differing)}
    return {"stage": stage, "engine": "spark" if spark else "one process", **figures}


def main(argv: Sequence[str]) -> int:
    """Print the table, write it to `var/bench/kills.json`; 1 where anything was neither old nor new."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kills")
    parser.add_argument("stages", nargs="*", help=f"any of: {', '.join(STAGES)}; all by default")
    parser.add_argument("--kills", type=int, default=20, help="per stage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spark", action="store_true", help="send the distributed stages through Spark")
    options = parser.parse_args(argv)
    draw = random.Random(options.seed)
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Forks()) as forks,
        disturbed(Path(folder), forks) as world,
    ):
        for stage in STAGES:
            if options.stages and stage not in options.stages:
                world.run_again(stage)
                continue
            spark = options.spark and stage in DISTRIBUTED
            world.world.more["spark.from_rows"] = "0" if spark else "3000000"
            rows.append(killed(world, stage, options.kills, draw, spark))
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    out = ROOT / "var" / "bench" / "kills.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["mixtures"] or row["differing"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
