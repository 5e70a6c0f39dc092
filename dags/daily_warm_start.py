"""# Daily warm start

The champion learns the newest days, and the evidence for or against the result. As soon as `daily_data` has published
a day's labels and features; the day is the partition key.

## Reads and writes
Reads `labels`, the feature tables, the validated events, the champion's bundle and the newest of each kind that it
continues. Writes `examples` (mode warm), `candidates` and a bundle, `evidence`; every run and bundle is in MLflow. Then
it starts the DAG `promotion`. The table below says which stage does what.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: a table of the window is missing a day. Look at `daily_data`.
- **`train` or `backtest`, "Refused"**: the data cannot carry the claim, or the champion's bundle is not the one that
  was judged. No candidate is proposed and the champion keeps serving.
- **`backtest`, "NotReady: … another writer committed first"**: the other training began its look in the same second;
  the next try sees it. Nothing to do.
- **`propose`**: the challenger exists but `promotion` was not started; clear this task only.
- **Anything else** is a crash, tried three times.
- It can wait until morning: the champion serves on, and tomorrow's warm start sees these days too.

## Clearing
Always safe: same data, settings, seed and champion give the same bundle. `propose`, cleared, reopens the same proposal.

## By hand
*Trigger* with a Day whose data is published.
"""

from airflow.sdk import DAG

from jobs.orchestration import on_tables, propose, stage, standing_orders

STAGES = ("assemble", "train", "backtest")

with DAG(
    "daily_warm_start",
    schedule=on_tables("labels", "user_features", "item_features"),
    max_active_runs=1,
    **standing_orders(__doc__, STAGES, ("daily", "model")),
):
    assemble = stage("assemble", mode="warm")
    train = stage("train", mode="warm")
    backtest = stage("backtest", mode="warm")

    assemble >> train >> backtest >> propose("warm")
