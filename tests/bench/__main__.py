"""`make bench`: every benchmark, peers side by side in one run on the same data, each measurement in its own process.

A benchmark is a file `bench_<name>.py` with `prepare(folder)` (writes the data once), `CASES` (case -> parameters) and
`PEERS` (peer -> function of (folder, case) returning the rows it produced). Results land in `var/bench/<name>.json`:
a list of rows with case, peer, seconds (median), peak_mib, rows. Peers must agree on the rows, or the run fails.
"""

import argparse
import importlib.util
import json
import multiprocessing
import resource
import statistics
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


def _one(name: str, case: str, peer: str, folder: str, pipe: Any) -> None:
    module = load(name)
    started = time.perf_counter()
    rows = module.PEERS[peer](Path(folder), case)
    seconds = time.perf_counter() - started
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    pipe.send((seconds, peak / 1024, rows))


def measure(name: str, case: str, peer: str, folder: Path, times: int) -> dict[str, Any]:
    """The median of `times` runs, each in a fresh process (imports included: that is what a stage pays)."""
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(times):
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_one, args=(name, case, peer, str(folder), send))
        process.start()
        runs.append(receive.recv())
        process.join()
    return {
        "case": case,
        "peer": peer,
        "seconds": round(statistics.median(run[0] for run in runs), 3),
        "peak_mib": round(max(run[1] for run in runs)),
        "rows": runs[0][2],
    }


def main(argv: list[str]) -> int:
    """Run the named benchmarks (all by default); returns the exit code."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(known)}")
    parser.add_argument("--times", type=int, default=3, help="runs per measurement; the median is kept")
    options = parser.parse_args(argv)
    for name in options.names or known:
        module = load(name)
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            module.prepare(Path(folder))
            for case in module.CASES:
                for peer in module.PEERS:
                    rows.append(measure(name, case, peer, Path(folder), options.times))
                    row = rows[-1]
                    figures = f"{row['seconds']:9.3f} s {row['peak_mib']:7} MiB {row['rows']:>10} rows"
                    print(f"{name:<8} {case:<24} {peer:<10} {figures}")
        out = ROOT / "var" / "bench" / f"{name}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(rows, indent=1) + "\n")
        for case in module.CASES:
            found = {row["rows"] for row in rows if row["case"] == case}
            if len(found) > 1:
                print(f"{name} {case}: peers must agree on the rows; found {found}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
