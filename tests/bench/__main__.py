"""`make bench`: every benchmark, peers side by side in one run on the same data, each measurement in its own process.

A benchmark is a file `bench_<name>.py` with `prepare(folder)` (writes the data of all cases once), `CASES` (case ->
parameters) and `PEERS` (peer -> function of (folder, case) returning the rows it produced). It may also have

    SMALL     cases to run instead under --small
    TIMES     peer -> runs, where one is enough; the median is kept
    INSTEAD   (case, peer) -> (another case, factor): measured there and multiplied, and the row says so
    goals     function of the measured rows returning rows with goal, found, met

A proof, which has no peers, is such a file with `prove(small)` instead: it yields (table, row) as rows are found.

A pair that is `None` in INSTEAD is left out. Results land in `var/bench/<name>.json` (small cases in
`<name>.small.json`): rows with case, peer, seconds (median), peak_mib (proportional memory of the whole process tree at
its peak), rows; then the goals. Peers must agree on the rows, or the run fails.
"""

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
SAMPLES_PER_SECOND = 5
Row = dict[str, Any]


def load(name: str, small: bool) -> ModuleType:
    """The module of one benchmark, with its small cases if asked for and it has some."""
    module = importlib.import_module(f"tests.bench.bench_{name}")
    if small and hasattr(module, "SMALL"):
        module.CASES = module.SMALL
    return module


def one(module: ModuleType, case: str, peer: str, folder: str) -> None:
    """Run one measurement in this process and print it as JSON."""
    started = time.perf_counter()
    rows = module.PEERS[peer](Path(folder), case)
    seconds = time.perf_counter() - started
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": seconds, "peak_mib": peak / 1024, "rows": rows}))


def in_a_process(name: str, small: bool, case: str, peer: str, folder: Path) -> Row:
    """One run in a fresh process (imports of the peer included: that is what a stage pays), watched for its memory."""
    flags = ["--small"] if small else []
    command = [sys.executable, "-m", "tests.bench", *flags, "--one", name, case, peer, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        tree, peak = psutil.Process(child.pid), 0.0
        while child.poll() is None:
            peak = max(peak, _memory_mib(tree))
            time.sleep(1 / SAMPLES_PER_SECOND)
        printed = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    run: Row = json.loads(printed.splitlines()[-1])
    # Samples see a tree of processes, the kernel's own mark the short peaks of one.
    return run | {"peak_mib": max(run["peak_mib"], peak)}


def _memory_mib(tree: psutil.Process) -> float:
    total = 0
    try:
        for process in (tree, *tree.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # a process that ends while it is looked at
        return 0.0
    return total / 2**20


def measure(module: ModuleType, name: str, small: bool, case: str, peer: str, folder: Path, times: int) -> Row | None:
    """The median of some runs of a peer; None where the case is not for it."""
    at, factor = case, 1.0
    if (case, peer) in getattr(module, "INSTEAD", {}):
        instead = module.INSTEAD[case, peer]
        if instead is None:
            return None
        at, factor = instead
    times = getattr(module, "TIMES", {}).get(peer, times)
    runs = [in_a_process(name, small, at, peer, folder) for _ in range(times)]
    row = {
        "case": case,
        "peer": peer,
        "seconds": round(factor * statistics.median(run["seconds"] for run in runs), 3),
        "peak_mib": round(max(run["peak_mib"] for run in runs)),
        "rows": runs[0]["rows"],
        "runs": times,
    }
    return row if at == case else row | {"measured_at": at, "factor": factor}


def line(name: str, row: Row) -> str:
    """A row of the printed table."""
    figures = f"{row['seconds']:9.3f} s {row['peak_mib']:7} MiB {row['rows']:>10} rows"
    note = f"  = {row['factor']:g} x {row['measured_at']}" if "measured_at" in row else ""
    return f"{name:<14} {row['case']:<34} {row['peer']:<22} {figures}{note}"


def main(argv: list[str]) -> int:
    """Run the named benchmarks (all by default); returns the exit code."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(known)}")
    parser.add_argument("--times", type=int, default=3, help="runs per measurement; the median is kept")
    parser.add_argument("--small", action="store_true", help="small cases: does everything run, not how fast")
    parser.add_argument("--one", nargs=4, metavar=("NAME", "CASE", "PEER", "FOLDER"), help="one run, in this process")
    parser.add_argument("--prepare", nargs=2, metavar=("NAME", "FOLDER"), help="write a benchmark's data")
    options = parser.parse_args(argv)
    if options.prepare:
        name, path = options.prepare
        load(name, options.small).prepare(Path(path))
        return 0
    if options.one:
        name, case, peer, path = options.one
        one(load(name, options.small), case, peer, path)
        return 0
    return max([benchmark(name, options.small, options.times) for name in options.names or known], default=0)


def benchmark(name: str, small: bool, times: int) -> int:
    """Run one benchmark, print and write its rows; 1 where peers disagree on how many rows there are."""
    module = load(name, small)
    if hasattr(module, "prove"):
        return proof(module, name, small)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: a measured one would inherit this one's peak of memory.
        flags = ["--small"] if small else []
        subprocess.run([sys.executable, "-m", "tests.bench", *flags, "--prepare", name, folder], cwd=ROOT, check=True)
        for case in module.CASES:
            for peer in module.PEERS:
                row = measure(module, name, small, case, peer, Path(folder), times)
                if row is not None:
                    rows.append(row)
                    print(line(name, row), flush=True)
    keep(module, name, small, rows)
    for case in module.CASES:
        found = {row["rows"] for row in rows if row["case"] == case and "measured_at" not in row}
        if len(found) > 1:
            print(f"{name} {case}: peers must agree on the rows; found {found}", file=sys.stderr)
            return 1
    return 0


def proof(module: ModuleType, name: str, small: bool) -> int:
    """Print and write the rows of a proof as they are found."""
    rows: list[Row] = []
    for table, row in module.prove(small):
        rows.append({"table": table, **row})
        print(f"{name:<14} {table:<16} {'  '.join(f'{key} {_short(value)}' for key, value in row.items())}", flush=True)
    keep(module, name, small, rows)
    return 0


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def keep(module: ModuleType, name: str, small: bool, rows: list[Row]) -> None:
    """Write the rows, which took long, then print the goals and write them too."""
    out = ROOT / "var" / "bench" / (f"{name}.small.json" if small else f"{name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")
    goals = module.goals(rows) if hasattr(module, "goals") and not small else []
    goals = [{**goal, "met": bool(goal["met"])} for goal in goals]  # numpy's truth is none of JSON's
    for goal in goals:
        print(f"{name:<14} {'met   ' if goal['met'] else 'MISSED'} {goal['goal']}: {goal['found']}")
    out.write_text(json.dumps([*rows, *goals], indent=1, default=float) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
