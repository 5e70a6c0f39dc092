"""# Daily monitoring

What the endpoint served, against what was judged and against the logging policy. Evidence is judged again on the day
on which its last label closes. 06:00 UTC, for the day that has just ended. It has its own schedule, so that a red
`daily_data` does not stop it.

## Reads and writes
Reads the validated events, `labels`, the feature tables, `promotions`, `evidence` and bundles; `reevaluate` also reads
`examples` and `candidates`. Writes `serving_reports`, `readouts` and `reevaluations`, and one page per day
(`reports/<day>.html` beside the bundles). Adds `matured.json` to the evidence pack and `matured.*` to the candidate's
MLflow run. If `export.url` names a database of the team, `export` copies everything new to it. In parallel, `maintain`
drops versions older than `lake.retain_days` that no model needs, and keeps tables fast to open. The table below says
which stage does what.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: the day's labels or features are not published. Look at `daily_data`.
- **`monitor` or `experiment`, "Refused"**: a table that it reads is not as it should be; the message names the table.
- **`reevaluate`, "NotReady"**: `attribute` has not run for every day from the evidence's test day to this one, so late
  events would be missing. Run `daily_data` for the days that the message names, then clear. If a bundle no longer
  exists, the task is not red; the bundle's row in `reevaluations` says so.
- **`maintain`**: nothing else waits for it; the lake only grows until it has run. "NotReady": two ran at once.
- **Anything else** is a crash that was tried three times.
- Serving is not affected by this DAG. Alarms are not red tasks, but rows with `alarm` and a message in Slack: alarms
  about serving in `serving_reports`, about a deployed model that would not be promoted again in `reevaluations`.
- **An incident** (one message a day: opened, still open, closed) names its figures with their bounds, the first suspect
  and what to look at next. The day's page shows every figure with its last 30 days. An incident closes by itself after
  `monitoring.quiet_days` days within the bounds. If nobody would act on an alarm, its bound is too tight:
  `monitoring.max_*`.
- **`stale_features_share`** is an alarm: requests were answered with features of another day than the one that was
  known when they came. `late_features_minutes` above 0: `daily_data` was late that day, or nothing was published
  online. 0: the endpoint served features too early; check its clock and the `event_time` that callers send.

## Clearing
Always safe: a report replaces its whole day.

## By hand
*Trigger* with a Day; with Since, every day from there on. A range, one run per day (the end is exclusive at midnight):
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
