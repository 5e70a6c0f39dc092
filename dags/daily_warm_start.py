"""# Daily warm start

The champion learns the newest days, and the evidence for or against the result. As soon as `daily_data` has published
a day's labels and features; the day is the partition key.

With `gate.days` above 1 a challenger stands for several days and is judged again each day, on all of them pooled:
`backtest` does that for warm starts (today's is not judged while an older one stands), `backtest_full` for the full
training of `weekly_training`. Where nobody stands and nobody was trained, it ends well and its proposal is skipped.

## Reads and writes
Reads `labels`, the feature tables, the validated events, the champion's bundle and the newest of each kind that it
continues. Writes `examples` (mode warm), `candidates` and a bundle, `evidence`; every run and bundle is in MLflow. Then
it starts the DAG `promotion`. The table below says which stage does what.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: a table of the window is missing a day. Look at `daily_data`.
- **`train` or `backtest`, "Refused"**: the data cannot carry the claim, or the champion's bundle is not the one that
  was judged. No candidate is proposed and the champion keeps serving. A challenger that stands is judged tomorrow.
- **`backtest` or `backtest_full`, "NotReady: … another writer committed first"**: another backtest began its look in
  the same second; the next try sees it. Nothing to do.
- **`train`, "Refused: … needs a full training"**: `weekly_training` has not succeeded for more than a week. Look there;
  afterwards clear this.
- **`full_training` is not skipped**: a kind's warm starts lost to what they continued `warm.max_losses` times in a row
  (Slack says which). `weekly_training` has been started for the day; if that is green there is nothing to do.
- **`propose` or `propose_full`**: the challenger exists but `promotion` was not started; clear this task only. Skipped:
  nobody was judged.
- **Anything else** is a crash, tried three times.
- It can wait until morning: the champion serves on, and tomorrow's warm start sees these days too.

## Clearing
Always safe: same data, settings, seed and champion give the same bundle. `propose`, cleared, reopens the same proposal.
Where another model has gone live since, a backtest that is cleared judges nobody, or the next challenger.

## By hand
*Trigger* with a Day whose data is published.
"""

from airflow.sdk import DAG

from jobs.orchestration import full_training, on_tables, propose, stage, standing_orders

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

    backtest_full = stage("backtest", mode="full", task_id="backtest_full")

    assemble >> train >> backtest >> propose("warm")
    train >> full_training()
    # Whether or not the warm start succeeds: it needs the day's test rows only.
    assemble >> backtest_full >> propose("full", backtest="backtest_full", standing=True, task_id="propose_full")
