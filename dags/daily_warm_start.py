"""# Daily warm start

The champion learns the newest days, and the evidence for or against the result is computed. A run starts as soon as
`daily_data` has published a day's labels and features; the day is the partition key.

If `gate.days` is above 1, a challenger stands for several days and is judged again each day, on all of them pooled.
`backtest` does that for warm starts (while an older one stands, today's is not judged), and `backtest_full` for the
full training of `weekly_training`. If no challenger stands and none was trained, it succeeds and its proposal is
skipped.

## Reads and writes
Reads `labels`, the feature tables, the validated events, the champion's bundle and, of each kind of ranker, the newest
bundle that it continues. Writes `examples` (mode warm), `candidates` and a bundle, and `evidence`. Every run and bundle
is in MLflow. Then it starts the DAG `promotion`. The table below says which stage does what.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: a day of the window is missing in a table. Look at `daily_data`.
- **`train` or `backtest`, "Refused"**: the data is not enough to judge by, or the champion's bundle is not the one that
  was judged. No candidate is proposed and the champion keeps serving. A challenger that stands is judged tomorrow.
- **`backtest` or `backtest_full`, "NotReady: … another writer committed first"**: another backtest began its look in
  the same second. The next try sees it; there is nothing to do.
- **`train`, "Refused: … needs a full training"**: `weekly_training` has not succeeded for more than a week. Look there;
  clear this task afterwards.
- **`full_training` is not skipped**: the warm starts of a kind lost to the model that they continued
  `warm.max_losses` times in a row (Slack says which kind). `weekly_training` was started for the day. If that is green,
  there is nothing to do.
- **`propose` or `propose_full`**: the challenger exists but `promotion` was not started; clear this task only. Skipped:
  no challenger was judged.
- **Anything else** is a crash that was tried three times.
- It can wait until morning: the champion keeps serving, and tomorrow's warm start covers these days too.

## Clearing
Always safe: the same data, settings, seed and champion give the same bundle. Clearing `propose` reopens the same
proposal. If another model has gone live since, a cleared backtest judges no challenger, or the next one.

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
