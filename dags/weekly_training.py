"""# Weekly training

A ranker from scratch on the whole window, and the evidence for or against it. Mondays 04:00 UTC, for the week that has
just ended.

## Reads and writes
Reads `labels`, the feature tables and the validated events. Writes `examples` (mode full), `candidates` and a bundle,
`evidence`; every run and bundle is in MLflow. Then it starts the DAG `promotion`. The table below says which stage
does what. With `gate.days` above 1 the challenger stands for as many days: `daily_warm_start` judges it again on each.
With more than 7 it may stand still when the next is trained; that one is not judged then.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: `daily_data` of the last days is not finished. Look there first.
- **`train` or `backtest`, "Refused"**: the data cannot carry the claim (too few rows, one class only). No candidate is
  proposed and the champion keeps serving. The message says what was needed and what was found.
- **`backtest`, "NotReady: … another writer committed first"**: the other training began its look in the same second;
  the next try sees it. Nothing to do.
- **`propose`**: the challenger exists but `promotion` was not started; clear this task only.
- **Anything else** is a crash, tried three times; `train` is the hungriest stage, so look at memory first.
- Nobody is served worse: the champion stays until somebody approves another.

## Clearing
Always safe: same data, settings and seed give the same bundle. `propose`, cleared, reopens the same proposal.

## By hand
*Trigger* with a Day: the newest complete day of the window.
"""

from airflow.sdk import DAG

from jobs.orchestration import propose, stage, standing_orders, weekly

STAGES = ("assemble", "train", "backtest")

with DAG(
    "weekly_training",
    schedule=weekly(4),
    max_active_runs=1,
    **standing_orders(__doc__, STAGES, ("weekly", "model"), priority=5),  # after the day's own work
):
    assemble = stage("assemble", mode="full")
    train = stage("train", mode="full")
    backtest = stage("backtest", mode="full")

    assemble >> train >> backtest >> propose("full")
