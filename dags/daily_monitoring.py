"""# Daily monitoring

What the endpoint served, against what was judged and against the logging policy. 06:00 UTC, for the day that has just
ended; its own schedule, so that a red `daily_data` does not silence it.

## Reads and writes
Reads the validated events, `labels`, the feature tables, `promotions` and `evidence`. Writes `serving_reports` and
`readouts`. The table below says which stage does what.

## A task is red: what it means on call
- **Retrying, "NotReady"**: the day's labels or features are not published. Look at `daily_data`.
- **`monitor` or `experiment`, "Refused"**: a table it reads is not what it should be; the message names it.
- **Anything else** is a crash, tried three times.
- Serving is untouched by this DAG. Alarms about serving are rows of `serving_reports`, not red tasks.

## Clearing
Always safe: a report replaces its day whole.

## By hand
*Trigger* with a Day; with Since, every day from there. A range, one run a day (the end is exclusive at midnight):
`airflow backfill create --dag-id daily_monitoring --from-date 2026-01-05 --to-date 2026-01-08`.
"""

from airflow.sdk import DAG

from jobs.orchestration import daily, stage, standing_orders

STAGES = ("monitor", "experiment")

with DAG(
    "daily_monitoring",
    schedule=daily(6),
    max_active_runs=1,
    **standing_orders(__doc__, STAGES, ("daily", "serving"), since=True),
):
    # Side by side: neither needs the other.
    stage("monitor", ranged=True)
    stage("experiment", ranged=True)
