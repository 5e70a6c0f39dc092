"""`make bench`: every benchmark, peers side by side in one run on the same data, each measurement in its own process.

A benchmark is a file `bench_<name>.py` with `prepare(folder)` (writes the data once), `CASES` (case -> parameters) and
`PEERS` (peer -> function of (folder, case) returning the rows it produced, or a mapping with `rows`, `figures` and
whatever else is worth keeping). Results land in `var/bench/<name>.json`: a list of rows with case, peer, seconds
(median), peak_mib, rows and the rest. Peers must agree on the rows, and on every figure to 1e-9, or the run fails.
"""

import argparse
import importlib.util
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    """The module of one benchmark."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", Path(__file__).with_name(f"bench_{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one(name: str, case: str, peer: str, folder: str) -> None:
    """Run one measurement in this process and print it as JSON."""
    module = load(name)
    started = time.perf_counter()
    found = module.PEERS[peer](Path(folder), case)
    seconds = time.perf_counter() - started
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    more = found if isinstance(found, dict) else {"rows": found}
    print(json.dumps({"seconds": seconds, "peak_mib": peak / 1024, **more}))


def measure(name: str, case: str, peer: str, folder: Path, times: int) -> dict[str, Any]:
    """The median of `times` runs, each in a fresh process (imports of the peer included: that is what a stage pays)."""
    command = [sys.executable, "-m", "tests.bench", "--one", name, case, peer, str(folder)]
    runs = []
    for _ in range(times):
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        **runs[0],
        "case": case,
        "peer": peer,
        "seconds": round(statistics.median(run["seconds"] for run in runs), 3),
        "peak_mib": round(max(run["peak_mib"] for run in runs)),
    }


def disagreement(rows: list[dict[str, Any]]) -> str | None:
    """What the peers of one case differ in, if anything."""
    first, *others = rows
    for other in others:
        if other["rows"] != first["rows"]:
            return f"peers must agree on the rows; found {first['rows']} and {other['rows']}"
        mine, theirs = first.get("figures", {}), other.get("figures", {})
        apart = {name: (mine[name], theirs.get(name, math.nan)) for name in mine}
        apart = {name: pair for name, pair in apart.items() if not abs(pair[0] - pair[1]) <= 1e-9}
        if apart:
            return f"{first['peer']} and {other['peer']} must agree to 1e-9; found {apart}"
    return None


def main(argv: list[str]) -> int:
    """Run the named benchmarks (all by default); returns the exit code."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(known)}")
    parser.add_argument("--times", type=int, default=3, help="runs per measurement; the median is kept")
    parser.add_argument("--one", nargs=4, metavar=("NAME", "CASE", "PEER", "FOLDER"), help="one run, in this process")
    options = parser.parse_args(argv)
    if options.one:
        one(*options.one)
        return 0
    for name in options.names or known:
        module = load(name)
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            module.prepare(Path(folder))
            for case in module.CASES:
                for peer in module.PEERS:
                    times = getattr(module, "TIMES", options.times)
                    rows.append(measure(name, case, peer, Path(folder), times))
                    row = rows[-1]
                    figures = f"{row['seconds']:9.3f} s {row['peak_mib']:7} MiB {row['rows']:>10} rows"
                    print(f"{name:<8} {case:<24} {peer:<10} {figures}")
                    for what, report in row.get("report", {}).items():
                        print(f"  {what:<26} {', '.join(f'{key} {value}' for key, value in report.items())}")
        out = ROOT / "var" / "bench" / f"{name}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(rows, indent=1) + "\n")
        for case in module.CASES:
            wrong = disagreement([row for row in rows if row["case"] == case])
            if wrong:
                print(f"{name} {case}: {wrong}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
