"""# Weekly training

A ranker from scratch on the whole window, and the evidence for or against it. Mondays 04:00 UTC, for the week that has
just ended.

## Reads and writes
Reads `labels`, the feature tables and the validated events. Writes `examples` (mode full), `candidates` and a bundle,
and `evidence`. Every run and bundle is in MLflow. Then it starts the DAG `promotion`. The table below says which stage
does what. If `gate.days` is above 1, the challenger stands for that many days and `daily_warm_start` judges it again on
each of them. If it is above 7, a challenger may still stand when the next one is trained; the next one is then not
judged.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: `daily_data` of the last days is not finished. Look there first.
- **`train` or `backtest`, "Refused"**: the data is not enough to judge by (too few rows, one class only). No candidate
  is proposed and the champion keeps serving. The message says what was needed and what was found.
- **`backtest`, "NotReady: … another writer committed first"**: the other training began its look in the same second.
  The next try sees it; there is nothing to do.
- **`propose`**: the challenger exists but `promotion` was not started; clear this task only.
- **Anything else** is a crash that was tried three times. `train` needs the most memory, so check memory first.
- Users are served as before: the champion stays until somebody approves another model.

## Clearing
Always safe: the same data, settings and seed give the same bundle. Clearing `propose` reopens the same proposal.

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
