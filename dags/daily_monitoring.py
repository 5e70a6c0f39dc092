"""# Daily monitoring

What the endpoint served, against what was judged and against the logging policy. Evidence is judged again on the day
its last label comes in. 06:00 UTC, for the day that has just ended; its own schedule, so that a red `daily_data` does
not silence it.

## Reads and writes
Reads the validated events, `labels`, the feature tables, `promotions`, `evidence` and bundles; `reevaluate` also
`examples` and `candidates`. Writes `serving_reports`, `readouts` and `reevaluations`, a page of each day
(`reports/<day>.html` beside the bundles), and adds `matured.json` to the evidence pack and `matured.*` to the
candidate's MLflow run. Where `export.url` names a database of the team's, `export` tells it all that is new. Beside
them `maintain` lets go of versions older than `lake.retain_days` that nothing rests on, and keeps tables quick to open.
The table below says which stage does what.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: the day's labels or features are not published. Look at `daily_data`.
- **`monitor` or `experiment`, "Refused"**: a table it reads is not what it should be; the message names it.
- **`reevaluate`, "NotReady"**: `attribute` has not run for every day from the evidence's test day to this one, so late
  events would miss. Run `daily_data` for the days the message names, then clear. A bundle that is gone is no red task:
  its row of `reevaluations` says so.
- **`maintain`**: nothing else is late for it; the lake only grows until it ran. "NotReady": two ran at once.
- **Anything else** is a crash, tried three times.
- Serving is untouched by this DAG. Alarms are rows with `alarm` and a message in Slack, not red tasks: about serving in
  `serving_reports`, about a deployed model that would not be promoted again in `reevaluations`.
- **An incident** (one message a day: opened, still open, closed) names its figures with their bounds, whom to suspect
  first and what to look at next; the day's page shows every figure and its last 30 days. It closes by itself after
  `monitoring.quiet_days` days within the bounds. An alarm that nobody would get up for is a bound that is too near:
  `monitoring.max_*`.
- **`stale_features_share`** is an alarm: requests were answered with features of another day than counted as known when
  they came. `late_features_minutes` above 0: `daily_data` was late that day, or nothing came online. 0: the endpoint
  served features before their time, so look at its clock and at the `event_time` that callers send.

## Clearing
Always safe: a report replaces its day whole.

## By hand
*Trigger* with a Day; with Since, every day from there. A range, one run a day (the end is exclusive at midnight):
`airflow backfill create --dag-id daily_monitoring --from-date 2026-01-05 --to-date 2026-01-08`.
"""

from airflow.sdk import DAG

from jobs.orchestration import daily, exports, stage, standing_orders

STAGES = ("monitor", "experiment", "reevaluate", "export", "maintain")

with DAG(
    "daily_monitoring",
    schedule=daily(6),
    max_active_runs=1,
    **standing_orders(__doc__, STAGES, ("daily", "serving"), since=True, due_hours=6),
):
    # Side by side: none needs another.
    found = [stage("monitor", ranged=True), stage("experiment", ranged=True), stage("reevaluate", ranged=True)]
    if exports():
        found >> stage("export")
    stage("maintain")  # waits for none and hides no failure of theirs
